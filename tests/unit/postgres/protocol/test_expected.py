"""What of the server's bytes the client gets, and what they teach; named message sequences.

Each scenario is a talk: `<` what the client sends, `>` what the server says and, if that is not the
same, what of it the client gets. All run whole, and with the server's bytes chopped at every byte:
the client gets the same bytes in the same order, and the same is known in the end.
"""

from dataclasses import dataclass, field

import pytest

from proxy.core.reasons import Reason
from proxy.postgres.protocol import expected as expected_module
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.expected import Expected, bound, only_settings
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.units import Kind, Unit
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
    gatherer,
    notice,
    p,
    pbe,
    q,
    status,
    units_of,
    z,
)


class Talk:
    """A session's core between a client and a server, used as the runtime uses it."""

    def __init__(self) -> None:
        self.state = SessionState()
        self.gatherer = gatherer()
        self.expected = Expected(self.state, self.gatherer)
        self.units: list[Unit] = []
        self.injected: dict[int, bytes] | None = None

    def client(self, data: bytes, hold: bool | None = None) -> None:
        """The client sends, and all of it goes out."""
        expected = self.expected
        for unit, part, _ in self.gatherer.feed(data):
            if unit is None:
                head = expected.inflight[-1]
                head.pieces = None
                head.copied = head.copied or part[:1] in (b"c", b"f")
            elif unit.started:
                expected.count(unit)
            else:
                self.units.append(unit)
                unit.injected, self.injected = self.injected, None
                may = expected.status == ord("I") or expected.prologue is not None
                expected.push(unit, unit.complete and may if hold is None else hold)
        assert self.gatherer.fault is None

    def inject(self, *names: bytes) -> None:
        """The next unit has these statements at its front."""
        self.injected = dict(enumerate(names))
        self.expected.missing.difference_update(names)

    def skip(self, data: bytes) -> Unit:
        """The proxy sends something of its own."""
        (unit,) = units_of(data)
        unit.skip = True
        self.expected.push(unit, False)
        return unit

    def server(self, data: bytes) -> bytes:
        """The server says; returns what the client gets."""
        if self.expected.whole_answer(data):
            return data
        return b"".join(self.expected.feed(data))

    def known(self) -> dict[str, object]:
        """All that may depend on what was said, and not on how it was chopped."""
        expected = self.expected
        return {
            "status": expected.status,
            "owed": len(expected.inflight),
            "statements": dict(self.state.statements),
            "missing": expected.missing,
            "names": self.gatherer.names,
            "portals": self.gatherer.portals,
            "prologue": expected.prologue and [unit.data for unit in expected.prologue],
            "params": (expected.client_params, expected.link_params),
            "fatal": expected.fatal,
            "warning": expected.warning,
            "fault": str(expected.fault),
            "units": [(u.errored, u.copying, u.needs_sync) for u in self.units],
            "settings": self.state.settings,
            "transactions": expected.transactions,
            "mid": expected.mid_message,
        }


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


ERROR, WARNING = error(), notice("57P01", "WARNING")
FATAL = error("57P01", "FATAL")
NOTE = m.notification_response(7, "channel", "payload")
ROWS = TABLE + ROW * 3 + c("SELECT 3")
ZONE = status("TimeZone", "UTC")

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


# ---- hold-back ----


def test_an_answer_is_held_back_until_it_is_whole() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.server(TABLE) == b""
    assert talk.expected.holding
    assert talk.server(ROW) == b""
    assert not talk.units[0].released
    assert talk.server(c("SELECT 1") + z()) == TABLE + ROW + c("SELECT 1") + z()
    assert not talk.expected.holding


def test_what_is_held_back_may_be_released() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(TABLE + ROW)
    assert b"".join(talk.expected.release()) == TABLE + ROW
    assert talk.units[0].released
    assert talk.units[0].rows == 1
    assert not talk.expected.holding
    assert talk.server(ROW * 2) == ROW * 2
    assert talk.units[0].rows == 3
    assert talk.server(c("SELECT 3") + z()) == c("SELECT 3") + z()
    assert talk.expected.release() == []


