"""The tracking link of a partition: it fills the cache and brings the invalidations.

Owns the connection and its set-up; what is sent and what it means is the cache's business
(`protocol/cache.py`), whose `Out` is obeyed here. Source: reference/redis.md, sections 2.1 to 2.8.
"""

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from proxy.core.errors import ProxyError, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol.actions import Fault, Out, Phase, Server
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.login import LinkIdentity, handshake, judge, server_version
from proxy.redis.protocol.swaps import INFO, swaps_of
from proxy.redis.protocol.values import ErrorReply, as_dict, decode, encode_command
from proxy.redis.runtime.link import SAMPLE_EVERY
from proxy.redis.runtime.reads import ReadWait
from proxy.redis.runtime.upstream import UpstreamLink, open_link

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.route import RedisRoute

_SETUP = (
    encode_command(b"CLIENT", b"TRACKING", b"ON", b"OPTIN"),
    encode_command(b"CLIENT", b"TRACKINGINFO"),
    encode_command(b"COMMAND", b"INFO", b"HPTTL"),
    INFO,
)


SWITCHED_OFF = "cache.enabled is false"


class TrackingRefused(ProxyError):
    """This user or this server cannot track."""


class TrackingLink(UpstreamLink):
    """A RESP3 link with CLIENT TRACKING ON OPTIN, one per partition."""

    def __init__(self, identity: LinkIdentity, tracker: "Tracker") -> None:
        super().__init__(identity)
        self.server = Server((0, 0, 0), False)
        self._tracker = tracker
        self._partial: list[bytes] = []

    @property
    def proven_s(self) -> float:
        """When the last command that was answered was sent, the loop's time."""
        return self._tracker.cache.lease.proven_s

    async def log_in(self, name: bytes = b"") -> None:
        """Login and set-up in one round trip. Raises as the base, and TrackingRefused."""
        steps = handshake(self.identity, name)
        asked_s = asyncio.get_running_loop().time()
        replies = await self.ask([*steps, *_SETUP])
        self.greeting = judge(self.identity, replies[: len(steps)])
        self.server = _judge_setup(self, replies[len(steps) :], asked_s)
        if not self.is_open:
            raise UpstreamUnavailable("the upstream hung up during login", Reason.UPSTREAM_EOF)

    def frames_received(self, chunk: bytes, ends: list[int]) -> None:
        if self._partial and ends:
            shift = sum(map(len, self._partial))
            chunk = b"".join([*self._partial, chunk])
            ends = [end + shift for end in ends]
            self._partial = []
        start = 0
        frames = []
        for end in ends:
            frames.append(chunk[start:end])
            start = end
        rest = chunk[start : len(chunk) - len(self.scanner.carry)]
        if rest:
            self._partial.append(rest)
        if frames:
            self._tracker.frames(self, frames)

    def link_lost(self, unsent_bytes: int) -> None:
        self._tracker.link_lost(self)


def _judge_setup(link: TrackingLink, replies: list[bytes], asked_s: float) -> Server:
    if len(replies) < len(_SETUP):
        raise UpstreamUnavailable("the upstream hung up during login", Reason.UPSTREAM_EOF)
    tracking, info, field_ttl = (decode(reply)[0] for reply in replies[:3])
    for name, reply in (("TRACKING", tracking), ("TRACKINGINFO", info)):
        if isinstance(reply, ErrorReply):
            code = reply.code.decode(errors="replace")
            raise TrackingRefused(f"CLIENT {name} was refused: {code}", Reason.UPSTREAM_REFUSED)
    flags = as_dict(info).get(b"flags")
    if not isinstance(flags, list) or not {b"on", b"optin"} <= {f for f in flags if f.__hash__}:
        raise TrackingRefused("CLIENT TRACKING did not take effect", Reason.UPSTREAM_REFUSED)
    version = server_version(link.greeting)
    has_field_ttls = isinstance(field_ttl, list) and field_ttl != [None]
    if isinstance(field_ttl, ErrorReply):
        has_field_ttls = version >= (7, 4, 0)
    return Server(version, has_field_ttls, swaps_of(replies[3]), asked_s)


