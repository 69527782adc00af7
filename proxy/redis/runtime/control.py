"""What an operator does to a Redis route: pause, resume, reconnect, kill, drain.

Links are left when nothing is in flight on them; commands wait in the hold queue meanwhile, in
order. Owns: the order of these steps. Must not know: settings, signals.
"""

import asyncio
from typing import TYPE_CHECKING

from proxy.core.reasons import Reason
from proxy.net.pace import Pace

if TYPE_CHECKING:
    from proxy.redis.runtime.route import RedisRoute


async def pause(route: "RedisRoute") -> bool:
    """Nothing is sent upstream any more; True when the last link has gone, False on `resume`.

    What is in flight is answered first. Sessions with state that cannot be moved (MULTI, WATCH,
    MONITOR, a blocking command) keep their links until it ends, and are waited for.
    """
    gate = route.gate
    if gate.shut_for is None:
        route.events("paused", route=route.options.name, clients=len(route.clients))
    gate.shut(gate.shut_for or Reason.PAUSED)
    leave_links(route, Reason.PAUSED)
    while gate.is_shut and route.links:
        await gate.change()
    return gate.is_shut


def resume(route: "RedisRoute") -> None:
    """Undoes `pause` and `kill`: what waits is sent, in order, and has `hold_s` from now on."""
    if not route.gate.is_shut:
        return
    route.gate.open()
    for partition in route.partitions:
        partition.go_on()
    route.events("resumed", route=route.options.name)


def reconnect(route: "RedisRoute", reason: Reason = Reason.RECONNECT) -> None:
    """Every link is replaced as soon as nothing is in flight on it."""
    route.events("reconnecting", route=route.options.name, clients=len(route.clients))
    leave_links(route, reason)


def leave_links(route: "RedisRoute", reason: Reason) -> None:
    """Every link is left: now, or when what it carries is done."""
    route.gate.epoch += 1
    for link in list(route.links):
        link.stale = reason
    route.pool.close()
    for partition in route.partitions:
        partition.leave_links()
    for client in list(route.clients.values()):
        if client.exclusive is not None:
            client.exclusive.leave_if_stale()


def kill(route: "RedisRoute") -> int:
    """Clients and links end now; nobody comes in before `resume`. How many clients there were."""
    route.gate.shut(Reason.KILLED)
    killed = len(route.clients)
    for client in list(route.clients.values()):
        client.close_for(Reason.KILLED)
    leave_links(route, Reason.KILLED)
    for link in list(route.links):
        link.abort(Reason.KILLED, "an operator ended it")
    route.events("killed", level="warning", route=route.options.name, clients=killed)
    return killed


def kill_client(route: "RedisRoute", number: int) -> bool:
    """Ends one client now. False: it is not of this route."""
    client = route.clients.get(number)
    if client is None:
        return False
    client.close_for(Reason.KILLED)
    return True


async def drain(route: "RedisRoute", drain_s: float) -> None:
    """Clients leave, each when what it has asked is answered, at a limited rate; or `drain_s`."""
    route.draining = True
    pace = Pace(len(route.clients), drain_s)
    try:
        async with asyncio.timeout(drain_s):
            while route.clients:
                staying = [client for client in route.clients.values() if client.may_leave]
                for client in staying[: pace.due(route.loop.time())]:
                    client.leave()
                    client.flush()
                await pace.tick()
    except TimeoutError:
        pass


__all__ = ["drain", "kill", "kill_client", "leave_links", "pause", "reconnect", "resume"]
