"""One run: the real runtime between model clients and a model server, faults, and the checks.

Everything follows from the seed. `run(seed)` gives what went wrong (nothing, it is hoped), what
happened, and the trace.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from proxy.core import numbers as product_numbers
from proxy.net.contexts import ClientTls, SslMode
from proxy.net.dial import Address
from proxy.net.keepalive import Keepalive
from proxy.postgres.runtime import control, entry, route, rules, upstream
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.link import Phase as LinkPhase
from proxy.postgres.runtime.options import (
    AuthOptions,
    Host,
    PoolOptions,
    ResilienceOptions,
    RouteOptions,
    UpstreamOptions,
)
from proxy.postgres.runtime.route import PostgresRoute
from proxy.postgres.runtime.session_base import Lost, Phase, SessionBase
from tests.simulation.audit import Audit, audited
from tests.simulation.belief import Books
from tests.simulation.client import LIVES_MAX, SHUTTING, UNKNOWN, Client
from tests.simulation.cluster import Cluster
from tests.simulation.loop import START_S, Deadlock, Livelock, VirtualLoop
from tests.simulation.network import Endpoint, Network, Plan, installed
from tests.simulation.scenario import Scenario, drawn
from tests.simulation.script import Numbers
from tests.simulation.server import Server
from tests.simulation.shape import Shape

HOLD_S = 6.0
FOUND_OUT_S = 12.0  # a link that dies in silence is known to be dead
KEEPALIVE = Keepalive(idle_s=2, interval_s=1, count=2)
NETWORK, SERVER = ("fin", "rst", "silence"), ("terminate", "restart", "crash")
FAULTS = (*NETWORK, *SERVER, "pause", "reconnect", "kill one")


@dataclass
class Outcome:
    """What one run gave."""

    seed: int
    problems: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    trace: list[tuple[float, str, object]] = field(default_factory=list)

    def told(self) -> Iterator[str]:
        """The trace for people, a line each."""
        for now_s, who, what in self.trace:
            text = repr(what) if isinstance(what, bytes) else str(what)
            yield f"{now_s - START_S:10.6f}  {who:<22} {text[:200]}"


class World:
    """All there is in one run."""

    def __init__(self, seed: int, loop: VirtualLoop, scenario: Scenario) -> None:
        self.loop, self.scenario = loop, scenario
        self.out = Outcome(seed)
        self.numbers = Numbers()
        self.books = Books()
        self.faults = 0
        self.hard = False  # faults may last as long as the proxy waits
        self.cut_clients = self.stopping = self.killed = False
        self.rng = random.Random(f"{seed} faults")
        self.network = Network(loop, random.Random(f"{seed} network"), self.trace)
        self.network.plans = self._plan
        hosts = 2 if scenario.hosts else 1
        self.cluster = Cluster(self.network, random.Random(f"{seed} server"), hosts)
        self.clients = self.rng.randrange(1, 5)
        self.cut_chance = self.rng.choice((0.0, 0.0, 0.3, 0.6))
        small = self.rng.random() < 0.3
        pool_size = self.rng.randrange(1, 4) if small else self.clients + 2
        self.shape = Shape(scenario, random.Random(f"{seed} shape"), self.clients, pool_size)
        self.clients, self.pool_size = self.shape.clients, self.shape.pool_size
        self.audit = Audit(self)
        self.drained_by_s = 0.0
        self.route: Any = None
        loop.set_exception_handler(self._crashed)

    @property
    def server(self) -> Server:
        """The one that takes writes."""
        return self.cluster.primary

    # -- what is noted

    def trace(self, who: str, what: object) -> None:
        """One event of the run."""
        self.out.trace.append((self.loop.time(), who, what))

    def wrong(self, problem: str) -> None:
        """An invariant is broken."""
        self.trace("WRONG", problem)
        self.out.problems.append(problem)

    def events(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        """The product's own events."""
        fields.pop("route", None)
        self.trace("proxy", f"{event} {fields}")
        self.out.seen[event] += 1
        self.audit.event(event)
        if event == "link_lost":
            verdicts = fields["verdicts"]
            assert isinstance(verdicts, list)
            self.out.seen.update(verdicts)
        if event == "replayed":
            self.out.seen[f"certificate {fields['certificate']}"] += 1
        if level == "error":
            self.wrong(f"{event} {fields}")

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.wrong(f"{context.get('message')}: {context.get('exception')!r}")

    # -- the parts

    def options(self) -> RouteOptions:
        """The route's."""
        rng = self.rng
        options = RouteOptions(
            name="sim",
            upstream=UpstreamOptions(
                hosts=(Host(Address("127.0.0.1", 5432)),),
                tls=ClientTls(mode=SslMode.DISABLE),
                connect_timeout_s=3.0,
                keepalive=KEEPALIVE,
            ),
            auth=AuthOptions(method="trust"),
            pool=PoolOptions(size=self.pool_size, warm=rng.randrange(2)),
            resilience=ResilienceOptions(hold_s=HOLD_S, notice_s=2.0),
            ping_s=rng.choice((5.0, 25.0)),
            ping_timeout_s=2.0,
        )
        return self.shape.options(options)

    def connect(self, name: str, protocol: Any) -> Endpoint:
        """A client's new connection to the proxy."""
        return self.network.client(name, self.route.client_protocol, protocol)

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self.out.seed} client {number}")
        left = rng.randrange(4, 14)
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.1, 1.0)) * rng.random())
        startup = {"user": rng.choice(("ann", "ann", "bob")), "database": "app"}
        if rng.random() < 0.5:
            startup["application_name"] = rng.choice(("one", "two"))
        for life in range(LIVES_MAX):
            await asyncio.sleep(rng.uniform(0, 0.05) * life)
            client = Client(self, f"c{number}.{life}", rng, startup)
            self.connect(client.name, client)
            stay = rng.randrange(2, 15)
            left -= await client.live(min(left, stay))
            if left <= 0 or self.stopping:
                return

    # -- faults

    def _plan(self) -> Plan | None:
        """How the link that is made now will break."""
        rng = self.rng
        if rng.random() >= self.cut_chance or self.faults > 12:
            return None
        self.faults += 1
        self.hard = True
        size = rng.choice((100, 400, 1500, 1500, 4000, 90_000))
        return Plan(rng.random() < 0.4, rng.randrange(size), rng.choice(("fin", "rst", "silence")))

    async def _break_things(self) -> None:
        rng = self.rng
        count = rng.choice((0, 1, 3, 5, 8))
        for _ in range(count):
            await asyncio.sleep(rng.choice((0.01, 0.05, 0.3, 3.0)) * rng.random())
            kind = rng.choice(FAULTS)
            self.faults += 1
            self.trace("fault", kind)
            self.hard = self.hard or kind == "silence"
            self.out.seen[f"fault {kind}"] += 1
            if kind in ("restart", "crash"):
                await self._restart(kind)
            elif kind in ("pause", "reconnect", "kill one"):
                await self._operate(kind)
            elif kind == "terminate":
                if self.server.backends:
                    pid = rng.choice(list(self.server.backends))
                    self.server.end(pid, self.server.backends[pid].start)
            elif self.network.upstreams:
                end = rng.choice(list(self.network.upstreams.values()))
                self.network.break_(end if rng.random() < 0.5 else end.peer, kind)

    async def _restart(self, kind: str) -> None:
        server, rng = self.server, self.rng
        if kind == "restart":
            server.stop_fast()
        else:
            server.kill()
        await asyncio.sleep(rng.choice((0.0, 0.05, 1.0)))
        if rng.random() < 0.4:
            server.start(starting=True)
            await asyncio.sleep(rng.choice((0.02, 0.5)))
        server.start(starting=False)

    async def _operate(self, kind: str) -> None:
        """What an operator does."""
        if kind == "reconnect":
            control.reconnect(self.route)
        elif kind == "kill one":
            numbers = sorted(session.number for session in self.route.sessions)
            if numbers:
                self.killed = True
                control.kill_client(self.route, self.rng.choice(numbers))
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.rng.choice((0.1, 2.0))):
                    if await control.pause(self.route):
                        self.audit.paused_well()
            await asyncio.sleep(self.rng.choice((0.0, 0.5, 8.0)))
            control.resume(self.route)

    async def _watch(self) -> None:
        """Now and then: nobody waits for nothing, and everything is counted."""
        while True:
            await asyncio.sleep(self.rng.choice((0.001, 0.02, 0.1, 0.7)))
            for session in self.route.sessions:
                for problem in stuck(session):
                    self.wrong(f"session {session.number}: {problem}")
            self.audit.watch()
            for pool in self.route.pools.values():
                counts = pool.counts()
                if counts["idle"] + counts["attached"] > counts["links"]:
                    self.wrong(f"a pool counts wrong: {counts}")
            waiting = sum(len(pool._waiters) for pool in self.route.pools.values())
            if waiting > self.route.hold.count:
                self.wrong(f"{waiting} wait, {self.route.hold.count} are counted")

    # -- checks

    def may_end(self, client: Client, words: dict[str, str]) -> str | None:
        """Why the proxy must not have ended this session so; None: it may."""
        code = words["C"]
        early = self.audit.clock_s() - client.waits_since_s < HOLD_S * 0.99
        if self.shape.scarce:
            if "sessions wait for the database already" in words["M"]:
                return None if self.audit.hold_was_full else "ended, and the queue was never full"
            # What is told is the last cause: a link may have ended at last, and a dial begun.
            if code in ("53300", "08006", "57P03"):
                return "ended for want of a link before its time" if early else None
        if self.stopping and code == "57P01":
            return self._drained(client, words)
        if not self.faults:
            return "ended without a fault"
        if self.killed and code in ("57P01", "57014"):
            return None
        if code == "57P01":
            return None if client.pinned else "ended for a state that can be rebuilt"
        if code in ("08006", "57P03", "53300") and self.hard:
            return f"ended with {code} before its time" if early else None
        return f"ended with {code}"

    def _drained(self, client: Client, words: dict[str, str]) -> str | None:
        """Why it must not have been told of the stop so, before all have to end."""
        if SHUTTING not in words["M"] or self.loop.time() >= self.drained_by_s:
            return None
        if UNKNOWN in words["D"] or client.belief.status != "I":
            return "told of the stop at no boundary"
        begun = any(unit.got for unit in client.owed)
        return "told of the stop within an answer" if begun else None

    async def main(self) -> None:
        """The run itself."""
        self.route = PostgresRoute(
            self.options(), self.events, random.Random(f"{self.out.seed} proxy")
        )
        self.route.start()
        lives = [self._client(number) for number in range(self.clients)]
        watch = self.loop.create_task(self._watch())
        if self.rng.random() < 0.15 or (self.scenario.operate and self.shape.rng.random() < 0.6):
            lives.append(self._stop_early())
        if self.scenario.operate:
            lives.append(self._operator())
        if self.scenario.hosts:
            lives.append(self._fail_over())
        outside = self.loop.create_task(self._publish())
        await asyncio.gather(self._break_things(), *lives)
        watch.cancel()
        outside.cancel()
        await asyncio.sleep(30.0 - FOUND_OUT_S)
        self.network.calm()
        await asyncio.sleep(FOUND_OUT_S)
        if not self.stopping:
            await self.audit.dials_over()
            self._at_rest()
            await self.route.stop(1.0)
        await asyncio.sleep(10.0)
        self._after_stop()
        self.out.problems += self.books.problems(self.server.ledger)
        self.out.problems += self.network.crashes
        for server in self.cluster.servers:
            self.out.problems += server.bugs

    async def _stop_early(self) -> None:
        """SIGTERM while clients work."""
        await asyncio.sleep(self.rng.uniform(0, 3.0))
        self.stopping = True
        self.trace("fault", "stop")
        drain_s = self.rng.choice((0.0, 1.0, 5.0))
        if self.scenario.operate:
            drain_s = self.shape.rng.choice((1.0, 5.0, 20.0))
        self.drained_by_s = self.loop.time() + drain_s
        await self.route.stop(drain_s)

    async def _publish(self) -> None:
        """Somebody beside the proxy notifies."""
        rng = self.shape.rng
        while self.scenario.notify:
            await asyncio.sleep(rng.choice((0.001, 0.02, 0.1, 0.5)) * rng.random())
            self.server.publish(self.numbers.next())

    async def _fail_over(self) -> None:
        """The hosts change their roles."""
        rng = self.shape.rng
        for _ in range(rng.randrange(1, 5)):
            await asyncio.sleep(rng.choice((0.05, 0.5, 3.0)) * rng.random())
            kind = rng.choice(("turn", "turn", "fast", "crash"))
            self.faults += 1
            self.trace("fail-over", kind)
            await self.cluster.fail_over(kind, rng)

    async def _operator(self) -> None:
        """Somebody at the console, beside whatever else befalls."""
        rng = self.shape.rng
        for _ in range(rng.randrange(2, 8)):
            await asyncio.sleep(rng.choice((0.01, 0.2, 2.0)) * rng.random())
            kind = rng.choice(("pause", "pause", "reconnect"))
            self.faults += 1
            self.trace("operator", kind)
            await self._operate(kind)

    def _at_rest(self) -> None:
        """Everybody has gone, and there was time to tidy up."""
        route = self.route
        for what, count in (
            ("sessions", len(route.sessions)),
            ("entries", len(route.entries)),
            ("hold slots", route.hold.count),
            ("cancel keys", len(route._keys)),
            ("dials under way", route.upstream.opening),
        ):
            if count:
                self.wrong(f"{count} {what} left when all clients have gone")
        links = 0
        for pool in route.pools.values():
            counts = pool.counts()
            links += counts["links"]
            if counts["links"] != counts["idle"] + pool._pinging or counts["waiting"]:
                self.wrong(f"a pool at rest: {counts}, {pool._pinging} pinged")
            if counts["links"] > self.pool_size:
                self.wrong(f"a pool above its size: {counts}")
        self.audit.at_rest()
        ends = self.network.upstreams.values()
        alive = sum(not (end.silent or end.is_closing()) for end in ends)
        if alive != links:
            self.wrong(f"{alive} connections to the server, {links} links in the pools")

    def _after_stop(self) -> None:
        route = self.route
        if len(route.tasks):
            self.wrong(f"{len(route.tasks)} tasks after the stop")
        left = [end.name for end in self.network.upstreams.values()]
        if left:
            self.wrong(f"connections after the stop: {left}")


