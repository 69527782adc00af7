"""A session's link died: judge its units, and put what follows into its queue.

Owns: gathering the facts for `protocol.verdict` and turning its decisions into bytes and resends.
Must not know: sockets, how the next link comes.
"""

from typing import TYPE_CHECKING, Any

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages, say
from proxy.postgres.protocol.expected import FAILED, IDLE, IN_TRANSACTION
from proxy.postgres.protocol.fake import fake_reply
from proxy.postgres.protocol.framing import EVERY_REPLY, Mark, scan
from proxy.postgres.protocol.lessons import adopt
from proxy.postgres.protocol.session_state import Need
from proxy.postgres.protocol.statement import Opaque, Script, Statement, Tx, script_of
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.protocol.verdict import Action, Decision, Loss, holds_locks, judge, mark_unsent
from proxy.postgres.runtime.session_base import Entry, Lost

if TYPE_CHECKING:
    from proxy.postgres.runtime.link import Link
    from proxy.postgres.runtime.session import Session


ORPHANS_MAX = 5  # backends of one session that may live on behind dead links
SQL_TEXTS_MAX = 10  # of one loss in the log, each up to SQL_BYTES_MAX
SQL_BYTES_MAX = 1000


def lost(session: "Session", link: "Link") -> None:
    """Everything a loss does to a session. Afterwards its queue says what happens next."""

    expected, state = session.expected, session.state
    expected.fatal = expected.fatal or link.fatal
    mid_message = expected.mid_message
    prologue = expected.prologue
    if link.last_words is not None:
        unsent = link.last_words.unsent_bytes(link.given_bytes)
        mark_unsent(expected.inflight, link.given_bytes - unsent)
    units = [unit for unit in expected.lost() if not unit.skip]
    session.gatherer.portals.clear()
    facts = Loss(
        fatal=_certifies(expected.fatal) and not link.pooler,
        status=expected.status,
        begin_again=prologue is not None and session.lost is Lost.NO,
        listening=bool(state.channels),
        replay=session.route.options.resilience.replay,
    )
    for unit in units:
        _read_held(unit)
    _resolve(session, units)
    decisions = judge(units, facts)
    if link.backend_start is not None and not link.pooler and holds_locks(units, facts):
        session.orphans = (*session.orphans[-ORPHANS_MAX + 1 :], (link.pid, link.backend_start))
    _report(session, link, units, decisions)
    if mid_message:
        session.abort(Reason.RESULT_INTERRUPTED)
        return
    if facts.fatal and expected.fatal is not None and expected.fatal.get("C") == "08P01":
        session.end_with(expected.fatal_wire, Reason.CLIENT_PROTOCOL)
        return  # the server found the client's own bytes wrong: its answer is the client's
    if session.lost not in (Lost.AGAIN, Lost.FAILED):
        session.prologue = prologue or []
    _transaction_after(session, facts, decisions)
    expected.missing.update(state.statements)  # what DEALLOCATE dropped may be back
    if decisions and _stays(facts, decisions[0]):
        state.ready(IDLE)  # what it did to the session stays
        if state.need is not Need.NONE:
            state.need = Need.NOW  # ... and what its functions did, nobody can look at any more
    session.put_first(_entries(session, units, decisions))
    _check_restorable(session, link)


def _transaction_after(session: "Session", facts: Loss, decisions: list[Decision]) -> None:
    """What became of the transaction the client was in, and what it will believe to be in."""

    first = decisions[0] if decisions else None
    if first is None or not _stays(facts, first):
        session.state.lost_transaction()  # at status I: what a unit did that was not answered
    resent = first is not None and first.action is Action.RESEND
    if facts.status == IN_TRANSACTION and facts.begin_again and (first is None or resent):
        session.lost = Lost.AGAIN
        return
    session.expected.prologue = None
    if session.lost in (Lost.AGAIN, Lost.FAILED) and not decisions:
        return  # the link died when it was to be put there: the next one will be
    if decisions and decisions[-1].action is Action.FINISH:
        after = {IN_TRANSACTION: Lost.UNTOLD, FAILED: Lost.TOLD}  # UNTOLD: behind AND CHAIN
        session.lost = after.get(decisions[-1].status, Lost.NO)
    elif decisions:
        session.lost = Lost.TOLD if decisions[-1].status == FAILED else Lost.NO
    elif facts.status == IN_TRANSACTION:
        session.lost = Lost.UNTOLD
    elif facts.status == FAILED:
        session.lost = Lost.TOLD


