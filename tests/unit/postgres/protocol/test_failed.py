"""Answers in a failed transaction: what needs no server, and what only a server knows."""

import pytest

from proxy.postgres.protocol import classify
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.failed import After, Answer, Elsewhere, Failed, answer
from proxy.postgres.protocol.statement import Script
from proxy.postgres.protocol.units import Gatherer, Unit

ROLLBACK = m.parse(b"", b"ROLLBACK") + m.bind(b"", b"") + m.execute(b"")
KNOWN = {b"back": b"ROLLBACK", b"one": b"SELECT 1"}


def gathered(data: bytes) -> Unit:
    """The last unit of these messages, whole or not."""
    return [unit for unit, _, _ in Gatherer(classify.Classifier()).feed(data) if unit is not None][
        -1
    ]


def said(data: bytes, *, untold: bool = False, chains: bool = True) -> Answer | Elsewhere:
    gatherer = Gatherer(classify.Classifier())

    def known(name: bytes) -> Script | None:
        return classify.read(KNOWN[name]) if name in KNOWN else None

    return answer(gathered(data), Failed(untold, chains, None, gatherer.script_of, known))


def kinds(made: Answer | Elsewhere) -> str:
    assert isinstance(made, Answer), made
    found, at = "", 0
    while at < len(made.words):
        found += chr(made.words[at])
        at += int.from_bytes(made.words[at + 1 : at + 5]) + 1
    return found


@pytest.mark.parametrize("untold", [False, True])
def test_a_rollback_is_never_refused(untold: bool) -> None:
    for data in (m.query("ROLLBACK"), m.query("abort work"), ROLLBACK + m.sync()):
        made = said(data, untold=untold)
        assert isinstance(made, Answer)
        assert (made.after, made.refused) == (After.OVER, False)
        assert made.words.endswith(m.command_complete("ROLLBACK") + m.ready_for_query(b"I"[0]))


def test_a_unit_that_is_not_finished_waits() -> None:
    unit = Unit(gathered(m.sync()).kind)
    unit.pieces = [m.parse(b"", b"ROLLBACK")]
    gatherer = Gatherer(classify.Classifier())
    failed = Failed(True, True, None, gatherer.script_of, lambda _: None)
    assert answer(unit, failed) is Elsewhere.LATER


@pytest.mark.parametrize(
    "data",
    [
        m.query("ROLLBACK; SELECT 1"),
        m.query("COMMIT; SELECT 1"),
        m.query("ROLLBACK AND CHAIN"),
        ROLLBACK + ROLLBACK + m.sync(),
        m.parse(b"one", b"ROLLBACK") + m.sync(),
        m.bind(b"", b"nobody") + m.sync(),
        m.bind(b"", b"back", (b"1",)) + m.sync(),
        m.describe(b"S", b"one") + m.sync(),
        m.describe(b"P", b"") + m.sync(),
        m.execute(b"") + m.sync(),
        ROLLBACK + m.flush(),
    ],
)
def test_what_only_the_server_knows(data: bytes) -> None:
    assert said(data) is Elsewhere.SERVER
    # The client must hear of the loss, unless the unit rolls back.
    made = said(data, untold=True)
    if isinstance(made, Answer) and made.after is After.FAILED:
        assert b"C40001\0" in made.words


def test_statements_made_and_closed() -> None:
    made = said(m.parse(b"a", b"ROLLBACK") + m.parse(b"b", b"") + m.close(b"S", b"b") + m.sync())
    assert isinstance(made, Answer)
    assert made.parsed == [(b"a", m.parse(b"a", b"ROLLBACK"))]
    assert made.closed == [b"b"]
    assert kinds(made) == "113Z"


def test_a_refused_parse_makes_nothing_and_drops_the_unnamed_statement() -> None:
    made = said(
        m.parse(b"a", b"ROLLBACK") + m.parse(b"", b"SELECT 1") + m.bind(b"", b"") + m.sync()
    )
    assert isinstance(made, Answer)
    assert kinds(made) == "1EZ"
    assert made.refused
    assert [name for name, _ in made.parsed] == [b"a"]
    assert made.closed == [b""]


def test_a_kind_that_is_not_known_is_not_chained() -> None:
    for text in ("ROLLBACK AND CHAIN", "COMMIT AND CHAIN", "ROLLBACK; COMMIT AND CHAIN"):
        made = said(m.query(text), chains=False)
        assert isinstance(made, Answer)
        assert made.after is After.FAILED
        assert b"C40001\0" in made.words


def test_a_savepoint_is_no_way_back() -> None:
    back = m.parse(b"", b"ROLLBACK TO s") + m.bind(b"", b"") + m.execute(b"") + m.sync()
    for data in (m.query("ROLLBACK TO s"), m.query("ROLLBACK TO s; SELECT 1"), back):
        made = said(data)
        assert isinstance(made, Answer)
        assert (made.after, made.refused) == (After.FAILED, True)
        assert b"C40001\0" in made.words
