"""The stage of `backstay demo`: servers, hops, the proxy, two applications, strikes, a verdict.

    application ── hop ───────────────── PostgreSQL        direct
    application ── Backstay ── hop ───── PostgreSQL        through Backstay

and the same with Redis (cache_half.py).
Everything is started here and ended here, in the opposite order, also when it is interrupted.
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from proxy.demo.binaries import postgres_bin, postgres_has_tls
from proxy.demo.cache_half import CacheHalf
from proxy.demo.certificates import make_tls
from proxy.demo.child import ServerError, scratch_folder
from proxy.demo.cutter import Cutter, Target
from proxy.demo.front import Front, Ports
from proxy.demo.gate import Gate
from proxy.demo.ledger import Balance, Tally, balance
from proxy.demo.servers import PostgresOptions, PostgresServer, postgres_url
from proxy.demo.strikes import Striker, pause
from proxy.demo.workload import SCHEMA, Side, Worker, application_name

WORKERS: Final = 4
FINISH_S_MAX: Final = 75.0  # above the longest wait for an answer
TICK_S: Final = 0.25
HONEST: Final = frozenset(("40001", "08007", "08006"))
"""Rolled back, outcome unknown, result interrupted: what is true when a cut strikes mid-work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """seconds: None until interrupted. `resilience` replaces settings of that section."""

    seconds: float | None = None
    seed: int = 1
    cut_every_s: float = 2.0
    anywhere: bool = False
    usual_ports: bool = True
    resilience: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """What there is to see: read by whoever shows it."""

    options: Options
    server: PostgresServer
    version: str  # of the server, and whether by TLS
    url: str  # through the proxy
    direct: Side
    through: Side
    striker: Striker
    gate: Gate
    front: Front
    cache: CacheHalf
    dashboard: str | None = None
    elapsed_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    proxy_died: str = ""
    """The end of the proxy's log, if it ended by itself."""
    balances: Mapping[str, Balance] = field(default_factory=dict)


class Watch(Protocol):
    """Shows a scene."""

    def say(self, text: str) -> None:
        """A line about what is being done."""

    def begin(self, scene: Scene) -> None:
        """Everything runs from now on."""

    def tick(self, scene: Scene) -> None:
        """Four times a second."""

    def end(self, scene: Scene, problems: Sequence[str]) -> None:
        """It is over; `problems` is empty if the proxy's side was faultless."""


async def play(options: Options, watch: Watch) -> int:
    """Run the demo; 0 if the proxy's side was faultless, else 1. Raises ServerError."""
    stop = asyncio.Event()
    _on_signals(stop)
    async with AsyncExitStack() as stack:
        scene = await _build(options, watch, stop, stack)
        if scene is None:
            return 1  # interrupted before there was anything to see
        watch.begin(scene)
        await _run(scene, watch, stop)
        await asyncio.to_thread(_settle, scene)
        problems = faults(scene)
        watch.end(scene, problems)
    return 1 if problems else 0


def _on_signals(stop: asyncio.Event) -> None:
    """SIGINT, SIGTERM and SIGHUP: end in order; a second one: at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def told() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told)


# -- building


async def _build(
    options: Options, watch: Watch, stop: asyncio.Event, stack: AsyncExitStack
) -> Scene | None:
    """Start everything, or None if interrupted. `stack` ends it."""
    watch.say("starting PostgreSQL …")
    server = await asyncio.to_thread(_new_server)
    stack.push_async_callback(asyncio.to_thread, server.close)
    await asyncio.to_thread(lambda: server.create().start())
    await asyncio.to_thread(server.sql, SCHEMA)
    if stop.is_set():
        return None
    target = Target(address=("127.0.0.1", server.port))
    hops = [await stack.enter_async_context(Cutter(target, options.seed)) for _ in range(2)]
    direct = Side("direct", _url(server, hops[0].port))
    watch.say("starting Redis …")
    cache = CacheHalf(options.seed)
    await cache.open(stack)
    if stop.is_set():
        return None
    ports = Ports.choose(options.usual_ports)
    watch.say("starting Backstay …")
    settings = _settings(options, ports, _url(server, hops[1].port), cache.through.hop.port)
    front = Front(settings, ports)
    stack.push_async_callback(asyncio.to_thread, front.close)
    await asyncio.to_thread(front.start)
    user = _user(server)
    through = Side("backstay", postgres_url(("127.0.0.1", ports.postgres), user, "app"))
    names = [application_name(side.name) for side in (direct, through)]
    version = await asyncio.to_thread(server.sql, "show server_version")
    by = "over TLS" if server.options.tls else "without TLS (this build has none)"
    gate = Gate(options.anywhere)
    return Scene(
        options=options,
        server=server,
        version=f"PostgreSQL {version[0][0].split()[0]} {by}",
        url=through.url,
        direct=direct,
        through=through,
        striker=Striker(server, hops, names, gate),
        gate=gate,
        front=front,
        cache=cache,
        dashboard=await asyncio.to_thread(front.dashboard),
    )


def _new_server() -> PostgresServer:
    tls = make_tls(scratch_folder()) if postgres_has_tls(postgres_bin()) else None
    return PostgresServer(PostgresOptions(tls=tls))


def _user(server: PostgresServer) -> str:
    return "app_tls" if server.options.tls else "app_scram"


def _url(server: PostgresServer, port: int) -> str:
    """As an application would write it: through the hop, certificate verified if there is one."""
    tls = server.options.tls
    options = {"sslmode": "verify-full", "sslrootcert": str(tls.ca)} if tls else {}
    return postgres_url(("127.0.0.1", port), _user(server), "app", **options)


def _settings(options: Options, ports: Ports, upstream: str, redis_port: int) -> dict[str, Any]:
    """The proxy's settings file: where to listen, where the upstream is, defaults for the rest."""
    route: dict[str, Any] = {"listen": f"127.0.0.1:{ports.postgres}", "upstream": upstream}
    if options.resilience:
        route["resilience"] = dict(options.resilience)
    return {
        "postgres": [route],
        "redis": [
            {
                "listen": f"127.0.0.1:{ports.redis}",
                "upstream": f"redis://127.0.0.1:{redis_port}/0",
            }
        ],
        "admin": {"listen": f"127.0.0.1:{ports.admin}"},
        "log": {"format": "json"},
        "drain_s": 1,
    }


