"""The laws, one by one, in conversations with the tracking link."""

from dataclasses import replace

import pytest

from proxy.redis.protocol.actions import Answer, Bypass, CacheOptions, Fault, Phase, Server, Wait
from proxy.redis.protocol.insight import Bypassed
from tests.unit.redis.protocol.cache_kit import FLUSHED, NIL, OK, PONG, SERVER, Kit, push, text
from tests.wire_redis import command

V1, V2 = text("one"), text("two")
OPTIONS = CacheOptions()


@pytest.fixture
def kit() -> Kit:
    return Kit()


# ---- fills ----


def test_a_miss_fills_and_the_next_read_hits(kit: Kit) -> None:
    wait = kit.read(kit.a, "GET k")
    assert wait == Wait(
        command("CLIENT", "CACHING", "YES") + command("GET", "k") + command("PTTL", "k")
    )
    assert kit.tell(OK, V1).answers == []
    assert kit.tell(b":-1\r\n").answers == [("w", V1)]
    assert kit.hit(kit.a, "GET k") == V1
    assert kit.hit(kit.b, "GET k") == V1
    assert kit.cache.hits == 2


def test_each_client_in_its_own_version(kit: Kit) -> None:
    kit.read(kit.a, "GET k", "new")
    kit.read(kit.old, "GET k", "old")
    assert kit.tell(OK, NIL, b":-2\r\n").answers == [("new", NIL), ("old", b"$-1\r\n")]
    assert kit.hit(kit.a, "GET k") == NIL
    assert kit.hit(kit.old, "GET k") == b"$-1\r\n"


def test_reads_of_the_same_key_fly_together(kit: Kit) -> None:
    assert kit.read(kit.a, "GET k", 1) != Wait(b"")
    assert kit.read(kit.b, "GET k", 2) == Wait(b"")
    assert kit.read(kit.b, "GET k", 3) == Wait(b"")
    out = kit.tell(OK, V1, b":-1\r\n")
    assert out.answers == [(1, V1), (2, V1), (3, V1)]
    assert kit.partitions.insight.coalesced == 2
    assert kit.partitions.insight.misses == 1


def test_other_spellings_hit_by_themselves(kit: Kit) -> None:
    kit.read(kit.a, "get k")
    kit.tell(OK, V1, b":-1\r\n")
    assert kit.hit(kit.a, "get k") == V1
    assert kit.hit(kit.a, "GET k") == V1
    assert kit.hit(kit.a, "GeT k") is None
    assert kit.read(kit.a, "GeT k") == Answer(V1)
    assert kit.hit(kit.a, "GeT k") == V1


@pytest.mark.parametrize(
    ("reply", "ttl", "last_s"),
    [(V1, b":300\r\n", 0.29), (V1, b":-1\r\n", 59.0), (NIL, b":-2\r\n", 4.9)],
)
def test_ttls(reply: bytes, ttl: bytes, last_s: float) -> None:
    kit = Kit(replace(OPTIONS, negative_ttl_s=5.0, lease_s=100.0))
    kit.read(kit.a, "GET k")
    kit.now_s = 0.25
    kit.tell(OK, reply, ttl)
    kit.now_s = last_s
    assert kit.hit(kit.a, "GET k") == reply
    kit.now_s = last_s + 1.1
    assert kit.hit(kit.a, "GET k") is None


def test_a_value_that_ended_while_it_was_read_is_answered_and_not_kept(kit: Kit) -> None:
    kit.read(kit.a, "GET k")
    assert kit.tell(OK, V1, b":-2\r\n").answers == [("w", V1)]
    assert kit.hit(kit.a, "GET k") is None


def test_an_error_is_answered_and_not_kept(kit: Kit) -> None:
    wrong = b"-WRONGTYPE x\r\n"
    kit.read(kit.a, "GET k", 1)
    kit.read(kit.old, "GET k", 2)
    assert kit.tell(OK, wrong, b":-1\r\n").answers == [(1, wrong), (2, wrong)]
    assert kit.hit(kit.a, "GET k") is None


def test_a_transient_error_is_left_to_the_data_path(kit: Kit) -> None:
    kit.read(kit.a, "GET k", 1)
    out = kit.tell(OK, b"-LOADING x\r\n", b"-LOADING x\r\n")
    assert (out.answers, out.direct) == ([], [1])
    assert kit.bypassed == {Bypassed.TRANSIENT: 1}


