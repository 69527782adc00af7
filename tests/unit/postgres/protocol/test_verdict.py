"""The decision table, walked whole against a second writing of it; then pipelines, cut anywhere.

The rows are those of reference/postgres-replay.md, section 2. The same code is held against a model
of backends in tests/property/test_postgres_verdict.py: nothing runs twice, no answer is a lie.
"""

import itertools

import pytest

from proxy.postgres.protocol.statement import Class, Copy, Script, Statement, Tx, script_of
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.protocol.verdict import (
    ATTEMPTS_MAX,
    Action,
    Decision,
    Loss,
    Replay,
    judge,
    mark_unsent,
)
from tests.unit.postgres.protocol._backend import STATEMENTS

IDLE, OPEN, FAILED = b"ITE"
BEGIN, COMMIT, ROLLBACK = STATEMENTS["B"], STATEMENTS["C"], STATEMENTS["R"]
READ, WRITE, SET, VACUUM = (STATEMENTS[letter] for letter in "rwsv")
SHOW = Statement(Class.READ, "SHOW", wrapper=False)
COPY = Statement(Class.WRITE, "COPY", copy=Copy.IN)
UNREAD = Statement(Class.OTHER, "")


def query(*statements: Statement, **facts: object) -> Unit:
    """A Query that went out whole; `facts` are set on it."""
    unit = Unit(Kind.QUERY, b"Q\0\0\0\x05\0")
    unit.script = script_of(statements)
    return _with(unit, facts)


def batch(*statements: Statement, **facts: object) -> Unit:
    """A batch that went out whole, one Execute for each statement."""
    unit = Unit(Kind.BATCH, b"S\0\0\0\x04")
    unit.executes = [(script_of((one,)), b"") for one in statements] or None
    return _with(unit, facts)


def _with(unit: Unit, facts: dict[str, object]) -> Unit:
    unit.complete = True
    for name, value in facts.items():
        assert hasattr(unit, name), name
        setattr(unit, name, value)
    return unit


def loss(status: str = "I", **facts: object) -> Loss:
    """A loss without a word of the server, at this status."""
    known: dict[str, object] = {"fatal": False, "begin_again": False, **facts}
    return Loss(status=ord(status), **known)  # type: ignore[arg-type]


def seen(decisions: list[Decision]) -> str:
    """Decisions as words: `RESEND-T ROLLED-E`."""
    return " ".join(f"{d.action.name}-{chr(d.status)}" for d in decisions)


# ---- one unit, every cell ----

SENT = ("unsent", "sent", "fatal")

# Status I, nothing released, replay certified / reads / off. R may not be certain to be a read.
FREE = {
    ("R", "unsent"): "RESEND RESEND RESEND",
    ("R", "sent"): "READ_ONLY READ_ONLY MID",
    ("R", "fatal"): "RESEND RESEND MID",
    ("B", "unsent"): "RESEND RESEND RESEND",
    ("B", "sent"): "RESEND RESEND ROLLED",
    ("B", "fatal"): "RESEND RESEND ROLLED",
    ("S", "unsent"): "RESEND RESEND RESEND",
    ("S", "sent"): "RESEND RESEND ROLLED",
    ("S", "fatal"): "RESEND RESEND ROLLED",
    ("N", "unsent"): "RESEND RESEND RESEND",
    ("N", "sent"): "DOUBT DOUBT DOUBT",
    ("N", "fatal"): "RESEND ROLLED ROLLED",
    ("W", "unsent"): "RESEND RESEND RESEND",
    ("W", "sent"): "DOUBT DOUBT DOUBT",
    ("W", "fatal"): "RESEND ROLLED ROLLED",
    ("X", "unsent"): "RESEND RESEND RESEND",
    ("X", "sent"): "DOUBT DOUBT DOUBT",
    ("X", "fatal"): "DOUBT DOUBT DOUBT",
}

# Status I, and it cannot go out again: some of its answer was released, it is not kept, or it was
# sent often enough. The same for every replay.
SPENT = {
    "R": "MID MID MID",
    "B": "ROLLED ROLLED ROLLED",
    "S": "ROLLED ROLLED ROLLED",
    "N": "ROLLED DOUBT ROLLED",
    "W": "ROLLED DOUBT ROLLED",
    "X": "ROLLED DOUBT DOUBT",
}

# Status T after nothing but settings: certified / reads / off.
BEGUN = {
    ("R", "unsent"): "RESEND RESEND RESEND",
    ("R", "sent"): "RESEND RESEND ROLLED",
    ("R", "fatal"): "RESEND RESEND ROLLED",
    ("B", "unsent"): "RESEND RESEND RESEND",
    ("B", "sent"): "RESEND RESEND ROLLED",
    ("B", "fatal"): "RESEND RESEND ROLLED",
    ("S", "unsent"): "RESEND RESEND RESEND",
    ("S", "sent"): "RESEND RESEND ROLLED",
    ("S", "fatal"): "RESEND RESEND ROLLED",
    ("N", "unsent"): "RESEND RESEND RESEND",
    ("N", "sent"): "RESEND ROLLED ROLLED",
    ("N", "fatal"): "RESEND ROLLED ROLLED",
    ("W", "unsent"): "RESEND RESEND RESEND",
    ("W", "sent"): "RESEND ROLLED ROLLED",
    ("W", "fatal"): "RESEND ROLLED ROLLED",
    ("X", "unsent"): "RESEND RESEND RESEND",
    ("X", "sent"): "ROLLED ROLLED ROLLED",
    ("X", "fatal"): "ROLLED ROLLED ROLLED",
}