def test_released_before_anything_came_nothing_is_released() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.expected.release() == []
    assert not talk.units[0].released
    assert talk.server(ROW) == ROW  # held back no more
    assert talk.units[0].released


def test_no_more_than_so_much_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_module, "HELD_BYTES_MAX", 2 * len(ROW))
    talk = Talk()
    talk.client(pbe("SELECT 1") + SYNC)  # read message by message
    assert talk.server(ROW) == b""
    assert talk.server(ROW) == b""
    assert talk.server(ROW * 3) == ROW * 5
    assert talk.units[0].released
    assert talk.units[0].rows == 5
    assert talk.server(ROW) == ROW
    assert talk.units[0].rows == 6


def test_a_commit_marker_that_is_released_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # INSERT … RETURNING: its rows and its CommandComplete have reached the client, then a FATAL.
    talk = Talk()
    talk.client(q("INSERT INTO t VALUES (1) RETURNING 1"))
    talk.server(TABLE + ROW + c("INSERT 0 1"))
    assert not talk.units[0].answered  # nobody has looked
    talk.expected.release()
    assert talk.units[0].answered
    monkeypatch.setattr(expected_module, "HELD_BYTES_MAX", 1)
    talk.server(z())
    talk.client(q("INSERT INTO t VALUES (1) RETURNING 1"))
    talk.server(TABLE + ROW)
    assert not talk.units[1].answered
    talk.server(c("INSERT 0 1"))
    assert talk.units[1].answered


def test_nothing_is_held_back_if_it_is_not_to_be() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"), hold=False)
    assert talk.server(TABLE + ROW) == TABLE + ROW
    assert talk.units[0].released


def test_a_client_that_flushes_gets_all_that_it_waits_for_at_once() -> None:
    talk = Talk()
    talk.client(pbe("SELECT 1") + FLUSH, hold=True)
    assert talk.server(PARSED + BOUND + ROW) == b""
    assert talk.server(c("SELECT 1")) == PARSED + BOUND + ROW + c("SELECT 1")
    talk.client(b() + FLUSH)
    assert talk.server(BOUND) == BOUND  # its answer has begun


def test_a_client_that_flushes_waits_no_longer_than_for_an_error() -> None:
    talk = Talk()
    talk.client(pbe("SELEC") + FLUSH, hold=True)
    assert talk.server(ERROR) == ERROR


def test_a_client_that_has_sent_its_sync_too_does_not_wait_for_the_flush_alone() -> None:
    talk = Talk()
    talk.client(p("SELECT 1") + FLUSH + SYNC, hold=True)
    assert talk.server(PARSED) == b""
    assert talk.server(z()) == PARSED + z()


def test_the_start_of_the_second_answer_is_held_back_too() -> None:
    talk = Talk()
    talk.client(q("SELECT 1") * 2)
    assert talk.server(ROWS + z() + TABLE) == ROWS + z()
    assert talk.expected.holding
    assert b"".join(talk.expected.release()) == TABLE


# ---- long messages ----


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_module, "RAW_BYTES_MIN", 64)


BIG = m.row([b"x" * 100])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("at", [5, 6, 64, 65, len(BIG) - 1])
def test_a_long_row_is_passed_on_as_it_comes(at: int) -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.server(TABLE + BIG[:at]) == TABLE + BIG[:at]
    assert talk.expected.mid_message
    assert talk.units[0].released
    assert talk.units[0].rows == 1
    assert talk.server(BIG[at:-1]) == BIG[at:-1]
    assert talk.server(BIG[-1:] + c("SELECT 1") + z()) == BIG[-1:] + c("SELECT 1") + z()
    assert not talk.expected.mid_message


@pytest.mark.usefixtures("small")
def test_a_long_row_of_the_proxy_is_dropped_as_it_comes() -> None:
    talk = Talk()
    talk.skip(q("SELECT 1"))
    talk.client(q("SELECT 1"))
    assert talk.server(BIG[:50]) == b""
    assert not talk.expected.mid_message
    assert talk.server(BIG[50:] + z() + ROWS + z()) == ROWS + z()


