"""Client bytes cut into units: what comes out, whole or chopped at every byte, and what it says.

Law of all sequences: the pieces put together are the bytes put in, in order; each unit is completed
once; chopping changes neither the units nor what is known of them.
"""

from typing import Any

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol import units as units_module
from proxy.postgres.protocol.framing import scan
from proxy.postgres.protocol.statement import Class, Tx
from proxy.postgres.protocol.units import Gatherer, Kind, Piece, Unit
from proxy.postgres.protocol.whole import whole_unit
from tests.unit.postgres.protocol._sequences import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    b,
    call,
    close,
    e,
    every_cut,
    feed_all,
    gatherer,
    p,
    pbe,
    q,
    units_of,
)

ROWS = m.copy_data(b"1\tcat\n") + m.copy_data(b"2\tdog\n")

# name: (bytes, pieces). A piece is written as the types of its messages, `.` behind it if it
# completes its unit, in brackets if it belongs to none.
SEQUENCES: dict[str, tuple[bytes, str]] = {
    "query": (q("SELECT 1"), "Q."),
    "empty query": (q(""), "Q."),
    "query without its NUL": (m.message(b"Q", b"SELECT 1"), "Q."),
    "query without a body": (m.message(b"Q"), "Q."),
    "two queries": (q("SELECT 1") + q("SELECT 2"), "Q. Q."),
    "function call": (call(), "F."),
    "function call between queries": (q("SELECT 1") + call() + q("SELECT 2"), "Q. F. Q."),
    "batch": (pbe("SELECT 1") + SYNC, "PBES."),
    "batch with describe": (
        p("SELECT 1") + b() + m.describe(b"P", "") + e() + SYNC,
        "PBDES.",
    ),
    "parse and describe only": (p("SELECT 1", "s") + m.describe(b"S", "s") + SYNC, "PDS."),
    "named statement used later": (p("SELECT 1", "s") + SYNC + b("s") + e() + SYNC, "PS. BES."),
    "sync alone": (SYNC, "S."),
    "three syncs": (SYNC * 3, "S. S. S."),
    "close statement": (close("s") + SYNC, "CS."),
    "close portal": (b("s", "p") + e("p") + close("p", b"P") + SYNC, "BECS."),
    "flush before sync": (pbe("SELECT 1") + FLUSH + SYNC, "PBEH S."),
    "two flushes": (p("SELECT 1") + FLUSH + b() + e() + FLUSH + SYNC, "PH BEH S."),
    "flush alone, then sync": (FLUSH + SYNC, "H S."),
    "flush behind a sync": (pbe("SELECT 1") + SYNC + FLUSH, "PBES. H"),
    "flush behind a sync, then a query": (SYNC + FLUSH + q("SELECT 1"), "S. H Q."),
    "several executes": (pbe("SELECT 1") + pbe("INSERT INTO t VALUES (1)") + SYNC, "PBEPBES."),
    "execute twice": (p("SELECT 1") + b() + e() + e() + SYNC, "PBEES."),
    "batch without a sync": (pbe("SELECT 1"), ""),
    "batch without a sync, then terminate": (pbe("SELECT 1") + TERMINATE, "PBE"),
    "query behind a batch without sync": (pbe("SELECT 1") + q("SELECT 2"), "PBEQ."),
    "function call behind a batch without sync": (pbe("SELECT 1") + call(), "PBEF."),
    "query, batch, query": (q("SELECT 1") + pbe("SELECT 2") + SYNC + q("SELECT 3"), "Q. PBES. Q."),
    "begin, insert, commit": (q("BEGIN") + q("INSERT INTO t SELECT 1") + q("COMMIT"), "Q. Q. Q."),
    "transaction in one batch": (
        pbe("BEGIN") + pbe("INSERT INTO t SELECT 1") + pbe("COMMIT") + SYNC,
        "PBEPBEPBES.",
    ),
    "copy by query": (q("COPY t FROM STDIN") + ROWS + COPY_DONE, "Q. (dd) (c.)"),
    "copy fails": (q("COPY t FROM STDIN") + ROWS + m.copy_fail("no"), "Q. (dd) (f.)"),
    "copy done without rows": (q("COPY t FROM STDIN") + COPY_DONE, "Q. (c.)"),
    "copy by query, then a query": (
        q("COPY t FROM STDIN") + ROWS + COPY_DONE + q("SELECT 1"),
        "Q. (dd) (c.) Q.",
    ),
    "copy by batch with flush": (
        pbe("COPY t FROM STDIN") + FLUSH + ROWS + COPY_DONE + SYNC,
        "PBEH (dd) (c.) S.",
    ),
    "copy by batch, blindly": (
        pbe("COPY t FROM STDIN") + ROWS + COPY_DONE + SYNC,
        "PBE (dd) (c.) S.",
    ),
    "copy by batch, its sync swallowed": (
        pbe("COPY t FROM STDIN") + SYNC + ROWS + COPY_DONE + SYNC,
        "PBES. (dd) (c.) S.",
    ),
    "rows that nobody asked for": (ROWS, "(dd)"),
    "rows between two messages of a batch": (p("SELECT 1") + ROWS + b() + SYNC, "P (dd) BS."),
    "rows behind an open batch": (p("SELECT 1") + ROWS, "P (dd)"),
    "rows, then terminate": (ROWS + TERMINATE, "(dd)"),
    "flush, then terminate": (p("SELECT 1") + FLUSH + TERMINATE, "PH"),
    "terminate": (TERMINATE, ""),
    "query, then terminate": (q("SELECT 1") + TERMINATE, "Q."),
    "nothing counts behind terminate": (TERMINATE + q("SELECT 1"), ""),
    "parse without a NUL": (m.message(b"P", b"abc") + SYNC, "PS."),
    "parse without a text": (m.message(b"P", b"s\0abc") + SYNC, "PS."),
    "bind without a NUL": (m.message(b"B", b"abc") + SYNC, "BS."),
    "bind without a statement": (m.message(b"B", b"p\0abc") + SYNC, "BS."),
    "execute without a NUL": (m.message(b"E", b"abc") + SYNC, "ES."),
    "close without a name": (m.message(b"C") + SYNC, "CS."),
    "close without a NUL": (m.message(b"C", b"Sabc") + SYNC, "CS."),
    "close of what does not exist": (m.message(b"C", b"Xabc\0") + SYNC, "CS."),
    "describe without a name": (m.message(b"D") + SYNC, "DS."),
    "describe without a NUL": (m.message(b"D", b"Sabc") + SYNC, "DS."),
    "sync with a body": (m.message(b"S", b"abc"), "S."),
}