# -- running


async def _run(scene: Scene, watch: Watch, stop: asyncio.Event) -> None:
    """Both applications and the strikes, until the time is over or somebody interrupts."""
    options, striker = scene.options, scene.striker
    struck, over = asyncio.Event(), asyncio.Event()
    rng = random.Random(options.seed)
    try:
        async with asyncio.timeout(None) as bound, asyncio.TaskGroup() as applications:
            for side in (scene.direct, scene.through):
                for number in range(WORKERS):
                    worker = Worker(side, number, scene.gate, options.seed)
                    applications.create_task(worker.run(over))
            applications.create_task(scene.cache.direct.run(scene.cache.direct.hop.port, over))
            applications.create_task(scene.cache.through.run(scene.front.ports.redis, over))
            async with asyncio.TaskGroup() as strikes:
                strikes.create_task(striker.run(struck, options.cut_every_s, rng))
                strikes.create_task(scene.cache.strike(struck, options.cut_every_s))
                await _watch(scene, watch, stop)
                struck.set()
            over.set()
            bound.reschedule(asyncio.get_running_loop().time() + FINISH_S_MAX)
    except* ServerError as group:
        raise group.exceptions[0] from None


async def _watch(scene: Scene, watch: Watch, stop: asyncio.Event) -> None:
    """Keep the scene up to date, and show it, until the end."""
    clock = asyncio.get_running_loop().time
    started_s = clock()
    seconds = scene.options.seconds
    while not stop.is_set() and (seconds is None or scene.elapsed_s < seconds):
        await pause(stop, TICK_S)
        scene.elapsed_s = clock() - started_s
        scene.counts = scene.front.look()
        scene.cache.look()
        if not scene.front.running() and not scene.proxy_died:
            scene.proxy_died = scene.front.last_lines() or "no word in its log"
        watch.tick(scene)


def _settle(scene: Scene) -> None:
    """Read the ledger from the table, behind the back of both sides."""
    query = "select id, count(*) from gym.visits where via = %s group by id"
    scene.counts = scene.front.look()
    scene.cache.look()
    scene.balances = {
        side.name: balance(side.tally, scene.server.sql(query, side.name))
        for side in (scene.direct, scene.through)
    }


# -- the verdict


def faults(scene: Scene) -> list[str]:
    """What was not as promised on the proxy's side; empty if all was."""
    tally, books = scene.through.tally, scene.balances[scene.through.name]
    found = []
    if scene.proxy_died:
        found.append(f"the proxy ended by itself:\n{scene.proxy_died}")
    found += _errors(tally, scene.options.anywhere)
    if tally.wrong:
        found.append(f"{len(tally.wrong)} wrong answers, such as: {tally.wrong[0]}")
    for count, what in (
        (books.lost, "acknowledged and not stored"),
        (books.doubled, "stored more than once"),
        (books.invented, "stored although nobody was told so"),
    ):
        if count:
            found.append(f"{count} writes {what}")
    found += scene.cache.faults()
    if scene.options.seconds is not None and scene.elapsed_s >= scene.options.seconds:
        found += _too_little(scene)
    return found


def _errors(tally: Tally, anywhere: bool) -> list[str]:
    """Errors that count: all; where cuts strike anywhere, all but those that say what is true."""
    if anywhere and tally.codes.keys() <= HONEST:
        return []
    total = tally.errors.total()
    return [
        f"{total} errors: {text} ({count} times)" for text, count in tally.errors.most_common(1)
    ]


def _too_little(scene: Scene) -> list[str]:
    """A run in which nothing happened has shown nothing."""
    if scene.striker.done.total() == 0:
        return ["no strike came about: " + "; ".join(scene.striker.skipped)]
    if not scene.through.tally.acknowledged or scene.through.tally.requests < WORKERS:
        return ["hardly a request was served"]
    if not scene.cache.through.tally.requests:
        return ["not one request to Redis was served"]
    return []
