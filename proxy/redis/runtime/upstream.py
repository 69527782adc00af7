"""One connection to the upstream: dialled, logged in, read frame by frame, mourned with its reason.

`UpstreamLink` is the base of the shared data links (`link.py`), the exclusive links
(`exclusive.py`) and the tracking link. It knows frames and the login, not what frames answer.
"""

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar, cast

from proxy.core.errors import PeerProtocolError, UpstreamUnavailable
from proxy.core.numbers import link_number
from proxy.core.reasons import Reason
from proxy.net.dial import DialOptions, adopt, connect
from proxy.net.drain import LastWords
from proxy.redis.protocol.framing import ReplyScanner
from proxy.redis.protocol.login import Greeting, LinkIdentity, handshake, judge

if TYPE_CHECKING:
    from proxy.redis.runtime.route import RedisRoute

LinkT = TypeVar("LinkT", bound="UpstreamLink")

WRITE_HIGH_BYTES = 1024 * 1024
READ_BYTES_MAX = 8 * 1024 * 1024  # last words read from a dying link


class UpstreamLink:
    """A link; `transport` is set while it is connected. Subclasses take over `frames_received`.

    An asyncio.Protocol in all but name (see `net.stream`).
    """

    def __init__(self, identity: LinkIdentity) -> None:
        self.number = link_number()
        self.identity = identity
        self.transport: asyncio.Transport | None = None
        self.scanner = ReplyScanner()
        self.greeting = Greeting(b"", True, {})
        self.heard = False  # anything arrived since the last sweep
        self.write_paused = False
        self.given_bytes = 0
        self.opened_s = 0.0  # the loop's time
        self.stale: Reason | None = None  # why it is to be left when nothing is in flight
        self.lost_for: Reason | None = None
        self.lost_text = ""
        self.open_links: set[UpstreamLink] = set()  # the route's; set by `open_link`
        self._words: LastWords | None = None
        self._answers: list[bytes] = []
        self._wanted = 0
        self._answered: asyncio.Future[None] | None = None
        self._handshake_rest = b""

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._words = LastWords(transport)
        self.opened_s = asyncio.get_running_loop().time()
        self.open_links.add(self)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def data_received(self, chunk: bytes) -> None:
        self.heard = True
        if self._answered is not None:
            self._handshake_received(chunk)
            return
        scanner = self.scanner
        if scanner.carry:
            chunk = scanner.carry + chunk
        try:
            ends = scanner.feed(chunk)
        except PeerProtocolError as error:
            self.abort(error.reason, str(error))
            return
        self.frames_received(chunk, ends)

    def eof_received(self) -> bool:
        self._note(Reason.UPSTREAM_EOF, "the upstream closed the link")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._words is not None and self.lost_for is None:
            rest = self._words.read_rest(READ_BYTES_MAX)
            if rest:
                self.data_received(rest)
        if exc is None:
            self._note(Reason.UPSTREAM_EOF, "the upstream closed the link")
        else:
            self._note(Reason.UPSTREAM_RESET, "the link broke")
        unsent = self._words.unsent_bytes(self.given_bytes) if self._words is not None else 0
        self.transport = None
        self.open_links.discard(self)
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_result(None)
        self.link_lost(unsent)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self.drained()

    # -- for subclasses --------------------------------------------------------------------

    def frames_received(self, chunk: bytes, ends: list[int]) -> None:
        """`chunk` begins where the last one's consumed part ended; `ends` as of ReplyScanner."""

    def link_lost(self, unsent_bytes: int) -> None:
        """The link is gone; `lost_for` says why. The last `unsent_bytes` given never left."""

    def drained(self) -> None:
        """Writing may go on."""

    # -- for owners ------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self.transport is not None and self.lost_for is None

    @property
    def is_asking(self) -> bool:
        """The proxy waits for an answer of its own: a login, a reset, a ping."""
        return self._answered is not None

    def write(self, data: bytes) -> None:
        """Hands bytes to the transport; dropped if the link is gone (its loss is being told)."""
        if self.transport is not None:
            self.given_bytes += len(data)
            self.transport.write(data)

    def abort(self, reason: Reason, text: str) -> None:
        """Ends the link now, for `reason`; `link_lost` follows in a later turn."""
        self._note(reason, text)
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Ends the link in order: what was written is sent first."""
        self._note(Reason.LINK_IDLE, "closed by Backstay")
        if self.transport is not None:
            self.transport.close()

    async def ask(self, commands: list[bytes]) -> list[bytes]:
        """Writes commands and returns their replies; fewer if the link dies meanwhile.

        Only while nothing else is in flight: during login, or between two owners.
        """
        assert self._answered is None
        if not self.is_open:
            return []
        self._answers, self._wanted, self._handshake_rest = [], len(commands), b""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answered = answered
        self.write(b"".join(commands))
        try:
            await answered
        finally:
            self._answered = None
        if self._handshake_rest:
            # The beginning of a push: its end would be taken for the first reply to come.
            self.abort(Reason.LINK_UNCLEAN, "the upstream spoke without being asked")
        return self._answers

    async def log_in(self, name: bytes = b"") -> None:
        """Makes the (fresh or RESET) link its `identity`. Raises: see `judge`."""
        replies = await self.ask(handshake(self.identity, name))
        self.greeting = judge(self.identity, replies)
        if not self.is_open:
            raise UpstreamUnavailable("the upstream hung up during login", Reason.UPSTREAM_EOF)

    # -- within ----------------------------------------------------------------------------

    def _note(self, reason: Reason, text: str) -> None:
        """The first cause counts; what follows is its consequence."""
        if self.lost_for is None:
            self.lost_for, self.lost_text = reason, text

    def _handshake_received(self, chunk: bytes) -> None:
        data = self._handshake_rest + chunk
        ahead = self.scanner.carry if self.scanner.carry else b""
        try:
            ends = self.scanner.feed(ahead + chunk)
        except PeerProtocolError as error:
            self.abort(error.reason, str(error))
            return
        shift = len(data) - len(ahead) - len(chunk)
        start = 0
        for index, end in enumerate(ends):
            if index not in self.scanner.pushes:
                self._answers.append(data[start : end + shift])
            start = end + shift
        self._handshake_rest = data[start:]
        answered = self._answered
        if len(self._answers) >= self._wanted and answered is not None and not answered.done():
            answered.set_result(None)


async def open_link(link: LinkT, route: "RedisRoute", name: bytes = b"") -> LinkT:
    """Dials and logs in. Raises UpstreamUnavailable, UpstreamRefused; the link is then closed."""
    options = route.options
    gate = route.gate
    epoch = gate.epoch
    link.open_links = route.links
    started_s = perf_counter()
    dial = DialOptions(connect_timeout_s=options.connect_timeout_s, keepalive=options.keepalive)
    try:
        if gate.is_shut:
            raise UpstreamUnavailable("an operator has paused the route", Reason.RECONNECT)
        async with asyncio.timeout(options.connect_timeout_s):
            sock = await connect(options.address, dial)
            await adopt(sock, lambda: link, options.tls)
            await link.log_in(name)
    except TimeoutError as error:
        link.abort(Reason.UPSTREAM_SILENT, "login took too long")
        raise UpstreamUnavailable(
            f"no login within {options.connect_timeout_s:g} s", Reason.UPSTREAM_SILENT
        ) from error
    except BaseException:
        link.abort(Reason.UPSTREAM_REFUSED, "login failed")
        raise
    if gate.is_shut or epoch != gate.epoch:
        link.close()  # to what is no longer wanted: the caller tries again, when it may
        raise UpstreamUnavailable("the upstream's links are being replaced", Reason.RECONNECT)
    route.latency.connect.observe(perf_counter() - started_s)
    return link
