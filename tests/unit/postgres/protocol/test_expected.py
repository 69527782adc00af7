"""What of the server's bytes the client gets, and what they teach; named message sequences.

Each scenario is a talk: `<` what the client sends, `>` what the server says and, if that is not the
same, what of it the client gets. All run whole, and with the server's bytes chopped at every byte:
the client gets the same bytes in the same order, and the same is known in the end.
"""

from dataclasses import dataclass, field

import pytest

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages as m
from tests.unit.postgres.protocol._sequences import (
    BOUND,
    CLOSED,
    COPY_DONE,
    COPY_IN,
    EMPTY,
    FLUSH,
    NO_DATA,
    PARSED,
    ROW,
    SUSPENDED,
    SYNC,
    TABLE,
    b,
    c,
    call,
    close,
    e,
    error,
    every_cut,
    notice,
    p,
    pbe,
    q,
    z,
)
from tests.unit.postgres.protocol._talk import (
    ERROR,
    FATAL,
    NOTE,
    ROWS,
    WARNING,
    ZONE,
    Talk,
)


@dataclass
class Step:
    kind: str  # < > skip inject hold
    data: bytes = b""
    out: bytes | None = None
    names: tuple[bytes, ...] = ()


def says(data: bytes, out: bytes | None = None) -> Step:
    """The server says, and the client gets `out` (all of it by default)."""
    return Step(">", data, data if out is None else out)


def sends(data: bytes) -> Step:
    return Step("<", data)


def ours(data: bytes) -> Step:
    """The proxy sends a unit of its own."""
    return Step("skip", data)


def front(*names: bytes) -> Step:
    """The next unit has these statements at its front."""
    return Step("inject", names=names)


@dataclass
class Scenario:
    steps: list[Step]
    status: str = "I"
    owed: int = 0
    statements: set[bytes] = field(default_factory=set)
    prologue: int | None = None  # units that can be begun again
    fault: str = "None"