def types(part: bytes) -> str:
    """The types of the whole messages in a part."""
    marks: list[tuple[int, int, int]] = []
    end, _ = scan(part, 0, bytes([1]) * 256, marks)
    assert end == len(part)
    return "".join(chr(kind) for kind, _, _ in marks)


def written(pieces: list[Piece]) -> str:
    """Pieces as in SEQUENCES; COPY rows that come apart count as one."""
    words: list[str] = []
    for unit, part, last in pieces:
        word = types(part) + "." * last
        words.append(word if unit is not None else f"({word})")
    return " ".join(words)


SAID = ("kind", "complete", "flushed", "script", "parses", "uses", "closes", "executes", "watch")


def known(pieces: list[Piece]) -> list[object]:
    """All that the units say, to be compared between two choppings."""
    units: list[Unit] = []
    for unit, _, _ in pieces:
        if unit is not None and unit not in units:
            units.append(unit)
    return [
        {
            **{name: getattr(unit, name) for name in (*SAID, "mixed", "size", "bare", "owed")},
            "journal": unit.pieces and unit.data,
        }
        for unit in units
    ]


def check_pieces(pieces: list[Piece], sent: bytes) -> None:
    """The law that holds for all pieces."""
    assert b"".join(part for _, part, _ in pieces) == sent
    complete: list[Unit] = []
    journal: dict[int, bytes] = {}
    for unit, part, last in pieces:
        if unit is None:
            assert part
            assert not last or part[:1] in (b"c", b"f")  # the rows end
            continue
        assert unit not in complete, "a piece of a unit that was completed before"
        journal[id(unit)] = journal.get(id(unit), b"") + part
        if last:
            complete.append(unit)
    for unit in {id(u): u for u, _, _ in pieces if u is not None}.values():
        assert unit.complete == (unit in complete)
        assert unit.size == len(journal[id(unit)])
        if unit.pieces is not None:
            assert unit.data == journal[id(unit)]