OF_CLASS = {
    "R": READ,
    "B": STATEMENTS["p"],  # SAVEPOINT: transaction control that neither begins nor ends
    "S": SET,
    "N": STATEMENTS["n"],
    "W": WRITE,
    "X": VACUUM,
}
UNSPENT = {"released": False, "pieces": True, "attempts": 0}
WAYS_SPENT = (
    {"released": True},
    {"pieces": None},
    {"attempts": ATTEMPTS_MAX},
)
CELLS = list(itertools.product(OF_CLASS, SENT, (query, batch)))


def one(kind: str, sent: str, make: object, facts: dict[str, object], **known: object) -> Decision:
    """The decision on one unit of this class, and on its own."""
    unit = make(OF_CLASS[kind], **facts)  # type: ignore[operator]
    if sent == "unsent":
        unit.unsent = unit.untouched = True
    (decision,) = judge([unit], loss(fatal=sent == "fatal", **known))
    return decision


@pytest.mark.parametrize(("kind", "sent", "make"), CELLS)
def test_outside_of_a_transaction(kind: str, sent: str, make: object) -> None:
    actions = [one(kind, sent, make, {}, replay=replay) for replay in reversed(Replay)]
    assert " ".join(d.action.name for d in actions) == FREE[kind, sent]
    assert {d.status for d in actions} == {IDLE}


@pytest.mark.parametrize("spent", WAYS_SPENT, ids=str)
@pytest.mark.parametrize("replay", Replay)
@pytest.mark.parametrize(("kind", "sent", "make"), CELLS)
def test_what_cannot_go_out_again(
    kind: str, sent: str, make: object, replay: Replay, spent: dict[str, object]
) -> None:
    decision = one(kind, sent, make, spent, replay=replay)
    wanted = SPENT[kind].split()[SENT.index(sent)]
    if kind in "BS" and sent == "sent" and "released" in spent:
        wanted = "DOUBT"  # its answer broke off
    assert (decision.action.name, decision.status) == (wanted, IDLE)


@pytest.mark.parametrize(("kind", "sent", "make"), CELLS)
def test_behind_nothing_but_settings(kind: str, sent: str, make: object) -> None:
    for replay, wanted in zip(reversed(Replay), BEGUN[kind, sent].split(), strict=True):
        decision = one(kind, sent, make, {}, status="T", begin_again=True, replay=replay)
        status = OPEN if wanted == "RESEND" else FAILED
        assert (decision.action.name, decision.status) == (wanted, status)


@pytest.mark.parametrize("spent", WAYS_SPENT, ids=str)
@pytest.mark.parametrize(("kind", "sent", "make"), CELLS)
def test_behind_nothing_but_settings_and_spent(
    kind: str, sent: str, make: object, spent: dict[str, object]
) -> None:
    decision = one(kind, sent, make, spent, status="T", begin_again=True)
    assert (decision.action, decision.status) == (Action.ROLLED, FAILED)


@pytest.mark.parametrize("replay", Replay)
@pytest.mark.parametrize("spent", [{}, *WAYS_SPENT], ids=str)
@pytest.mark.parametrize(("kind", "sent", "make"), CELLS)
def test_in_a_transaction_that_did_something(
    kind: str, sent: str, make: object, spent: dict[str, object], replay: Replay
) -> None:
    decision = one(kind, sent, make, spent, status="T", replay=replay)
    assert (decision.action, decision.status) == (Action.ROLLED, FAILED)


@pytest.mark.parametrize("replay", Replay)
@pytest.mark.parametrize(("kind", "sent", "make"), CELLS)
def test_in_a_transaction_that_had_failed(
    kind: str, sent: str, make: object, replay: Replay
) -> None:
    decision = one(kind, sent, make, {}, status="E", begin_again=True, replay=replay)
    assert (decision.action, decision.status) == (Action.FAILED, FAILED)


# ---- the verbs that end a transaction ----