def test_too_big_is_answered_not_kept_and_bypassed_for_a_while() -> None:
    kit = Kit(replace(OPTIONS, max_entry_bytes=20))
    big = text("x" * 30)
    kit.read(kit.a, "GET k")
    assert kit.tell(OK, big, b":-1\r\n").answers == [("w", big)]
    assert kit.hit(kit.a, "GET k") is None
    assert kit.read(kit.a, "GET k") == Bypass(Bypassed.TOO_BIG)
    kit.now_s = 70.0
    kit.tell()
    assert isinstance(kit.read(kit.a, "GET k"), Wait)


def test_the_memory_of_what_is_too_big_is_bounded() -> None:
    kit = Kit(replace(OPTIONS, max_entry_bytes=1))
    for i in range(1500):
        kit.read(kit.a, f"GET k{i}")
        kit.tell(OK, V1, b":-1\r\n")
    assert kit.read(kit.a, "GET k1499") == Bypass(Bypassed.TOO_BIG)
    assert isinstance(kit.read(kit.a, "GET k0"), Wait)


# ---- invalidations ----


def test_an_invalidation_drops_every_entry_of_the_key(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.fill("STRLEN k", b":3\r\n")
    kit.fill("GET other", V2)
    kit.tell(push("k", "none"))
    assert kit.hit(kit.a, "GET k") is None
    assert kit.hit(kit.a, "STRLEN k") is None
    assert kit.hit(kit.a, "GET other") == V2


def test_a_flush_drops_everything(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.tell(FLUSHED)
    assert kit.hit(kit.a, "GET k") is None


@pytest.mark.parametrize("invalidation", [push("k"), FLUSHED])
def test_before_the_reply_it_means_nothing_and_before_the_ttl_everything(
    kit: Kit, invalidation: bytes
) -> None:
    kit.read(kit.a, "GET k")
    assert kit.tell(OK, invalidation, V1, b":-1\r\n").answers == [("w", V1)]
    assert kit.hit(kit.a, "GET k") == V1
    kit.tell(invalidation)
    kit.read(kit.a, "GET k")
    assert kit.tell(OK, V2, invalidation, b":-1\r\n").answers == [("w", V2)]
    assert kit.hit(kit.a, "GET k") is None


@pytest.mark.parametrize(
    "frame",
    [
        b">1\r\n$20\r\ntracking-redir-broken\r\n",
        b">2\r\n$3\r\nodd\r\n_\r\n",
        PONG,
    ],
)
def test_what_no_correct_server_says_is_a_fault(kit: Kit, frame: bytes) -> None:
    kit.fill("GET k", V1)
    assert kit.tell(frame, push("k")).fault is Fault.PROTOCOL


# ---- own writes ----


def test_w1_from_the_dispatch_on_nothing_cached_is_served(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.partitions.writing(0, [b"k"])
    assert kit.hit(kit.a, "GET k") is None


def test_w2_until_the_answer_reads_go_upstream_by_themselves(kit: Kit) -> None:
    kit.partitions.writing(0, [b"k"])
    assert kit.read(kit.a, "GET k") == Bypass(Bypassed.BARRIER)
    assert kit.read(kit.a, "MGET x k") == Bypass(Bypassed.BARRIER)
    kit.partitions.written(0, [b"k"])
    assert isinstance(kit.read(kit.a, "GET k"), Wait)


def test_w3_the_answer_drops_again(kit: Kit) -> None:
    kit.read(kit.a, "GET k")
    kit.cache.writing([])
    kit.tell(OK, V1, b":-1\r\n")
    kit.partitions.writing(0, [b"k"])
    kit.partitions.written(0, [b"k"])
    assert kit.hit(kit.a, "GET k") is None


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_detach_who_waited_keeps_the_flight_and_nobody_joins_or_stores_it(
    kit: Kit, answered: int
) -> None:
    kit.read(kit.a, "GET k", "before")
    frames = [OK, V1, b":-1\r\n"]
    kit.tell(*frames[:answered])
    kit.partitions.writing(0, [b"k"])
    kit.partitions.written(0, [b"k"])
    assert kit.read(kit.b, "GET k", "after") != Wait(b"")
    assert kit.tell(*frames[answered:]).answers == [("before", V1)]
    assert kit.hit(kit.a, "GET k") is None
    assert kit.tell(OK, V2, b":-1\r\n").answers == [("after", V2)]
    assert kit.hit(kit.a, "GET k") == V2


def test_w5_a_flush_through_the_proxy(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.read(kit.a, "GET flying", 1)
    kit.partitions.flushing()
    assert kit.hit(kit.a, "GET k") is None
    assert kit.read(kit.b, "GET k") == Bypass(Bypassed.BARRIER)
    kit.tell(OK, V1, b":-1\r\n")
    kit.partitions.flushed()
    assert kit.hit(kit.a, "GET flying") is None
    assert isinstance(kit.read(kit.b, "GET k"), Wait)


def test_w4_a_fence_holds_every_reader_until_its_pong(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.read(kit.b, "GET flying", "before")
    ((cache, data),) = kit.partitions.fence_all(kit.now_s)
    assert cache is kit.cache
    assert data == command("PING")
    assert kit.hit(kit.a, "GET k") is None
    assert kit.read(kit.a, "GET flying", "after") != Wait(b"")  # not the flight of before
    kit.tell(OK, V1, b":-1\r\n")
    assert kit.hit(kit.a, "GET k") is None
    kit.tell(push("k"), PONG)
    assert kit.hit(kit.b, "GET flying") == V1
    kit.tell(OK, V2, b":-1\r\n")
    assert kit.hit(kit.b, "GET k") is None


def test_w4_a_read_while_fenced_rides_on_the_ping(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.partitions.fence_all(kit.now_s)
    assert kit.read(kit.a, "GET k", 1) == Wait(b"")
    assert kit.tell(PONG).answers == [(1, V1)]
    assert kit.hit(kit.a, "GET k") == V1


def test_a_fence_without_a_link_drops_what_might_be_served_stale() -> None:
    kit = Kit(replace(OPTIONS, stale_max_s=60.0))
    kit.fill("GET k", V1)
    kit.cache.link_lost()
    assert len(kit.cache.store) == 1
    assert kit.partitions.fence_all(kit.now_s) == []
    assert len(kit.cache.store) == 0


def test_w7_what_the_data_link_says_corrects_the_cache(kit: Kit) -> None:
    kit.fill("GET k", V1)
    raw, argv = command("GET", "k"), [b"GET", b"k"]
    kit.b.direct(raw, argv, V1)
    assert kit.hit(kit.a, "GET k") == V1
    kit.b.direct(raw, argv, V2)
    assert kit.hit(kit.a, "GET k") is None
    kit.read(kit.a, "GET k", 1)
    kit.b.direct(raw, argv, V2)  # the flight may have read before D did
    kit.tell(OK, V1, b":-1\r\n")
    assert kit.hit(kit.a, "GET k") is None


# ---- lease ----


def test_hits_end_with_the_lease_and_a_reply_extends_it(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 0.49
    assert kit.hit(kit.a, "GET k") == V1
    kit.now_s = 0.5
    assert kit.hit(kit.a, "GET k") is None
    kit.fill("GET other", V2)
    assert kit.hit(kit.a, "GET k") == V1


def test_after_idleness_one_ping_proves_what_is_cached(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 10.0
    assert kit.read(kit.a, "GET k", 1) == Wait(command("PING"))
    assert kit.read(kit.b, "GET k", 2) == Wait(b"")
    kit.now_s = 10.02
    assert kit.tell(PONG).answers == [(1, V1), (2, V1)]
    assert kit.hit(kit.a, "GET k") == V1


def test_what_the_ping_does_not_confirm_is_read_again(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 10.0
    kit.read(kit.a, "GET k", 1)
    out = kit.tell(push("k"), PONG)
    assert out.answers == []
    assert out.write.endswith(command("PTTL", "k"))
    assert kit.tell(OK, V2, b":-1\r\n").answers == [(1, V2)]


def test_a_stalled_link_is_bypassed_and_not_waited_for(kit: Kit) -> None:
    kit.read(kit.a, "GET k", 1)
    kit.now_s = 0.4
    assert kit.read(kit.b, "GET k", 2) == Wait(b"")
    kit.now_s = 0.5
    assert kit.read(kit.b, "GET k", 3) == Bypass(Bypassed.STALLED)
    out = kit.cache.tick(kit.now_s)
    assert out.direct == [1, 2]
    assert kit.bypassed == {Bypassed.STALLED: 1, Bypassed.TOO_LATE: 2}
    kit.now_s = 0.6
    assert kit.tell(OK, V1, b":-1\r\n").answers == []
    assert kit.read(kit.b, "GET k", 4) == Wait(b"")  # the tick's PING is on its way
    assert kit.tell(PONG).answers == [(4, V1)]


def test_ticks_ping_while_somebody_reads_and_rarely_otherwise(kit: Kit) -> None:
    kit.fill("GET k", V1)

    def pings(first: int, last: int, reading: bool) -> int:
        count = 0
        for step in range(first, last):
            kit.now_s = step * 0.05
            if reading:
                kit.hit(kit.a, "GET k")
            if kit.cache.tick(kit.now_s).write:
                count += 1
                kit.tell(PONG)
        return count

    assert pings(1, 101, reading=False) in (4, 5)  # for the second after the fill
    assert pings(101, 201, reading=False) == 1
    kit.read(kit.a, "GET k")
    kit.tell(PONG)
    assert pings(201, 241, reading=True) >= 9
    assert kit.hit(kit.a, "GET k") == V1


def test_silence_is_a_fault(kit: Kit) -> None:
    kit.read(kit.a, "GET k")
    kit.now_s = 4.9
    assert kit.cache.tick(kit.now_s).fault is None
    kit.now_s = 5.0
    assert kit.cache.tick(kit.now_s).fault is Fault.SILENT


# ---- loss ----


def test_loss_sends_who_waits_to_the_data_link_and_drops_everything(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.read(kit.a, "GET x", 1)
    kit.read(kit.b, "GET x", 2)
    kit.read(kit.a, "GET y", 3)
    assert kit.cache.link_lost().direct == [1, 3, 2]
    assert kit.hit(kit.a, "GET k") is None
    assert kit.read(kit.a, "GET k") == Bypass(Bypassed.NO_LINK)
    assert kit.cache.link_lost().direct == []
    kit.cache.link_up(SERVER, 1.0)
    kit.now_s = 1.0
    assert isinstance(kit.read(kit.a, "GET k"), Wait)
    assert kit.hit(kit.a, "GET k") is None


def test_an_old_server_is_not_cached_and_said_so() -> None:
    kit = Kit(server=Server((6, 2, 14), hash_field_ttls=False))
    assert kit.cache.phase is Phase.REFUSED
    assert "7.0" in kit.cache.refusal
    assert kit.read(kit.a, "GET k") == Bypass(Bypassed.REFUSED)


def test_a_refusal_ends_with_a_link_that_can_track(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.cache.refused("no permission")
    assert kit.hit(kit.a, "GET k") is None
    kit.cache.link_lost()
    assert kit.cache.phase is Phase.REFUSED
    kit.cache.link_up(SERVER, 1.0)
    assert kit.cache.phase is Phase.READY
    assert kit.cache.refusal == ""


def test_no_link_yet() -> None:
    kit = Kit(server=None)
    assert kit.read(kit.a, "GET k") == Bypass(Bypassed.NO_LINK)
    assert kit.cache.tick(1.0).write == b""


# ---- bounds and filters ----


def test_include_and_exclude() -> None:
    kit = Kit(replace(OPTIONS, include=(b"user:*",), exclude=(b"*:secret",)))
    assert kit.read(kit.a, "GET other") == Bypass(Bypassed.EXCLUDED)
    assert kit.read(kit.a, "GET user:secret") == Bypass(Bypassed.EXCLUDED)
    assert kit.read(kit.a, "MGET user:1 other") == Bypass(Bypassed.EXCLUDED)
    assert isinstance(kit.read(kit.a, "GET user:1"), Wait)


def test_reads_in_flight_are_bounded() -> None:
    kit = Kit(replace(OPTIONS, asks_max=2))
    kit.read(kit.a, "GET a", 1)
    kit.read(kit.a, "GET b", 2)
    assert kit.read(kit.b, "GET c") == Bypass(Bypassed.FULL)
    kit.tell(OK, V1, b":-1\r\n")
    assert isinstance(kit.read(kit.b, "GET c"), Wait)


def test_not_cacheable(kit: Kit) -> None:
    assert kit.read(kit.a, "TTL k") == Bypass(Bypassed.NOT_CACHEABLE)


def test_memory_stays_under_its_bound_and_ended_entries_are_reclaimed() -> None:
    kit = Kit(replace(OPTIONS, max_bytes=100_000))
    budget = kit.partitions.budget
    for i in range(2000):
        kit.fill(f"GET k{i}", V1, ttl=50)
        assert budget.used_bytes <= 100_000
    assert budget.evicted > 1000
    kit.now_s = 0.2
    kit.cache.tick(kit.now_s)
    assert budget.entries == 0
    assert len(kit.cache.store) == 0