def sent_of(data: bytes) -> bytes:
    """What is to be passed on of these whole messages: all before Terminate, and complete."""
    marks: list[tuple[int, int, int]] = []
    scan(data, 0, bytes([1]) * 256, marks)
    for kind, start, _ in marks:
        if kind == ord("X"):
            return data[:start]
    last = [stop for kind, _, stop in marks if chr(kind) in "QFSHdcf"]
    return data[: last[-1]] if last else b""


@pytest.mark.parametrize("name", SEQUENCES)
def test_whole(name: str) -> None:
    data, wanted = SEQUENCES[name]
    taker = gatherer()
    pieces = taker.feed(data)
    assert written(pieces) == wanted
    check_pieces(pieces, sent_of(data))
    assert taker.fault is None
    assert taker.terminated == ("terminate" in name)
    assert taker.pending_bytes == (0 if taker.terminated else len(data) - len(sent_of(data)))


@pytest.mark.parametrize("name", SEQUENCES)
def test_chopped_at_every_byte(name: str) -> None:
    data, _ = SEQUENCES[name]
    whole = gatherer()
    wanted = known(whole.feed(data))
    for parts in every_cut(data):
        taker = gatherer()
        pieces = feed_all(taker.feed, [*parts] if b"X" not in data else _until_end(taker, parts))
        check_pieces(pieces, sent_of(data))
        assert known(pieces) == wanted
        assert taker.terminated == whole.terminated
        assert taker.names == whole.names
        assert taker.portals == whole.portals


def _until_end(taker: Gatherer, parts: list[bytes]) -> list[bytes]:
    """Nobody feeds a gatherer behind a Terminate."""
    marks: list[tuple[int, int, int]] = []
    data = b"".join(parts)
    scan(data, 0, bytes([1]) * 256, marks)
    end = next((stop for kind, _, stop in marks if kind == ord("X")), len(data))
    kept: list[bytes] = []
    for part in parts:
        kept.append(part[: max(0, end)])
        end -= len(part)
        if end <= 0:
            break
    return kept


# ---- what a unit says ----


def one(data: bytes, taker: Gatherer | None = None) -> Unit:
    (unit,) = units_of(data, taker)
    return unit


def test_a_query() -> None:
    unit = one(q("INSERT INTO t VALUES (1)"))
    assert unit.kind is Kind.QUERY
    assert unit.class_of() is Class.WRITE
    assert unit.writes()
    assert unit.tx() is Tx.NONE
    assert not unit.watch
    assert unit.data == q("INSERT INTO t VALUES (1)")
    assert not one(q("SELECT 1")).writes()


def test_a_function_call_is_not_known() -> None:
    unit = one(call())
    assert unit.kind is Kind.CALL
    assert unit.class_of() is Class.OTHER
    assert unit.writes()
    assert unit.watch
    assert unit.steers()


@pytest.mark.parametrize(
    ("texts", "kind", "steers"),
    [
        ([], Class.READ, False),
        (["SELECT 1"], Class.READ, False),
        (["SELECT 1", "SELECT 2"], Class.READ, False),
        (["SELECT 1", "INSERT INTO t VALUES (1)"], Class.WRITE, False),
        (["SELECT nextval('s')", "SELECT 1"], Class.WRITE, False),
        (["SELECT nextval('s')"], Class.SEQUENCE, False),
        (["SET a = 1"], Class.SETTING, False),
        (["COMMIT"], Class.BEGIN, True),
        (["BEGIN", "SELECT 1"], Class.OTHER, True),
        (["VACUUM", "SELECT 1"], Class.OTHER, False),
    ],
)
def test_the_class_of_a_batch(texts: list[str], kind: Class, steers: bool) -> None:
    unit = one(b"".join(map(pbe, texts)) + SYNC)
    assert unit.class_of() is kind
    assert unit.steers() is steers
    assert unit.writes() is (kind is not Class.READ)


def test_the_verb_of_a_unit_of_one_statement() -> None:
    assert one(q("commit")).tx() is Tx.COMMIT
    assert one(pbe("rollback") + SYNC).tx() is Tx.ROLLBACK
    assert one(q("COMMIT; BEGIN")).tx() is Tx.NONE
    assert one(pbe("BEGIN") + pbe("COMMIT") + SYNC).tx() is Tx.NONE
    assert one(q("")).tx() is Tx.NONE


