"""The bytes of a fill, what its replies mean, and how long the value may be kept."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol import flights
from proxy.redis.protocol.actions import CacheOptions, Fault
from proxy.redis.protocol.cacheable import plan
from proxy.redis.protocol.flights import Flight, Step, invalidated
from tests.wire_redis import command

OK = b"+OK\r\n"
CACHING = command("CLIENT", "CACHING", "YES")
OPTIONS = CacheOptions(ttl_s=60, negative_ttl_s=5, hash_ttl_s=1)
FOREVER = float("inf")


def single(line: str, hash_ttls: bool = False) -> tuple[Flight, bytes]:
    found = plan(line.encode().split())
    assert found is not None
    return flights.single(1, 100.0, found, hash_ttls)


def pieces(line: str, wanted: list[int]) -> tuple[Flight, bytes]:
    found = plan(line.encode().split())
    assert found is not None
    return flights.pieces(1, 100.0, found, wanted)


def told(flight: Flight, *frames: bytes) -> list[Fault]:
    faults = []
    for frame in frames:
        step = flight.steps[flight.at]
        flight.at += 1
        if step in (Step.READ, Step.PONG):
            flight.take(frame)
        elif fault := flight.learn(step, frame):
            faults.append(fault)
    return faults


def test_a_fill_is_flag_read_and_ttl_in_one_piece() -> None:
    flight, data = single("get k")
    assert data == CACHING + command("GET", "k") + command("PTTL", "k")
    assert told(flight, OK, b"$1\r\nv\r\n", b":-1\r\n") == []
    assert flight.done
    assert (flight.values, flight.ttls, flight.dirty) == ([b"$1\r\nv\r\n"], [-1], set())


def test_hash_fields_ask_for_their_ttls_where_the_server_has_them() -> None:
    assert b"HPTTL" not in single("HGET h f")[1]
    flight, data = single("HMGET h f g", hash_ttls=True)
    assert data.endswith(command("HPTTL", "h", "FIELDS", 2, "f", "g"))
    told(flight, OK, b"*2\r\n$1\r\nv\r\n_\r\n", b":-1\r\n", b"*2\r\n:700\r\n:-2\r\n")
    assert flight.fields_ms == 700
    assert not flight.dirty


@pytest.mark.parametrize(
    ("line", "reply", "fields", "dirty", "fields_ms"),
    [
        ("HGET h f", b"$1\r\nv\r\n", b"*1\r\n:-1\r\n", False, None),
        ("HGET h f", b"$1\r\nv\r\n", b"*1\r\n:-2\r\n", True, None),  # it ended between the two
        ("HGET h f", b"_\r\n", b"*1\r\n:-2\r\n", False, None),
        ("HEXISTS h f", b":1\r\n", b"*1\r\n:-2\r\n", True, None),
        ("HMGET h f g", b"*2\r\n_\r\n$1\r\nv\r\n", b"*2\r\n:-2\r\n:-2\r\n", True, None),
        ("HMGET h f g", b"*2\r\n$1\r\nu\r\n$1\r\nv\r\n", b"*2\r\n:9\r\n:5\r\n", False, 5),
        ("HGET h f", b"$1\r\nv\r\n", b"-NOPERM x\r\n", True, None),
        ("HGET h f", b"$1\r\nv\r\n", b"*1\r\n+odd\r\n", True, None),
    ],
)
def test_what_field_ttls_mean(
    line: str, reply: bytes, fields: bytes, dirty: bool, fields_ms: int | None
) -> None:
    flight, _ = single(line, hash_ttls=True)
    assert told(flight, OK, reply, b":-1\r\n", fields) == []
    assert bool(flight.dirty) is dirty
    assert flight.fields_ms == fields_ms


@pytest.mark.parametrize(
    ("encoding", "kept_s"),
    [(b"$8\r\nlistpack\r\n", 60), (b"$9\r\nhashtable\r\n", 1), (b"-ERR x\r\n", 1)],
)
def test_whole_hashes_are_kept_long_only_in_an_encoding_without_field_ttls(
    encoding: bytes, kept_s: float
) -> None:
    flight, data = single("HGETALL h", hash_ttls=True)
    assert data.endswith(command("OBJECT", "ENCODING", "h"))
    told(flight, OK, b"%0\r\n", b":-1\r\n", encoding)
    assert flight.lifetime(-1, OPTIONS, 1.0) == (100.0 + kept_s, FOREVER)


def test_mget_asks_for_the_missing_ones_in_one_command() -> None:
    flight, data = pieces("MGET a b c", [0, 2])
    ttls = command("PTTL", "a") + command("PTTL", "c")
    assert data == CACHING + command("MGET", "a", "c") + ttls
    told(flight, OK, b"*2\r\n_\r\n$1\r\nv\r\n", b":-2\r\n", b":5\r\n")
    assert flight.done
    assert flight.values == [b"_\r\n", b"$1\r\nv\r\n"]
    assert flight.ttls == [-2, 5]


def test_exists_of_one_missing_piece_is_plain() -> None:
    flight, data = pieces("EXISTS a b", [1])
    assert data == CACHING + command("EXISTS", "b") + command("PTTL", "b")
    told(flight, OK, b":1\r\n", b":-1\r\n")
    assert flight.values == [b":1\r\n"]


def test_exists_of_several_is_queued_under_one_flag() -> None:
    flight, data = pieces("EXISTS a b", [0, 1])
    queue = command("MULTI") + command("EXISTS", "a") + command("EXISTS", "b") + command("EXEC")
    assert data == CACHING + queue + command("PTTL", "a") + command("PTTL", "b")
    queued = b"+QUEUED\r\n"
    told(flight, OK, OK, queued, queued, b"*2\r\n:1\r\n:0\r\n", b":-1\r\n", b":-2\r\n")
    assert flight.done
    assert flight.values == [b":1\r\n", b":0\r\n"]


def test_a_refused_queue_is_not_kept() -> None:
    flight, _ = pieces("EXISTS a b", [0, 1])
    assert told(flight, OK, b"-NOPERM x\r\n", b":1\r\n", b":0\r\n", b"-ERR EXEC\r\n") == []
    assert flight.dirty == {b"a", b"b"}
    assert flight.error


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (b"-NOPERM x\r\n", Fault.REFUSED),
        (b"-ERR not in tracking mode\r\n", Fault.PROTOCOL),
        (b"-BUSY x\r\n", None),
    ],
)
def test_a_refused_flag(frame: bytes, fault: Fault | None) -> None:
    flight, _ = single("GET k")
    assert told(flight, frame) == ([fault] if fault else [])
    assert flight.dirty == {b"k"}


def test_a_refused_pttl_is_a_refusal_unless_the_key_itself_is_forbidden() -> None:
    flight, _ = single("GET k")
    assert told(flight, OK, b"_\r\n", b"-NOPERM x\r\n") == [Fault.REFUSED]
    flight, _ = single("GET k")
    assert told(flight, OK, b"-NOPERM x\r\n", b"-NOPERM x\r\n") == []
    flight, _ = single("GET k")
    assert told(flight, OK, b"_\r\n", b"-LOADING x\r\n") == []
    assert flight.dirty == {b"k"}


def test_a_picture_with_another_number_of_keys_is_the_peers_fault() -> None:
    flight, _ = pieces("MGET a b", [0, 1])
    with pytest.raises(PeerProtocolError):
        told(flight, OK, b"*1\r\n_\r\n")


def test_a_check_takes_any_reply() -> None:
    flight, data = flights.check(1, 0.0)
    assert data == command("PING")
    told(flight, b"-BUSY x\r\n")
    assert flight.done
    assert not flight.error


@pytest.mark.parametrize(
    ("line", "reply", "ttl_ms", "expected"),
    [
        ("GET k", b"$1\r\nv\r\n", -1, True),
        ("GET k", b"_\r\n", -2, True),
        ("GET k", b"$1\r\nv\r\n", -2, False),
        ("GET k", b"$0\r\n\r\n", -2, False),
        ("GETRANGE k 0 1", b"$0\r\n\r\n", -2, True),
        ("HGET k f", b"_\r\n", -1, True),
        ("GET k", b"-WRONGTYPE x\r\n", -1, False),
    ],
)
def test_storable(line: str, reply: bytes, ttl_ms: int, expected: bool) -> None:
    assert single(line)[0].storable(reply, ttl_ms) is expected


def test_a_nil_of_mget_for_a_present_key_is_another_type() -> None:
    flight, _ = pieces("MGET a", [0])
    assert flight.storable(b"_\r\n", -2)
    assert not flight.storable(b"_\r\n", -1)


@pytest.mark.parametrize(
    ("ttl_ms", "jitter", "until_s", "expires_s"),
    [
        (-1, 1.0, 160.0, FOREVER),
        (-1, 1.1, 166.0, FOREVER),
        (-2, 1.0, 105.0, FOREVER),
        (30_000, 1.1, 130.0, 130.0),
        (600_000, 0.9, 154.0, 700.0),
        (0, 1.0, 100.0, 100.0),
    ],
)
def test_lifetime_counts_from_the_sending(
    ttl_ms: int, jitter: float, until_s: float, expires_s: float
) -> None:
    lifetime = single("GET k")[0].lifetime(ttl_ms, OPTIONS, jitter)
    assert lifetime == pytest.approx((until_s, expires_s))


def test_the_shortest_field_ends_the_value() -> None:
    flight, _ = single("HGET h f", hash_ttls=True)
    told(flight, OK, b"$1\r\nv\r\n", b":9000\r\n", b"*1\r\n:2000\r\n")
    assert flight.lifetime(9000, OPTIONS, 1.0) == (102.0, 102.0)
    assert flight.lifetime(-1, OPTIONS, 1.0) == (102.0, 102.0)
    assert flight.ended(102.0)
    assert not flight.ended(101.9)


def test_who_asked_first_gets_what_it_asked_for_and_who_joined_no_ended_value() -> None:
    flight, _ = single("GET k")
    told(flight, OK, b"$1\r\nv\r\n", b":50\r\n")
    assert not flight.ended(100.0)
    assert not flight.ended(100.04)
    assert flight.ended(100.05)
    flight, _ = single("GET k")
    told(flight, OK, b"$1\r\nv\r\n", b":-2\r\n")
    assert flight.ended(100.01)
    flight, _ = single("GET k")
    told(flight, OK, b"_\r\n", b":-2\r\n")
    assert not flight.ended(100.01)
    flight.dirty.add(b"k")
    assert flight.ended(100.01)


def test_invalidations() -> None:
    push = b">2\r\n$10\r\ninvalidate\r\n"
    assert invalidated(push + b"*2\r\n$1\r\na\r\n$1\r\nb\r\n") == [b"a", b"b"]
    assert invalidated(push + b"_\r\n") is None
    for other in (
        b">1\r\n$20\r\ntracking-redir-broken\r\n",
        b">2\r\n$21\r\ntracking-redir-broken\r\n:1\r\n",
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
        push + b":1\r\n",
    ):
        with pytest.raises(PeerProtocolError):
            invalidated(other)


def test_nothing_private_in_its_words() -> None:
    flight, _ = single("GET secret")
    assert "secret" not in repr(flight)
