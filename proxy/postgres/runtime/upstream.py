"""The upstream of a route: dialling it, and the one state machine of its outages.

An outage belongs to the route, not to a pool: all pools take turns at one gate, which is open while
the upstream is well, paced while it recovers, and backing off while it is away. The first try after
a loss is immediate (design, promise 4).

Owns: hosts, TLS, logins, the gate. Must not know: sessions, who the links are for.
"""

import asyncio
import random
import secrets
import socket
import time
from dataclasses import dataclass, field

from proxy.core.backoff import Backoff, RateLimit
from proxy.core.errors import PeerProtocolError, UpstreamRefused, UpstreamUnavailable
from proxy.core.events import Events
from proxy.core.reasons import Reason
from proxy.core.report import Latency
from proxy.net.contexts import SslMode, client_context
from proxy.net.dial import Address, DialOptions, TlsOptions, adopt, connect, exchange
from proxy.net.gate import Gate
from proxy.postgres.protocol import fingerprint, messages
from proxy.postgres.protocol.cert_hash import server_end_point
from proxy.postgres.protocol.client_login import Credentials
from proxy.postgres.protocol.scram import NONCE_RANDOM_BYTES, ChannelBinding, KeyCache
from proxy.postgres.protocol.upstream_login import LoginRequest, LoginResult, UpstreamLogin
from proxy.postgres.runtime.counters import Traffic
from proxy.postgres.runtime.doubt import Doubts
from proxy.postgres.runtime.link import Link, errors_in, rows_in
from proxy.postgres.runtime.options import Host, PoolOptions, UpstreamOptions

LOSS_S = 1.0  # a dial that begins so soon after a loss was made for it
BACKOFF_LONGEST_S = 0.5  # an outage must not last longer for us than for others by more than this
FULL_PAUSE_S = (0.5, 1.5)  # between tries while the server has no connection left (53300)
DERIVED_MAX = 1024
WORDS_MAX = 1000  # of what servers say of themselves
_SQLSTATE_28000 = b"\0C28000\0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The identity of a link: who logs in where, with which start-up settings."""

    user: bytes
    database: bytes
    credentials: Credentials
    startup: tuple[tuple[bytes, bytes], ...] = field(repr=False)


