"""Units of a client whose transaction died with its link: the proxy answers for the server.

The first statement is told 40001; after that everything but ROLLBACK and COMMIT is told 25P02, as
PostgreSQL does in a failed transaction (reference, section 2). No link is needed for it.
"""

from proxy.core.reasons import Reason
from proxy.postgres.protocol import say
from proxy.postgres.protocol.expected import FAILED, IDLE
from proxy.postgres.protocol.fake import fake_reply
from proxy.postgres.protocol.statement import Tx
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.runtime.session_base import Lost, SessionBase

_ENDS = (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN)
_COMMITS = (Tx.COMMIT, Tx.COMMIT_CHAIN, Tx.PREPARE)


def answer(session: SessionBase, unit: Unit) -> bool:
    """Put the answer into `unit.say`. False: the client has not finished the unit, nor waits.

    A client that flushes inside a batch does wait: it gets the error alone, and the ReadyForQuery
    when its Sync has come.
    """
    if not unit.complete and not unit.flushed and unit.pieces is not None:
        return False

    verb = unit.tx()
    untold = session.lost is Lost.UNTOLD
    last = session.expected.fatal
    if not unit.complete or unit.pieces is None:
        unit.started = True
        unit.say = session.route.answered(session, _error(untold, None, last))
        _told(session, untold)
        session.lost, session.expected.status = Lost.TOLD, FAILED
        return True
    if verb in _ENDS or (verb in _COMMITS and not untold):
        unit.say = fake_reply(unit.data, b"ROLLBACK", IDLE)
        session.lost, session.expected.status = Lost.NO, IDLE
    elif verb in _COMMITS:
        said = say.rolled_back("The link was lost before COMMIT.", IDLE, last)
        unit.say = session.route.answered(session, said)
        _told(session, untold)
        session.lost, session.expected.status = Lost.NO, IDLE
    elif unit.kind is Kind.BATCH and not (unit.executes or unit.parses or unit.uses):
        unit.say = fake_reply(unit.data, b"", session.expected.status)
        for what, name in unit.closes or ():
            if what == 0x53:
                session.state.closed(name)
    else:
        savepoint = verb is Tx.ROLLBACK_TO
        said = _error(untold or savepoint, FAILED, last)
        unit.say = session.route.answered(session, said)
        _told(session, untold)
        session.lost, session.expected.status = Lost.TOLD, FAILED
    return True


def _error(rolled_back: bool, status: int | None, last: dict[str, str] | None) -> say.Said:
    if rolled_back:
        return say.rolled_back("The link was lost in the transaction.", status, last)
    return say.in_failed_transaction(status)


def _told(session: SessionBase, untold: bool) -> None:
    if untold:
        session.route.counters.rolled_back += 1
        session.route.events(
            "transaction_lost", level="warning", session=session.number, reason=Reason.ROLLED_BACK
        )