class Tracker:
    """Keeps a partition's tracking link up while it has clients, and obeys its cache."""

    def __init__(self, route: "RedisRoute", cache: Cache, identity: LinkIdentity) -> None:
        self.cache = cache
        self.identity = identity
        self.link: TrackingLink | None = None
        self.wanted = False
        self.settled = False  # the first attempt has ended, well or not
        self._route = route
        self._loop = route.loop
        self._dialling: asyncio.Task[None] | None = None
        self._backoff = route.options.backoff()
        self._patient: list[ClientConnection] = []
        self._pending: list[bytes] = []
        self._until_sample = SAMPLE_EVERY
        self._sampled = 0  # the number of the flight that is being measured, 0: none
        self._sampled_s = 0.0

    def open(self) -> None:
        """Dials, if there is no link and tracking was not refused."""
        self.wanted = True
        if self._route.options.cache is None:
            self.cache.refused(SWITCHED_OFF)
            self._settle()
        elif self._route.gate.is_shut:
            self._settle()  # reads take the data lane, and wait there
        elif self.link is None and self._dialling is None and self.cache.phase is not Phase.REFUSED:
            try:
                self._dialling = self._route.tasks.start(self._connect(), "dial tracking link")
            except ProxyError:
                self._settle()

    def close(self) -> None:
        """Nobody needs the link any more: the cache is dropped with it."""
        self.wanted = False
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
            self._settle()  # a task that is cancelled before it began says nothing
        if self.link is not None:
            self.link.close()
            self.link_lost(self.link)

    def switch(self, on: bool) -> None:
        """`cache.enabled` has changed."""
        if not on:
            self.close()
            self.cache.refused(SWITCHED_OFF)
        elif self.cache.refusal == SWITCHED_OFF:
            self.cache.phase, self.cache.refusal = Phase.NO_LINK, ""

    def leave_link(self) -> None:
        """Another link is wanted: what waits on this one is asked on the data link."""
        self._backoff.reset()
        if self.link is not None:
            self.link.close()
            self.link_lost(self.link)

    def wait_settled(self, client: "ClientConnection") -> bool:
        """True if the first attempt is on its way: the client is woken when it has ended."""
        if self.settled or self._dialling is None:
            return False
        self._patient.append(client)
        return True

    async def _connect(self) -> None:
        try:
            while self.wanted and self.link is None and not self._route.gate.is_shut:
                await asyncio.sleep(self._backoff.next_delay_s(self._route.rng))
                await self._route.dial_permit()
                if not await self._connect_once():
                    return
        finally:
            self._dialling = None
            self._settle()

    async def _connect_once(self) -> bool:
        """False: no use trying again."""
        try:
            link = await open_link(TrackingLink(self.identity, self), self._route)
        except UpstreamUnavailable as error:
            if error.reason is not Reason.RECONNECT:
                self._route.dial_failed("tracking", error)
            self._settle()
            return True
        except ProxyError as error:
            self.cache.refused(str(error))
            self._told_refused()
            return False
        self._backoff.reset()
        self.link = link
        self._route.dial_succeeded("tracking", link)
        self.cache.link_up(link.server, self._loop.time())
        if self.cache.phase is Phase.REFUSED:
            self._told_refused()
            link.close()
            return False
        if link.server.swaps is None:
            self._route.events("redis_swaps_unseen", route=self._route.options.name)
        return True

    def _told_refused(self) -> None:
        self._route.events(
            "redis_cache_off", level="warning", route=self._route.options.name,
            reason=Reason.UPSTREAM_REFUSED, why=self.cache.refusal,
        )  # fmt: skip

    def _settle(self) -> None:
        self.settled = True
        patient, self._patient = self._patient, []
        for client in patient:
            client.go_on()

    def write(self, data: bytes) -> None:
        """Bytes for T; what one turn of the loop writes leaves at once."""
        if data:
            if not self._pending:
                self._loop.call_soon(self._flush)
            self._pending.append(data)

    def _flush(self) -> None:
        data, self._pending = b"".join(self._pending), []
        if self.link is not None:
            self.link.write(data)
        self._until_sample -= 1
        if self._until_sample < 0 and not self._sampled:
            self._until_sample = SAMPLE_EVERY
            self._sampled, self._sampled_s = self.cache.traffic.number, perf_counter()

    def frames(self, link: TrackingLink, frames: list[bytes]) -> None:
        """What T says; a link that has been given up says nothing any more."""
        if link is not self.link:
            return
        out = self.cache.frames(frames, self._loop.time())
        if self._sampled and self.cache.traffic.done_number >= self._sampled:
            self._sampled = 0
            self._route.latency.server.observe(perf_counter() - self._sampled_s)
        self._obey(out)

    def tick(self, now_s: float) -> None:
        """Deadlines and the lease's PING. Call every TICK_S."""
        if self.link is not None:
            self._obey(self.cache.tick(now_s))

    def link_lost(self, link: TrackingLink) -> None:
        """The link is gone, for any cause."""
        if link is not self.link:
            return
        self.link = None
        self._pending = []
        self._sampled = 0
        self._route.link_lost("tracking", link, len(self.cache.traffic), clients=0)
        self._obey(self.cache.link_lost())
        if self.wanted:
            self.open()

    def _obey(self, out: Out) -> None:
        self.write(out.write)
        touched: list[ClientConnection] = []
        for waiter, reply in out.answers:
            assert isinstance(waiter, ReadWait)
            waiter.answered(reply)
            touched.append(waiter.client)
        for waiter in out.direct:
            assert isinstance(waiter, ReadWait)
            waiter.forward()
            touched.append(waiter.client)
        fault, link = out.fault, self.link
        if fault is not None and link is not None:
            if fault is Fault.REFUSED:
                self.cache.refused(fault.value)
                self._told_refused()
                self.wanted = False
            link.abort(Reason.UPSTREAM_PROTOCOL, fault.value)
            self.link_lost(link)
        for client in touched:
            client.flush()