def _stays(facts: Loss, first: Decision) -> bool:
    """True if the first unit is over, and with it what it did to the session.

    Not if it is the BEGIN of a transaction that is lost.
    """
    return facts.status == IDLE and first.action is Action.FINISH and first.status == IDLE


def _entries(session: "Session", units: list[Unit], decisions: list[Decision]) -> "list[Entry]":
    """The queue's next entries: answers of the proxy, and units that go out again."""

    entries = []
    for unit, decision in zip(units, decisions, strict=True):
        if decision.action in (Action.RESEND, Action.READ_ONLY):
            _report_resend(session, unit, decision)
            parts = list(unit.pieces or ())
            _forget_parses(session, unit)
            unit.restart()
            unit.read_only = decision.action is Action.READ_ONLY
            entries.append(Entry(unit, parts, judged=True))
            continue
        if unit.kind is Kind.QUERY:  # the server drops the unnamed statement before it reads one
            session.state.simple_query_ran()
            session.expected.missing.discard(b"")
        unit.say = _words(session, unit, decision)
        adopt(session.expected, unit)
        entries.append(Entry(unit, [], judged=True))
        session.expected.status = decision.status
    return entries


def _certifies(fatal: dict[str, str] | None) -> bool:
    """Certificate FT. A PANIC is none: it may strike when the commit is on disk."""
    return fatal is not None and (fatal.get("V") or fatal.get("S")) == "FATAL"


def _forget_parses(session: "Session", unit: Unit) -> None:
    """What the unit had prepared on the dead link it prepares again itself."""
    for name, _ in (unit.parses or ())[: unit.next_parse]:
        session.state.closed(name)
        session.expected.missing.discard(name)


def _words(session: "Session", unit: Unit, decision: Decision) -> bytes:
    """The bytes that end the unit for the client."""
    route, last = session.route, session.expected.fatal
    # The client has not sent its Sync, or the COPY swallowed it: the error alone, for now.
    open_end = not unit.complete or unit.needs_sync
    status = None if open_end else decision.status
    if unit.needs_sync:
        session.owed_ready = decision.status
    match decision.action:
        case Action.FINISH:
            return _finish(unit, decision)
        case Action.ROLLED:
            route.counters.rolled_back += 1
            said = say.rolled_back(f"The link was lost {decision.why}.", status, last)
        case Action.DOUBT:
            route.counters.doubts += 1
            sqlstate = route.options.resilience.doubt_sqlstate
            said = say.doubt(decision.why, sqlstate, status, last)
        case Action.MID:
            route.counters.interrupted += 1
            said = say.mid_result(unit.rows, status, last)
        case _:
            assert decision.action is Action.FAILED, decision.action
            said = say.in_failed_transaction(status)
    return route.answered(session, said)


def cancelled(session: "Session", unit: Unit, status: int | None) -> say.Said:
    """What a client is told that cancels a unit which waits: never sent, or to be sent again.

    A first run that is in doubt stays so: a function that it called may have written.
    """
    if not unit.in_doubt:
        return say.cancelled(status)
    session.route.counters.doubts += 1
    sqlstate = session.route.options.resilience.doubt_sqlstate
    return say.doubt("it calls functions that may write", sqlstate, status, session.expected.fatal)


def _finish(unit: Unit, decision: Decision) -> bytes:
    """The rest of an answer whose end is certain."""
    if unit.errored and unit.complete:  # the server's own error is the answer
        return b"".join(unit.held or ()) + messages.ready_for_query(decision.status)
    if unit.released and unit.kind is Kind.BATCH:
        unit.delivered = not unit.complete
        return messages.ready_for_query(decision.status) if unit.complete else b""
    if unit.answered and unit.kind is Kind.QUERY:
        return b"".join(unit.held or ()) + messages.ready_for_query(decision.status)
    tag = b"BEGIN" if decision.status == IN_TRANSACTION else b"ROLLBACK"
    if unit.tx() is Tx.BEGIN and unit.script is not None:
        tag = b"BEGIN"
    return fake_reply(unit.data, tag, decision.status)


