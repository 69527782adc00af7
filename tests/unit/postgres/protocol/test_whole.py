"""A chunk that is one unit, told from its bytes: what Gatherer.feed says of it, or None."""

import pytest

from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.units import UNIT_BYTES_MAX
from proxy.postgres.protocol.whole import whole_unit
from tests.unit.postgres.protocol._sequences import SYNC, b, close, e, p, q
from tests.unit.postgres.protocol.test_units import gatherer, known

DESCRIBE = m.describe(b"P", "")
PREPARED = p("SELECT $1", "s") + SYNC


def test_a_chunk_that_is_one_query() -> None:
    slow, fast = gatherer(), gatherer()
    for text in ("SELECT 1", "BEGIN", "SET a = 1", ";", "INSERT INTO t VALUES (1)"):
        data = q(text)
        unit = whole_unit(fast, data)
        assert unit is not None
        assert known([(unit, data, True)]) == known(slow.feed(data))
        assert unit.pieces == [data]


@pytest.mark.parametrize(
    "data",
    [
        q("SELECT 1") + q("SELECT 2"),
        q("SELECT 1")[:-1],
        q("SELECT 1")[:3],
        q("SELECT 1")[:1],
        SYNC,
        m.message(b"Q"),
        b"Q\0\0\0\0",
        b"Q\xff\xff\xff\xff",
    ],
)
def test_a_chunk_that_is_not(data: bytes) -> None:
    assert whole_unit(gatherer(), data) is None


def test_one_query_in_the_middle_of_something() -> None:
    for before in (p("SELECT 1"), b"Q\0", m.copy_data(bytes(2 << 20))[:100]):
        taker = gatherer()
        taker.feed(before)
        assert whole_unit(taker, q("SELECT 1")) is None


@pytest.mark.parametrize(
    "data",
    [
        b("s", "", b"1") + e() + SYNC,
        b("s", "", b"1") + DESCRIBE + e() + SYNC,
        p("SELECT $1") + b("", "", b"1") + e() + SYNC,
        p("INSERT INTO t VALUES ($1)") + b("", "", b"1") + DESCRIBE + e() + SYNC,
    ],
)
def test_a_chunk_that_is_one_plain_batch(data: bytes) -> None:
    slow, fast = gatherer(), gatherer()
    for taker in (slow, fast):
        taker.feed(PREPARED)
    unit = whole_unit(fast, data)
    assert unit is not None
    assert known([(unit, data, True)]) == known(slow.feed(data))
    assert (unit.pieces, unit.owed) == ([data], 2 + (DESCRIBE in data) + (data[:1] == b"P"))
    assert fast.names == slow.names
    assert fast.portals == slow.portals


@pytest.mark.parametrize(
    ("data", "uses", "parses", "executed"),
    [
        ((b("s", "", b"1") + DESCRIBE + e()) * 3 + SYNC, 3, 0, 3),
        (p("SELECT 1", "named") + b("named") + e() + SYNC, 0, 1, 1),
        (p("SELECT 1") + b("s") + e() + SYNC, 1, 1, 1),
        ((p("SELECT $1") + b("", "", b"1") + DESCRIBE + e()) * 2 + SYNC, 0, 2, 2),
        (b("s") + p("SELECT 2", "s") + b("s") + e() + e() + SYNC, 1, 1, 2),
        (b("s") + e() + p("DELETE FROM t", "other") + SYNC, 1, 1, 1),
    ],
)
def test_a_chunk_that_is_a_plain_pipeline(
    data: bytes, uses: int, parses: int, executed: int
) -> None:
    slow, fast = gatherer(), gatherer()
    for taker in (slow, fast):
        taker.feed(PREPARED)
    unit = whole_unit(fast, data)
    assert unit is not None
    assert known([(unit, data, True)]) == known(slow.feed(data))
    counts = (len(unit.uses or ()), len(unit.parses or ()), len(unit.executes or ()))
    assert counts == (uses, parses, executed)
    assert fast.names == slow.names
    assert fast.portals == slow.portals


@pytest.mark.parametrize(
    "data",
    [
        b("", "unknown", b"1") + e() + SYNC,
        b("s", "portal", b"1") + e("portal") + SYNC,
        b("other", "xs", b"1") + e() + SYNC,  # a portal whose name ends like a statement
        b("s", "", b"1") + e("portal") + SYNC,
        b("s", "", b"1") + m.message(b"E", b"\0\0\0\0\5") + SYNC,  # five rows of it
        b("s", "", b"1") + SYNC,
        b("s", "", b"1") + e() + SYNC + SYNC,
        b("s", "", b"1") + close("s") + e() + SYNC,
        (b("s", "", b"1") + e() + SYNC)[:-1],
        p("SET a.b = $1") + b("", "", b"1") + e() + SYNC,  # which has something to teach
        p("SELECT 1") + b("s") + SYNC,
        p("SELECT 1") + SYNC,
        e() + SYNC,
        e() + b("s") + e() + SYNC,
        (b("s") + e()) * 2 + p("SET a.b = $1", "x") + SYNC,
        (b("s") + e()) * 2 + SYNC + b("s"),
        (b("s") + e()) * 2 + b("s", "portal") + SYNC,
        (b("s") + e()) * 2 + m.describe(b"S", "s") + SYNC,
        (b("s") + e()) * 2 + m.flush() + SYNC,
        (b("s") + e()) * 2 + b("unknown") + SYNC,
        (b("s") + e()) * 2 + b"B\0\0\0\4" + SYNC,
        (b("s") + e()) * 2 + b"B\0\0\0\3" + SYNC,
        (b("s") + e()) * 2 + b"P\0\0\0\5\0" + SYNC,
        (b("s") + e()) * 2 + SYNC[:-1],
        (b("s") + e()) * 2,
        b("s", "", bytes(UNIT_BYTES_MAX)) + e() + SYNC,
    ],
)
def test_batches_that_are_looked_at(data: bytes) -> None:
    taker = gatherer()
    taker.feed(PREPARED + p("SELECT 3") + SYNC)
    names, portals = dict(taker.names), dict(taker.portals)
    assert whole_unit(taker, data) is None
    assert (taker.names, taker.portals) == (names, portals)