@pytest.mark.usefixtures("small")
def test_a_long_notice_that_comes_unasked() -> None:
    talk = Talk()
    long = m.notice_response({"M": "x" * 100})
    assert talk.server(long[:50]) == long[:50]
    assert talk.expected.mid_message
    assert talk.server(long[50:]) == long[50:]


@pytest.mark.usefixtures("small")
def test_a_long_error_is_kept_until_it_is_whole() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"), hold=False)
    long = m.error_response({"S": "ERROR", "C": "P0001", "M": "x" * 100})
    assert talk.server(long[:50]) == b""
    assert not talk.expected.mid_message
    assert talk.server(long[50:] + z()) == long + z()


# ---- the short way ----


@pytest.mark.parametrize(
    "data",
    [ROWS, ROWS + z()[:-1], ROWS + z() + z(), ROWS + ERROR + z(), NOTE + ROWS + z(), b"Z\0\0\0\5X",
     b"Z\0\0\0\4", b"Z\0\0\0\0\0", ROWS + z() + NOTE],
)  # fmt: skip
def test_what_is_not_a_whole_answer(data: bytes) -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    before = talk.known()
    assert not talk.expected.whole_answer(data)
    assert talk.known() == before


def test_when_an_answer_cannot_take_the_short_way() -> None:
    answer = ROWS + z()
    talk = Talk()
    assert not talk.expected.whole_answer(answer)  # nothing is owed
    talk.client(q("SELECT 1"))
    assert talk.expected.whole_answer(answer)
    assert not talk.expected.inflight
    talk.client(q("SELECT 1") * 2)
    assert not talk.expected.whole_answer(answer)  # two are
    for make in (
        lambda talk: talk.client(pbe("SELECT 1") + SYNC),
        lambda talk: talk.skip(q("SELECT 1")),
        lambda talk: setattr(_one(talk), "read_only", True),
        lambda talk: setattr(_one(talk), "on_done", print),
        lambda talk: (_one(talk), talk.server(ROW)),
        lambda talk: (_one(talk), talk.server(b"D")),
    ):
        talk = Talk()
        make(talk)
        assert not talk.expected.whole_answer(answer)


def _one(talk: Talk) -> Unit:
    talk.client(q("SELECT 1"))
    return talk.units[0]


# ---- what answers teach ----


def test_a_statement_exists_once_its_parse_is_complete() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    assert talk.state.statements == {}
    talk.server(PARSED)
    assert talk.state.statements == {b"s": p("SELECT 1", "s")}
    talk.client(close("s") + SYNC)
    talk.server(z() + CLOSED + z())
    assert talk.state.statements == {}


def test_a_statement_that_did_not_come_to_be_is_what_it_was() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    talk.server(PARSED + z())
    old = talk.gatherer.names[b"s"]
    talk.client(p("DELETE FROM t", "s") + p("SELECT 2", "t") + SYNC)
    assert talk.gatherer.names[b"s"] is not old
    talk.server(error("42P05") + z())
    assert talk.gatherer.names == {b"s": old}


def test_a_parse_that_was_too_long_to_keep() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    talk.server(PARSED + z())
    unit = Unit(Kind.BATCH)
    unit.parses = [(b"s", b"")]
    talk.expected.push(unit, False)
    talk.server(PARSED + z())
    assert talk.state.statements == {}


def test_what_is_missing_on_a_new_link() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + p("SELECT 2", "t") + SYNC)
    talk.server(PARSED * 2 + z())
    assert talk.expected.missing == set()
    assert talk.expected.lost() == []
    assert talk.expected.missing == {b"s", b"t"}
    talk.client(p("SELECT 3", "t") + SYNC)
    talk.server(PARSED + z())
    assert talk.expected.missing == {b"s"}
    talk.client(close("s") + SYNC)
    talk.server(CLOSED + z())
    assert talk.expected.missing == set()


