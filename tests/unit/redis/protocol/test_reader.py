"""One client's view: its fence, its order, what it may be told while Redis is away."""

from dataclasses import replace

import pytest

from proxy.redis.protocol.actions import Answer, CacheOptions, Wait
from tests.unit.redis.protocol.cache_kit import NIL, OK, PONG, SERVER, Kit, push, text
from tests.wire_redis import command

V1, V2 = text("one"), text("two")
STALE = CacheOptions(stale_max_s=30.0)


@pytest.fixture
def kit() -> Kit:
    return Kit()


def stale(kit: Kit, line: str) -> bytes | None:
    words = line.split()
    return kit.a.stale(command(*words), [word.encode() for word in words], kit.now_s)


def test_a_fence_holds_its_own_reader_only(kit: Kit) -> None:
    kit.fill("GET k", V1)
    assert kit.a.fence(kit.now_s) == command("PING")
    assert kit.hit(kit.a, "GET k") is None
    assert kit.hit(kit.b, "GET k") == V1
    kit.tell(PONG)
    assert kit.read(kit.a, "GET k") == Answer(V1)  # the first look takes the fence down
    assert kit.hit(kit.a, "GET k") == V1


def test_a_read_behind_a_fence_waits_for_it(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.a.fence(kit.now_s)
    assert kit.read(kit.a, "GET k", 1) == Wait(b"")
    assert kit.tell(PONG).answers == [(1, V1)]
    kit.a.fence(kit.now_s)
    kit.read(kit.a, "GET k", 2)
    out = kit.tell(push("k"), PONG)
    assert out.answers == []
    assert kit.tell(OK, V2, b":-1\r\n").answers == [(2, V2)]


def test_a_fenced_reader_joins_no_older_flight(kit: Kit) -> None:
    kit.read(kit.b, "GET k", 0)
    kit.a.fence(kit.now_s)
    assert kit.read(kit.a, "GET k", 1) != Wait(b"")


def test_a_fence_without_a_link_is_no_fence() -> None:
    kit = Kit(server=None)
    assert kit.a.fence(0.0) == b""
    kit.cache.link_up(SERVER, 0.0)
    kit.fill("GET k", V1)
    assert kit.hit(kit.a, "GET k") == V1


def test_a_lost_link_takes_the_fence_with_it(kit: Kit) -> None:
    kit.a.fence(kit.now_s)
    kit.cache.link_lost()
    kit.cache.link_up(SERVER, 0.0)
    kit.fill("GET k", V1)
    assert kit.hit(kit.a, "GET k") == V1


def test_repeats_of_one_client_within_a_second(kit: Kit) -> None:
    kit.fill("GET k", V1)
    for _ in range(13):
        kit.hit(kit.a, "GET k")
    kit.hit(kit.b, "GET k")
    report = kit.partitions.report()
    assert report.saved_repeats == 13
    assert report.repeated_keys == [(b"k", 13)]
    assert report.top_keys == [(b"k", 15)]
    assert report.hits == 14


def test_a_closed_reader_is_answered_nothing(kit: Kit) -> None:
    kit.read(kit.a, "GET k", 1)
    kit.read(kit.b, "GET k", 2)
    kit.read(kit.a, "GET x", 3)
    kit.a.close()
    assert kit.tell(OK, V1, b":-1\r\n", OK, V1, b":-1\r\n").answers == [(2, V1)]
    assert kit.hit(kit.b, "GET x") == V1


@pytest.mark.parametrize(
    ("line", "reply", "kept"),
    [
        ("MGET a b", b"*2\r\n" + V1 + V2, True),
        ("MGET b a", b"*2\r\n" + V2 + V1, True),
        ("MGET a b", b"*2\r\n" + V1 + V1, False),
        ("MGET a c", b"*2\r\n" + V1 + NIL, False),
        ("get a", V1, True),
        ("get a", V2, False),
        ("GET a", None, False),
        ("MGET a x", None, False),
        ("GETRANGE a 0 1", text("on"), False),
        ("GET", b"-ERR x\r\n", True),
    ],
)
def test_what_the_data_link_says_is_compared(kit: Kit, line: str, reply: bytes, kept: bool) -> None:
    kit.fill("GET a", V1)
    kit.fill("GET b", V2)
    words = line.split()
    kit.b.direct(command(*words), [word.encode() for word in words], reply)
    assert (kit.hit(kit.a, "GET a") == V1) is kept


def test_an_invalid_call_about_a_cached_key_tells_nothing(kit: Kit) -> None:
    kit.fill("GET a", V1)
    kit.b.direct(command("GET", "a", "b"), [b"GET", b"a", b"b"], b"-ERR x\r\n")
    assert kit.hit(kit.a, "GET a") is None  # harmless: it is read again


# ---- stale ----


def test_no_stale_reply_unless_enabled(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.cache.link_lost()
    assert stale(kit, "GET k") is None


def test_stale_replies_are_bounded_in_age_counted_and_gone_with_the_new_link() -> None:
    kit = Kit(STALE)
    kit.fill("GET k", V1)
    kit.fill("GET l", V2)
    kit.now_s = 29.9
    kit.cache.link_lost()
    assert kit.hit(kit.a, "GET k") is None
    assert stale(kit, "GET k") == V1
    assert stale(kit, "MGET l k") == b"*2\r\n" + V2 + V1
    assert stale(kit, "GET other") is None
    assert stale(kit, "TTL k") is None
    assert kit.partitions.insight.stale_served == 2
    kit.now_s = 30.0
    assert stale(kit, "GET k") is None
    kit.now_s = 20.0
    kit.cache.link_up(SERVER, 20.0)
    assert stale(kit, "GET k") is None


def test_no_stale_reply_past_the_keys_own_end_but_past_the_cap() -> None:
    kit = Kit(replace(STALE, ttl_s=1.0))
    kit.fill("GET ends", V1, ttl=5000)
    kit.fill("GET stays", V1)
    kit.cache.link_lost()
    kit.now_s = 4.0
    assert stale(kit, "GET ends") == V1
    assert stale(kit, "GET stays") == V1
    kit.now_s = 5.0
    assert stale(kit, "GET ends") is None
    assert stale(kit, "GET stays") == V1


def test_no_stale_reply_after_a_write_for_locks_and_with_a_fence_open() -> None:
    kit = Kit(STALE)
    kit.partitions.writing(0, [b"lock"], no_stale=True)
    kit.partitions.written(0, [b"lock"])
    for key in ("written", "lock", "other"):
        kit.fill(f"GET {key}", V1)
    kit.cache.link_lost()
    kit.partitions.writing(0, [b"written"])
    assert stale(kit, "GET written") is None
    assert stale(kit, "GET lock") is None
    assert stale(kit, "GET other") == V1
    kit = Kit(STALE)
    kit.fill("GET k", V1)
    kit.a.fence(kit.now_s)
    kit.cache.link_lost()
    assert stale(kit, "GET k") is None


def test_the_memory_of_locks_is_bounded() -> None:
    kit = Kit(STALE)
    for i in range(5000):
        kit.partitions.writing(0, [b"lock%d" % i], no_stale=True)
        kit.partitions.written(0, [b"lock%d" % i])
    kit.fill("GET lock4999", V1)
    kit.fill("GET lock0", V1)
    assert stale(kit, "GET lock4999") is None
    assert stale(kit, "GET lock0") == V1


def test_a_refused_partition_serves_nothing_stale() -> None:
    kit = Kit(STALE)
    kit.fill("GET k", V1)
    kit.cache.refused("no permission")
    assert stale(kit, "GET k") is None


def test_a_pipeline_of_hits_is_answered_up_to_the_first_other_request(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.fill("GET l", V2)
    k, other = command("GET", "k"), command("GET", "l")
    replies: list[bytes] = []
    assert kit.b.run(k + other + k + command("SET", "k", "*"), kit.now_s, replies, 1 << 20) == len(
        k + other + k
    )
    assert replies == [V1, V2, V1]
    assert kit.b.run(other[:-1], kit.now_s, replies, 1 << 20) == 0
    kit.cache.store.fold_all(10)
    report = kit.partitions.report()
    assert (report.hits, report.saved_repeats) == (3, 1)


def test_a_pipeline_hits_nothing_that_ended_or_is_not_proven(kit: Kit) -> None:
    kit.fill("GET k", V1, ttl=100)
    replies: list[bytes] = []
    assert kit.a.run(command("GET", "k"), 0.099, replies, 1 << 20) == len(command("GET", "k"))
    assert kit.a.run(command("GET", "k"), 0.1, replies, 1 << 20) == 0
    kit.fill("GET l", V2)
    assert kit.a.run(command("GET", "l"), 0.5, replies, 1 << 20) == 0  # the lease is over
    assert replies == [V1]


def test_a_new_reader_waits_for_a_fence_that_is_on_its_way() -> None:
    """The client that fenced may have gone to another database, and come back as a new reader."""
    kit = Kit()
    kit.fill("GET k", text("old"))
    assert kit.a.fence(kit.now_s)
    kit.a.close()
    back = kit.partitions.reader(kit.cache, 3)
    assert kit.hit(back, "GET k") is None
    assert kit.hit(kit.b, "GET k") == text("old")  # not its own write: within the lease
    kit.tell(push("k"), PONG)
    assert isinstance(kit.read(back, "GET k"), Wait)
    kit.tell(OK, text("new"), b":-1\r\n")
    assert kit.hit(back, "GET k") == text("new")
