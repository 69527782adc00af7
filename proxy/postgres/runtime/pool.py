"""The links of one user at one database, and the queue of the sessions that wait for one.

A session takes a link only if it was opened with its own start-up settings, so that RESET means
the same as on a fresh connection, and a clean hand-over costs no round trip. Idle links are a
stack: the last one used goes out first, the others grow old.

Owns: counting, handing over, growing old, cleaning. Must not know: what sessions do with links.
"""

import asyncio
import bisect
import time
from collections import deque
from collections.abc import Callable

from proxy.core.errors import LimitExceeded, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.client_login import Credentials
from proxy.postgres.protocol.restore import Cleaning
from proxy.postgres.protocol.say import Wait
from proxy.postgres.runtime.link import Link, Phase, errors_in
from proxy.postgres.runtime.pool_context import (
    Hold,
    PoolContext,
    PoolKey,
    Startup,
    Waiter,
    timed_out,
)
from proxy.postgres.runtime.upstream import Wanted, suits

CLEAN_S = 5.0  # a link that takes longer to be cleaned is closed
LIFETIME_JITTER = 0.1
WARM_S = 3600.0  # a pool that nobody used for so long keeps no link ready


class Pool:
    """See the module. All methods run on the loop's thread."""

    def __init__(self, key: PoolKey, credentials: Credentials, context: PoolContext) -> None:
        self.key = key
        self.proven = False  # a link was opened with these credentials
        self.last_used_s = asyncio.get_running_loop().time()
        self.credentials = credentials
        self._context = context
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._waiters: deque[Waiter] = deque()
        self._dialing: list[Startup] = []
        self._pinging = 0  # idle links that are being asked whether they live
        self._last_startup: Startup | None = None
        self.closed = False

    def counts(self) -> dict[str, int]:
        """Links by what they do, and the sessions waiting."""
        return {
            "links": len(self._links),
            "idle": len(self._idle),
            "attached": sum(1 for link in self._links if link.phase is Phase.ATTACHED),
            "opening": len(self._dialing),
            "waiting": len(self._waiters),
        }

    @property
    def links(self) -> list[Link]:
        """All that are open, in the order in which they were opened."""
        return sorted(self._links, key=lambda link: link.number)

    @property
    def route(self) -> str:
        """The name of its route."""
        return self._context.route

    @property
    def dialing(self) -> int:
        """Links on their way."""
        return len(self._dialing)

    def longest_wait_s(self, now_s: float) -> float:
        """How long the oldest of those who wait has waited; 0 if nobody does."""
        return now_s - self._waiters[0].since_s if self._waiters else 0.0

    @property
    def unused(self) -> bool:
        """True if nothing would be lost with the pool."""
        return not self._links and not self._waiters and not self._dialing

    def shared(self, startup: Startup) -> Startup:
        """The same settings, in memory only once if the last session had them, too."""
        if startup != self._last_startup:
            self._last_startup = startup
        return self._last_startup

    # -- taking

    def take(self, startup: Startup) -> Link | None:
        """What `acquire` would give without a wait, or None."""
        self.last_used_s, self._last_startup = asyncio.get_running_loop().time(), startup
        link = self._pop(startup)
        if link is not None:
            self._context.latency.wait.observe(0.0)
        return link

    async def acquire(
        self, startup: Startup, on_wait: Callable[[float, Wait], None], started_s: float
    ) -> Link:
        """A clean, idle link opened with `startup`. Waits in order of arrival, until hold_s after
        `started_s` (of `clock_s`).

        `on_wait(seconds, cause)` is called once when the wait has lasted notice_s. Raises
        UpstreamRefused (the server's answer), UpstreamUnavailable (HOLD_TIMEOUT, POOL_TIMEOUT) and
        LimitExceeded.
        """
        link = self.take(startup)
        if link is not None:
            return link
        resilience = self._context.resilience
        self._context.hold.enter()
        asked_s = time.perf_counter()
        notice = None
        notice_in_s = started_s + resilience.notice_s - self.clock_s()
        if notice_in_s > 0:
            notice = asyncio.get_running_loop().call_later(
                notice_in_s, lambda: on_wait(resilience.notice_s, self._cause(started_s))
            )
        try:
            while True:
                left_s = resilience.hold_s - (self.clock_s() - started_s)
                link = await self._wait(startup, left_s, started_s)
                if not link.closed:
                    return link
        finally:
            if notice is not None:
                notice.cancel()
            self._context.latency.wait.observe(time.perf_counter() - asked_s)
            self._context.hold.leave()

    def clock_s(self) -> float:
        """The clock of those who wait."""
        return self._context.gate.clock_s()

    async def _wait(self, startup: Startup, left_s: float, started_s: float) -> Link:
        loop = asyncio.get_running_loop()
        waiter = Waiter(startup, loop.create_future(), loop.time(), left_s)
        self._waiters.append(waiter)
        self._grow()
        try:
            async with asyncio.timeout(None) as waiter.limit:
                if not self._context.gate.is_shut:
                    waiter.start_clock(loop.time())
                return await waiter.future
        except TimeoutError:
            self._forget(waiter)
            raise timed_out(self._cause(started_s), self._context.upstream) from None
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def _forget(self, waiter: Waiter) -> None:
        """The waiter gave up; a link that was on its way to it goes to the next one."""
        future = waiter.future
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if future.done() and not future.cancelled() and future.exception() is None:
            self._offer(future.result())

    @property
    def full(self) -> bool:
        """True while there are as many links as there may be."""
        return len(self._links) >= self._context.options.size

    @property
    def waited_for(self) -> bool:
        """True while sessions wait for a link."""
        return bool(self._waiters)

    def _cause(self, started_s: float) -> Wait:
        """What somebody is waiting for who began to wait then."""
        upstream = self._context.upstream
        if self._context.gate.is_shut:
            return Wait.PAUSED
        if upstream.available and self.full:
            return Wait.POOL_FULL
        if upstream.full_wire:
            return Wait.SERVER_FULL
        well = upstream.available and upstream.spoke_s >= started_s
        return Wait.OPENING if well else Wait.AWAY

    def _pop(self, startup: Startup) -> Link | None:
        """The idle link used last that fits, if nobody waits for one already."""
        if self._waiters or self._context.gate.is_shut:
            return None
        for index in range(len(self._idle) - 1, -1, -1):
            link = self._idle[index]
            if link.startup == startup:
                del self._idle[index]
                return link
        return None

    # -- growing

    def _grow(self) -> None:
        """Dial for waiters that no dial is under way for, within the size."""
        if self._context.gate.is_shut:
            return
        wanted = [waiter.startup for waiter in self._waiters]
        for startup in self._dialing:
            if startup in wanted:
                wanted.remove(startup)
        for startup in wanted:
            full = len(self._links) + len(self._dialing) >= self._context.options.size
            if full and not self._evict(startup):
                return
            self._dial(startup)

    def _evict(self, startup: Startup) -> bool:
        """Make room: the oldest idle link goes, as it fits nobody who waits."""
        for link in self._idle:
            if link.startup != startup:
                self._idle.remove(link)
                self._links.discard(link)  # not forget(): the room is the caller's
                link.close(Reason.LINK_EVICTED)
                self._context.gate.link_gone()
                return True
        return False

    def _dial(self, startup: Startup) -> None:
        self._dialing.append(startup)
        try:
            self._context.tasks.start(self._dial_until(startup), "dial")
        except LimitExceeded:
            self._dialing.remove(startup)

    async def _dial_until(self, startup: Startup) -> None:
        """Open one link for whoever waits with this startup, trying until nobody does."""
        wanted = Wanted(self.key.user, self.key.database, self.credentials, startup)
        warm = not self._has_waiter(startup)  # nobody waits yet; one failure is then the end
        link: Link | None = None
        try:
            while link is None:
                await self._context.upstream.let_pass()
                if not warm and not self._has_waiter(startup):
                    return
                try:
                    link = await self._context.upstream.open(wanted)
                except UpstreamUnavailable:
                    warm = False
                except UpstreamRefused as refused:
                    self._refuse(startup, refused)
                    return
                if link is not None and self._context.gate.is_shut:
                    link.close(Reason.PAUSED)  # too late; whoever waits gets one after RESUME
                    link = None
        finally:
            self._dialing.remove(startup)
        if link is not None:
            self.proven = True
            self._welcome(link)

    def _has_waiter(self, startup: Startup) -> bool:
        return any(waiter.startup == startup for waiter in self._waiters)

    def _refuse(self, startup: Startup, refused: UpstreamRefused) -> None:
        """The server's answer is for everybody who asked the same."""
        self.proven = False  # no warm link is asked for until these credentials work again
        for waiter in [waiter for waiter in self._waiters if waiter.startup == startup]:
            self._waiters.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(refused)

    def _welcome(self, link: Link) -> None:
        if self.closed:
            link.close(Reason.SHUTDOWN)
            return
        options = self._context.options
        jitter = self._context.rng.uniform(1 - LIFETIME_JITTER, 1 + LIFETIME_JITTER)
        link.expires_s = link.opened_s + options.lifetime_s * jitter
        self._links.add(link)
        self._offer(link)

    # -- giving back

    def release(self, link: Link, cleaning: Cleaning | None) -> None:
        """A session is done with its link, which has nothing in flight. Cleans it if asked."""
        if link.closed:
            self.forget(link)
            return
        if link.phase is Phase.ATTACHED:
            link.become(Phase.IDLE)
        link.on_writable = None
        link.watch()
        link.on_lost = self._lost_here
        if cleaning is None and not link.cancels and not link.cancelled_once:
            self._offer(link)
            return
        try:
            self._context.tasks.start(self._clean(link, cleaning), "clean")
        except LimitExceeded:
            self._close(link, Reason.LINK_UNCLEAN)

    async def _clean(self, link: Link, cleaning: Cleaning | None) -> None:
        """Bring the link back to how it was opened; a link that resists is closed."""
        try:
            async with asyncio.timeout(CLEAN_S):
                await link.cancels_over()
            if link.closed:
                return
            if link.cancelled_once:
                # A late cancel must hit this, not the next session's query.
                link.cancelled_once = False
                await link.ask(messages.query(b""), 1, CLEAN_S)
            if cleaning is not None:
                answer = await link.ask(cleaning.messages, cleaning.readies, CLEAN_S)
                if errors_in(answer) is not None:
                    self._close(link, Reason.LINK_UNCLEAN)
                    return
        except (TimeoutError, UpstreamUnavailable):
            self._close(link, Reason.LINK_UNCLEAN)
            return
        self._offer(link)

    def _offer(self, link: Link, used_s: float | None = None) -> None:
        """A clean link: for the oldest session that waits, else for the stack.

        `used_s`: when a session used it last, if that is not now.
        """
        if link.closed:
            self.forget(link)
            return
        now_s = asyncio.get_running_loop().time()
        link.used_s = now_s if used_s is None else used_s
        link.watch()
        link.on_lost = self._lost_here
        if self.closed or now_s > link.expires_s or link.stale is not None:
            self._close(link, link.stale or Reason.LINK_TOO_OLD)
            return
        if len(self._links) > self._context.options.size:
            self._close(link, Reason.LINK_EVICTED)  # the size was made smaller
            return
        if not suits(self._context.upstream.options.session_attrs, link):
            self._close(link, Reason.UPSTREAM_ROLE)
            return
        if self._context.upstream.doubts.about(link):
            self.check(link)
            return
        waiter = self._next_for(link)
        if waiter is not None:
            self._waiters.remove(waiter)
            waiter.future.set_result(link)
        elif self._waiters:
            self._close(link, Reason.LINK_EVICTED)
        else:
            bisect.insort(self._idle, link, key=lambda idle: idle.used_s)

    def _next_for(self, link: Link) -> Waiter | None:
        """The session the link is for: not before one that waits for another kind, unless a dial
        is under way for everyone before it."""
        dialing = list(self._dialing)
        for waiter in self._waiters:
            if waiter.future.done():
                continue
            if waiter.startup == link.startup:
                return waiter
            if waiter.startup not in dialing:
                return None
            dialing.remove(waiter.startup)
        return None

    def lost(self, link: Link) -> None:
        """A link died while a session had it, or was about to."""
        self._context.on_loss(link, False)
        self.forget(link)

    def _lost_here(self, link: Link) -> None:
        """A link died in the pool: noticed at once, though nobody used it."""
        self._context.on_loss(link, True)
        self.forget(link)

    def forget(self, link: Link) -> None:
        """The link is gone: another one may take its place."""
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)
        self._context.gate.link_gone()
        if self._waiters:
            self._grow()

    def _close(self, link: Link, reason: Reason) -> None:
        link.close(reason)
        self.forget(link)

    # -- growing old

    def maintain(self, now_s: float) -> None:
        """Once a second: retire what is old, ping what is idle, keep some links warm."""
        context, options = self._context, self._context.options
        warm = options.warm if self._wanted(now_s) else 0
        for link in list(self._idle):
            spare = len(self._idle) > warm
            if now_s > link.expires_s or not suits(context.upstream.options.session_attrs, link):
                self._close(link, Reason.LINK_TOO_OLD)
            elif spare and now_s - link.used_s > options.idle_s and link is self._idle[0]:
                self._close(link, Reason.LINK_IDLE)
            elif now_s - max(link.used_s, link.pinged_s) >= context.ping_s:
                self._ping_soon(link, now_s)
        room = len(self._links) + len(self._dialing) < options.size
        shut = self.closed or context.gate.is_shut
        wanted = self._last_startup if self.proven and not self._waiters and not shut else None
        if wanted is not None and room:
            kept = len(self._idle) + len(self._dialing) + self._pinging
            if kept < warm and context.upstream.available:
                self._dial(wanted)

    def _wanted(self, now_s: float) -> bool:
        """False if nobody has come for so long that no link need be kept ready."""
        recent = now_s - self.last_used_s < WARM_S
        return recent or any(link.phase is Phase.ATTACHED for link in self._links)

    def check(self, *links: Link) -> None:
        """These, or all idle ones in doubt, are given to nobody before they have been asked."""
        doubts, now_s = self._context.upstream.doubts, asyncio.get_running_loop().time()
        for link in links or [link for link in self._idle if doubts.about(link)]:
            try:
                self._ping_soon(link, now_s)
            except LimitExceeded:
                self._close(link, Reason.LINK_UNCLEAN)

    def _ping_soon(self, link: Link, now_s: float) -> None:
        self._context.tasks.start(self._ping(link), "ping")
        if link in self._idle:
            self._idle.remove(link)
        self._pinging += 1
        link.pinged_s = now_s

    async def _ping(self, link: Link) -> None:
        """Keep the path awake and find out whether it still is one."""
        try:
            await link.ask(messages.sync(), 1, self._context.ping_timeout_s)
            link.proven_s = asyncio.get_running_loop().time()
        except UpstreamUnavailable:
            return  # `forget` has been told
        finally:
            self._pinging -= 1
        self._offer(link, link.used_s)

    # -- the operator

    @property
    def has_links(self) -> bool:
        return bool(self._links)

    def renew(self, reason: Reason) -> None:
        """No link of now is handed out again: idle ones end, the others when they come back."""
        for link in self._links:
            link.stale = reason
        for link in list(self._idle):
            self._close(link, reason)

    def stop_clocks(self) -> None:
        """The gate was shut."""
        now_s = asyncio.get_running_loop().time()
        for waiter in self._waiters:
            waiter.stop_clock(now_s)

    def go_on(self) -> None:
        """The gate was opened, or the options are others: serve who waits, within what is so now.

        New lifetimes count from when a link was opened.
        """
        context = self._context
        now_s = asyncio.get_running_loop().time()
        for waiter in self._waiters:
            waiter.start_clock(now_s)
        for link in self._links:
            link.expires_s = min(link.expires_s, link.opened_s + context.options.lifetime_s)
        while self._idle and len(self._links) > context.options.size:
            self._close(self._idle[0], Reason.LINK_EVICTED)
        self._grow()

    def close(self) -> None:
        """End all idle links, and every other one as it comes back."""
        self.closed = True
        for link in list(self._idle):
            self._close(link, Reason.SHUTDOWN)
        for waiter in list(self._waiters):
            if not waiter.future.done():
                error = UpstreamUnavailable("Backstay is stopping", Reason.SHUTDOWN)
                waiter.future.set_exception(error)
        self._waiters.clear()


__all__ = ["Hold", "Pool", "PoolContext", "PoolKey", "Startup"]