def test_what_a_batch_does() -> None:
    unit = one(
        p("SELECT 1", "s") + b("s") + e() + b("old", "p") + m.describe(b"S", "older") + close("x")
        + close("p", b"P") + SYNC
    )  # fmt: skip
    assert unit.parses == [(b"s", p("SELECT 1", "s"))]
    assert unit.uses == [b"old", b"older"]  # not s: the unit brings it along
    assert unit.closes == [(ord("S"), b"x"), (ord("P"), b"p")]
    assert unit.executes is not None
    assert [script and script.kind for script, _ in unit.executes] == [Class.READ]


def test_names_last_from_unit_to_unit() -> None:
    taker = gatherer()
    units_of(p("INSERT INTO t VALUES (1)", "w") + p("SELECT 1", "r") + SYNC, taker)
    unit = one(b("w") + e() + b("r") + e() + SYNC, taker)
    assert unit.class_of() is Class.WRITE
    assert unit.uses == [b"w", b"r"]
    units_of(close("w") + SYNC, taker)
    unit = one(b("w") + e() + SYNC, taker)
    assert unit.scripts() == (None,)  # the server will say that it does not exist
    assert unit.class_of() is Class.OTHER
    assert unit.writes()


def test_a_statement_parsed_again_is_what_it_was_parsed_as_last() -> None:
    taker = gatherer()
    units_of(p("SELECT 1") + SYNC + p("DELETE FROM t") + SYNC, taker)
    assert one(b() + e() + SYNC, taker).class_of() is Class.WRITE


def test_a_simple_query_destroys_the_unnamed_statement_and_portal() -> None:
    taker = gatherer()
    units_of(p("SELECT 1") + b() + SYNC + q("SELECT 2"), taker)
    assert one(e() + SYNC, taker).scripts() == (None,)
    assert one(b() + e() + SYNC, taker).scripts() == (None,)


def test_a_whole_query_destroys_them_too() -> None:
    taker = gatherer()
    units_of(p("SELECT 1") + p("SELECT 2", "s") + b() + b("s", "p") + SYNC, taker)
    assert whole_unit(taker, q("SELECT 2")) is not None
    assert set(taker.names) == {b"s"}
    assert set(taker.portals) == {b"p"}


def test_portals_last_until_they_are_closed() -> None:
    taker = gatherer()
    units_of(p("SELECT 1", "s") + b("s", "p") + SYNC, taker)
    assert one(e("p") + SYNC, taker).class_of() is Class.READ
    units_of(close("p", b"P") + SYNC, taker)
    assert one(e("p") + SYNC, taker).scripts() == (None,)


def test_values_are_kept_only_for_those_who_learn_from_them() -> None:
    setting = p("SELECT set_config($1, $2, false)") + b("", "", b"a", b"b") + e() + SYNC
    unit = one(setting)
    assert unit.executes is not None
    assert unit.executes[0][1] == b("", "", b"a", b"b")
    assert unit.watch
    unit = one(p("SELECT $1") + b("", "", b"secret") + e() + SYNC)
    assert unit.executes is not None
    assert unit.executes[0][1] == b""
    assert not unit.watch


def test_a_query_behind_a_batch_without_a_sync_is_part_of_it() -> None:
    unit = one(pbe("SELECT 1") + q("DELETE FROM t"))
    assert unit.kind is Kind.BATCH
    assert unit.mixed
    assert unit.watch
    assert unit.class_of() is Class.WRITE
    assert one(p("SELECT 1") + q("DELETE FROM t")).class_of() is Class.WRITE


@pytest.mark.parametrize(
    ("data", "bare", "owed"),
    [
        (SYNC, True, 0),
        (FLUSH + SYNC, True, 0),
        (p("SELECT 1") + SYNC, False, 1),
        (pbe("SELECT 1") + m.describe(b"P", "") + close("s") + FLUSH + SYNC, False, 5),
    ],
)
def test_how_many_replies_a_batch_is_owed(data: bytes, bare: bool, owed: int) -> None:
    unit = one(data)
    assert (unit.bare, unit.owed) == (bare, owed)