ENDS = {
    # status, letter, certificate: decision for a Query; for a batch
    ("T", "C", ""): ("DOUBT-I", "DOUBT-I"),
    ("T", "C", "unsent"): ("ROLLED-I", "DOUBT-I"),  # COMMIT in a batch does not wait for its Sync
    ("T", "C", "untouched"): ("ROLLED-I", "ROLLED-I"),
    ("T", "C", "fatal"): ("ROLLED-I", "ROLLED-I"),
    ("T", "C", "answered"): ("FINISH-I", "DOUBT-I"),
    ("T", "C", "answered fatal"): ("FINISH-I", "DOUBT-I"),
    ("T", "C", "errored"): ("ROLLED-I", "ROLLED-I"),  # a deferred constraint
    ("T", "C", "released"): ("DOUBT-I", "DOUBT-I"),
    ("T", "c", ""): ("DOUBT-E", "DOUBT-E"),  # what it chained is lost in any case
    ("T", "c", "fatal"): ("ROLLED-E", "ROLLED-E"),
    ("T", "c", "answered"): ("FINISH-T", "DOUBT-E"),  # what it chained: told at the next unit
    ("T", "P", ""): ("DOUBT-I", "DOUBT-I"),
    ("T", "P", "fatal"): ("DOUBT-I", "DOUBT-I"),
    ("T", "P", "untouched"): ("ROLLED-I", "ROLLED-I"),
    ("T", "P", "answered"): ("FINISH-I", "DOUBT-I"),
    ("T", "R", ""): ("FINISH-I", "FINISH-I"),
    ("T", "R", "unsent"): ("FINISH-I", "FINISH-I"),
    ("T", "R", "fatal"): ("FINISH-I", "FINISH-I"),
    ("T", "R", "released"): ("ROLLED-I", "ROLLED-I"),
    ("T", "R", "answered released"): ("FINISH-I", "ROLLED-I"),
    ("T", "R", "incomplete"): ("ROLLED-I", "ROLLED-I"),
    ("T", "k", ""): ("ROLLED-E", "ROLLED-E"),
    ("T", "k", "answered"): ("FINISH-T", "ROLLED-E"),
    ("E", "C", ""): ("FINISH-I", "FINISH-I"),
    ("E", "C", "released"): ("ROLLED-I", "ROLLED-I"),
    ("E", "c", ""): ("ROLLED-E", "ROLLED-E"),
    ("E", "P", ""): ("FINISH-I", "FINISH-I"),
    ("E", "R", ""): ("FINISH-I", "FINISH-I"),
    ("E", "k", ""): ("ROLLED-E", "ROLLED-E"),
    ("E", "t", ""): ("ROLLED-E", "ROLLED-E"),
}


@pytest.mark.parametrize("make", [query, batch])
@pytest.mark.parametrize(("status", "letter", "facts"), ENDS)
def test_ends(status: str, letter: str, facts: str, make: object) -> None:
    words = facts.split()
    known: dict[str, object] = {word: True for word in words if word != "fatal"}
    if "untouched" in words:
        known["unsent"] = True
    if "incomplete" in words:
        del known["incomplete"]
        known["complete"] = False
    unit = make(STATEMENTS[letter], **known)  # type: ignore[operator]
    decisions = judge([unit], loss(status, fatal="fatal" in words))
    assert seen(decisions) == ENDS[status, letter, facts][make is batch]


@pytest.mark.parametrize(
    ("letter", "wanted"), [("C", "RESEND-I"), ("c", "RESEND-T"), ("R", "FINISH-I")]
)
def test_ends_behind_nothing_but_settings(letter: str, wanted: str) -> None:
    # COMMIT has nothing to save but what is begun again.
    assert seen(judge([query(STATEMENTS[letter])], loss("T", begin_again=True))) == wanted


def test_a_listening_session_cannot_trust_fatal_behind_a_batch() -> None:
    assert seen(judge([batch(WRITE)], loss(fatal=True, listening=True))) == "DOUBT-I"
    assert seen(judge([query(WRITE)], loss(fatal=True, listening=True))) == "RESEND-I"
    assert seen(judge([batch(COMMIT)], loss("T", fatal=True, listening=True))) == "DOUBT-I"
    # What stands behind the first was never read.
    assert seen(judge([batch(WRITE), batch(WRITE)], loss(fatal=True, listening=True))) == (
        "DOUBT-I RESEND-I"
    )


# ---- COPY FROM STDIN ----


@pytest.mark.parametrize("make", [query, batch])
@pytest.mark.parametrize(
    ("facts", "known", "wanted"),
    [
        # Sent, CopyInResponse not seen: it cannot commit without a CopyDone.
        ("", "", "RESEND-I"),
        ("copying", "", "ROLLED-I"),
        ("copying", "fatal", "ROLLED-I"),
        ("copying copied", "", "DOUBT-I"),
        ("copying copied", "fatal", "ROLLED-I"),
        ("copying copied unsent", "", "ROLLED-I"),
        ("copying copied given_up", "", "ROLLED-I"),
        ("copied", "", "DOUBT-I"),  # rows sent blindly
        ("copying", "T", "ROLLED-E"),
        ("copying copied", "T", "ROLLED-E"),
        ("copying copied", "T begin_again", "ROLLED-E"),
        ("", "T begin_again", "RESEND-T"),
    ],
)
def test_copy(make: object, facts: str, known: str, wanted: str) -> None:
    unit = make(COPY, **dict.fromkeys(facts.split(), True))  # type: ignore[operator]
    if facts:
        unit.pieces = None
    words = known.split()
    status = "T" if "T" in words else "I"
    assert seen(judge([unit], loss(status, **{w: True for w in words if w != "T"}))) == wanted


