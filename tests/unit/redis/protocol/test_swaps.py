"""Swapped databases: the count in the server's INFO, and what the cache makes of it (W8)."""

import pytest

from proxy.redis.protocol.actions import Answer, Server, Wait
from proxy.redis.protocol.insight import Bypassed
from proxy.redis.protocol.swaps import INFO, Swaps, swaps_of
from tests.unit.redis.protocol.cache_kit import OK, Kit, text
from tests.wire_redis import command

V1 = text("one")


def told(count: int) -> bytes:
    """A reply to INFO commandstats."""
    body = (
        "# Commandstats\r\ncmdstat_get:calls=7,usec=4\r\n"
        f"cmdstat_swapdb:calls={count},usec=6\r\ncmdstat_set:calls=1,usec=4\r\n"
    )
    return b"=%d\r\ntxt:%b\r\n" % (len(body) + 4, body.encode())


@pytest.fixture
def kit() -> Kit:
    return Kit(server=Server((7, 0, 15), False, swaps=3, asked_s=0.0))


def test_the_count() -> None:
    assert swaps_of(told(12)) == 12
    assert swaps_of(text("# Commandstats\r\ncmdstat_info:calls=1,usec=4\r\n")) == 0
    assert swaps_of(b"-NOPERM this user has no permissions\r\n") is None
    assert swaps_of(text("")) is None  # a section that this server does not have


def test_another_count_is_a_swap() -> None:
    swaps = Swaps()
    swaps.seen = 3
    assert swaps.take(told(3)) is False
    assert swaps.take(told(4)) is True
    assert swaps.take(told(0)) is True  # CONFIG RESETSTAT
    assert swaps.take(b"-BUSY Redis is busy running a script\r\n") is None
    assert swaps.seen == 0
    assert swaps.take(b"-NOPERM\r\n") is False
    assert swaps.seen is None


def test_checks_ask_for_the_count(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 0.2
    assert kit.hit(kit.a, "GET k") == V1
    assert kit.cache.tick(kit.now_s).write == INFO
    kit.tell(told(3))
    kit.now_s = 0.6
    assert kit.hit(kit.a, "GET k") == V1  # fresh until 0.2 + 0.5


def test_fills_alone_do_not_prove_that_nothing_was_swapped(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 0.4
    kit.fill("GET l", V1)
    kit.now_s = 0.55
    assert kit.hit(kit.a, "GET k") is None
    assert kit.read(kit.a, "GET k", 1) == Wait(INFO)
    assert kit.read(kit.b, "GET k", 2) == Wait(b"")  # rides on the same question
    assert kit.tell(told(3)).answers == [(1, V1), (2, V1)]
    assert kit.hit(kit.a, "GET k") == V1


def test_behind_a_question_on_its_way_any_flight_proves(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 0.6
    kit.read(kit.a, "GET k", 1)
    kit.read(kit.b, "GET l", 2)
    assert kit.read(kit.b, "GET k", 3) == Wait(b"")
    out = kit.tell(told(4), OK, V1, b":-1\r\n")
    assert out.answers == [(2, V1)]  # the others' entry went: it is read again
    assert out.write.count(command("GET", "k")) == 1


def test_a_swap_empties_the_cache(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.cache.tick(0.4)
    kit.now_s = 0.6
    kit.cache.tick(kit.now_s)
    kit.tell(told(4))
    assert len(kit.cache.store) == 0
    assert isinstance(kit.read(kit.a, "GET k"), Wait)


def test_a_fence_asks_nothing_and_needs_no_answer_about_swaps(kit: Kit) -> None:
    kit.fill("GET k", V1)
    assert kit.cache.fence_all(0.1) == command("PING")
    assert kit.hit(kit.a, "GET k") is None
    kit.tell(b"+PONG\r\n")
    assert kit.hit(kit.a, "GET k") == V1
    kit.now_s = 0.5
    assert kit.hit(kit.a, "GET k") is None  # the last word about swaps is of 0.0


def test_a_busy_server_proves_nothing(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 0.6
    assert kit.read(kit.a, "GET k", 1) == Wait(INFO)
    out = kit.tell(b"-BUSY Redis is busy running a script\r\n")
    assert (out.answers, out.direct) == ([], [1])
    assert kit.bypassed == {Bypassed.TRANSIENT: 1}
    assert kit.hit(kit.a, "GET k") is None


def test_a_user_who_may_not_ask_any_more_is_bounded_by_ttl(kit: Kit) -> None:
    kit.fill("GET k", V1)
    kit.now_s = 0.6
    kit.read(kit.a, "GET k", 1)
    assert kit.tell(b"-NOPERM no\r\n").answers == [(1, V1)]
    assert kit.hit(kit.a, "GET k") == V1
    kit.now_s = 1.2
    assert kit.read(kit.a, "GET k", 1) == Wait(command("PING"))
    assert kit.tell(b"+PONG\r\n").answers == [(1, V1)]
    assert kit.read(kit.a, "GET k") == Answer(V1)
