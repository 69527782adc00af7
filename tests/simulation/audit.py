"""Whose link is it: what is checked where one changes hands, and of those who wait for one.

Owns: the wrappers around the pool, the account of pauses. Must not know: clients, faults.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

from proxy.core.errors import LimitExceeded, UpstreamUnavailable
from proxy.postgres.protocol.expected import IDLE
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.options import Host
from proxy.postgres.runtime.pool import LIFETIME_JITTER, Pool
from proxy.postgres.runtime.pool_context import Hold
from proxy.postgres.runtime.route import PostgresRoute
from proxy.postgres.runtime.session_send import SendingSession
from proxy.postgres.runtime.upstream import suits

if TYPE_CHECKING:
    from tests.simulation.world import World

SWEEP_S = 1.3  # the route's, and the time it takes
SILENT_S_MAX = 9.0  # of a link, where it is pinged after 5 s


class Audit:
    """The pools of one run, seen from outside."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.still = False  # a PAUSE has ended well: there is no link until RESUME
        self.hold_was_full = False
        self._paused_s = 0.0
        self._paused_at_s: float | None = None
        self._turned_s: dict[Host | None, float] = {}  # when a session left its host for that

    # -- time

    def clock_s(self) -> float:
        """Stands still while the route is paused."""
        now_s = self.world.loop.time() if self._paused_at_s is None else self._paused_at_s
        return now_s - self._paused_s

    def event(self, name: str) -> None:
        """Of the product: what it says of pauses."""
        now_s = self.world.loop.time()
        if name == "paused":
            self._paused_at_s = now_s
        elif name == "resumed" and self._paused_at_s is not None:
            self._paused_s += now_s - self._paused_at_s
            self._paused_at_s, self.still = None, False

    def paused_well(self) -> None:
        """`control.pause` has returned True."""
        self.still = True
        self.watch()

    # -- links

    def handed(self, pool: Any, link: Any, startup: Any) -> None:
        """A session gets this link now."""
        world, now_s = self.world, self.world.loop.time()
        wanted = {"user": pool.key.user.decode(), "database": pool.key.database.decode()}
        wanted |= {name.decode(): value.decode() for name, value in startup}
        backend = world.cluster.backend(link.pid)
        if backend is not None and backend.engine is not None:
            opened = backend.engine.startup
            if opened != wanted:
                world.wrong(f"a link opened with {opened} for a session of {wanted}")
        holders = [one.number for one in world.route.sessions if one.link is link]
        if holders:
            world.wrong(f"link {link.number} is that of sessions {holders}")
        if self.still:
            world.wrong(f"link {link.number} is handed out in a pause")
        attrs = world.route.options.upstream.session_attrs
        standby = backend is not None and backend.engine is not None and backend.engine.is_standby
        if not suits(attrs, link) or (standby and attrs == "read-write"):
            world.wrong(f"link {link.number} is handed out, and its host has not the role")
        if link.proven_s < self._turned_s.get(link.host, 0.0):
            world.wrong(f"link {link.number} is handed out unasked, and its host has turned")
        lifetime_s = world.route.options.pool.lifetime_s * (1 + LIFETIME_JITTER)
        if now_s - link.opened_s > lifetime_s + SWEEP_S:
            world.wrong(f"link {link.number} is handed out {now_s - link.opened_s:.1f} s old")

    def sent(self, session: Any) -> None:
        """A session sends a unit of its client now, behind nothing else."""
        link, state = session.link, session.state
        bound = state.unrestorable is not None or state.channels
        if session.expected.inflight or session.expected.status != IDLE or bound:
            return
        if not session.route.suits(link, state):
            self.world.wrong(f"session {session.number} sends, and its host has lost the role")

    def turned(self, link: Link) -> None:
        """A session leaves this link, as its host has lost its role."""
        self._turned_s[link.host] = self.world.loop.time()

    def in_turn(self, pool: Any, startup: Any, since_s: float) -> None:
        """Who came at `since_s` has got a link: nobody has waited longer for such a one."""
        for waiter in pool._waiters:
            if waiter.startup == startup and waiter.since_s < since_s and not waiter.future.done():
                self.world.wrong(f"served before one who has waited since {waiter.since_s:.3f}")

    def waited(self, left_s: float, waited_s: float, served: bool) -> None:
        """Somebody has waited for so long, of what it had left."""
        if waited_s > max(left_s, 0.0) + 0.01 or not (served or waited_s > left_s - 0.01):
            self.world.wrong(f"waited for {waited_s:.3f} s of {left_s:.3f} (served: {served})")

    def watch(self) -> None:
        """Between two turns of the loop."""
        world, options = self.world, self.world.route.options
        for pool in world.route.pools.values():
            counts = pool.counts()
            if counts["links"] + counts["opening"] > options.pool.size:
                world.wrong(f"more links than {options.pool.size}: {counts}")
        if world.route.upstream.opening > options.pool.connect_parallel:
            world.wrong(f"{world.route.upstream.opening} links are opened at once")
        if world.route.hold.count > options.resilience.hold_clients:
            world.wrong(f"{world.route.hold.count} are held")
        ends = [end for end in world.network.upstreams.values() if not end.is_closing()]
        alive = [end for end in ends if isinstance(end.protocol, Link)]  # not a cancel's
        if self.still and alive:
            world.wrong(f"links in a pause: {[end.name for end in alive]}")
        if world.scenario.ageing:
            self._awake([end for end in alive if not (end.silent or end.dead)])

    def _awake(self, alive: list[Any]) -> None:
        """No path forgets a link for its silence."""
        for end in alive:
            silent_s = self.world.loop.time() - max(end.heard_s, end.peer.heard_s)
            if silent_s > SILENT_S_MAX:
                self.world.wrong(f"nothing was said on {end.name} for {silent_s:.1f} s")

    async def dials_over(self) -> None:
        """Links that are to be warm grow old, and others are opened in their places."""
        for _ in range(300):
            if not self.world.route.upstream.opening:
                return
            await asyncio.sleep(0.01)

    def at_rest(self) -> None:
        """Nobody has been here for half a minute."""
        world, options = self.world, self.world.route.options.pool
        oldest_s = world.loop.time() - options.lifetime_s * (1 + LIFETIME_JITTER) - SWEEP_S
        for pool in world.route.pools.values():
            if world.scenario.ageing and len(pool.links) > options.warm:
                world.wrong(f"{len(pool.links)} links are kept, {options.warm} are to be warm")
            for link in pool.links:
                if link.opened_s < oldest_s:
                    world.wrong(f"link {link.number} is kept beyond its lifetime")