def test_copy_behind_a_commit_in_the_same_query() -> None:
    # INSERT; COMMIT; COPY … FROM STDIN: the INSERT is saved, whatever becomes of the COPY.
    unit = query(WRITE, COMMIT, COPY, copying=True, pieces=None)
    assert seen(judge([unit], loss())) == "DOUBT-I"
    assert seen(judge([unit], loss(fatal=True))) == "DOUBT-I"


def test_copy_in_a_listening_session() -> None:
    unit = batch(COPY, copying=True, copied=True, pieces=None)
    assert seen(judge([unit], loss(fatal=True, listening=True))) == "DOUBT-I"


# ---- answers that were there already ----


def test_a_query_with_its_command_complete_is_done() -> None:
    for statement in (READ, WRITE, VACUUM):
        for facts in ({}, {"released": True}):
            unit = query(statement, answered=True, **facts)
            for fatal in (False, True):
                assert seen(judge([unit], loss(fatal=fatal))) == "FINISH-I"


def test_a_command_complete_in_a_batch_proves_nothing() -> None:
    assert seen(judge([batch(WRITE, answered=True)], loss())) == "DOUBT-I"
    assert seen(judge([batch(WRITE, answered=True)], loss(fatal=True))) == "RESEND-I"
    assert seen(judge([batch(READ, answered=True)], loss())) == "READ_ONLY-I"


def test_a_batch_of_reads_that_was_delivered_is_done() -> None:
    # P B E H, all answers delivered; only the Sync's ReadyForQuery is missing.
    facts = {"released": True, "owed": 3, "replies": 3}
    for complete in (False, True):
        assert seen(judge([batch(READ, complete=complete, **facts)], loss())) == "FINISH-I"
        assert seen(judge([batch(complete=complete, **facts)], loss())) == "FINISH-I"
    assert seen(judge([batch(READ, **{**facts, "replies": 2})], loss())) == "MID-I"
    assert seen(judge([batch(READ, **{**facts, "released": False})], loss())) == "READ_ONLY-I"
    assert seen(judge([batch(READ, **facts, errored=True)], loss())) == "FINISH-I"
    assert seen(judge([batch(READ, **facts, held=(b"x",))], loss())) == "MID-I"
    # A function may have written, which its Sync may have saved.
    assert seen(judge([batch(STATEMENTS["f"], **facts)], loss())) == "DOUBT-I"
    assert seen(judge([batch(WRITE, **facts)], loss())) == "DOUBT-I"


def test_the_first_of_several_command_completes_is_not_the_last() -> None:
    assert seen(judge([query(WRITE, WRITE, answered=True)], loss())) == "DOUBT-I"
    # Text that was not read counts as one statement and may hold many.
    assert seen(judge([query(UNREAD, answered=True)], loss())) == "DOUBT-I"
    big = query(answered=True, script=None, pieces=None)
    assert seen(judge([big], loss())) == "DOUBT-I"


def test_a_setting_that_ran_goes_out_again_for_the_sake_of_the_new_link() -> None:
    assert seen(judge([query(SET, answered=True)], loss())) == "RESEND-I"
    assert seen(judge([query(SET, answered=True, released=True)], loss())) == "FINISH-I"
    assert seen(judge([query(SET, answered=True)], loss(replay=Replay.OFF))) == "FINISH-I"


def test_begin_that_ran_is_begun_again_or_lost_whole() -> None:
    assert seen(judge([query(BEGIN, answered=True)], loss())) == "RESEND-T"
    # Its tag has reached the client: the transaction cannot be given back silently.
    assert seen(judge([query(BEGIN, answered=True, released=True)], loss())) == "ROLLED-E"


def test_a_failed_statement_wrote_nothing() -> None:
    for make in (query, batch):
        for statement in (WRITE, READ, VACUUM):  # the server's own error is the answer
            assert seen(judge([make(statement, errored=True)], loss())) == "FINISH-I"
            assert seen(judge([make(statement, errored=True, released=True)], loss())) == "FINISH-I"
            assert seen(judge([make(statement, errored=True)], loss("T"))) == "FINISH-E"
        # Not whole, or it may have moved a transaction: not that simple.
        assert seen(judge([make(WRITE, BEGIN, errored=True)], loss())) != "FINISH-I"
    assert seen(judge([batch(WRITE, errored=True, complete=False)], loss())) != "FINISH-I"


# ---- what a unit is ----


def test_a_unit_without_statements_may_always_run_again() -> None:
    assert seen(judge([batch()], loss())) == "RESEND-I"  # Parse, Describe, Close
    assert seen(judge([query()], loss())) == "RESEND-I"  # an empty Query
    assert seen(judge([batch(complete=False)], loss())) == "RESEND-I"  # … and a Flush


def test_what_differs_inside_begin_read_only_runs_without_it() -> None:
    assert seen(judge([query(SHOW)], loss())) == "RESEND-I"
    assert seen(judge([batch(SHOW, SHOW)], loss())) == "RESEND-I"
    assert seen(judge([batch(SHOW, READ)], loss())) == "READ_ONLY-I"