def _resolve(session: "Session", units: list[Unit]) -> None:
    """EXECUTE of a statement that SQL's PREPARE made is what it runs.

    Only as long as it is proven which one that is: not behind anything owed that may have given the
    name to another.
    """
    sure = True
    fresh: set[bytes] = set()  # names that Parse and Close among the units may have changed
    for unit in units:
        fresh.update(name for name, _ in unit.parses or ())
        fresh.update(name for _, name in unit.closes or ())
        resolved: list[Script | None] = []
        for script in unit.scripts():
            found = script
            if sure and script is not None and len(script.statements) == 1:
                (statement,) = script.statements
                if statement.target not in fresh:
                    found = script_of((session.state.resolve(statement),))
            sure = sure and found is not None and not any(map(_renames, found.statements))
            resolved.append(found)
        if unit.kind is Kind.BATCH and unit.executes:
            binds = [bind for _, bind in unit.executes]
            unit.executes = list(zip(resolved, binds, strict=True))
        elif unit.kind is Kind.QUERY:
            unit.script = resolved[0]


def _renames(statement: Statement) -> bool:
    """True if another statement may have its name behind it."""
    if statement.opaque is Opaque.STRONG or not statement.verb:
        return True
    return statement.verb in ("PREPARE", "DEALLOCATE", "DISCARD")


def _report_resend(session: "Session", unit: Unit, decision: Decision) -> None:
    """Counted and reported by the certificate that allows it."""
    counters = session.route.counters
    if decision.action is Action.READ_ONLY:
        certificate = "read_only"
        counters.replayed_read_only += 1
    elif not unit.complete or unit.unsent:
        certificate = "unsent"
        counters.resent_unsent += 1
    elif session.expected.fatal is not None:
        certificate = "fatal"
        counters.resent_fatal += 1
    else:
        certificate = "harmless"
        counters.resent_harmless += 1
    session.route.events(
        "replayed",
        session=session.number,
        certificate=certificate,
        attempt=unit.attempts + 1,
        **_sql(session, [unit]),
    )


def _sql(session: "Session", units: list[Unit]) -> dict[str, Any]:
    """The texts of the units, only if the log is to have them (`log.sql`)."""
    if not session.route.options.log_sql:
        return {}
    texts: list[bytes] = []
    for unit in units[:SQL_TEXTS_MAX]:
        if unit.kind is Kind.QUERY and unit.pieces is not None:
            texts.append(unit.data[5:-1])
        statements = session.state.statements
        parses = [message for _, message in unit.parses or () if message]
        parses += [statements[name] for name in unit.uses or () if name in statements]
        texts += [message[5:].split(b"\0", 2)[1] for message in parses]
    shown = [text[:SQL_BYTES_MAX].decode("utf-8", "replace") for text in texts[:SQL_TEXTS_MAX]]
    return {"sql": list(dict.fromkeys(shown))}


def _read_held(unit: Unit) -> None:
    """What the held part of an answer says about its end: rows, and the commit marker."""
    if unit.kind is not Kind.QUERY or not unit.held:
        return
    marks: list[Mark] = []
    for part in unit.held:
        scan(part, 0, EVERY_REPLY, marks)
    kinds = {kind for kind, _, _ in marks}
    unit.answered = unit.answered or ord("C") in kinds or ord("I") in kinds
    unit.errored = unit.errored or ord("E") in kinds


def _check_restorable(session: "Session", link: "Link") -> None:
    """State that cannot be rebuilt: the session ends, once the client has had its other errors."""

    what = session.state.unrestorable
    listen_loss = session.route.options.resilience.listen_loss
    if what is None and session.state.channels and listen_loss == "close":
        what = "notifications of LISTEN may have been missed"
    elif what is None and session.state.channels:
        session.gap = True
    if what is None:
        return
    session.doom(what, at_once=session.lost is Lost.NO)


def _report(session: "Session", link: "Link", units: list[Unit], decisions: list[Decision]) -> None:
    """One event for the loss: why, what was under way, what is done about it."""
    session.route.counters.losses += 1
    done = [decision.action.name.lower() for decision in decisions]
    session.route.events(
        "link_lost",
        level="warning" if units else "info",
        session=session.number,
        upstream=link.address,
        pid=link.pid,
        reason=link.reason,
        last_words=link.epitaph(),
        sqlstate=(link.fatal or {}).get("C", ""),
        in_flight=len(units),
        verdicts=done,
        **_sql(session, units),
    )