SCENARIOS: dict[str, Scenario] = {
    # ---- simple protocol ----
    "Q: rows": Scenario([sends(q("SELECT 1")), says(ROWS + z())]),
    "Q: nothing": Scenario([sends(q("")), says(EMPTY + z())]),
    "Q: error": Scenario([sends(q("SELEC")), says(ERROR + z())]),
    "Q: notice before the rows": Scenario([sends(q("SELECT 1")), says(notice() + ROWS + z())]),
    "Q: several statements": Scenario([
        sends(q("SELECT 1; SELECT 2")),
        says(ROWS + ROWS + z()),
    ]),
    "Q: several statements, the second fails": Scenario([
        sends(q("SELECT 1; SELEC; SELECT 2")),
        says(ROWS + ERROR + z()),
    ]),
    "Q: not answered yet": Scenario([sends(q("SELECT 1")), says(ROWS, b"")], owed=1),
    "Q Q Q: one after the other": Scenario([
        sends(q("SELECT 1") * 3),
        says(ROWS + z()),
        says(ERROR + z() + ROWS + z()),
    ]),
    "F: function call": Scenario([sends(call()), says(m.message(b"V", b"\0\0\0\0") + z())]),
    # ---- extended protocol ----
    "P B E S": Scenario([
        sends(pbe("SELECT 1") + SYNC),
        says(PARSED + BOUND + ROWS + z()),
    ], statements={b""}),
    "P D S, then B E S": Scenario([
        sends(p("SELECT 1", "s") + m.describe(b"S", "s") + SYNC),
        says(PARSED + m.parameter_description() + TABLE + z()),
        sends(b("s") + e() + SYNC),
        says(BOUND + ROWS + z()),
    ], statements={b"s"}),
    "P B E E S: a portal in two goes": Scenario([
        sends(p("SELECT 1") + b() + m.execute("", 1) + e() + SYNC),
        says(PARSED + BOUND + ROW + SUSPENDED + ROW + c("SELECT 1") + z()),
    ], statements={b""}),
    "C S": Scenario([
        sends(p("SELECT 1", "s") + SYNC + close("s") + SYNC),
        says(PARSED + z() + CLOSED + z()),
    ]),
    "C S: of a portal": Scenario([
        sends(p("SELECT 1", "s") + b("s", "p") + close("p", b"P") + SYNC),
        says(PARSED + BOUND + CLOSED + z()),
    ], statements={b"s"}),
    "S: alone": Scenario([sends(SYNC * 2), says(z() + z())]),
    "P B E S: the parse fails, the rest is skipped": Scenario([
        sends(pbe("SELEC", "s") + SYNC),
        says(ERROR + z()),
    ]),
    "P B E P B E S: the second execute fails": Scenario([
        sends(pbe("SELECT 1", "a") + pbe("SELECT 2", "b") + SYNC),
        says(PARSED + BOUND + ROWS + PARSED + BOUND + ERROR + z()),
    ], statements={b"a", b"b"}),
    "P P S: the second parse fails": Scenario([
        sends(p("SELECT 1", "a") + p("SELEC", "b") + SYNC),
        says(PARSED + ERROR + z()),
    ], statements={b"a"}),
    "P S: again under the same name fails": Scenario([
        sends(p("SELECT 1", "a") + SYNC + p("DELETE FROM t", "a") + SYNC),
        says(PARSED + z() + error("42P05") + z()),
    ], statements={b"a"}),
    "P B E H, then S": Scenario([
        sends(pbe("SELECT 1") + FLUSH),
        says(PARSED + BOUND + ROWS),
        sends(SYNC),
        says(z()),
    ], statements={b""}),
    "P H, P C H, S: a unit that grows": Scenario([
        sends(p("SELECT 1", "a") + FLUSH),
        says(PARSED),
        sends(b("a") + e() + FLUSH),
        says(BOUND + ROWS),
        sends(p("SELECT 2", "b") + close("a") + FLUSH),
        says(PARSED + CLOSED),
        sends(SYNC),
        says(z()),
    ], statements={b"b"}),
    "B H, P S: a unit that teaches only later": Scenario([
        sends(p("SELECT 1", "a") + SYNC),
        says(PARSED + z()),
        sends(b("a") + FLUSH),
        says(BOUND),
        sends(p("SELECT 2", "b") + SYNC),
        says(PARSED + z()),
    ], statements={b"a", b"b"}),
    "P B E Q: a query instead of the sync": Scenario([
        sends(pbe("SELECT 1") + q("SELECT 2")),
        says(PARSED + BOUND + ROWS + ROWS + z()),
    ]),
    "P B E Q: the query fails": Scenario([
        sends(pbe("SELECT 1") + q("SELEC")),
        says(PARSED + BOUND + ROWS + ERROR + z()),
    ]),
    "P B E Q: the query fails, and another is sent before that is over": Scenario(
        [
            sends(pbe("SELECT 1") + q("SELEC")),
            says(PARSED + BOUND + ROWS + ERROR, b""),
            sends(q("SELECT 2")),
            says(z() + ROWS + z(), PARSED + BOUND + ROWS + ERROR + z() + ROWS + z()),
        ]
    ),
    "P B E Q: the execute fails, query and next query are skipped": Scenario([
        sends(pbe("SELEC") + q("SELECT 2")),
        says(ERROR, b""),
        sends(q("SELECT 3") + SYNC),
        says(z(), ERROR + z()),
    ]),
    "P B E Q: the execute fails, a named parse before the sync too": Scenario([
        sends(pbe("SELEC") + q("SELECT 2")),
        says(ERROR, b""),
        sends(p("SELECT 1", "s") + SYNC),
        says(z(), ERROR + z()),
        sends(b("s") + e() + SYNC),
        says(error("26000") + z()),
    ]),
    # ---- pipelines ----
    "PBES PBES PBES": Scenario([
        sends((pbe("SELECT 1") + SYNC) * 3),
        says((PARSED + BOUND + ROWS + z()) * 3),
    ], statements={b""}),
    "PBES Q PBES: the middle one fails": Scenario([
        sends(pbe("SELECT 1", "a") + SYNC + q("SELEC") + pbe("SELECT 1", "b") + SYNC),
        says(PARSED + BOUND + ROWS + z() + ERROR + z() + PARSED + BOUND + ROWS + z()),
    ], statements={b"a", b"b"}),
    "Q PBES: the unnamed statement outlives the query in front of it": Scenario([
        sends(q("SELECT 1") + pbe("SELECT 1") + SYNC),
        says(ROWS + z() + PARSED + BOUND + ROWS + z()),
    ], statements={b""}),
    "PBES Q: the unnamed statement does not outlive a query": Scenario([
        sends(pbe("SELECT 1") + SYNC + q("SELECT 1")),
        says(PARSED + BOUND + ROWS + z() + ROWS + z()),
    ]),
    "answers in pieces of two units": Scenario([
        sends(q("SELECT 1") * 2),
        says(ROWS + z() + TABLE + ROW, ROWS + z()),
        says(ROW * 2 + c("SELECT 3") + z(), ROWS + z()),
    ]),
    # ---- transactions ----
    "begin": Scenario([sends(q("BEGIN")), says(c("BEGIN") + z("T"))], "T", prologue=1),
    "begin, set local": Scenario([
        sends(q("BEGIN") + q("SET LOCAL a.b = 1")),
        says(c("BEGIN") + z("T") + c("SET") + z("T")),
    ], "T", prologue=2),
    "begin; set local in one query": Scenario([
        sends(q("BEGIN; SET LOCAL a.b = 1")),
        says(c("BEGIN") + c("SET") + z("T")),
    ], "T", prologue=1),
    "begin, parse": Scenario([
        sends(q("BEGIN") + p("SELECT 1", "s") + SYNC),
        says(c("BEGIN") + z("T") + PARSED + z("T")),
    ], "T", statements={b"s"}, prologue=1),
    "begin, select": Scenario([
        sends(q("BEGIN") + q("SELECT 1")),
        says(c("BEGIN") + z("T") + ROWS + z("T")),
    ], "T"),
    "begin, select, set: once lost is lost": Scenario([
        sends(q("BEGIN") + q("SELECT 1") + q("SET a.b = 1")),
        says(c("BEGIN") + z("T") + ROWS + z("T") + c("SET") + z("T")),
    ], "T"),
    "begin, empty query": Scenario([
        sends(q("BEGIN") + q("")),
        says(c("BEGIN") + z("T") + EMPTY + z("T")),
    ], "T"),
    "begin, savepoint": Scenario([
        sends(q("BEGIN") + q("SAVEPOINT s")),
        says(c("BEGIN") + z("T") + c("SAVEPOINT") + z("T")),
    ], "T"),
    "insert; begin": Scenario([
        sends(q("INSERT INTO t VALUES (1); BEGIN")),
        says(c("INSERT 0 1") + c("BEGIN") + z("T")),
    ], "T"),
    "begin, error": Scenario([
        sends(q("BEGIN") + q("SELEC")),
        says(c("BEGIN") + z("T") + ERROR + z("E")),
    ], "E"),
    "begin, error, rollback to": Scenario([
        sends(q("BEGIN") + q("SAVEPOINT s") + q("SELEC") + q("ROLLBACK TO s")),
        says(c("BEGIN") + z("T") + c("SAVEPOINT") + z("T") + ERROR + z("E")),
        says(c("ROLLBACK") + z("T")),
    ], "T"),
    "begin, commit": Scenario([
        sends(q("BEGIN") + q("COMMIT")),
        says(c("BEGIN") + z("T") + c("COMMIT") + z()),
    ]),
    "commit and chain begins no transaction that can be begun again": Scenario([
        sends(q("BEGIN") + q("COMMIT AND CHAIN")),
        says(c("BEGIN") + z("T") + c("COMMIT") + z("T")),
    ], "T"),
    "portals last as long as their transaction": Scenario([
        sends(q("BEGIN") + p("SELECT 1", "s") + b("s", "p") + SYNC),
        says(c("BEGIN") + z("T") + PARSED + BOUND + z("T")),
        sends(e("p") + SYNC + q("COMMIT")),
        says(ROWS + z("T") + c("COMMIT") + z()),
    ], statements={b"s"}),
    # ---- COPY ----
    "copy in by query": Scenario([
        sends(q("COPY t FROM STDIN")),
        says(COPY_IN),
        sends(m.copy_data(b"1\n") + COPY_DONE),
        says(c("COPY 1") + z()),
    ]),
    "copy in by query fails": Scenario([
        sends(q("COPY t FROM STDIN")),
        says(COPY_IN),
        sends(m.copy_data(b"1\n") + m.copy_fail("no")),
        says(error("57014") + z()),
    ]),
    "copy in, sent blindly": Scenario([
        sends(q("COPY t FROM STDIN") + m.copy_data(b"1\n") + COPY_DONE + q("SELECT 1")),
        says(COPY_IN + c("COPY 1") + z() + ROWS + z()),
    ]),
    "copy in by batch, its sync swallowed": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC),
        says(PARSED + BOUND + COPY_IN),
        sends(m.copy_data(b"1\n") + COPY_DONE + SYNC),
        says(c("COPY 1") + z()),
    ], statements={b""}),
    "copy in by batch, sent blindly with both syncs": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC + m.copy_data(b"1\n") + COPY_DONE + SYNC),
        says(PARSED + BOUND + COPY_IN + c("COPY 1") + z()),
    ], statements={b""}),
    "copy in by batch, and what follows under its second sync": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC),
        says(PARSED + BOUND + COPY_IN),
        sends(COPY_DONE + pbe("SELECT 1", "s") + close("x") + SYNC),
        says(c("COPY 0") + PARSED + BOUND + ROWS + CLOSED + z()),
    ], statements={b"", b"s"}),
    "copy in by batch, and a query instead of the second sync": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC),
        says(PARSED + BOUND + COPY_IN),
        sends(COPY_DONE + q("SELECT 1") + q("SELECT 2")),
        says(c("COPY 0") + ROWS + z() + ROWS + z()),
    ]),
    "copy in by batch fails, late rows, sync": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC),
        says(PARSED + BOUND + COPY_IN + ERROR),
        sends(m.copy_data(b"1\n") + COPY_DONE + SYNC),
        says(z()),
    ], statements={b""}),
    "copy in by batch fails, a query is skipped, then the sync": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC),
        says(PARSED + BOUND + COPY_IN + ERROR),
        sends(q("SELECT 1") + SYNC),
        says(z()),
    ], statements={b""}),
    "copy in by batch with a flush": Scenario([
        sends(pbe("COPY t FROM STDIN") + FLUSH),
        says(PARSED + BOUND + COPY_IN),
        sends(m.copy_data(b"1\n") + COPY_DONE + SYNC),
        says(c("COPY 1") + z()),
    ], statements={b""}),
    "copy in, a query in place of rows": Scenario([
        sends(q("COPY t FROM STDIN")),
        says(COPY_IN),
        sends(q("SELECT 1")),
        says(error("08P01") + z()),
    ]),
    "copy in, a query in place of rows, blindly": Scenario([
        sends(q("COPY t FROM STDIN") + q("SET a.b = 1")),
        says(COPY_IN + error("08P01") + z()),
    ]),
    "copy out": Scenario([
        sends(q("COPY t TO STDOUT")),
        says(m.message(b"H", b"\0\0\0") + m.copy_data(b"1\n") * 9 + COPY_DONE + c("COPY 9") + z()),
    ]),
    # ---- units of the proxy ----
    "skip before": Scenario([
        ours(q("SET a.b = 1")),
        sends(q("SELECT 1")),
        says(c("SET") + z() + ROWS + z(), ROWS + z()),
    ]),
    "skip behind": Scenario([
        sends(q("SELECT 1")),
        ours(SYNC),
        says(ROWS + z() + z(), ROWS + z()),
    ]),
    "skip between": Scenario([
        sends(q("SELECT 1")),
        ours(pbe("SELECT 2") + SYNC),
        sends(q("SELECT 3")),
        says(ROWS + z() + PARSED + BOUND + ROWS + z() + ROWS + z(), (ROWS + z()) * 2),
    ]),
    "skip: rows, notices and errors": Scenario([
        ours(q("SELECT 1")),
        says(notice() + ROWS + ERROR + z(), b""),
    ]),
    "skip: a notification in it is the client's": Scenario([
        ours(q("SELECT 1")),
        says(TABLE + NOTE + ROW + NOTE + c("SELECT 1") + z(), NOTE * 2),
    ]),
    "skip: a changed setting in it is not": Scenario([
        ours(q("SET TimeZone = 'UTC'")),
        says(c("SET") + ZONE + z(), b""),
    ]),
    "skip: a status of its own is not the client's": Scenario([
        ours(q("BEGIN")),
        says(c("BEGIN") + z("T"), b""),
    ]),
    "front: one statement": Scenario([
        front(b"s"),
        sends(b("s") + e() + SYNC),
        says(PARSED + BOUND + ROWS + z(), BOUND + ROWS + z()),
    ]),
    "front: two, and one of the client's": Scenario([
        front(b"s", b"t"),
        sends(b("s") + e() + b("t") + e() + p("SELECT 1", "u") + SYNC),
        says(PARSED * 2 + (BOUND + ROWS) * 2 + PARSED + z(), (BOUND + ROWS) * 2 + PARSED + z()),
    ], statements={b"u"}),
    "front: behind a notification and a setting": Scenario([
        front(b"s"),
        sends(b("s") + e() + SYNC),
        says(NOTE + ZONE + PARSED + BOUND + ROWS + z(), NOTE + ZONE + BOUND + ROWS + z()),
    ]),
    "front: in a second sync behind a copy": Scenario([
        sends(pbe("COPY t FROM STDIN") + SYNC),
        says(PARSED + BOUND + COPY_IN),
        sends(COPY_DONE),
        front(b"s"),
        sends(b("s") + e() + p("SELECT 1", "u") + SYNC),
        says(
            c("COPY 0") + PARSED + BOUND + ROWS + PARSED + z(),
            c("COPY 0") + BOUND + ROWS + PARSED + z(),
        ),
    ], statements={b"", b"u"}),
    # ---- what comes unasked ----
    "unasked: notice, setting, notification": Scenario([
        says(notice()),
        says(ZONE + NOTE),
    ]),
    "unasked: between two answers": Scenario([
        sends(q("SELECT 1")),
        says(ROWS + z() + NOTE),
        sends(q("SELECT 1")),
        says(ZONE + ROWS + z()),
    ]),
    # ---- ends ----
    "fatal while idle": Scenario([says(error("57P05", "FATAL"), b"")]),
    "fatal instead of an answer": Scenario([sends(q("SELECT 1")), says(FATAL, b"")], owed=1),
    "fatal behind rows": Scenario([
        sends(q("SELECT 1") * 2),
        says(ROWS + z() + TABLE + ROW + FATAL, ROWS + z()),
    ], owed=1),
    "panic": Scenario([sends(q("SELECT 1")), says(error("XX000", "PANIC"), b"")], owed=1),
    "an error about FATAL is none": Scenario([
        sends(q("SELECT 1")),
        says(m.error_response({"S": "ERROR", "V": "ERROR", "C": "P0001", "M": "FATAL"}) + z()),
    ]),
    "farewell: immediate shutdown": Scenario([sends(q("SELECT 1")), says(WARNING, b"")], owed=1),
    "farewell: crash of another backend": Scenario([
        sends(q("SELECT 1")),
        says(TABLE + notice("57P02", "WARNING"), b""),
    ], owed=1),
    "farewell while idle": Scenario([says(notice("57P01", "WARNING"), b"")]),
    "a notice with such a code is none": Scenario([says(notice("57P01")), says(notice("57P05"))]),
    "a warning is none": Scenario([says(notice("01000", "WARNING")), says(notice("57P03"))]),
    # ---- nonsense ----
    "ready without a query": Scenario([says(z(), b"")], fault="ReadyForQuery without a query"),
    "an answer, then ready without a query": Scenario([
        sends(q("SELECT 1")),
        says(ROWS + z() + z(), ROWS + z()),
    ], fault="ReadyForQuery without a query"),
    "ready with a status that does not exist": Scenario([
        sends(q("SELECT 1")),
        says(b"Z\0\0\0\5X", b""),
    ], owed=1, fault="invalid transaction status"),
    "ready without a status": Scenario([
        sends(q("SELECT 1")),
        says(b"Z\0\0\0\4", b""),
    ], owed=1, fault="invalid transaction status"),
    "copy both": Scenario([
        sends(q("SELECT 1")),
        says(m.message(b"W", b"\0\0\0"), b""),
    ], owed=1, fault="unexpected message 87"),
    "a login in the middle": Scenario([
        says(m.authentication_ok(), b""),
    ], fault="unexpected message 82"),
    "parse complete for nothing": Scenario([
        sends(p("SELECT 1", "s") + SYNC),
        says(PARSED * 2, b""),
    ], owed=1, statements={b"s"}, fault="ParseComplete without a Parse"),
    "close complete for nothing": Scenario([
        sends(p("SELECT 1", "s") + SYNC),
        says(PARSED + CLOSED, b""),
    ], owed=1, statements={b"s"}, fault="CloseComplete without a Close"),
    "an impossible length": Scenario([
        sends(q("SELECT 1") * 2),
        says(ROWS + z() + b"Z\0\0\0\0", ROWS + z()),
    ], owed=1, fault="invalid message length 0"),
    "an impossible length at once": Scenario([says(b"Z\0\0\0\0", b"")],
        fault="invalid message length 0"),
    "a message too long to keep": Scenario([
        sends(q("SELECT 1")),
        says(b"E\x01\x00\x00\x01" + b"x" * 9, b""),
    ], owed=1, fault="message of 16777218 bytes"),
    "skip: a close, and a copy that nobody feeds": Scenario([
        ours(close("s") + SYNC),
        ours(q("COPY t FROM STDIN")),
        says(CLOSED + z() + COPY_IN + ERROR + z(), b""),
    ]),
    "an error that nobody waits for": Scenario([says(ERROR)]),
    "completions behind an answer": Scenario([
        sends(pbe("SELECT 1") + SYNC),
        says(PARSED + BOUND + ROWS + z() + PARSED + CLOSED),
    ], statements={b""}),
    "completions that nobody waits for": Scenario([says(PARSED + NO_DATA + COPY_IN)]),
}  # fmt: skip