def test_a_batch_of_reads_and_writes_is_a_write() -> None:
    assert seen(judge([batch(READ, READ)], loss())) == "READ_ONLY-I"
    assert seen(judge([batch(READ, WRITE)], loss())) == "DOUBT-I"
    assert seen(judge([batch(READ, WRITE)], loss(fatal=True))) == "RESEND-I"


def test_a_function_call_is_never_repeated() -> None:
    call = Unit(Kind.CALL, b"F\0\0\0\4")
    call.complete = True
    assert seen(judge([call], loss())) == "DOUBT-I"
    assert seen(judge([call], loss(fatal=True))) == "DOUBT-I"
    assert seen(judge([call], loss("T"))) == "ROLLED-E"
    assert seen(judge([call], loss("T", begin_again=True))) == "ROLLED-E"
    call.complete = False
    assert seen(judge([call], loss())) == "RESEND-I"


def test_several_statements_in_one_query() -> None:
    assert seen(judge([query(READ, READ)], loss())) == "DOUBT-I"
    assert seen(judge([query(WRITE, COMMIT)], loss("T"))) == "DOUBT-I"
    assert seen(judge([query(WRITE, COMMIT)], loss("T", fatal=True))) == "DOUBT-I"
    assert seen(judge([query(WRITE, COMMIT, unsent=True)], loss("T"))) == "ROLLED-E"
    # The INSERT behind a ROLLBACK is saved by the Query's own end.
    assert seen(judge([query(ROLLBACK, WRITE)], loss("T"))) == "DOUBT-I"
    assert seen(judge([query(ROLLBACK, WRITE)], loss("E"))) == "DOUBT-I"
    assert seen(judge([query(WRITE, WRITE)], loss("T"))) == "ROLLED-E"
    # BEGIN; INSERT without a COMMIT is rolled back for certain, so it may be begun again.
    assert seen(judge([query(BEGIN, WRITE)], loss())) == "RESEND-T"
    # COMMIT; BEGIN: the client is in a new transaction, which is lost.
    assert seen(judge([query(WRITE, COMMIT, BEGIN)], loss("T"))) == "DOUBT-E"
    assert seen(judge([query(WRITE, BEGIN)], loss())) == "DOUBT-E"
    assert seen(judge([query(WRITE, BEGIN)], loss(fatal=True))) == "DOUBT-E"


def test_behind_a_fatal_nothing_was_read_however_many_transactions_stand_there() -> None:
    units = [query(WRITE), query(WRITE, COMMIT), query(WRITE, COMMIT), query(ROLLBACK)]
    assert seen(judge(units, loss("T", fatal=True))) == "ROLLED-E FAILED-E FAILED-E FINISH-I"
    assert seen(judge(units, loss("T"))) == "DOUBT-E DOUBT-I DOUBT-I RESEND-I"


def test_text_that_was_not_read_may_commit() -> None:
    for script in (None, script_of((UNREAD,))):
        assert seen(judge([query(script=script)], loss("T"))) == "DOUBT-E"
        assert seen(judge([query(script=script)], loss("T", fatal=True))) == "DOUBT-E"
        assert seen(judge([query(script=script, complete=False)], loss("T"))) == "ROLLED-E"
    unknown: list[tuple[Script | None, bytes]] = [(None, b"")]
    assert seen(judge([batch(executes=unknown)], loss("T"))) == "DOUBT-E"
    assert seen(judge([batch(executes=unknown, complete=False)], loss("T"))) == "DOUBT-E"
    assert seen(judge([batch(executes=unknown, untouched=True)], loss("T"))) == "ROLLED-E"


def test_a_batch_without_its_sync_may_have_acted() -> None:
    # VACUUM and COMMIT take effect with their Execute: only bytes that never left prove anything.
    for facts in ({"unsent": True}, {"complete": False}):
        assert seen(judge([batch(VACUUM, **facts)], loss())) == "DOUBT-I"
        assert seen(judge([batch(WRITE, COMMIT, **facts)], loss())) == "DOUBT-I"
        assert seen(judge([batch(WRITE, **facts)], loss())) == "RESEND-I"
        assert seen(judge([query(VACUUM, **facts)], loss())) == "RESEND-I"
    assert seen(judge([batch(VACUUM, unsent=True, untouched=True)], loss())) == "RESEND-I"


def test_a_read_once_sent_in_doubt_stays_read_only() -> None:
    # Its first run may have written and been saved: what is known of the second one proves nothing.
    for facts in ({}, {"unsent": True}, {"errored": True}):
        for fatal in (False, True):
            unit = query(READ, read_only=True, **facts)
            assert seen(judge([unit], loss(fatal=fatal))) == "READ_ONLY-I"
    assert seen(judge([query(READ, read_only=True)], loss("T", begin_again=True))) == "ROLLED-E"


# ---- pipelines ----


