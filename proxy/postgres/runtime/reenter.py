"""A link put where the client believes to be: inside a transaction that another link has lost.

One that had run nothing but settings is begun again; one that is lost is begun and failed, for
units that only a server can answer in a failed transaction (`protocol.failed`).

Owns: those two acts, on a link that asks nothing else meanwhile. Must not know: why it came so.
"""

from typing import TYPE_CHECKING

from proxy.core.errors import UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages, say
from proxy.postgres.protocol.expected import FAILED, IN_TRANSACTION
from proxy.postgres.protocol.lessons import bound
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.runtime.link import Link, Phase, errors_in
from proxy.postgres.runtime.session_base import Lost

if TYPE_CHECKING:
    from proxy.postgres.runtime.session import Session

ASK_S = 10.0  # for the server to answer what an attach asks; then the link counts as silent
_ON_A_LINK = (Lost.AGAIN, Lost.FAILED)  # where a server has to take part
_COMPLETE, _READY = b"CZ"
_FAIL = (  # by its Parse, so that it leaves no statement behind
    messages.parse(b"_backstay_fail", b"SELECT 'lost with its link'::pg_catalog.int4")
    + messages.sync()
)
_ROLLBACK = messages.query(b"ROLLBACK")
_NAMING_VERBS = frozenset(("EXECUTE", "DEALLOCATE", "PREPARE", "EXPLAIN", "DISCARD", "CREATE", ""))


class NotRestorable(Exception):
    """The session cannot be made again on a new link. `what`: in words for its user."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


async def enter(session: "Session") -> None:
    """Put the session's own link into the transaction that the client believes to be in."""
    link = session.link
    try:
        if link is not None and link.phase is Phase.ATTACHED:
            link.keep_rest(session.expected.take_rest())
            await enter_on(session, link)
            entered(session)
    except UpstreamUnavailable:
        pass  # the session has been told that its link is lost
    except NotRestorable as failed:
        words = say.state_lost(failed.what, session.expected.fatal)
        session.end_with(words, Reason.RESTORE_FAILED)
    finally:
        session.look_over()


async def enter_on(session: "Session", link: Link) -> None:
    """Bring the link to where the client believes to be, which a cancel may change meanwhile."""
    there: list[Unit] | None = None
    while True:
        wanted = session.prologue if session.lost in _ON_A_LINK else None
        if there is wanted:
            return
        if there is not None:
            await _roll_back(link)
            session.state.lost_transaction()
            there = None
        elif session.lost is Lost.AGAIN:
            there = await _begin_again(session, link)
        else:
            there = await _fail_again(session, link)


async def _roll_back(link: Link) -> None:
    """Again while a cancel that comes late meets it: the transaction would stay open."""
    while (await link.ask(_ROLLBACK, 1, ASK_S))[-1] != (_READY, b"I"):
        pass


def entered(session: "Session") -> None:
    """The link is where the client believes to be."""
    if session.lost is Lost.AGAIN:
        session.expected.prologue = session.prologue
    if session.lost in _ON_A_LINK:
        session.lost = Lost.NO


async def _fail_again(session: "Session", link: Link) -> list[Unit]:
    """Open a transaction like the lost one, and have the server fail it.

    It will prepare nothing then: what the unit that waits may name is prepared before.
    """
    state, expected, prologue = session.state, session.expected, session.prologue
    expected.missing = set(state.statements)
    named, unnamed = _named_by(session)
    units = [state.statements[name] + messages.sync() for name in named]
    units += [prologue[0].data, *unnamed, _FAIL]
    answer = await link.ask(b"".join(units), len(units), ASK_S)
    statuses = [body for kind, body in answer if kind == _READY]
    if statuses[len(named)] != b"T" or statuses[-1] != b"E":
        raise NotRestorable("the failed transaction")
    expected.missing.difference_update(named)
    if unnamed:
        expected.missing.discard(b"")
    _learn_again(session, prologue, [b"BEGIN"])
    state.errored()
    state.ready(FAILED)
    return prologue


def _named_by(session: "Session") -> tuple[list[bytes], list[bytes]]:
    """Names of prepared statements that the unit that waits may use; the unnamed one as a unit."""
    unit = session.waits_first()
    statements = session.state.statements
    if unit.kind is not Kind.BATCH:
        anything = any(may_name(script) for script in unit.scripts())
        return [name for name in statements if name and anything], []
    names = dict.fromkeys([*(unit.uses or ()), *(name for name, _ in unit.parses or ())])
    known = [name for name in names if name in statements]
    unnamed = [statements[b""] + messages.sync()] if b"" in known else []
    return [name for name in known if name], unnamed


async def _begin_again(session: "Session", link: Link) -> list[Unit] | None:
    """Open the transaction a second time: what it has run so far are settings only.

    Returns what was run, None if it cannot be: then the client is told.
    """
    statements, prologue = session.state.statements, session.prologue
    missing = session.expected.missing = set(statements)  # on this link: the last may have died
    out = b""
    for unit in prologue:
        needed = [name for name in unit.uses or () if name in missing and name in statements]
        out += b"".join(statements[name] for name in needed) + unit.data
        missing.difference_update(needed)
        missing.difference_update(name for name, _ in unit.parses or ())
    answer = await link.ask(out, len(prologue), ASK_S)
    if errors_in(answer) is not None:  # a snapshot that is gone, or what others have dropped
        await _roll_back(link)
        if session.lost is Lost.AGAIN:
            session.give_up_transaction()
        return None
    _learn_again(session, prologue, [body[:-1] for kind, body in answer if kind == _COMPLETE])
    return prologue


def _learn_again(session: "Session", prologue: list[Unit], tags: list[bytes]) -> None:
    """The session's state is in the transaction again, with what it set there."""
    state = session.state
    done = iter(tags)
    for unit in prologue:
        batch = unit.kind is Kind.BATCH
        binds = [bind for _, bind in unit.executes or ()] if batch else [b""]
        for script, bind in zip(unit.scripts(), binds, strict=True):
            for statement in script.statements if script is not None else ():
                state.ran(statement, next(done, b""), bound(bind, state.statements))
        state.ready(IN_TRANSACTION)


def may_name(script: object) -> bool:
    statements = getattr(script, "statements", None)
    return statements is None or any(one.verb in _NAMING_VERBS for one in statements)