@contextlib.contextmanager
def audited(world: "World") -> Iterator[None]:
    """The run's pools tell its audit what they do."""
    take, wait, enter = Pool.take, Pool._wait, Hold.enter
    host_turned = PostgresRoute.host_turned
    send_new, send_entry = SendingSession._send_new, SendingSession._send_entry

    def taking(self: Any, startup: Any) -> Any:
        link = take(self, startup)
        if link is not None:
            world.audit.handed(self, link, startup)
        return link

    async def waiting(self: Any, startup: Any, left_s: float, started_s: float) -> Any:
        audit = world.audit
        since_s, began_s = world.loop.time(), audit.clock_s()
        try:
            link = await wait(self, startup, left_s, started_s)
        except UpstreamUnavailable:
            if not self.closed:
                audit.waited(left_s, audit.clock_s() - began_s, served=False)
            raise
        audit.waited(left_s, audit.clock_s() - began_s, served=True)
        if not link.closed:
            audit.in_turn(self, startup, since_s)
            if link.stale is None:  # else a PAUSE came between: it is left at once
                audit.handed(self, link, startup)
        return link

    def entering(self: Any) -> None:
        try:
            enter(self)
        except LimitExceeded:
            world.audit.hold_was_full = True
            if self.count < self.limit:
                world.wrong(f"{self.count} of {self.limit} are held, and one more is not")
            raise

    def sending_new(self: Any, unit: Any, part: bytes) -> None:
        world.audit.sent(self)
        send_new(self, unit, part)

    def sending_entry(self: Any, entry: Any) -> None:
        world.audit.sent(self)
        send_entry(self, entry)

    def turning(self: Any, link: Link) -> None:
        world.audit.turned(link)
        host_turned(self, link)

    with contextlib.ExitStack() as stack:
        for owner, name, wrapper in (
            (PostgresRoute, "host_turned", turning),
            (SendingSession, "_send_new", sending_new),
            (SendingSession, "_send_entry", sending_entry),
            (Pool, "take", taking),
            (Pool, "_wait", waiting),
            (Hold, "enter", entering),
        ):
            stack.enter_context(mock.patch.object(owner, name, wrapper))
        yield