def run(letters: str, known: Loss, make: object = query, **facts: object) -> str:
    """The decisions on one unit for each letter; `facts` are the first one's."""
    units = [make(STATEMENTS[letter]) for letter in letters]  # type: ignore[operator]
    _with(units[0], facts)
    return seen(judge(units, known))


@pytest.mark.parametrize("make", [query, batch])
@pytest.mark.parametrize(
    ("letters", "known", "wanted"),
    [
        # Without FT, each may have run: reads again, every write its own doubt.
        ("rrr", loss(), "READ_ONLY-I READ_ONLY-I READ_ONLY-I"),
        ("wrw", loss(), "DOUBT-I READ_ONLY-I DOUBT-I"),
        ("wsx", loss(), "DOUBT-I RESEND-I DOUBT-I"),
        # With FT, the first was rolled back and those behind it were never read, whatever they are.
        ("wwx", loss(fatal=True), "RESEND-I RESEND-I RESEND-I"),
        ("xwx", loss(fatal=True), "DOUBT-I RESEND-I RESEND-I"),
        ("ww", loss(fatal=True, replay=Replay.READS), "ROLLED-I RESEND-I"),
        ("ww", loss(fatal=True, replay=Replay.OFF), "ROLLED-I ROLLED-I"),
        # BEGIN, INSERT, no COMMIT: certificate OT.
        ("Bw", loss(), "RESEND-T RESEND-T"),
        ("Bww", loss(), "RESEND-T RESEND-T RESEND-T"),
        ("BwR", loss(), "RESEND-T RESEND-T RESEND-I"),
        ("BwRw", loss(), "RESEND-T RESEND-T RESEND-I DOUBT-I"),
        ("Bpwt", loss(), "RESEND-T RESEND-T RESEND-T RESEND-T"),
        # … and with its COMMIT: may be saved.
        ("BwC", loss(), "FINISH-T DOUBT-E DOUBT-I"),
        ("BwwC", loss(), "FINISH-T DOUBT-E DOUBT-E DOUBT-I"),
        ("BwCr", loss(), "FINISH-T DOUBT-E DOUBT-I READ_ONLY-I"),
        ("BrC", loss(), "FINISH-T DOUBT-E DOUBT-I"),  # the "read" may have written
        ("BsC", loss(), "RESEND-T RESEND-T RESEND-I"),
        ("BwRBwC", loss(), "RESEND-T RESEND-T RESEND-I FINISH-T DOUBT-E DOUBT-I"),
        ("Bwc", loss(), "FINISH-T DOUBT-E DOUBT-E"),
        ("BwcwC", loss(), "FINISH-T DOUBT-E DOUBT-E DOUBT-E DOUBT-I"),
        ("BwkwC", loss(), "FINISH-T DOUBT-E ROLLED-E DOUBT-E DOUBT-I"),
        ("BwC", loss(fatal=True), "RESEND-T RESEND-T RESEND-I"),
        ("BwxC", loss(fatal=True), "RESEND-T RESEND-T RESEND-T RESEND-I"),
        # All of a transaction, or nothing: no link is left in half of it.
        ("Bx", loss(), "FINISH-T ROLLED-E"),
        ("Bxw", loss(), "FINISH-T ROLLED-E FAILED-E"),
        ("BxR", loss(), "FINISH-T ROLLED-E FINISH-I"),
        ("Bw", loss(replay=Replay.READS), "FINISH-T ROLLED-E"),
        ("Br", loss(replay=Replay.READS), "RESEND-T RESEND-T"),
        ("B", loss(replay=Replay.OFF), "ROLLED-E"),
        ("BwC", loss(replay=Replay.OFF, fatal=True), "FINISH-T ROLLED-E FINISH-I"),
        ("Bw", loss(replay=Replay.OFF), "FINISH-T ROLLED-E"),
        ("wBw", loss(replay=Replay.OFF, fatal=True), "ROLLED-I FINISH-T ROLLED-E"),
        # In a transaction.
        ("ww", loss("T"), "ROLLED-E FAILED-E"),
        ("wwR", loss("T"), "ROLLED-E FAILED-E FINISH-I"),
        ("wC", loss("T"), "DOUBT-E DOUBT-I"),
        ("wC", loss("T", fatal=True), "ROLLED-E FINISH-I"),
        ("wCw", loss("T", fatal=True), "ROLLED-E FINISH-I RESEND-I"),
        ("CB", loss("T"), "DOUBT-I RESEND-T"),
        ("CBwC", loss("T"), "DOUBT-I FINISH-T DOUBT-E DOUBT-I"),
        ("Cw", loss("T", fatal=True), "ROLLED-I RESEND-I"),
        ("Rw", loss("T"), "FINISH-I DOUBT-I"),
        ("ptw", loss("T"), "ROLLED-E ROLLED-E FAILED-E"),
        # … that has run settings only.
        ("w", loss("T", begin_again=True), "RESEND-T"),
        ("wC", loss("T", begin_again=True), "DOUBT-E DOUBT-I"),
        ("rC", loss("T", begin_again=True), "DOUBT-E DOUBT-I"),
        ("sC", loss("T", begin_again=True), "RESEND-T RESEND-I"),
        ("wC", loss("T", begin_again=True, fatal=True), "RESEND-T RESEND-I"),
        ("wR", loss("T", begin_again=True), "RESEND-T RESEND-I"),
        ("CBw", loss("T", begin_again=True), "RESEND-I RESEND-T RESEND-T"),
        ("xw", loss("T", begin_again=True), "ROLLED-E FAILED-E"),
        # In a failed one; ROLLBACK TO makes it work again, and what follows may be saved.
        ("ww", loss("E"), "FAILED-E FAILED-E"),
        ("wR", loss("E"), "FAILED-E FINISH-I"),
        ("wC", loss("E"), "FAILED-E FINISH-I"),
        ("twC", loss("E"), "DOUBT-E DOUBT-E DOUBT-I"),
        ("twC", loss("E", fatal=True), "ROLLED-E FAILED-E FINISH-I"),
        ("kwC", loss("E"), "ROLLED-E DOUBT-E DOUBT-I"),
        ("Rw", loss("E"), "FINISH-I DOUBT-I"),
    ],
)
def test_pipelines(letters: str, known: Loss, wanted: str, make: object) -> None:
    assert run(letters, known, make) == wanted


