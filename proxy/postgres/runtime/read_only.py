"""A read that goes out again so that it cannot write (certificate RO; reference, section 4).

BEGIN READ ONLY, the read, COMMIT. A cancel that comes late meets whichever runs, so each is asked
for its outcome: the read stays in the queue until the transaction is open (it would run unguarded
otherwise), and nothing goes out behind it until the transaction is closed (it would run inside).

Owns: that order. Must not know: which reads must go this way.
"""

from functools import partial

from proxy.postgres.protocol import messages, say
from proxy.postgres.protocol.expected import IDLE, IN_TRANSACTION
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.runtime.attach import skipped, with_missing
from proxy.postgres.runtime.session_base import Phase, SessionBase

BEGINS_MAX = 5  # a client that cancels again and again may meet several

_BEGIN = messages.query(b"BEGIN READ ONLY")
_COMMIT = messages.query(b"COMMIT")
_ROLLBACK = messages.query(b"ROLLBACK")


def begin(session: SessionBase, tries_left: int = BEGINS_MAX - 1) -> None:
    """Open the transaction for the unit at the head of the queue. Only with nothing in flight."""
    link, expected, unit = session.link, session.expected, session.waits_first()
    assert link is not None and not expected.inflight
    before = b""
    if unit.kind is not Kind.BATCH and expected.missing:
        before = with_missing(session, unit, b"")  # outside: one that fails must not fail the read
    asked = skipped(_BEGIN)
    asked.on_done = partial(_begun, session, tries_left)
    expected.push(asked, False)
    link.write(before + _BEGIN)


def _begun(session: SessionBase, tries_left: int, status: int) -> None:
    waiting = session.waits_first() if session.waits and session.phase is Phase.READY else None
    if waiting is None or not waiting.read_only or waiting.say is not None:
        _closed(session, status)  # the client has cancelled it, or is gone
    elif status == IN_TRANSACTION:
        _run(session, waiting)
    elif tries_left:
        begin(session, tries_left - 1)
    else:
        waiting.say = _refused(session, "the server opens no read-only transaction for it", waiting)


def _run(session: SessionBase, unit: Unit) -> None:
    """The read, and the end of its transaction; its client is told that it is in none."""
    link, expected = session.link, session.expected
    assert link is not None
    part = b"".join(session.take_first().parts)
    if unit.kind is Kind.BATCH and expected.missing:
        part = with_missing(session, unit, part)  # behind BEGIN, which drops the unnamed one
    text = "the statement writes, and its first run may have been saved"
    expected.on_refused_read_only = partial(_refused, session, text)
    expected.push(unit, True)
    unit.on_done = partial(_unnamed_gone, session)  # the unit may have parsed it anew
    _unnamed_gone(session)
    link.write(part)
    _close(session, _COMMIT)


def _refused(session: SessionBase, text: str, unit: Unit | None = None) -> bytes:
    """E-DOUBT, with a ReadyForQuery if no other will end the unit."""
    route = session.route
    route.counters.doubts += 1
    route.events("read_only_refused", level="warning", session=session.number)
    status = IDLE if unit is not None and unit.complete else None
    said = say.doubt(text, route.options.resilience.doubt_sqlstate, status)
    return bytes(route.answered(session, said))


def _unnamed_gone(session: SessionBase, _status: int = IDLE) -> None:
    """BEGIN, COMMIT and ROLLBACK are simple Queries: they drop the unnamed statement."""
    if b"" in session.state.statements:
        session.expected.missing.add(b"")


def _close(session: SessionBase, how: bytes) -> None:
    """COMMIT, or ROLLBACK when a cancel has met what was to close it before."""
    link, expected = session.link, session.expected
    assert link is not None
    expected.guarded = True
    ending = skipped(how)
    ending.on_done = partial(_closed, session)
    expected.push(ending, False)
    link.write(how)


def _closed(session: SessionBase, status: int) -> None:
    if status != IDLE:
        _close(session, _ROLLBACK)
        return
    session.expected.guarded = False
    session.expected.learned = True  # a boundary that opens the hot path again