def test_statements_at_the_front_that_failed_are_missing_still() -> None:
    # P(s) P(t) B E S, the second of our own fails: only s is on the link.
    talk = Talk()
    talk.client(p("SELECT 1", "s") + p("SELECT 2", "t") + p("SELECT 3", "u") + SYNC)
    talk.server(PARSED * 3 + z())
    talk.expected.missing = {b"s", b"t"}
    talk.inject(b"s", b"t")
    talk.client(b("s") + e() + b("u") + e() + SYNC)
    assert talk.server(PARSED + ERROR + z()) == ERROR + z()
    assert talk.expected.missing == {b"t"}


def test_adopting_the_statements_of_a_unit_that_was_refused() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    talk.server(PARSED + z())
    talk.expected.lost()
    (unit,) = units_of(p("SELECT 2", "t") + p("SELECT 3") + p("SELECT 4", "s") + SYNC)
    talk.expected.adopt(unit)
    talk.expected.adopt(Unit(Kind.QUERY))
    assert talk.state.statements == {b"s": p("SELECT 1", "s"), b"t": p("SELECT 2", "t")}
    assert talk.expected.missing == talk.expected.unsure == {b"s", b"t"}
    talk.client(p("SELECT 5", "t") + SYNC)
    talk.server(PARSED + z())
    assert talk.expected.missing == talk.expected.unsure == {b"s"}


def test_what_was_delivered_is_not_adopted() -> None:
    talk = Talk()
    (unit,) = units_of(p("SELECT 2", "t") + FLUSH + SYNC)
    unit.released = True
    talk.expected.adopt(unit)
    assert talk.state.statements == {}


def test_the_unit_that_names_a_portal_meanwhile_keeps_it() -> None:
    # Two batches in one go, the second one cut behind its Bind when the first is answered.
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC + b("s"))
    talk.server(PARSED + z())
    assert talk.gatherer.portals
    talk.client(e() + SYNC)
    assert talk.units[1].scripts() != (None,)
    talk.server(BOUND + ROWS + z())
    assert not talk.gatherer.portals


def test_settings_count_once_they_are_confirmed() -> None:
    talk = Talk()
    talk.client(q("SET a.b = 'x'"))
    assert not talk.state.settings
    talk.server(c("SET") + z())
    assert list(talk.state.settings) == [b"a.b"]


@pytest.mark.parametrize(
    ("text", "answers", "names"),
    [
        ("SET a.b = 1; SET c.d = 2", c("SET") * 2, [b"a.b", b"c.d"]),
        ("SET a.b = 1; SELECT 1; SET c.d = 2", c("SET") + ROWS + c("SET"), [b"a.b", b"c.d"]),
        ("SELECT 1; SET a.b = 1", ROWS + c("SET"), [b"a.b"]),
        ("SET a.b = 1; SELEC", c("SET") + ERROR, []),
    ],
)
def test_each_command_complete_confirms_its_statement(
    text: str, answers: bytes, names: list[bytes]
) -> None:
    talk = Talk()
    talk.client(q(text))
    talk.server(answers + z())
    assert list(talk.state.settings) == names


def test_each_command_complete_of_a_batch_confirms_its_statement() -> None:
    talk = Talk()
    talk.client(
        p("SELECT set_config($1, $2, false)", "f") + b("f", "", b"a.b", b"1") + e()
        + b("f", "", b"c.d", b"2") + e() + pbe("") + pbe("SET e.f = 3") + SYNC
    )  # fmt: skip
    talk.server(PARSED + (BOUND + ROWS) * 2 + PARSED + BOUND + EMPTY + PARSED + BOUND + c("SET"))
    talk.server(z())
    assert list(talk.state.settings) == [b"a.b", b"c.d", b"e.f"]


def test_a_portal_in_two_goes_counts_twice() -> None:
    talk = Talk()
    talk.client(p("SET a.b = 1") + b() + m.execute("", 1) + e() + SYNC)
    talk.server(PARSED + BOUND + SUSPENDED)
    assert not talk.state.settings
    talk.server(c("SET") + z())
    assert list(talk.state.settings) == [b"a.b"]