@pytest.mark.parametrize(
    ("first", "wanted"),
    [
        ({}, "DOUBT-E DOUBT-I"),
        ({"errored": True}, "FINISH-E FINISH-I"),  # the COMMIT rolled it back
    ],
)
def test_a_commit_behind_a_failed_statement_saves_nothing(
    first: dict[str, object], wanted: str
) -> None:
    assert run("wC", loss("T"), **first) == wanted


def test_a_transaction_in_one_batch_begins_again() -> None:
    # What pgjdbc sends first in a transaction: BEGIN and the first statement under one Sync.
    assert seen(judge([batch(BEGIN, WRITE)], loss())) == "RESEND-T"
    assert seen(judge([batch(BEGIN, WRITE), batch(COMMIT)], loss())) == "DOUBT-E DOUBT-I"
    assert seen(judge([batch(BEGIN, VACUUM)], loss())) == "ROLLED-E"
    assert seen(judge([batch(BEGIN, WRITE, released=True)], loss())) == "ROLLED-E"
    assert seen(judge([batch(BEGIN, WRITE, COMMIT)], loss())) == "DOUBT-I"
    assert seen(judge([batch(BEGIN, WRITE, COMMIT)], loss(fatal=True))) == "DOUBT-I"
    assert seen(judge([batch(WRITE, COMMIT)], loss("T"))) == "DOUBT-I"


@pytest.mark.parametrize("acked", range(4))
@pytest.mark.parametrize("fatal", [False, True])
def test_begin_insert_commit_cut_at_each_reply(acked: int, fatal: bool) -> None:
    # BEGIN, INSERT, COMMIT sent in one go; `acked` of them had their ReadyForQuery.
    units = [query(BEGIN), query(WRITE), query(COMMIT)][acked:]
    status, again = ("I", "T", "T", "I")[acked], acked == 1
    decisions = seen(judge(units, loss(status, fatal=fatal, begin_again=again)))
    wanted = {
        False: ("FINISH-T DOUBT-E DOUBT-I", "DOUBT-E DOUBT-I", "DOUBT-I", ""),
        True: ("RESEND-T RESEND-T RESEND-I", "RESEND-T RESEND-I", "ROLLED-I", ""),
    }
    assert decisions == wanted[fatal][acked]


def test_an_unsent_commit_saves_nothing() -> None:
    units = [query(WRITE), query(COMMIT, unsent=True)]
    assert seen(judge(units, loss("T"))) == "ROLLED-E FINISH-I"
    assert seen(judge(units, loss("T", begin_again=True))) == "RESEND-T RESEND-I"
    units = [batch(WRITE), batch(COMMIT, unsent=True)]
    assert seen(judge(units, loss("T"))) == "DOUBT-E DOUBT-I"  # its Execute may have left
    units[1].untouched = True
    assert seen(judge(units, loss("T"))) == "ROLLED-E FINISH-I"


def test_behind_a_unit_that_may_have_begun_a_transaction() -> None:
    # Its text was not read: BEGIN may be in it, and what follows is not to run on its own.
    hidden = query(script=None, pieces=None)
    assert seen(judge([hidden, query(WRITE), query(COMMIT)], loss())) == "DOUBT-E DOUBT-E DOUBT-I"
    assert seen(judge([hidden, query(WRITE)], loss())) == "DOUBT-E DOUBT-E"
    assert seen(judge([hidden, query(WRITE)], loss(fatal=True))) == "DOUBT-E FAILED-E"
    assert seen(judge([hidden, query(WRITE, unsent=True)], loss())) == "DOUBT-E FAILED-E"
    units = [hidden, query(BEGIN), query(WRITE)]
    assert seen(judge(units, loss())) == "DOUBT-E FAILED-E FAILED-E"
    assert seen(judge([*units, query(COMMIT)], loss())) == "DOUBT-E DOUBT-E DOUBT-E DOUBT-I"
    hidden.unsent = True
    assert seen(judge([hidden, query(WRITE, unsent=True)], loss())) == "ROLLED-E FAILED-E"
    assert seen(judge([hidden], loss())) == "ROLLED-I"


