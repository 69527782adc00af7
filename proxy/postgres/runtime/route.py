"""A PostgreSQL route: its clients, its pools, its upstream, and what they share.

Owns: the registries (sessions, pools, cancel keys), the once-a-second sweep, the end. The service
starts it and mounts listeners on `client_protocol`.
"""

import asyncio
import random
import secrets
from typing import TYPE_CHECKING, Any

from proxy.core.errors import LimitExceeded
from proxy.core.events import Events
from proxy.core.numbers import session_number
from proxy.core.reasons import Reason
from proxy.core.report import Latency
from proxy.net.contexts import ServerTlsMode
from proxy.net.stream import as_asyncio
from proxy.net.tasks import TaskSet
from proxy.postgres.protocol import keys, say, say_operator
from proxy.postgres.protocol.classify import Classifier
from proxy.postgres.protocol.client_login import Credentials, LoginRules
from proxy.postgres.protocol.session_state import Need, SessionState
from proxy.postgres.protocol.startup import Startup
from proxy.postgres.runtime import cancel, control
from proxy.postgres.runtime.console import Console, ConsoleSession
from proxy.postgres.runtime.counters import Counters
from proxy.postgres.runtime.doubt import CHECK_DELAY_S
from proxy.postgres.runtime.entry import Entry
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.options import RouteOptions
from proxy.postgres.runtime.pool import Hold, Pool, PoolContext, PoolKey
from proxy.postgres.runtime.rules import login_rules
from proxy.postgres.runtime.session import Session
from proxy.postgres.runtime.session_base import SessionBase
from proxy.postgres.runtime.upstream import Upstream, suits

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

POOL_IDLE_S = 3600.0  # a pool nobody used for so long, and that has no links, is forgotten
LOOK_DELAY_S = 0.1  # a session that may have changed unseen is looked at when idle for so long


