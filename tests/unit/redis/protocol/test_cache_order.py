"""Reads of several keys are one picture; a client's reads never go back in time."""

from dataclasses import replace

import pytest

from proxy.redis.protocol.actions import Answer, Bypass, CacheOptions, Wait
from proxy.redis.protocol.insight import Bypassed
from tests.unit.redis.protocol.cache_kit import NIL, OK, Kit, push, text
from tests.wire_redis import command

V1, V2 = text("one"), text("two")
OPTIONS = CacheOptions()


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_mget_fetches_what_is_missing_and_answers_in_order(kit: Kit) -> None:
    kit.fill("GET a", V1)
    wait = kit.read(kit.old, "MGET b a b c", 1)
    ttls = command("PTTL", "b") + command("PTTL", "c")
    assert wait == Wait(command("CLIENT", "CACHING", "YES") + command("MGET", "b", "c") + ttls)
    out = kit.tell(OK, b"*2\r\n" + V2 + NIL, b":-1\r\n", b":-2\r\n")
    assert out.answers == [(1, b"*4\r\n" + V2 + V1 + V2 + b"$-1\r\n")]
    assert kit.hit(kit.old, "GET b") == V2
    assert kit.hit(kit.old, "GET c") == b"$-1\r\n"
    assert kit.read(kit.old, "MGET c a") == Answer(b"*2\r\n$-1\r\n" + V1)


def test_mget_whose_cached_part_went_meanwhile_is_read_as_a_whole(kit: Kit) -> None:
    kit.fill("GET a", V1)
    kit.read(kit.a, "MGET a b", 1)
    out = kit.tell(push("a"), OK, b"*1\r\n" + V2, b":-1\r\n")
    assert out.answers == []
    assert command("MGET", "a", "b") in out.write
    assert kit.tell(OK, b"*2\r\n" + V2 + V2, b":-1\r\n", b":-1\r\n").answers == [
        (1, b"*2\r\n" + V2 + V2)
    ]
    assert kit.partitions.insight.torn_refetches == 1


def test_mget_torn_by_an_own_write_goes_to_the_data_link_with_all_that_follows(kit: Kit) -> None:
    kit.fill("GET a", V1)
    kit.read(kit.a, "MGET a b", 1)
    kit.read(kit.a, "GET z", 2)
    kit.partitions.writing(0, [b"a"])
    out = kit.tell(OK, b"*1\r\n" + V2, b":-1\r\n")
    assert (out.answers, out.direct, out.write) == ([], [1, 2], b"")
    assert kit.tell(OK, V1, b":-1\r\n").answers == []


def test_exists_is_kept_per_key(kit: Kit) -> None:
    kit.read(kit.a, "EXISTS a b", 1)
    queued = b"+QUEUED\r\n"
    out = kit.tell(OK, OK, queued, queued, b"*2\r\n:1\r\n:0\r\n", b":-1\r\n", b":-2\r\n")
    assert out.answers == [(1, b":1\r\n")]
    assert kit.hit(kit.a, "EXISTS a") == b":1\r\n"
    assert kit.read(kit.a, "EXISTS b a a") == Answer(b":2\r\n")


def test_a_refused_queue_goes_to_the_data_link(kit: Kit) -> None:
    kit.read(kit.a, "EXISTS a b", 1)
    out = kit.tell(OK, b"-NOPERM x\r\n", b":1\r\n", b":0\r\n", b"-ERR x\r\n")
    out = kit.tell(b":-1\r\n", b":-2\r\n")
    assert out.direct == [1]
    assert kit.hit(kit.a, "EXISTS a") is None


def test_too_many_keys() -> None:
    kit = Kit(replace(OPTIONS, keys_max=2))
    assert kit.read(kit.a, "MGET a b c") == Bypass(Bypassed.TOO_MANY_KEYS)


# ---- order of one client ----


def test_a_pipelined_read_does_not_answer_from_before_the_read_ahead_of_it(kit: Kit) -> None:
    kit.fill("GET cached", V1)
    kit.read(kit.a, "GET k", 1)
    assert kit.read(kit.a, "GET cached", 2) == Wait(b"")  # as of the same instant
    out = kit.tell(push("cached"), OK, V1, b":-1\r\n")
    assert out.answers == [(1, V1)]
    assert kit.tell(OK, V2, b":-1\r\n").answers == [(2, V2)]


def test_a_pipelined_read_joins_no_flight_that_left_before_the_one_ahead(kit: Kit) -> None:
    kit.read(kit.b, "GET old", 0)
    kit.read(kit.a, "GET k", 1)
    assert kit.read(kit.a, "GET old", 2) != Wait(b"")
    assert kit.tell(OK, V1, b":-1\r\n").answers == [(0, V1)]


def test_what_was_asked_after_a_refetch_is_answered_after_it(kit: Kit) -> None:
    kit.fill("GET a", V1)
    kit.read(kit.a, "MGET a b", 1)
    kit.read(kit.a, "GET c", 2)
    out = kit.tell(push("a"), OK, b"*1\r\n" + V2, b":-1\r\n")
    assert command("GET", "c") in out.write  # again: its first flight is older than the refetch
    assert kit.tell(OK, V1, b":-1\r\n").answers == []
    out = kit.tell(OK, b"*2\r\n" + V2 + V2, b":-1\r\n", b":-1\r\n", OK, V2, b":-1\r\n")
    assert [waiter for waiter, _ in out.answers] == [1, 2]