def test_an_execute_of_nobody_knows_what_makes_the_session_opaque() -> None:
    for data in (e("p") + SYNC, pbe("SELECT 1") + q("SELECT 1; SELECT 2")):
        talk = Talk()
        talk.client(data)
        talk.server(ROWS)
        talk.server(ROWS)
        talk.server(ROWS)
        talk.server(z())
        assert talk.state.opaque


def test_more_answers_than_statements_make_the_session_opaque() -> None:
    # A text that was not read counts as one statement.
    talk = Talk()
    talk.client(q("SET a.b = 1"))
    talk.server(c("SET") + c("SET") + z())
    assert talk.state.opaque


def test_a_write_is_noted() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(ROWS + z())
    assert not talk.state.wrote
    talk.client(q("INSERT INTO t VALUES (1)"))
    talk.server(c("INSERT 0 1") + z())
    assert talk.state.wrote


def test_a_setting_that_the_server_reports() -> None:
    talk = Talk()
    talk.client(q("SET TimeZone = 'utc'"))
    talk.server(c("SET") + ZONE + z())
    assert talk.expected.client_params == talk.expected.link_params == {b"TimeZone": b"UTC"}
    assert talk.expected.learned
    talk = Talk()
    talk.skip(q("SET TimeZone = 'utc'"))
    talk.server(c("SET") + ZONE + z())
    assert talk.expected.client_params == {}
    assert talk.expected.link_params == {b"TimeZone": b"UTC"}


def test_only_reports_on_what_the_client_runs_correct_its_settings() -> None:
    talk = Talk()
    talk.client(q("SET TimeZone = 'utc'"))
    talk.server(c("SET") + z())
    before = talk.state.settings
    talk.skip(q("SELECT 1"))
    talk.server(ZONE + ROWS + z() + ZONE)
    talk.client(q("SELECT 1"))
    talk.server(ROWS + z())
    assert talk.state.settings == before
    talk.client(q("SELECT 1"))
    talk.server(ROWS + ZONE + z())
    assert talk.state.settings != before


def test_what_the_proxy_runs_teaches_nothing() -> None:
    talk = Talk()
    talk.skip(q("SET a.b = 1"))
    talk.client(q("SET c.d = 1"))
    talk.server(c("SET") + z() + c("SET") + z())
    assert list(talk.state.settings) == [b"c.d"]


def test_a_copy_is_over_when_it_has_failed() -> None:
    for end in (ERROR, c("COPY 1")):
        talk = Talk()
        talk.client(q("COPY t FROM STDIN"))
        assert not talk.units[0].copying
        talk.server(COPY_IN)
        assert talk.units[0].copying
        assert talk.units[0].pieces is None
        talk.server(end)
        assert not talk.units[0].copying


def test_last_words() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(TABLE + FATAL)
    assert talk.expected.fatal is not None
    assert talk.expected.fatal["C"] == "57P01"
    assert talk.expected.fatal_wire == FATAL
    assert not talk.units[0].errored
    talk = Talk()
    talk.server(WARNING)
    assert talk.expected.warning is not None
    assert talk.expected.warning["C"] == "57P01"
    assert talk.expected.fatal is None  # no certificate: it may strike behind a commit


def test_an_old_server_says_its_severity_in_words() -> None:
    talk = Talk()
    talk.server(m.notice_response({"S": "WARNING", "C": "57P02", "M": "bye"}))
    assert talk.expected.warning is not None


# ---- units that run read-only ----


def read_only(talk: Talk) -> Unit:
    talk.client(q("SELECT f()"))
    talk.units[-1].read_only = True
    talk.expected.on_refused_read_only = lambda: b"refused"
    return talk.units[0]


def test_a_read_only_unit_ends_outside_of_a_transaction() -> None:
    talk = Talk()
    read_only(talk)
    assert talk.server(ROWS + z("T")) == ROWS + z("I")
    assert talk.expected.status == ord("I")
    assert talk.expected.prologue is None
    read_only(talk)
    assert talk.server(z("T")) == z("I")


def test_a_read_only_unit_that_fails_for_itself() -> None:
    talk = Talk()
    read_only(talk)
    assert talk.server(ERROR + z("E")) == ERROR + z("I")


