"""Attaching a session to a link: get one, make it look like the session, check that it does.

The difference between a session and a fresh link goes out in one write: settings, role, SQL
prepared statements, LISTEN, and the fingerprint that proves it (reference, section 3). A
transaction that had run nothing but settings is begun again behind it. Protocol-level prepared
statements follow lazily, in front of the first unit that needs them.

Owns: that order. Must not know: sockets, what caused the attach.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from proxy.core.errors import (
    PeerProtocolError,
    ProxyError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from proxy.core.reasons import Reason
from proxy.postgres.protocol import fingerprint, messages, say
from proxy.postgres.protocol.expected import Expected
from proxy.postgres.protocol.fingerprint import Fingerprint
from proxy.postgres.protocol.restore import restoration
from proxy.postgres.protocol.session_state import Need
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.runtime import reenter
from proxy.postgres.runtime.link import Link, Message, Phase, errors_in, rows_in
from proxy.postgres.runtime.reenter import ASK_S, NotRestorable, may_name

if TYPE_CHECKING:
    from proxy.postgres.runtime.session import Session
    from proxy.postgres.runtime.session_base import SessionBase


RESTORES_MAX = 20  # links one attach may lose while it restores

_WAITED = (Reason.HOLD_TIMEOUT, Reason.POOL_TIMEOUT, Reason.UPSTREAM_FULL)


def attach_new(session: "Session") -> Link | None:
    """`attach` for a session that is new, if a link is at hand: there is nothing to restore, and
    no task to be waited for. None: `attach` it must be."""
    assert session.key is None and not session.orphans
    link = session.pool.take(session.startup)
    if link is not None:
        link.on_lost = session.pool.lost
    return link


async def attach(session: "Session") -> Link:
    """A link that looks like the session, IDLE and ready to be taken over.

    Raises what Pool.acquire raises, and NotRestorable.
    """
    started_s = session.pool.clock_s()
    lost = False
    for _ in range(RESTORES_MAX):
        try:
            link = await session.pool.acquire(
                session.startup, lambda s, wait: _tell_waiting(session, s, wait), started_s
            )
        except (UpstreamUnavailable, UpstreamRefused) as error:
            since_s = session.waits_since_s()
            if error.reason in _WAITED and since_s > started_s:
                started_s = since_s  # the wait began for a statement that was cancelled since
                continue
            if lost and error.reason is Reason.POOL_TIMEOUT and not session.pool.full:
                break  # not for want of a turn: it had links
            raise
        link.on_lost = session.pool.lost
        try:
            await _restore(session, link)
        except UpstreamUnavailable:
            lost = True
            continue  # lost while it was being restored: the next one
        except BaseException:
            link.close(Reason.RESTORE_FAILED)
            session.pool.forget(link)
            raise
        if link.closed:
            continue
        if session.route.suits(link, session.state):
            return link
        _drop(session, link, Reason.UPSTREAM_READ_ONLY)  # it has said so while it was asked
    raise UpstreamUnavailable("links are lost as fast as they are opened", Reason.HOLD_TIMEOUT)


def _tell_waiting(session: "Session", seconds: float, wait: say.Wait) -> None:
    """The session has waited for so long: its user should know, where the protocol allows."""
    session.route.counters.holds_noticed += 1
    session.route.events("waiting", session=session.number, waited_s=seconds, cause=wait.value)
    if session.key is not None:
        session.say(say.waiting(seconds, session.route.options.resilience.hold_s, wait))


async def _restore(session: "Session", link: Link) -> None:
    """Settings, prepared statements, channels, the open transaction; then the proof."""
    state = session.state
    if state.in_transaction:  # begun again on a link that died before it was taken over
        state.lost_transaction()
    if session.orphans:
        await _end_orphans(session, link)
    expected_print = None
    out, readies = b"", 0
    if session.key is not None and state.version:
        what = restoration(state)
        out, readies = what.messages, what.readies
        if not link.pooler:
            expected_print = state.expected()
            out += fingerprint.ask(state.custom_names)
            readies += 1
    if out:
        answer = await link.ask(out, readies, ASK_S)
        error = errors_in(answer)
        if error is not None:
            raise NotRestorable(f"settings ({error.get('C', '')})")
        if expected_print is not None:
            difference = read_print(link, answer).difference(expected_print)
            if difference is not None:
                raise NotRestorable(difference)
    await reenter.enter_on(session, link)


async def _end_orphans(session: "Session", link: Link) -> None:
    """End the backends of dead links that may hold the locks of a transaction nobody will end.

    The server itself notices a client's end late, or never if the path is silent. Before the
    session is restored: as its own user, in the settings it was opened with.
    """
    orphans, session.orphans = session.orphans, ()
    if link.pooler:
        return
    questions = [fingerprint.end(*orphan) for orphan in orphans]
    answer = await link.ask(b"".join(questions), len(questions), ASK_S)
    session.route.events(
        "orphans_ended",
        level="debug",
        session=session.number,
        upstream=link.address,
        pids=[pid for pid, _ in orphans],
        found=len(rows_in(answer)),
    )


def read_print(link: Link, answer: list[Message]) -> Fingerprint:
    """The fingerprint in an answer that ends with it. Raises UpstreamUnavailable."""
    try:
        return fingerprint.read(rows_in(answer))
    except PeerProtocolError as error:
        link.lose(error.reason)
        raise UpstreamUnavailable(str(error), error.reason) from error


async def look(session: "Session") -> None:
    """Ask the session's own link how it is: a fingerprint if one is due, else a ping.

    The link is ASKING meanwhile, and the client's units wait.
    """
    link = session.link
    state = session.state
    try:
        if link is None or link.phase is not Phase.ATTACHED or session.expected.mid_message:
            return
        link.keep_rest(session.expected.take_rest())
        timeout_s = session.route.options.ping_timeout_s
        brief = not state.version or session.route.upstream.doubts.about(link)
        if link.pooler or (state.need is Need.NONE and brief):
            await link.ask(messages.sync(), 1, timeout_s)
            link.proven_s = asyncio.get_running_loop().time()
            return
        question = fingerprint.ask(state.custom_names)
        answer = await link.ask(question, 1, timeout_s)
        link.proven_s = asyncio.get_running_loop().time()
        if errors_in(answer) is None:
            state.learn(read_print(link, answer))
    except UpstreamUnavailable:
        pass  # the session has been told that its link is lost
    finally:
        session.look_over()


# -- sending with what the link lacks


def with_missing(session: "SessionBase", unit: Unit, part: bytes) -> bytes:
    """The unit's bytes behind the prepared statements that this link does not have yet.

    A batch gets them as its own first messages (their ParseCompletes are skipped); a Query that may
    name one gets a batch of its own in front.
    """
    expected = session.expected
    missing, statements = expected.missing, session.state.statements
    if unit.kind is Kind.BATCH:
        uses, parses = unit.uses or [], unit.parses or []
        names = [name for name in uses[unit.sent_uses :] if name in missing]
        # A Parse under a name that is taken must meet the old one, and fail as it would there.
        parsed = [name for name, _ in parses[unit.sent_parses :] if name]
        names += [name for name in parsed if name in missing and name not in expected.unsure]
        missing.difference_update(parsed)
        names = list(dict.fromkeys(names))
        injected = unit.injected = unit.injected or {}
        first = unit.sent_parses + len(injected)
        injected.update(enumerate(names, first))
        missing.difference_update(names)
        expected.unsure -= set(names)
        return b"".join(statements[name] for name in names) + part
    if not any(may_name(script) for script in unit.scripts()):
        return part
    names = sorted(name for name in missing if name and name not in expected.unsure)
    missing.difference_update(names)
    out = b""
    for name in names:  # each on its own: one that is no longer valid must not take the others
        batch = skipped(statements[name] + messages.sync(), Kind.BATCH)
        batch.on_done = partial(_prepared, expected, name, batch)
        expected.push(batch, False)
        out += batch.data
    return out + part


def _prepared(expected: Expected, name: bytes, batch: Unit, _status: int) -> None:
    """A cancel that came late may have met the proxy's own Parse: the next unit tries again."""
    if batch.errored and name in expected.state.statements:
        expected.missing.add(name)