def stuck(session: Any) -> Iterator[str]:
    """What is wrong with a session between two turns of the loop."""
    queue, link = session._queue, session.link
    busy = session._attaching is not None or session.expected.inflight
    if session.phase is Phase.CLOSED:
        yield "closed and still registered"
    if queue and not busy and session.phase is Phase.READY:
        first = queue[0].unit
        waits = first.say is None and not first.complete and session.lost is not Lost.NO
        if not waits:
            yield f"something waits, nothing is under way (link: {link and link.phase})"
    if session.phase is Phase.JOINING and session._attaching is None:
        yield "joining, and nobody gets a link for it"
    if sum(len(part) for entry in queue for part in entry.parts) != session._queued_bytes:
        yield "queued bytes are counted wrong"
    if session.is_direct and (queue or link is None or link.phase is not LinkPhase.ATTACHED):
        yield "the hot path is open, and must not be"
    if link is not None and link.closed:
        yield "holds a closed link"


@contextlib.contextmanager
def determined(seed: int) -> Iterator[None]:
    """Hashes and secrets that are the same in each run of a seed."""
    rng = random.Random(f"{seed} secrets")
    product_numbers.session_number._last = 0
    product_numbers.link_number._last = 0
    secrets = mock.Mock(token_bytes=rng.randbytes)
    with contextlib.ExitStack() as stack:
        for module in (entry, route, rules, upstream):
            stack.enter_context(mock.patch.object(module, "secrets", secrets))
        for kind in (SessionBase, Link):
            stack.enter_context(mock.patch.object(kind, "__hash__", lambda self: self.number))
        yield


def run(seed: int, scenario: Scenario | None = None) -> Outcome:
    """One run from its seed, of another scenario than its own if one is given.

    Never raises: what went wrong is in `problems`.
    """
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    world = World(seed, loop, scenario or drawn(seed))
    loop.network = world.network
    try:
        with determined(seed), installed(world.network), audited(world):
            try:
                loop.run_until_complete(world.main())
            except Exception as error:
                world.wrong(f"{type(error).__name__}: {error}")
            for task in asyncio.all_tasks(loop):
                task.cancel()
            with contextlib.suppress(Deadlock, Livelock):
                loop.run_until_complete(asyncio.sleep(0))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return world.out
