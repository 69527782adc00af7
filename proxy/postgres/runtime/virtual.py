"""Units of a client whose transaction died with its link, answered for the server.

Owns: what the answers of `protocol.failed` do to the session. Must not know: what they say.
"""

from proxy.core.reasons import Reason
from proxy.postgres.protocol.expected import FAILED
from proxy.postgres.protocol.failed import After, Answer, Elsewhere, Failed
from proxy.postgres.protocol.failed import answer as made_answer
from proxy.postgres.protocol.lessons import unlearn
from proxy.postgres.protocol.statement import Script
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.runtime.session_base import Lost, SessionBase

_NEXT = {After.FAILED: Lost.TOLD, After.OVER: Lost.NO, After.CHAINED: Lost.AGAIN}


def answer(session: SessionBase, unit: Unit) -> bool:
    """Put the answer into `unit.say`, or have the session go to a server with the unit.

    False: the client has not finished the unit, nor waits. A client that flushes inside a batch
    does wait: it gets the error alone, and the ReadyForQuery when its Sync has come.
    """
    state, gatherer = session.state, session.gatherer

    def known(name: bytes) -> Script | None:
        message = state.statements.get(name)
        return gatherer.script_of(message) if message is not None else None

    failed = Failed(
        untold=session.lost is Lost.UNTOLD,
        chains=state.modes is not None,
        last=session.expected.fatal,
        script=gatherer.script_of,
        known=known,
    )
    made = made_answer(unit, failed)
    if made is Elsewhere.LATER:
        return False
    if isinstance(made, Elsewhere):
        session.prologue = [_begin(session)]
        session.lost, session.expected.status = Lost.FAILED, FAILED
        return True
    unit.say = made.words
    if made.error is not None:
        session.route.answered(session, made.error)
    unit.started = not unit.complete  # the rest of it is not to be waited for
    _learn(session, unit, made)
    if failed.untold and made.refused:
        session.route.counters.rolled_back += 1
        session.route.events(
            "transaction_lost", level="warning", session=session.number, reason=Reason.ROLLED_BACK
        )
    if made.after is not After.FAILED or made.refused or not failed.untold:
        session.lost, session.expected.status = _NEXT[made.after], made.after.value
    if made.after is After.CHAINED:
        session.prologue = [_begin(session)]
    return True


def _begin(session: SessionBase) -> Unit:
    """A unit that begins a transaction like the one that is lost."""
    return session.own_query(b"BEGIN " + (session.state.modes or b""))


def _learn(session: SessionBase, unit: Unit, made: Answer) -> None:
    """Statements that came to be, or are gone. Each is made on the next link when it is needed."""
    state, expected = session.state, session.expected
    if unit.kind is Kind.QUERY:
        made.closed.append(b"")
    for name in made.closed:
        state.closed(name)
        expected.missing.discard(name)
    for name, message in made.parsed:
        state.parsed(name, message)
        expected.missing.add(name)
    if made.refused:
        unit.next_parse = len(made.parsed)
        unlearn(expected, unit)