def test_a_flush_is_noted() -> None:
    taker = gatherer()
    unit = one(pbe("SELECT 1") + FLUSH, taker)
    assert unit.flushed
    assert not unit.complete
    assert taker.in_unit
    assert one(SYNC, taker) is unit
    assert unit.complete
    assert not taker.in_unit


def test_the_journal_of_a_unit_in_pieces() -> None:
    taker = gatherer()
    unit = one(p("SELECT 1") + FLUSH, taker)
    units_of(b() + e() + SYNC, taker)
    assert unit.pieces == [p("SELECT 1") + FLUSH, b() + e() + SYNC]
    assert unit.data == p("SELECT 1") + FLUSH + b() + e() + SYNC


def test_rows_end_the_journal_of_a_batch() -> None:
    unit = one(pbe("COPY t FROM STDIN") + FLUSH + ROWS)
    assert unit.pieces is None


def fields_of(unit: Unit) -> dict[str, Any]:
    """Its fields and those of its class, compiled or not."""
    names = (name for name in dir(unit) if not name.startswith("_"))
    values = {name: getattr(unit, name) for name in names}
    return {name: value for name, value in values.items() if not callable(value)}


def test_a_unit_that_goes_out_again_knows_nothing_of_its_answer() -> None:
    unit = one(pbe("SET a = 1") + SYNC)
    fresh = fields_of(one(pbe("SET a = 1") + SYNC))
    unit.started = unit.errored = unit.answered = unit.copying = unit.needs_sync = True
    unit.released = unit.counted = unit.copied = unit.unsent = unit.untouched = True
    unit.next_parse = unit.next_close = unit.next_execute = unit.rows = unit.held_bytes = 1
    unit.begins_at, unit.ends_at = 7, 9  # on another link: they say nothing of the next one
    unit.held = (b"x",)
    unit.restart()
    assert unit.begins_at == unit.ends_at == 0
    assert unit.attempts == 1
    assert fields_of(unit) == fresh | {"attempts": 1}
    assert not unit.untouched
    assert not unit.started
    assert unit.held is None
    assert unit.held_bytes == 0


def test_a_new_unit_is_neither_sent_nor_answered_nor_the_proxys() -> None:
    unit = Unit(Kind.BATCH)
    fields = fields_of(unit)
    flags = {name for name, value in fields.items() if value is False}
    assert {"started", "skip", "read_only", "needs_sync", "copying", "released"} <= flags
    assert {name for name, value in fields.items() if value is True} == {"bare"}
    assert unit.pieces == []
    assert unit.size == 0


# ---- the text behind a Parse ----


def test_the_script_of_a_kept_parse() -> None:
    taker = gatherer()
    script = taker.script_of(p("DELETE FROM t", "s"))
    assert script is not None
    assert script.kind is Class.WRITE
    assert taker.script_of(b"") is None
    assert taker.script_of(m.message(b"P", b"s\0abc")) is None


# ---- what no client sends ----


@pytest.mark.parametrize("kind", b"pAZ\0\xff1")
def test_an_unknown_type(kind: int) -> None:
    for body in (b"", b"abc", bytes(2 << 20)):
        taker = gatherer()
        message = m.message(bytes([kind]), body)
        pieces = taker.feed(q("SELECT 1") + message)
        assert written(pieces) == "Q."  # it was meant, and is answered first
        assert isinstance(taker.fault, PeerProtocolError)
        assert taker.fault.reason is Reason.CLIENT_PROTOCOL
        assert str(kind) in str(taker.fault)


def test_an_unknown_type_is_not_waited_for() -> None:
    for data in (b"p", b"p\0\0\0\x30pass", b"GET /"):
        taker = gatherer()
        assert taker.feed(data) == []
        assert taker.fault is not None


@pytest.mark.parametrize("length", [0, 3, 0x4000_0001, 0xFFFF_FFFF])
def test_an_impossible_length(length: int) -> None:
    for before in (b"", q("SELECT 1"), q("SELECT 1") + ROWS):
        taker = gatherer()
        pieces = taker.feed(before + b"Q" + length.to_bytes(4))
        assert written(pieces) == ("Q." if before else "")
        assert taker.fault is not None
        assert taker.fault.reason is Reason.CLIENT_PROTOCOL


# ---- what is too long to gather ----

