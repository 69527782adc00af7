"""What an operator does to a PostgreSQL route: pause, resume, reconnect, kill, drain.

All of it is the one mechanism, attach: sessions leave their links at a boundary, and get others
when the gate lets them. Owns: the order of these steps. Must not know: settings, signals.
"""

import asyncio
from typing import TYPE_CHECKING

from proxy.core.reasons import Reason
from proxy.net.pace import Pace
from proxy.postgres.protocol import say, say_operator

if TYPE_CHECKING:
    from proxy.postgres.runtime.route import PostgresRoute

ENTRIES_S = 1.0  # a client that is logging in when a drain begins has so long to finish that


async def pause(route: "PostgresRoute") -> bool:
    """Nobody gets a link any more; returns True when the last one has gone, False on `resume`.

    Sessions finish what they do. Those with state that cannot be rebuilt (temporary tables, LISTEN
    …) keep their links until they are free of it, and are waited for.
    """
    gate = route.gate
    if gate.shut_for is None:
        route.events("paused", sessions=len(route.sessions))
    gate.shut(gate.shut_for or Reason.PAUSED)
    for pool in route.pools.values():
        pool.stop_clocks()
    _leave_links(route, Reason.PAUSED)
    while gate.is_shut and links_left(route):
        await gate.change()
    return gate.is_shut


def links_left(route: "PostgresRoute") -> int:
    """Links that a PAUSE still waits for."""
    return sum(len(pool.links) for pool in route.pools.values()) + route.upstream.opening


def resume(route: "PostgresRoute") -> None:
    """Undoes `pause` and `kill`: who waits is served, in order."""
    if not route.gate.is_shut:
        return
    route.gate.open()
    route.upstream.hurry()
    for pool in route.pools.values():
        pool.go_on()
    route.events("resumed")


def reconnect(route: "PostgresRoute", reason: Reason = Reason.RECONNECT) -> None:
    """Every link is replaced: idle ones now, the others at their session's next boundary."""
    route.events("reconnecting", sessions=len(route.sessions))
    _leave_links(route, reason)


def _leave_links(route: "PostgresRoute", reason: Reason) -> None:
    route.gate.epoch += 1
    for pool in route.pools.values():
        pool.renew(reason)
    for session in list(route.sessions):
        session.part(reason)


def kill(route: "PostgresRoute") -> int:
    """Sessions and links end now; nobody comes in before `resume`. How many sessions there were."""
    route.gate.shut(Reason.KILLED)
    route.gate.epoch += 1
    killed = len(route.sessions)
    for entry in list(route.entries):
        entry.refuse(say_operator.route_killed())
    for session in list(route.sessions):
        session.kill(say_operator.killed())
    for pool in route.pools.values():
        pool.renew(Reason.KILLED)
    route.events("killed", level="warning", sessions=killed)
    return killed


def kill_client(route: "PostgresRoute", number: int) -> bool:
    """Ends one session now. False: it is not of this route."""
    for session in list(route.sessions):
        if session.number == number:
            session.kill(say_operator.killed())
            return True
    return False


async def drain(route: "PostgresRoute", drain_s: float) -> None:
    """Returns when every session has ended by itself or at a boundary, or after `drain_s`.

    They are told at a limited rate, so that their applications do not all connect again at once,
    idle ones first; one that is told within a transaction ends behind it.
    """
    route.draining = True
    try:
        async with asyncio.timeout(drain_s):
            pace = Pace(len(route.sessions), drain_s)
            loop = asyncio.get_running_loop()
            late_s = loop.time() + ENTRIES_S
            while route.sessions or route.entries:
                if loop.time() >= late_s:
                    route.refusing = say.shutting_down()
                    for entry in list(route.entries):
                        entry.refuse(route.refusing)
                    if not route.sessions:
                        return
                staying = [session for session in route.sessions if not session.ending]
                staying.sort(key=lambda session: not session.rests)
                for session in staying[: pace.due(loop.time())]:
                    session.drain()
                await pace.tick()
    except TimeoutError:
        pass


__all__ = ["drain", "kill", "kill_client", "links_left", "pause", "reconnect", "resume"]