def test_a_fatal_behind_the_marker_of_the_first() -> None:
    # INSERT had its CommandComplete, then the server was stopped: done, and the rest never read.
    units = [query(WRITE, answered=True), query(WRITE), batch(WRITE, VACUUM)]
    assert seen(judge(units, loss(fatal=True))) == "FINISH-I RESEND-I RESEND-I"


def test_units_queued_behind_a_released_one() -> None:
    units = [query(READ, released=True), query(READ), query(WRITE)]
    assert seen(judge(units, loss())) == "MID-I READ_ONLY-I DOUBT-I"
    assert seen(judge(units, loss(fatal=True))) == "MID-I RESEND-I RESEND-I"


def test_a_transaction_is_lost_whole_if_one_unit_of_it_is_spent() -> None:
    for spent in WAYS_SPENT:
        units = [query(BEGIN), query(WRITE), query(READ, **spent)]
        assert seen(judge(units, loss())) == "FINISH-T ROLLED-E FAILED-E"
        assert seen(judge(units, loss(fatal=True))) == "FINISH-T ROLLED-E FAILED-E"
    units = [query(BEGIN, pieces=None), query(WRITE)]
    assert seen(judge(units, loss())) == "ROLLED-E FAILED-E"  # no answer can be made for it


def test_a_begin_inside_a_transaction_is_nothing_special() -> None:
    assert run("BB", loss("T", begin_again=True)) == "RESEND-T RESEND-T"
    assert run("Bw", loss("T")) == "ROLLED-E FAILED-E"


def test_prepared_transactions_end_one_and_are_never_repeated() -> None:
    done = Statement(Class.OTHER, "COMMIT", Tx.COMMIT_PREPARED)
    assert seen(judge([query(done)], loss())) == "DOUBT-I"
    assert seen(judge([query(done)], loss("T"))) == "DOUBT-E"
    assert run("BwP", loss()) == "FINISH-T DOUBT-E DOUBT-I"


def test_nothing_owed_nothing_decided() -> None:
    for status in "ITE":
        assert judge([], loss(status, begin_again=True)) == []


# ---- certificate NS from byte counts ----


def test_what_never_left() -> None:
    units = [query(READ), query(WRITE), query(WRITE)]
    for number, unit in enumerate(units):
        unit.begins_at, unit.ends_at = 10 * number, 10 * number + 10
    for left, unsent, untouched in (
        (30, "000", "000"),
        (29, "001", "000"),
        (21, "001", "000"),
        (20, "001", "001"),
        (11, "011", "001"),
        (0, "111", "111"),
    ):
        mark_unsent(units, left)
        assert "".join(str(int(u.unsent)) for u in units) == unsent, left
        assert "".join(str(int(u.untouched)) for u in units) == untouched, left


# ---- invariants over every pair of units ----

LETTERS = "rwnsvBCRckptP"


@pytest.mark.parametrize("status", "ITE")
@pytest.mark.parametrize("fatal", [False, True])
def test_invariants_of_every_pipeline_of_three(status: str, fatal: bool) -> None:
    for letters in itertools.product(LETTERS, repeat=3):
        for first in ({}, {"released": True}):
            known = loss(status, fatal=fatal, begin_again=status == "T")
            units = [query(STATEMENTS[letter]) for letter in letters]
            _with(units[0], first)
            decisions = judge(units, known)
            _check(letters, units, decisions, known)


def _check(
    letters: tuple[str, ...], units: list[Unit], decisions: list[Decision], known: Loss
) -> None:
    where = f"{''.join(letters)} {chr(known.status)} {known.fatal}: {seen(decisions)}"
    assert len(decisions) == len(units)
    status = known.status
    for index, (unit, decision) in enumerate(zip(units, decisions, strict=True)):
        if decision.action in (Action.RESEND, Action.READ_ONLY):
            assert not unit.released, where
            assert status != FAILED, where  # a statement the client saw fail in between
            if letters[index] in "wnvP" and not known.fatal:
                assert letters[index] in "wn", where
                assert _open_without_commit(letters, index), where  # OT
        if decision.action is Action.READ_ONLY:
            assert status == IDLE, where
        if decision.action is Action.FAILED:
            assert status == decision.status == FAILED, where
        if letters[index] in "wnvP" and not known.fatal and status == IDLE:
            assert decision.action in (Action.DOUBT, Action.ROLLED), where
        status = decision.status
    assert status in (IDLE, OPEN, FAILED)


def _open_without_commit(letters: tuple[str, ...], index: int) -> bool:
    """No COMMIT stands behind the letter before the transaction has ended otherwise."""
    for letter in letters[index + 1 :]:
        if letter in "CcP":
            return False
        if letter == "R":
            return True
    return True