class Upstream:
    """Opens links, one host after the other, and knows whether there is any use in trying."""

    def __init__(
        self,
        options: UpstreamOptions,
        pool: PoolOptions,
        events: Events,
        rng: random.Random,
        route: str,
    ) -> None:
        self.options = options
        self.gate = Gate()
        self._events = events
        self._rng = rng
        self._route = route
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._turns = asyncio.Semaphore(pool.connect_parallel)
        self._rate = RateLimit(pool.connects_per_s, max(pool.size, 10))
        self._backoff = Backoff(0.05, BACKOFF_LONGEST_S)
        self._not_before_s = 0.0
        self._recovered = asyncio.Event()
        self.down_since_s: float | None = None
        self._lost_s = float("-inf")  # when a link was lost, the first of those lost together
        self.spoke_s = float("-inf")  # the gate's clock, when the server last answered a login
        self.last_error = ""
        self.full_wire = b""  # the server's own words while it takes no more connections
        self.pooler_seen = False
        self.last_reason: Reason | None = None
        self.latency = Latency()  # the route's
        self.traffic = Traffic()  # of links that have ended
        self.opens = self.failures = 0
        self._probing = False
        self.doubts = Doubts()
        self.opening = 0  # tries under way
        self._words: dict[bytes, bytes] = {}
        self._derived = KeyCache(DERIVED_MAX)  # the server's salt stays the same

    @property
    def available(self) -> bool:
        """False while the last try failed."""
        return self.down_since_s is None

    async def open(self, wanted: Wanted) -> Link:
        """A new link, logged in; one try, to be made when `let_pass` has returned.

        Raises UpstreamUnavailable (try again: `let_pass` has the pause) and UpstreamRefused.
        """
        turns = self._turns  # a reload may put others in its place
        async with turns:
            epoch = self.gate.epoch
            if self.gate.is_shut:
                raise UpstreamUnavailable("an operator has paused the route", Reason.PAUSED)
            self.opening += 1
            began_s = self._loop.time()
            try:
                link = await self._first_host(wanted)
            except UpstreamUnavailable as error:
                self._failed(error, began_s)
                raise
            except UpstreamRefused:
                self._succeeded()  # it is there, and it has spoken
                raise
            finally:
                self.opening -= 1
                self.gate.link_gone()
        self._succeeded()
        if epoch != self.gate.epoch:
            link.stale = Reason.RECONNECT
        return link

    async def let_pass(self) -> None:
        """Wait until the gate is open, for the pause of the back-off or another's success, and for
        the pace.
        """
        while True:
            await self.gate.opened()
            await self._back_off()
            await self._paced()
            if not self.gate.is_shut:
                return

    async def _paced(self) -> None:
        while True:  # others may take the token that was waited for
            if self._rate.take(self._loop.time()):
                return
            await asyncio.sleep(self._rate.wait_s(self._loop.time()))

    async def _back_off(self) -> None:
        while (pause_s := self._not_before_s - self._loop.time()) > 0:
            self._recovered.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._recovered.wait()
            except TimeoutError:
                return

    def lost(self) -> None:
        """A link has died: if no other can be opened now, the outage began with this."""
        now_s = self._loop.time()
        if now_s - self._lost_s > LOSS_S:
            self._lost_s = now_s

    def _failed(self, error: UpstreamUnavailable, began_s: float) -> None:
        now_s = self._loop.time()
        self.failures += 1
        self.last_error = str(error)
        self.last_reason = error.reason
        if error.reason is Reason.UPSTREAM_FULL:
            # It is alive: others' links go on. A slow, single-minded retry would be a storm.
            self._not_before_s = max(self._not_before_s, now_s + self._rng.uniform(*FULL_PAUSE_S))
            return
        self.full_wire = b""
        if self.down_since_s is None:
            together = 0.0 <= began_s - self._lost_s <= LOSS_S
            self.down_since_s = self._lost_s if together else began_s
            self._backoff.reset()
            self._events(
                "upstream_down",
                level="warning",
                route=self._route,
                upstream=", ".join(str(host.address) for host in self.options.hosts),
                reason=error.reason,
                error=str(error),
            )
        delay_s = self._backoff.next_delay_s(self._rng)
        self._not_before_s = max(self._not_before_s, now_s + delay_s)

    def _succeeded(self) -> None:
        self._not_before_s = 0.0
        self._lost_s = float("-inf")
        self.full_wire = b""
        self.last_error = ""
        self.spoke_s = self.gate.clock_s()
        self._recovered.set()
        if self.down_since_s is not None:
            away_s = self._loop.time() - self.down_since_s
            self.down_since_s = None
            self.latency.outage.observe(away_s)
            self._events("upstream_up", route=self._route, away_s=round(away_s, 3))

    def change(self, options: UpstreamOptions, pool: PoolOptions) -> None:
        """Other options, from the next try on."""
        self.options = options
        self.doubts.keep(options.hosts)
        if pool.connect_parallel != self._pool.connect_parallel:
            self._turns = asyncio.Semaphore(pool.connect_parallel)
        if (pool.connects_per_s, pool.size) != (self._pool.connects_per_s, self._pool.size):
            self._rate = RateLimit(pool.connects_per_s, max(pool.size, 10))
        self._pool = pool

    def hurry(self) -> None:
        """What was known of it is old: try again at once."""
        self._backoff.reset()
        self._not_before_s = 0.0
        self._recovered.set()

    async def probe(self) -> None:
        """See whether a host is back while nobody asks for a link: the upstream must not count as
        away for ever only because nobody comes while it does."""
        if self._probing or self._loop.time() < self._not_before_s:
            return
        self._probing = True
        options = DialOptions(self.options.connect_timeout_s)
        try:
            for host in self.options.hosts:
                try:
                    (await connect(host.address, options)).close()
                except UpstreamUnavailable:
                    continue
                self._succeeded()
                return
        finally:
            self._probing = False

    # -- one try

    async def _first_host(self, wanted: Wanted) -> Link:
        """The first host that answers and has the wanted role."""
        hosts = list(self.options.hosts)
        if self.options.shuffle:
            self._rng.shuffle(hosts)
        attrs = self.options.session_attrs
        rounds = ("standby", "any") if attrs == "prefer-standby" else (attrs,)
        error = UpstreamUnavailable("no host has the wanted role", Reason.UPSTREAM_ROLE)
        for role in rounds:
            for host in hosts:
                try:
                    link = await self._host(host, wanted)
                except UpstreamUnavailable as failed:
                    error = failed
                    continue
                if suits(role, link):
                    return link
                link.close(Reason.UPSTREAM_ROLE)
                if error.reason is not Reason.UPSTREAM_FULL:
                    error = UpstreamUnavailable(
                        f"{link.address} is not {role}", Reason.UPSTREAM_ROLE
                    )
        raise error

    async def _host(self, host: Host, wanted: Wanted) -> Link:
        """A link to this host, by the rules of sslmode (libpq manual, 34.19.1)."""
        mode = self.options.tls.mode
        if mode is SslMode.DISABLE or host.address.path:
            return await self._log_in(host, wanted, tls=False)
        if mode is SslMode.ALLOW:
            try:
                return await self._log_in(host, wanted, tls=False)
            except UpstreamRefused as refused:
                if refused.reason is Reason.TLS_FAILED:
                    raise
                return await self._log_in(host, wanted, tls=True)
        if mode is SslMode.PREFER:
            try:
                return await self._log_in(host, wanted, tls=True)
            except (UpstreamUnavailable, UpstreamRefused) as failed:
                # 28000: pg_hba.conf wants this login without TLS.
                unwanted = isinstance(failed, UpstreamRefused) and _SQLSTATE_28000 in failed.wire
                if failed.reason is not Reason.TLS_FAILED and not unwanted:
                    raise
                return await self._log_in(host, wanted, tls=False)
        return await self._log_in(host, wanted, tls=True)

    async def _log_in(self, host: Host, wanted: Wanted, tls: bool) -> Link:
        options = self.options
        started_s = time.perf_counter()
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                link, over_tls = await self._connect(host, tls)
                link.traffic = self.traffic
                try:
                    await self._exchange(link, host, wanted, over_tls)
                except BaseException:
                    link.close(Reason.UPSTREAM_REFUSED)
                    raise
        except TimeoutError:
            raise UpstreamUnavailable(
                f"{host.address} did not finish the login within {options.connect_timeout_s:g} s",
                Reason.UPSTREAM_SILENT,
            ) from None
        link.host, link.over_tls, link.options = host, over_tls, options
        link.startup = wanted.startup
        link.opened_s = link.used_s = link.proven_s = self._loop.time()
        self.opens += 1
        self.latency.connect.observe(time.perf_counter() - started_s)
        return link

    async def _connect(self, host: Host, tls: bool) -> tuple[Link, bool]:
        """A connected link before its login, and whether it is over TLS."""
        options = self.options
        dial = DialOptions(options.connect_timeout_s, options.keepalive)
        sock = await connect(host.address, dial)
        context = client_context(options.tls) if tls else None
        try:
            if context is not None and not options.direct_tls:
                answer = await exchange(sock, messages.ssl_request(), 1)
                if answer == b"N" and options.tls.mode in (SslMode.PREFER, SslMode.ALLOW):
                    context = None
                elif answer == b"N":
                    raise UpstreamUnavailable(
                        f"{host.address} does not offer TLS: sslmode={options.tls.mode} wants it",
                        Reason.TLS_FAILED,
                    )
                elif answer != b"S":
                    raise UpstreamUnavailable(
                        f"{host.address} answered SSLRequest with {answer!r}: not PostgreSQL?",
                        Reason.UPSTREAM_PROTOCOL,
                    )
        except BaseException:
            sock.close()
            raise
        wrap = None
        if context is not None:
            wrap = TlsOptions(context, host.tls_name, options.connect_timeout_s)
        peer = _peer(sock)
        _, link = await adopt(sock, Link, wrap)
        link.peer = None if peer == host.address else peer
        return link, context is not None

    async def _exchange(self, link: Link, host: Host, wanted: Wanted, over_tls: bool) -> None:
        """The login, and what the server says of itself behind it."""
        assert link.transport is not None
        der = link.transport.get_extra_info("peercert") if over_tls else None
        private = over_tls or bool(host.address.path) or _is_loopback(host.address.host)
        request = LoginRequest(
            user=wanted.user,
            database=wanted.database,
            params=dict(wanted.startup),
            credentials=wanted.credentials,
            minor=self.options.minor,
            channel_binding=ChannelBinding(self.options.channel_binding),
            cert_hash=server_end_point(der) if isinstance(der, bytes) else None,
            cleartext_allowed=private,
            derive=self._derived,
        )
        login = UpstreamLogin(request, secrets.token_bytes(NONCE_RANDOM_BYTES))
        try:
            result = await _drive(link, login)
        except UpstreamUnavailable as error:
            if error.reason is Reason.UPSTREAM_FULL:
                self.full_wire = login.error_wire
            raise
        link.params = {self._once(k): self._once(v) for k, v in result.params.items()}
        link.pid, link.secret = result.pid, result.secret
        link.watch()
        if result.leftover:
            link.data_received(result.leftover)
        await self._identify(link)

    def _once(self, word: bytes) -> bytes:
        """The same word, in memory only once for all links: each is told the same settings."""
        if len(self._words) >= WORDS_MAX:
            self._words.clear()
        return self._words.setdefault(word, word)

    async def _identify(self, link: Link) -> None:
        """Who answers: the backend itself, or a pooler in between (reference, section 0)."""
        answer = await link.ask(fingerprint.identity(), 1, self.options.connect_timeout_s)
        rows = rows_in(answer)
        if errors_in(answer) is not None or len(rows) != 1:
            link.pooler = True
        else:
            try:
                identity = fingerprint.read_identity(rows)
            except PeerProtocolError:
                link.pooler = True  # it talks like PostgreSQL, but is not
            else:
                link.in_recovery = identity.in_recovery
                link.backend_start = identity.backend_start
                link.pooler = identity.backend_pid != link.pid
        if link.pooler and not self.pooler_seen:
            self.pooler_seen = True
            self._events(
                "upstream_is_pooler",
                level="warning",
                route=self._route,
                meaning="its backend is not ours alone: settings may not stick, a FATAL proves"
                " nothing about the statement in flight, and sessions are not verified after a"
                " restore; point the upstream at PostgreSQL itself if you can",
            )