UNIT_MAX, HEAD = 200, 24
BIG = "x" * 300
LONG_SEQUENCES = {
    "query": q(f"SELECT '{BIG}'"),
    "function call": m.message(b"F", bytes(300)),
    "query behind a batch": pbe("SELECT 1") + q(f"SELECT '{BIG}'"),
    "parse": p(f"SELECT '{BIG}'", "s") + b("s") + e() + SYNC,
    "bind": p("SELECT $1") + b("", "", BIG.encode()) + e() + SYNC,
    "bind, then another": p("SELECT $1") + b("", "", BIG.encode()) + e() + b("", "", b"1") + e()
    + SYNC,
    "many binds": p("SELECT $1") + (b("", "", b"1") + e()) * 20 + SYNC,
    "rows": q("COPY t FROM STDIN") + m.copy_data(bytes(300)) + COPY_DONE,
    "rows of zeros and a c": q("COPY t FROM STDIN") + m.copy_data(b"c\0\0\0\4" * 60) + COPY_DONE,
    "rows behind an open batch": pbe("COPY t FROM STDIN") + m.copy_data(bytes(300)) + COPY_DONE
    + SYNC,
    "query, then rows behind an open batch": q(f"SELECT '{BIG}'") + p("COPY t FROM STDIN")
    + m.copy_data(bytes(300)) + COPY_DONE + b() + SYNC,
    "two long queries": q(f"SELECT '{BIG}'") * 2,
    "long query, short query": q(f"SELECT '{BIG}'") + q("SELECT 1"),
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "UNIT_BYTES_MAX", UNIT_MAX)
    monkeypatch.setattr(units_module, "RAW_HEAD_BYTES", HEAD)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", LONG_SEQUENCES)
@pytest.mark.parametrize("size", [1, 2, 7, 23, 24, 25, 64, 199, 200, 201, 10_000])
def test_long_units_are_passed_on_as_they_come(name: str, size: int) -> None:
    data = LONG_SEQUENCES[name]
    taker = gatherer()
    pieces: list[Piece] = []
    for at in range(0, len(data), size):
        pieces += taker.feed(data[at : at + size])
        assert taker.pending_bytes <= UNIT_MAX + size
    check_pieces(pieces, data)
    assert taker.fault is None
    assert not taker.in_unit
    for unit in {id(u): u for u, _, _ in pieces if u is not None}.values():
        assert (unit.pieces is None) == (unit.size > UNIT_MAX) or "rows" in name


@pytest.mark.usefixtures("small")
def test_a_long_query_is_a_query_of_unknown_text() -> None:
    taker = gatherer()
    unit = one(q(f"SELECT '{BIG}'")[:100], taker)
    assert unit.kind is Kind.QUERY
    assert unit.class_of() is Class.OTHER
    assert unit.watch
    assert not unit.mixed
    assert taker.in_unit
    assert one(q(f"SELECT '{BIG}'")[100:], taker) is unit
    assert unit.complete


@pytest.mark.usefixtures("small")
def test_a_long_query_that_comes_in_one_piece_is_read_but_not_kept() -> None:
    unit = one(q(f"SELECT '{BIG}'"))
    assert unit.class_of() is Class.READ
    assert unit.pieces is None


@pytest.mark.usefixtures("small")
def test_the_names_of_a_long_message_are_known() -> None:
    taker = gatherer()
    units_of(p("SELECT 1", "read") + SYNC, taker)
    parse = p(f"SELECT '{BIG}'", "statement")
    for at in range(0, len(parse), 10):
        taker.feed(parse[at : at + 10])
    assert taker.names[b"statement"] is None
    bind = b("read", "portal", BIG.encode())
    for at in range(0, len(bind), 10):
        taker.feed(bind[at : at + 10])
    assert taker.portals[b"portal"][0] is taker.names[b"read"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("long", [p(BIG, BIG), b("s", BIG), b(BIG, "p")])
def test_names_too_long_to_know(long: bytes) -> None:
    taker = gatherer()
    pieces = taker.feed(q("SELECT 1")) + taker.feed(long[:250])
    assert written(pieces) == "Q."
    assert "name too long" in str(taker.fault)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", b"SHDECcfX")
def test_messages_that_are_never_long(kind: int) -> None:
    taker = gatherer()
    taker.feed(m.message(bytes([kind]), bytes(300))[:100])
    assert "invalid message length" in str(taker.fault)