def play(scenario: Scenario, parts_of: object) -> tuple[Talk, list[bytes]]:
    """Runs it; the second is what the client got after each `>`."""
    talk = Talk()
    outs: list[bytes] = []
    for step in scenario.steps:
        match step.kind:
            case "<":
                talk.client(step.data)
            case "skip":
                talk.skip(step.data)
            case "inject":
                talk.inject(*step.names)
            case _:
                out = b""
                for part in parts_of(step.data):  # type: ignore[operator]
                    if talk.expected.fault is None:  # the link is lost with it
                        out += talk.server(part)
                outs.append(out)
    return talk, outs


@pytest.mark.parametrize("name", SCENARIOS)
def test_whole(name: str) -> None:
    scenario = SCENARIOS[name]
    talk, outs = play(scenario, lambda data: [data])
    assert outs == [step.out for step in scenario.steps if step.kind == ">"]
    expected = talk.expected
    assert chr(expected.status) == scenario.status
    assert len(expected.inflight) == scenario.owed
    assert scenario.owed or expected._watching == 0
    assert set(talk.state.statements) == scenario.statements
    assert scenario.prologue == (expected.prologue and len(expected.prologue))
    assert str(expected.fault) == scenario.fault
    if expected.fault is not None:
        assert expected.fault.reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("name", SCENARIOS)
def test_chopped_at_every_byte(name: str) -> None:
    scenario = SCENARIOS[name]
    whole, wanted = play(scenario, lambda data: [data])
    longest = max(len(step.data) for step in scenario.steps if step.kind == ">")
    for at in range(1, longest):
        talk, outs = play(scenario, lambda data, at=at: [data[:at], data[at:]])
        assert outs == wanted, at
        assert talk.known() == whole.known(), at
    talk, outs = play(scenario, lambda data: list(every_cut(data))[-1])
    assert outs == wanted
    assert talk.known() == whole.known()