class PostgresRoute:
    """See the module. Make it on the running loop."""

    def __init__(
        self,
        options: RouteOptions,
        events: Events,
        rng: random.Random,
        rules: LoginRules | None = None,
    ) -> None:
        self.options = options
        self.counters = Counters()
        self.latency = Latency()
        self.losses: dict[Reason, int] = {}
        self.errors: dict[Reason, int] = {}
        self.classifier = Classifier()
        self.sessions: set[Session] = set()
        self.entries: set[Entry] = set()
        self.draining = False  # sessions end at their next boundary
        # Offers a key that is nobody's here to other processes, where there are any.
        self.cancel_elsewhere: Callable[[keys.CancelKey], Coroutine[Any, Any, None]] | None = None
        self.refusing: say.Said | None = None  # what new clients are told instead of a welcome
        self._events = events
        self.tasks = TaskSet(self.events)
        self.rules = login_rules(options) if rules is None else rules
        self.upstream = Upstream(options.upstream, options.pool, self.events, rng, options.name)
        self.gate = self.upstream.gate
        self.upstream.latency = self.latency
        self.hold = Hold(options.resilience.hold_clients)
        self.context = PoolContext(
            upstream=self.upstream,
            gate=self.gate,
            options=options.pool,
            resilience=options.resilience,
            ping_s=options.ping_s,
            ping_timeout_s=options.ping_timeout_s,
            hold=self.hold,
            latency=self.latency,
            on_loss=self.link_lost,
            tasks=self.tasks,
            events=self.events,
            rng=rng,
            route=options.name,
        )
        self.pools: dict[PoolKey, Pool] = {}
        self.console = Console(self)
        self._keys: dict[keys.CancelKey, Session | ConsoleSession] = {}
        self._to_look: dict[Session, float] = {}
        self._checking = False  # sessions whose links are in doubt are about to ask them

    def events(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        """Report one event of this route."""
        fields.setdefault("route", self.options.name)
        self._events(event, level=level, **fields)

    @property
    def tls_mode(self) -> ServerTlsMode:
        """Towards clients."""
        tls = self.options.tls
        return tls.mode if tls is not None else ServerTlsMode.DISABLE

    # -- life

    def start(self) -> None:
        """Begin the sweep. The listeners are the service's to open."""
        self.tasks.start(self._sweep(), f"sweep {self.options.name}")

    def client_protocol(self) -> Entry:
        """The protocol of a new client connection."""
        return Entry(self)

    async def _sweep(self) -> None:
        """Once a second, or as often as pings ask for it: what is due is done."""
        loop = asyncio.get_running_loop()
        last_s = loop.time()
        while True:
            period_s = min(1.0, self.options.ping_s / 4)
            await asyncio.sleep(min(period_s, LOOK_DELAY_S) if self._to_look else period_s)
            now_s = loop.time()
            try:
                self._look(now_s)
                if now_s - last_s >= period_s * 0.9:
                    last_s = now_s
                    self._maintain(now_s)
            except LimitExceeded:
                continue  # too much is under way: what is due stays due

    def _look(self, now_s: float) -> None:
        for session, due_s in list(self._to_look.items()):
            if now_s < due_s:
                continue
            del self._to_look[session]
            if session.ask_later():
                session.look()

    def _maintain(self, now_s: float) -> None:
        for key, pool in list(self.pools.items()):
            pool.maintain(now_s)
            if pool.unused and now_s - pool.last_used_s > POOL_IDLE_S:
                del self.pools[key]
        tried = any(pool.dialing for pool in self.pools.values())  # not: nobody waits, or has room
        if not self.upstream.available and not tried:
            self.tasks.start(self.upstream.probe(), "probe the upstream")
        ping_s = self.options.ping_s
        for session in list(self.sessions):
            done = session.expected.transactions
            if session.seen != done:
                session.seen = done
                session.idle_since_s = session.used_s = now_s
            elif now_s - session.idle_since_s >= ping_s and session.ask_later():
                session.idle_since_s = now_s
                session.look()
            elif session.gap:
                session.listen_again()
        self._check_sessions()

    def _check_sessions(self) -> None:
        """Idle sessions whose links are in doubt ask them, so that none waits at a dead one."""
        doubts = self.upstream.doubts
        for session in list(self.sessions):
            link = session.link
            if link is not None and doubts.about(link) and session.ask_later():
                session.look()

    def _check_soon(self) -> None:
        """Sessions whose links are not in doubt any more, or busy, are left alone."""
        self._checking = False
        try:
            self._check_sessions()
        except LimitExceeded:
            return  # the sweep goes on with it

    def look_soon(self, session: Session) -> None:
        """Its state may have changed unseen: take its fingerprint when it is idle."""
        if session not in self._to_look:
            loop = asyncio.get_running_loop()
            self._to_look[session] = loop.time() + LOOK_DELAY_S

    async def stop(self, drain_s: float) -> None:
        """Let each session finish what it is doing, for so long; then end them all."""
        await control.drain(self, drain_s)
        self.kill_all()
        for pool in self.pools.values():
            pool.close()
        await self.console.close()
        await self.tasks.stop()
        for pool in self.pools.values():
            for link in pool.links:  # such as one whose cleaning was called off before it began
                link.close(Reason.SHUTDOWN)
                pool.forget(link)

    def kill_all(self) -> None:
        """End every session and login now."""
        self.refusing = say.shutting_down()
        for entry in list(self.entries):
            entry.refuse(self.refusing)
        for session in list(self.sessions):
            session.kill()

    # -- clients

    def refusal(self, startup: Startup, tls: bool) -> say.Said | None:
        """Why this client cannot come in, as far as that is known before its login."""
        if self.refusing is not None:
            return self.refusing
        if self.console.is_meant(startup):
            return self.console.refusal(startup, tls)
        if self.gate.shut_for is Reason.KILLED:
            return say_operator.route_killed()
        if startup.replication:
            return say.replication_refused()
        if self.tls_mode in (ServerTlsMode.REQUIRE, ServerTlsMode.VERIFY_CA) and not tls:
            return say.tls_required()
        if self.full:
            return say.too_many_clients(self.options.pool.clients)
        return None

    @property
    def full(self) -> bool:
        """True while there are as many clients as there may be."""
        return len(self.sessions) >= self.options.pool.clients

    def join(
        self,
        transport: asyncio.Transport,
        startup: Startup,
        credentials: Credentials,
        rest: bytes,
    ) -> None:
        """A client has logged in: it becomes a session of its pool."""
        self.counters.clients += 1
        key = PoolKey(startup.user, startup.database, credentials.key)
        pool = self.pools.get(key)
        if pool is None:
            pool = self.pools[key] = Pool(key, credentials, self.context)
        settings = startup.settings()
        for name, value in self.options.upstream.defaults.items():
            settings.setdefault(name, value)
        wanted = pool.shared(tuple(sorted(settings.items())))
        session = Session(self, pool, wanted, session_number())
        session.joined_s = session.used_s = asyncio.get_running_loop().time()
        session.minor = startup.minor
        self.sessions.add(session)
        transport.set_protocol(as_asyncio(session))
        session.start(transport, rest)

    def left(self, session: Session, reason: Reason) -> None:
        """A session has ended."""
        self.sessions.discard(session)
        self._to_look.pop(session, None)
        if session.key is not None:
            self.forget_key(session.key)
        self.counters.units += session.expected.transactions
        pool = session.pool
        if not pool.proven and pool.unused:
            self.pools.pop(pool.key, None)
        self.events("disconnected", session=session.number, reason=reason)

    def refused(self, session: SessionBase, reason: Reason, wire: bytes) -> None:
        """The proxy ends a session: counted and reported, with the code the client saw."""
        self.counters.sessions_refused += 1
        if isinstance(wire, say.Said):  # not the server's own words
            self.count_error(wire)
        if reason in (Reason.STATE_NOT_RESTORABLE, Reason.RESTORE_FAILED):
            self.counters.state_lost += 1
        self.events(
            "session_ended",
            level="info" if reason in _PLANNED else "warning",
            session=session.number,
            reason=reason,
            sqlstate=getattr(wire, "sqlstate", ""),
        )

    # -- counting

    def count_error(self, said: say.Said) -> None:
        """The proxy says an error in its own name."""
        self.errors[said.reason] = self.errors.get(said.reason, 0) + 1

    def answered(self, session: SessionBase, said: say.Said) -> say.Said:
        """A unit of the session is answered with this error of the proxy's, which is returned."""
        self.count_error(said)
        if said.reason is not Reason.CANCELLED:
            session.told = True
        self.events(
            "error_answered",
            level="debug",
            session=session.number,
            reason=said.reason,
            sqlstate=said.sqlstate,
        )
        return said

    def link_lost(self, link: Link, idle: bool) -> None:
        """A link has died; `idle`: in the pool, where only the route hears of it."""
        reason = link.reason or Reason.UPSTREAM_EOF
        self.losses[reason] = self.losses.get(reason, 0) + 1
        self.upstream.lost()
        self._doubt(link)
        if idle:
            self.counters.idle_losses += 1
            self.events(
                "pool_link_lost",
                upstream=link.address,
                pid=link.pid,
                reason=reason,
                last_words=link.epitaph(),
            )

    def _doubt(self, link: Link) -> None:
        """What else may have died with the link is asked: idle links at once, sessions soon."""
        if self.upstream.doubts.lost(link, asyncio.get_running_loop().time()):
            self._ask_others()

    def host_turned(self, link: Link) -> None:
        """A session has left this link, as its host has lost the role that the route wants."""
        if link.host is not None:
            self.upstream.doubts.turned(link.host, asyncio.get_running_loop().time())
            self._ask_others()

    def _ask_others(self) -> None:
        for pool in self.pools.values():
            pool.check()
        if not self._checking:
            self._checking = True
            asyncio.get_running_loop().call_later(CHECK_DELAY_S, self._check_soon)

    # -- cancel

    def new_key(self, session: Session | ConsoleSession, pid: int) -> keys.CancelKey:
        """The session's own cancel key, valid as long as the session."""
        while True:
            key = keys.make(pid, secrets.token_bytes(keys.RANDOM_BYTES), session.minor)
            if key not in self._keys:
                self._keys[key] = session
                return key

    def forget_key(self, key: keys.CancelKey) -> None:
        """Its session has ended."""
        self._keys.pop(key, None)

    def cancel(self, key: keys.CancelKey) -> "asyncio.Task[None] | None":
        """A client's CancelRequest: for its session's link, or for its place in the queue.

        Returns what delivers it to the server, if that is to be told.
        """
        session = self._keys.get(key)
        if session is None:
            return self._cancel_elsewhere(key)
        self.counters.cancels += 1
        link = session.cancel()
        return None if link is None else self.cancel_on(link)

    def knows(self, key: keys.CancelKey) -> bool:
        """True if the key is that of a session of this route."""
        return key in self._keys

    def _cancel_elsewhere(self, key: keys.CancelKey) -> "asyncio.Task[None] | None":
        if self.cancel_elsewhere is None:
            return None
        try:
            return self.tasks.start(self.cancel_elsewhere(key), "cancel elsewhere")
        except LimitExceeded:
            return None

    def cancel_on(self, link: Link) -> "asyncio.Task[None] | None":
        """Cancel whatever runs on this link, unless the proxy has too much to do or stops."""
        try:
            work = cancel.cancel(link, self.events)
            return self.tasks.start(work, "cancel")
        except LimitExceeded:
            return None

    # -- roles

    def suits(self, link: Link, state: SessionState) -> bool:
        """False if the host behind an attached link has lost the role the route wants.

        A session that made its own transactions read-only has not turned its host.
        """
        attrs = self.options.upstream.session_attrs
        if attrs in ("any", "prefer-standby", "read-only"):
            return True
        own = _READ_ONLY in state.committed.settings or state.need is not Need.NONE
        if attrs == "read-write" and own:
            attrs = "primary"
        return suits(attrs, link)


_PLANNED = frozenset((Reason.DRAIN, Reason.SHUTDOWN, Reason.KILLED))
_READ_ONLY = b"default_transaction_read_only"
