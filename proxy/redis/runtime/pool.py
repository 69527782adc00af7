"""Exclusive links: taken by one client for as long as its state lasts, returned after RESET.

Parked links have been reset and logged in again, so that taking one costs no round trip. Source:
reference/redis.md, section 4, last paragraphs.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from proxy.core.errors import ProxyError, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol.login import LinkIdentity, handshake, judge
from proxy.redis.protocol.values import encode_command
from proxy.redis.runtime.exclusive import ExclusiveLink
from proxy.redis.runtime.options import RouteOptions
from proxy.redis.runtime.upstream import open_link

if TYPE_CHECKING:
    from proxy.redis.runtime.route import RedisRoute

_RESET = encode_command(b"RESET")
_PING = encode_command(b"PING")


class ExclusivePool:
    """All exclusive links of a route; `total` counts those taken, parked and on their way."""

    def __init__(self, route: "RedisRoute") -> None:
        self._route = route
        self._parked: dict[LinkIdentity, list[tuple[ExclusiveLink, float]]] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._replenishing: set[LinkIdentity] = set()
        self.total = 0

    @property
    def _options(self) -> RouteOptions:
        return self._route.options

    async def take(self, identity: LinkIdentity) -> ExclusiveLink:
        """A link that is `identity` and nobody's, within the hold time (the gate being open).

        Raises UpstreamUnavailable (the time is over), UpstreamRefused.
        """
        gate = self._route.gate
        while True:
            await gate.opened()
            try:
                return await self._take(identity)
            except UpstreamUnavailable:
                if not gate.is_shut:
                    raise

    async def _take(self, identity: LinkIdentity) -> ExclusiveLink:
        backoff = self._options.backoff()
        why = "the upstream is not connected"
        try:
            async with asyncio.timeout(self._options.hold_s):
                while True:
                    await asyncio.sleep(backoff.next_delay_s(self._route.rng))
                    try:
                        return await self._take_once(identity)
                    except UpstreamUnavailable as error:
                        why = str(error)
        except TimeoutError:
            text = f"{why}; waited {self._options.hold_s:g} s for a link"
            raise UpstreamUnavailable(text, Reason.HOLD_TIMEOUT) from None

    def take_parked(self, identity: LinkIdentity) -> ExclusiveLink | None:
        """A link that is ready now, or None. Another is made ready when it was the last."""
        if self._waiting:
            return None  # these were here first
        return self._pop_parked(identity)

    def _pop_parked(self, identity: LinkIdentity) -> ExclusiveLink | None:
        parked = self._parked.get(identity, [])
        while parked:
            link, _ = parked.pop()
            if link.is_open:
                if not parked:
                    self._replenish(identity)
                return link
        return None

    def _replenish(self, identity: LinkIdentity) -> None:
        """Who needs one exclusive link mostly needs the next soon: no dial shall delay it."""
        full = self.total >= self._options.limits.exclusive_links_max
        if identity in self._replenishing or full or self._route.gate.is_shut:
            return
        try:
            self._route.tasks.start(self._make_ready(identity), "dial an exclusive link ahead")
        except ProxyError:
            return
        self._replenishing.add(identity)

    async def _make_ready(self, identity: LinkIdentity) -> None:
        try:
            self.park(await self._open(identity))
        except ProxyError:
            pass  # whoever needs one will dial, and be told
        finally:
            self._replenishing.discard(identity)

    async def _take_once(self, identity: LinkIdentity) -> ExclusiveLink:
        while True:
            link = self._pop_parked(identity)
            if link is not None:
                return link
            room = self.total < self._options.limits.exclusive_links_max
            if room or self._close_one_parked():
                return await self._open(identity)
            await self._something_free()

    async def _something_free(self) -> None:
        """Waits for a link that is parked, or for a place for another one: first come first served
        (its place in the queue is lost to who finds it taken again).
        """
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(free)
        try:
            await free
        except asyncio.CancelledError:
            if not free.cancelled():
                self._wake_one()  # woken and timed out at once: the next shall have it
            raise

    def _wake_one(self) -> None:
        while self._waiting:
            free = self._waiting.popleft()
            if not free.done():
                free.set_result(None)
                return

    def _close_one_parked(self) -> bool:
        """Makes room at the cost of a link parked for somebody else."""
        for parked in self._parked.values():
            if parked:
                parked.pop(0)[0].close()
                return True
        return False

    async def _open(self, identity: LinkIdentity) -> ExclusiveLink:
        self.total += 1
        link = ExclusiveLink(identity, self)
        try:
            await self._route.dial_permit()
            await open_link(link, self._route)
        except ProxyError as error:
            if error.reason is not Reason.RECONNECT:
                self._route.dial_failed("exclusive", error)
            raise
        finally:
            if not link.is_open:
                link.forget()
        self._route.dial_succeeded("exclusive", link)
        return link

    async def verify(self, identity: LinkIdentity) -> ExclusiveLink:
        """A link that the upstream has just let in with the identity's credential.

        A link parked for the same identity logs in anew: a password changed meanwhile counts.
        """
        parked = self._parked.get(identity, [])
        while parked:
            link, _ = parked.pop()
            if link.is_open and await self._renew(link):
                return link
        return await self.take(identity)

    async def _renew(self, link: ExclusiveLink) -> bool:
        """RESETs the link and logs it in again. False: it is of no use any more (and closed).

        Raises UpstreamRefused if the upstream does not let it in again.
        """
        try:
            async with asyncio.timeout(self._options.command_timeout_s):
                replies = await link.ask([_RESET, *handshake(link.identity)])
        except TimeoutError:
            link.abort(Reason.UPSTREAM_SILENT, "no reply to RESET")
            return False
        if not replies or not replies[0].startswith(b"+RESET") or not link.is_open:
            link.abort(Reason.LINK_UNCLEAN, "RESET was not obeyed")
            return False
        try:
            link.greeting = judge(link.identity, replies[1:])
        except UpstreamUnavailable:
            link.abort(Reason.UPSTREAM_STARTING, "the upstream is not ready")
            return False
        except ProxyError:
            link.abort(Reason.LOGIN_REFUSED, "login refused")
            raise
        return True

    def give_back(self, link: ExclusiveLink) -> None:
        """Takes a link its client has done with; it is reset in the background."""
        link.owner = None
        parked = self._parked.setdefault(link.identity, [])
        full = len(parked) >= self._options.limits.exclusive_idle_max and not self._waiting
        unwanted = full or self._route.stopping or link.stale is not None
        # The rest of a message for the last owner would be the beginning of the next one's reply.
        if unwanted or not link.is_open or not link.at_boundary:
            link.close()
            return
        try:
            self._route.tasks.start(self._clean(link), "reset an exclusive link")
        except ProxyError:
            link.close()

    async def _clean(self, link: ExclusiveLink) -> None:
        try:
            if await self._renew(link):
                self.park(link)
        except ProxyError:
            pass  # it has been closed; whoever logs in next is told why

    def park(self, link: ExclusiveLink, since_s: float | None = None) -> None:
        """Keeps a clean link for the next who needs one of its identity. `since_s`: it has been
        parked since then, and was only looked after."""
        if link.stale is not None:
            link.close()
            return
        if since_s is None:
            since_s = asyncio.get_running_loop().time()
        self._parked.setdefault(link.identity, []).append((link, since_s))
        self._wake_one()

    def forgotten(self) -> None:
        """A link is gone; somebody may be waiting for its place."""
        self.total -= 1
        self._wake_one()

    def sweep(self, now_s: float) -> None:
        """Closes links parked for too long, and those that do not answer a ping."""
        for identity, parked in list(self._parked.items()):
            kept = []
            for link, since_s in parked:
                if not link.is_open:
                    continue
                if now_s - since_s > self._options.link_idle_s:
                    link.close()
                elif now_s - link.checked_s > self._options.ping_s and link.checked_s:
                    link.checked_s = now_s
                    self._look_after(link, since_s)
                else:
                    link.checked_s = link.checked_s or now_s
                    kept.append((link, since_s))
            self._parked[identity] = kept
            if not kept:
                del self._parked[identity]

    def _look_after(self, link: ExclusiveLink, since_s: float) -> None:
        try:
            self._route.tasks.start(self._check(link, since_s), "ping a parked link")
        except ProxyError:
            link.close()

    async def _check(self, link: ExclusiveLink, since_s: float) -> None:
        """Pings a link taken out of its parking place; back it goes if it answers."""
        try:
            async with asyncio.timeout(self._options.command_timeout_s):
                replies = await link.ask([_PING])
        except TimeoutError:
            replies = []
        if replies and link.is_open:
            self.park(link, since_s)
        else:
            link.abort(Reason.UPSTREAM_SILENT, "no reply to PING")

    def close(self) -> None:
        """Closes every parked link."""
        for parked in self._parked.values():
            for link, _ in parked:
                link.close()
        self._parked.clear()