@pytest.mark.parametrize("released", [False, True])
def test_a_read_only_unit_that_writes(released: bool) -> None:
    talk = Talk()
    read_only(talk)
    start = talk.server(TABLE)
    if released:
        start += b"".join(talk.expected.release())
    assert start + talk.server(error("25006") + z("E")) == TABLE + b"refused" + z("I")
    assert talk.units[0].errored


def test_a_write_that_fails_read_only_is_told_as_it_is() -> None:
    # 25006 of a unit that the client itself runs read-only.
    talk = Talk()
    talk.client(q("INSERT INTO t VALUES (1)"))
    assert talk.server(error("25006") + z()) == error("25006") + z()
    read_only(talk)
    talk.expected.on_refused_read_only = None
    assert talk.server(error("25006") + z()) == error("25006") + z()


# ---- losing the link ----


def test_a_loss_returns_what_was_owed() -> None:
    talk = Talk()
    talk.client(q("SELECT 1") + pbe("SELECT 1") + SYNC)
    talk.server(TABLE + b"D\0")
    units = talk.expected.lost()
    assert units == talk.units
    assert not talk.expected.inflight
    assert not talk.expected.holding
    # Nothing of the old link is left: the next one starts on a message.
    talk.client(q("SELECT 1"))
    assert talk.expected.whole_answer(ROWS + z())


@pytest.mark.usefixtures("small")
def test_a_loss_in_the_middle_of_a_message() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(BIG[:50])
    assert talk.expected.mid_message
    talk.expected.lost()
    assert not talk.expected.mid_message


def test_a_callback_when_an_answer_is_whole() -> None:
    talk = Talk()
    done: list[int] = []
    talk.skip(q("SELECT 1")).on_done = done.append
    talk.server(ROWS + z("T"))
    assert done == [ord("T")]


# ---- the prologue ----


@pytest.mark.parametrize(
    ("data", "yes"),
    [
        (q("BEGIN"), True),
        (q("START TRANSACTION ISOLATION LEVEL SERIALIZABLE"), True),
        (q("SET a.b = 1"), True),
        (q("SET LOCAL a.b = 1"), True),
        (q("SELECT set_config('a.b', '1', true)"), True),
        (q("BEGIN; SET LOCAL a.b = 1"), True),
        (pbe("BEGIN") + pbe("SET LOCAL a.b = 1") + SYNC, True),
        (p("SELECT 1") + SYNC, True),
        (q("SELECT 1"), False),
        (q("COMMIT"), False),
        (q("SAVEPOINT s"), False),
        (q("COMMIT; BEGIN"), False),
        (q("BEGIN; SELECT 1"), False),
        (q(""), False),
        (pbe("BEGIN") + pbe("SELECT 1") + SYNC, False),
        (e("p") + SYNC, False),
        (call(), False),
    ],
)
def test_only_settings(data: bytes, yes: bool) -> None:
    (unit,) = units_of(data)
    assert only_settings(unit) is yes


def test_a_prologue_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = q("SET LOCAL a.b = 1")
    monkeypatch.setattr(expected_module, "PROLOGUE_BYTES_MAX", len(q("BEGIN") + setting))
    talk = Talk()
    talk.client(q("BEGIN") + setting)
    talk.server(c("BEGIN") + z("T") + c("SET") + z("T"))
    assert talk.expected.prologue == talk.units
    talk.client(setting)
    talk.server(c("SET") + z("T"))
    assert talk.expected.prologue is None


def test_a_begin_that_is_not_kept_is_no_prologue() -> None:
    talk = Talk()
    talk.client(q("BEGIN"))
    talk.units[0].pieces = None
    talk.server(c("BEGIN") + z("T"))
    assert talk.expected.prologue is None


# ---- bound values ----


def test_the_values_of_a_bind() -> None:
    assert bound(b"") is None
    assert bound(b("s", "p", b"x", b"y")) == (b"x", b"y")
    assert bound(m.bind("p", "s", [b"x", None])) == (b"x", None)
