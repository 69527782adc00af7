"""A Redis route: its partitions, exclusive links and clients, from start to stop.

The service mounts listeners on `client_protocol()`. Everything here runs in one event loop.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial

from proxy.core.backoff import RateLimit
from proxy.core.errors import LimitExceeded, PeerProtocolError, ProxyError
from proxy.core.events import Events
from proxy.core.numbers import session_number
from proxy.core.reasons import Reason
from proxy.core.report import Latency
from proxy.net.dial import DialOptions, connect
from proxy.net.gate import Gate
from proxy.net.stream import as_asyncio
from proxy.net.tasks import TaskSet
from proxy.net.tls import PumpOptions, TlsPump
from proxy.redis.protocol import say
from proxy.redis.protocol.command_table import fallback_table
from proxy.redis.protocol.commands import table_from_reply
from proxy.redis.protocol.insight import shapes
from proxy.redis.protocol.login import Credential
from proxy.redis.protocol.partitions import Partitions
from proxy.redis.protocol.values import decode, encode_command
from proxy.redis.runtime import control
from proxy.redis.runtime.batch import Batch
from proxy.redis.runtime.client import ClientConnection
from proxy.redis.runtime.counters import Counters
from proxy.redis.runtime.lane import Lane
from proxy.redis.runtime.link import DataLink
from proxy.redis.runtime.options import RouteOptions
from proxy.redis.runtime.partition import Partition
from proxy.redis.runtime.pool import ExclusivePool
from proxy.redis.runtime.roles import Roles
from proxy.redis.runtime.upstream import UpstreamLink

SWEEP_S = 0.05
LOSS_S = 1.0  # a dial that begins so soon after a loss was made for it
PROBE_EVERY_S = 1.0  # of an upstream that is away while nobody dials it
_KEYS_TOLD = 10  # shapes of each sort, when the route stops
CLIENT_ID_FIRST = 1 << 40  # virtual ids: far from the server's own, exact in a JSON number


class RedisRoute:
    """One route. Make it within a running loop; `start`, serve, `stop`."""

    def __init__(
        self, options: RouteOptions, events: Events, rng: random.Random | None = None
    ) -> None:
        self.options = options
        self.gate = Gate()
        self.events = events
        self.rng = rng or random.Random()  # chance enters here
        self.loop = asyncio.get_event_loop()
        self.counters = Counters()
        self.latency = Latency()
        self.losses: dict[Reason, int] = {}
        self.errors: dict[Reason, int] = {}
        self.away_for: Reason | None = None  # of the last dial that failed
        self.tasks = TaskSet(events)
        self.table = fallback_table()
        self.pool = ExclusivePool(self)
        self.roles = Roles(self)
        self.clients: dict[int, ClientConnection] = {}
        self.links: set[UpstreamLink] = set()  # every connection to the upstream
        self.draining = self.stopping = False
        self.caches: Partitions | None = None
        if options.cache is not None:
            self.caches = Partitions(options.cache, self.rng.random)
        # Where nothing is served stale, locks and counters need not be told from other writes.
        self.guards_simply = options.cache is None or options.cache.stale_max_s <= 0
        limits = options.limits
        self._partitions: dict[tuple[Credential | None, int], Partition] = {}
        self._dials = RateLimit(limits.dials_per_s, limits.dials_burst)
        self._learning = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._away_since_s: float | None = None
        self._lost_s = float("-inf")  # when a link was lost, the first of those lost together
        self._dialled_s = 0.0  # the last dial that failed
        self._probing = False

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins the sweep. Links are dialled when clients need them."""
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def client_protocol(self) -> Callable[[], asyncio.Protocol]:
        """A factory of protocols for accepted connections, with TLS if the route has it."""
        return self._new_client

    def _new_client(self) -> asyncio.Protocol:
        context = self.options.client_tls
        client = ClientConnection(self)
        if context is None:
            return as_asyncio(client)
        return as_asyncio(TlsPump(client, PumpOptions(context, server_side=True)))

    async def stop(self, drain_s: float) -> None:
        """Lets clients finish what is in flight, for at most `drain_s`, and ends everything."""
        await control.drain(self, drain_s)
        self.stopping = True
        for client in list(self.clients.values()):
            client.close_for(Reason.SHUTDOWN)
        self._tell_cache_use()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for partition in self._partitions.values():
            partition.close()
        self.pool.close()
        await self.tasks.stop()
        await self._end_connections()

    def _tell_cache_use(self) -> None:
        """What the cache has done, and for which keys: shapes of keys, never keys."""
        if self.caches is None:
            return
        seen, insight = self.caches.report(), self.caches.insight
        if not (seen.hits or seen.misses or seen.bypassed):
            return
        self.events(
            "redis_cache_use", route=self.options.name,
            hits=seen.hits, negative_hits=seen.negative_hits, misses=seen.misses,
            coalesced=seen.coalesced, saved_repeats=seen.saved_repeats,
            stale_served=insight.stale_served, invalidations=insight.invalidations,
            evictions=self.caches.budget.evicted, bypassed=seen.bypassed,
            top_keys=dict(shapes(seen.top_keys)[:_KEYS_TOLD]),
            repeated_keys=dict(shapes(seen.repeated_keys)[:_KEYS_TOLD]),
            missing_keys=dict(shapes(seen.missing_keys)[:_KEYS_TOLD]),
            refilled_keys=dict(shapes(seen.refilled_keys)[:_KEYS_TOLD]),
        )  # fmt: skip

    async def _end_connections(self) -> None:
        """Nothing of the route is left in the loop afterwards, or a second has passed."""
        for link in list(self.links):
            link.abort(Reason.SHUTDOWN, "Backstay is shutting down")
        for client in list(self.clients.values()):
            if client.transport is not None:
                client.transport.abort()
        for _ in range(100):
            if not self.links and not self.clients:
                break
            await asyncio.sleep(0.01)

    def kill_all(self) -> None:
        """End every client now: the drain is cut short."""
        for client in list(self.clients.values()):
            client.close_for(Reason.SHUTDOWN)

    def _sweep(self) -> None:
        """Everybody's deadlines. Whatever fails, the others' are met, and the next sweep comes."""
        try:
            self._sweep_all(self.loop.time())
        finally:
            self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def _sweep_all(self, now_s: float) -> None:
        for key, partition in list(self._partitions.items()):
            self._sweep_part(partial(self._sweep_partition, key, partition), now_s)
        for client in list(self.clients.values()):
            if client.exclusive is not None:
                self._sweep_part(client.exclusive.sweep, now_s)
        self._sweep_part(self._sweep_upstream, now_s)

    def _sweep_part(self, part: Callable[[float], None], now_s: float) -> None:
        """Does it. An exception is our bug: the loop's handler reports it."""
        try:
            part(now_s)
        except LimitExceeded:
            return  # too much is under way: what is due stays due
        except Exception as error:
            about = {"message": f"sweep of {self.options.name}", "exception": error}
            self.loop.call_exception_handler(about)

    def _sweep_partition(
        self, key: tuple[Credential | None, int], partition: Partition, now_s: float
    ) -> None:
        partition.sweep(now_s)
        if partition.is_idle:
            partition.close()
            del self._partitions[key]

    def _sweep_upstream(self, now_s: float) -> None:
        if not self.stopping:
            self.pool.sweep(now_s)
            silent = now_s - self._dialled_s > PROBE_EVERY_S
            if self._away_since_s is not None and silent and not self._probing:
                self._begin_probe()
        if self.gate.is_shut and not self.links:
            self.gate.link_gone()

    # -- clients -----------------------------------------------------------------------------

    def next_client_id(self) -> int:
        """A virtual client id, as CLIENT ID tells it."""
        return CLIENT_ID_FIRST + session_number()

    def admit(self, client: ClientConnection) -> bytes | None:
        """Counts a client in; an error line if there are too many."""
        self.clients[client.id] = client
        self.counters.clients = len(self.clients)
        self.counters.clients_total += 1
        if self.stopping or len(self.clients) > self.options.limits.clients_max:
            self.counters.clients_refused += 1
            self.count_error(Reason.SHUTDOWN if self.stopping else Reason.TOO_MANY_CLIENTS)
            return say.TOO_MANY_CLIENTS
        if self.gate.shut_for is Reason.KILLED:
            return say.upstream_down("an operator of Backstay has stopped this route until RESUME")
        return None

    def client_gone(self, client: ClientConnection) -> None:
        """Counts a client out."""
        self.clients.pop(client.id, None)
        self.counters.clients = len(self.clients)

    def client_closed_for(self, client: ClientConnection, reason: Reason) -> None:
        """A client is being closed by us."""
        if reason is Reason.CLIENT_TOO_SLOW:
            self.counters.clients_too_slow += 1
        if reason not in (Reason.CLIENT_CLOSED, Reason.SHUTDOWN, Reason.KILLED):
            self.events(
                "redis_client_closed", level="warning", route=self.options.name,
                reason=reason, client=client.id,
            )  # fmt: skip

    def real_id(self, arg: bytes) -> bytes:
        """The upstream's id of the exclusive link of the client with this virtual id, or `arg`."""
        if len(arg) != len(b"%d" % CLIENT_ID_FIRST) or not arg.isdigit():
            return arg
        client = self.clients.get(int(arg))
        link = client.exclusive.link if client is not None and client.exclusive else None
        number = link.greeting.server.get(b"id") if link is not None else None
        return b"%d" % number if isinstance(number, int) else arg

    # -- partitions --------------------------------------------------------------------------

    def partition(self, credential: Credential | None, db: int) -> Partition:
        """The partition of a user and a database."""
        key = (credential, db)
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = Partition(self, credential, db)
        return partition

    def change_credential(self, old: Credential, new: Credential) -> None:
        """A password of the settings is another one: links from now on log in with it."""
        for (credential, db), partition in list(self._partitions.items()):
            if credential == old and (new, db) not in self._partitions:
                self._partitions[new, db] = self._partitions.pop((credential, db))
                partition.change_credential(new)
        for client in self.clients.values():
            if client.session.credential == old:
                client.session.credential = new

    def make_room(self, credential: Credential | None, db: int) -> None:
        """Before a client moves to a partition. Raises LimitExceeded if there are too many."""
        known = (credential, db) in self._partitions
        if not known and len(self._partitions) >= self.options.limits.partitions_max:
            raise LimitExceeded("too many users and databases at once", Reason.LIMIT)

    def fence_all(self) -> None:
        """W4 for a write whose keys nobody declared: all hits wait for their tracking link."""
        assert self.caches is not None
        by_cache = {p.tracker.cache: p.tracker for p in self._partitions.values() if p.tracker}
        for cache, data in self.caches.fence_all(self.loop.time()):
            by_cache[cache].write(data)

    @property
    def partitions(self) -> list[Partition]:
        return list(self._partitions.values())

    # -- links -------------------------------------------------------------------------------

    async def dial_permit(self) -> None:
        """Waits until one more dial is due: reconnect storms are spread (token bucket)."""
        while not self._dials.take(self.loop.time()):
            wait_s = self._dials.wait_s(self.loop.time())
            await asyncio.sleep(wait_s)  # a token bucket, not a condition

    def dial_failed(self, label: str, error: ProxyError) -> None:
        """A dial came to nothing. Told once per outage; the rest is counted."""
        self.counters.dials_failed += 1
        self._dialled_s = self.loop.time()
        self.away_for = error.reason
        if self._away_since_s is None:
            now_s = self.loop.time()
            made_for_it = now_s - self._lost_s <= LOSS_S + self.options.connect_timeout_s
            self._away_since_s = self._lost_s if made_for_it else now_s
            self.events(
                "redis_upstream_away", level="warning", route=self.options.name, lane=label,
                upstream=str(self.options.address), reason=error.reason, error=str(error),
            )  # fmt: skip

    def dial_succeeded(self, label: str, link: UpstreamLink) -> None:
        """A link is up."""
        self.counters.links_opened += 1
        self._is_back(label)
        if isinstance(link, DataLink) and link.greeting.authenticated:
            self._learn_commands(link)

    def _is_back(self, label: str) -> None:
        self._lost_s = float("-inf")
        if self._away_since_s is not None:
            away_s = self.loop.time() - self._away_since_s
            self._away_since_s = None
            self.latency.outage.observe(away_s)
            self.events(
                "redis_upstream_back", route=self.options.name, lane=label,
                away_s=round(away_s, 3),
            )  # fmt: skip

    def _begin_probe(self) -> None:
        try:
            self.tasks.start(self._probe(), "probe the upstream")
            self._probing = True
        except LimitExceeded:
            pass  # tasks end: at a later sweep

    async def _probe(self) -> None:
        """See whether the upstream is back while nobody else asks: it must not count as away for
        ever only because nobody comes while it does."""
        options = DialOptions(self.options.connect_timeout_s)
        try:
            (await connect(self.options.address, options)).close()
        except ProxyError:
            return
        finally:
            self._dialled_s = self.loop.time()
            self._probing = False
        self._is_back("probe")

    def link_lost(self, label: str, link: UpstreamLink, inflight: int, *, clients: int) -> None:
        """A link is gone. `clients`: who may miss it."""
        if link.lost_for is Reason.LINK_IDLE:
            return  # we closed it
        reason = link.lost_for or Reason.UPSTREAM_EOF
        self.counters.links_lost += 1
        self.losses[reason] = self.losses.get(reason, 0) + 1
        now_s = self.loop.time()
        if now_s - self._lost_s > LOSS_S:
            self._lost_s = now_s
        self.events(
            "redis_link_lost", level="warning", route=self.options.name, lane=label,
            upstream=str(self.options.address), reason=reason, in_flight=inflight, clients=clients,
        )  # fmt: skip

    def restored(self, label: str, waited_s: float, commands: int, unseen: int) -> None:
        """A lost link has a successor, for which so many commands waited. `unseen`: clients who
        have noticed nothing."""
        self.latency.restore.observe(waited_s)
        self.counters.absorbed += unseen
        self.events(
            "redis_restored", route=self.options.name, lane=label, waited_s=round(waited_s, 4),
            commands=commands,
        )  # fmt: skip

    def lane_over(self, label: str) -> None:
        """A lane whose link was lost gets no other: nobody needs it, or the upstream refuses."""
        self.events("redis_lane_over", level="debug", route=self.options.name, lane=label)

    # -- counting ----------------------------------------------------------------------------

    def count_error(self, reason: Reason, count: int = 1) -> None:
        """The proxy says an error in its own name. What it says exactly as Redis would (a wrong
        number of arguments, say) is not counted."""
        self.errors[reason] = self.errors.get(reason, 0) + count

    def answered(self, reason: Reason, error: str, count: int = 1) -> None:
        """So many commands are answered with an error of the proxy's: `say.DOWN` or `say.LOST`."""
        self.count_error(reason, count)
        self.events(
            "redis_error_answered", level="debug", route=self.options.name, reason=reason,
            error=error, count=count,
        )  # fmt: skip

    def resent(self, count: int) -> None:
        """So many commands of a lost link are sent again."""
        if count:
            self.counters.resent += count
            self.events("redis_resent", level="debug", route=self.options.name, count=count)

    @property
    def away_since_s(self) -> float | None:
        """Since when no link could be opened, in the loop's time."""
        return self._away_since_s

    def login_refused(self, lane: Lane, error: ProxyError) -> None:
        """The upstream refused a lane's login."""
        self.counters.logins_refused += 1

    @property
    def is_upstream_up(self) -> bool:
        """As far as the last dial or loss tells."""
        return self._away_since_s is None

    def _learn_commands(self, link: DataLink) -> None:
        if not self.table.complete and not self._learning:
            self._learning = True
            link.send([Batch(_CommandLearner(self), encode_command(b"COMMAND"), 1)], 0.0)

    def learnt(self, frame: bytes) -> None:
        """The upstream's COMMAND reply, or b"" if none came."""
        self._learning = False
        try:
            table = table_from_reply(decode(frame)[0], fallback_table()) if frame else None
        except PeerProtocolError:
            table = None
        if table is not None:
            self.table = table
        self.events(
            "redis_commands_known", level="debug", route=self.options.name,
            commands=len(self.table.by_name), from_upstream=table is not None,
        )  # fmt: skip


class _CommandLearner:
    """Takes the COMMAND reply that the route asks for by itself."""

    closed = False
    whose = 0
    waits_behind_others = False

    def __init__(self, route: RedisRoute) -> None:
        self._route = route
        self._parts: list[bytes] = []

    def deliver(self, data: bytes) -> None:
        self._parts.append(data)

    def finished(self, batch: Batch) -> None:
        self._route.learnt(b"".join(self._parts))

    def complete(self, batch: Batch, data: bytes) -> None:
        self.deliver(data)
        self.finished(batch)

    def flush(self) -> None: ...

    def close_for(self, reason: Reason) -> None:
        self._route.learnt(b"")

    def replaced(self, batch: Batch, batches: list[Batch]) -> None:
        self._parts.clear()

    def stall(self, batch: Batch) -> bool:
        return False