async def _drive(link: Link, login: UpstreamLogin) -> LoginResult:
    """Run the login on the link. Raises what UpstreamLogin raises, and UpstreamUnavailable."""
    done: asyncio.Future[LoginResult] = asyncio.get_running_loop().create_future()

    def receive(data: bytes) -> None:
        if done.done():
            return
        try:
            answer = login.feed(data)
        except PeerProtocolError as error:
            done.set_exception(UpstreamUnavailable(str(error), error.reason))
        except (UpstreamRefused, UpstreamUnavailable) as error:
            done.set_exception(error)
        else:
            if answer:
                link.write(answer)
            if login.result is not None:
                done.set_result(login.result)

    def lost(_: Link) -> None:
        if not done.done():
            reason = link.reason or Reason.UPSTREAM_EOF
            done.set_exception(UpstreamUnavailable("the link was lost during login", reason))

    link.receive = receive
    link.on_lost = lost
    if link.closed:
        raise UpstreamUnavailable("the link was lost during login", Reason.UPSTREAM_EOF)
    link.write(login.start())
    try:
        return await done
    finally:
        link.on_lost = None


def suits(attrs: str, link: Link) -> bool:
    """True if the server behind the link has the role of `target_session_attrs`.

    `prefer-standby` is a wish for the choice between hosts: whatever was chosen suits.
    """
    if attrs in ("any", "prefer-standby"):
        return True
    standby = link.params.get(b"in_hot_standby")
    # Before PostgreSQL 14 the server does not report it.
    in_recovery = link.in_recovery if standby is None else standby == b"on"
    read_only = in_recovery or link.params.get(b"default_transaction_read_only") == b"on"
    return {
        "primary": not in_recovery,
        "standby": in_recovery,
        "read-write": not read_only,
        "read-only": read_only,
    }[attrs]


def _peer(sock: socket.socket) -> Address | None:
    """Which address answered; None on a Unix socket, or if it has gone again."""
    if sock.family is socket.AF_UNIX:
        return None
    try:
        return Address(*sock.getpeername()[:2])
    except OSError:
        return None


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