def skipped(data: bytes, kind: Kind = Kind.QUERY) -> Unit:
    """A unit of the proxy's own: no byte of its answer is for the client."""
    unit = Unit(kind)
    unit.pieces = [data]
    unit.size = len(data)
    unit.complete = unit.skip = True
    return unit


def leave(session: "Session", reason: Reason) -> None:
    """Let the link go at a boundary; the next unit attaches elsewhere.

    Not if that would lose something: the link stays until the session is free of it.
    """
    link = session.link
    assert link is not None
    if session.state.unrestorable is not None or session.state.channels:
        return
    session.link = None
    session.expected.lost()
    _drop(session, link, reason)


def _drop(session: "Session", link: Link, reason: Reason) -> None:
    """The link ends. One whose host has turned tells something about the host's other links."""
    link.close(reason)
    session.pool.forget(link)
    if reason is Reason.UPSTREAM_READ_ONLY:
        session.route.host_turned(link)
        session.route.events("left_host", level="warning", session=session.number, reason=reason)


# -- words


def refusal(session: "Session", error: ProxyError) -> bytes:
    """What a client hears that waited in vain: it is told apart whether it had a session."""
    resilience, pool = session.route.options.resilience, session.route.options.pool
    established = session.key is not None
    in_doubt = session.waits_in_doubt()
    match error.reason:
        case Reason.HOLD_FULL:
            return say.hold_full(resilience.hold_clients, established, in_doubt=in_doubt)
        case Reason.POOL_TIMEOUT if session.pool.full:
            return say.pool_full(resilience.hold_s, pool.size, in_doubt=in_doubt)
        case Reason.POOL_TIMEOUT:
            return say.opened_too_slowly(resilience.hold_s, in_doubt=in_doubt)
        case Reason.SHUTDOWN:
            return say.shutting_down(in_doubt)
        case _ if established:
            return say.gone(resilience.hold_s, str(error), in_doubt=in_doubt)
        case _:
            return say.starting(resilience.hold_s, str(error))


def refused(error: UpstreamRefused) -> bytes:
    """The server's own words, or what kept the proxy from talking to it at all."""
    if error.wire:
        return error.wire
    hint = "Look at sslmode and sslrootcert in the upstream URL, and at the server's certificate."
    return say.upstream_login_failed(str(error), hint)


def report(session: "Session", link: Link, first: bool, started_s: float) -> None:
    """One event for the attach that began at `started_s`, and its duration where it restored."""
    now_s = asyncio.get_running_loop().time()
    waited_s = round(now_s - started_s, 4)
    route = session.route
    if first:
        route.events(
            "connected",
            session=session.number,
            user=session.pool.key.user.decode("utf-8", "replace"),
            database=session.pool.key.database.decode("utf-8", "replace"),
            upstream=link.address,
            pid=link.pid,
            waited_s=waited_s,
        )
        return
    route.counters.restores += 1
    route.counters.absorbed += not session.told
    session.told = False
    route.latency.restore.observe(now_s - started_s)
    route.events(
        "restored",
        session=session.number,
        pid=link.pid,
        upstream=link.address,
        away_s=round(now_s - session.lost_at_s, 4),
        waited_s=waited_s,
        statements=len(session.state.statements),
    )


__all__ = ["ASK_S", "NotRestorable", "attach", "leave", "look"]
