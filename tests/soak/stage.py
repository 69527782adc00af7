"""A soak: many clients, mostly idle, links cut all the time, and the proxy watched meanwhile.

clients ── Backstay ─┬─ hop ══TLS══ PostgreSQL
                     └─ hop ─plain─ Redis
"""

import asyncio
import json
import random
import time
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from proxy.demo.certificates import TlsFiles
from proxy.demo.cutter import Cut, Cutter, Target
from proxy.demo.ledger import Balance, balance
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer, RedisServer, postgres_url
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter
from tests.soak.load import DIRECT, HOT_KEYS, Book, PostgresClient, RedisClient, guarded, hot
from tests.soak.watch import Sample, leaks, left_behind, quantiles, settled, slower

USER = "app_tls"
TABLE = "soak_ledger"
CONNECT_AT_A_TIME = 16
ACTIVE_S, IDLE_S = 1.0, 30.0  # mean time between two requests of an active and of an idle client
ACTIVE_SHARE = 0.12
SAMPLE_S = 1.0
LEAVE_S_MAX = 30.0
ALL_CUT_EVERY = 60  # strokes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much, how long, how often."""

    seed: int
    seconds: float
    postgres: int
    redis: int
    cut_every_s: float = 1.0
    sample_s: float = SAMPLE_S


@dataclass
class Result:
    """What a soak has seen, and the verdict on it."""

    plan: Plan
    book: Book
    cuts: int
    samples: list[Sample]
    before: Sample
    after: Sample
    status: dict[str, Any]
    balance: Balance
    bugs: int
    problems: list[str] = field(default_factory=list)


class Soak:
    """Everything that runs. `run` may be called once; the servers are the caller's."""

    def __init__(
        self,
        plan: Plan,
        servers: tuple[PostgresServer, RedisServer],
        tls: TlsFiles,
        folder: Path,
    ) -> None:
        self.plan = plan
        self._servers, self._tls, self._folder = servers, tls, folder
        self._rng = random.Random(plan.seed)
        self._samples: list[Sample] = []
        self.leave_s_max = LEAVE_S_MAX
        self.environment: dict[str, str] = {}
        """More of it, for the proxy."""

    async def run(self) -> Result:
        """Load for `seconds`, then let everybody go, then look at what is left."""
        postgres, redis = self._servers
        await asyncio.to_thread(self._prepare)
        address = ("127.0.0.1", postgres.port)
        with (
            ThreadCutter(Target(address=address), seed=self.plan.seed) as first,
            ThreadCutter(Target(address=("127.0.0.1", redis.port)), seed=self.plan.seed) as second,
        ):
            proxy = Backstay(self._settings(first.port, second.port), self._folder)
            proxy.add_environment(self.environment)
            await asyncio.to_thread(proxy.start)
            try:
                result = await self._load(proxy, (first, second))
            finally:
                await asyncio.to_thread(proxy.kill)
        return result

    async def _load(self, proxy: Backstay, hops: tuple[ThreadCutter, ThreadCutter]) -> Result:
        before = _sample(await _status(proxy), 0.0)
        book = Book()
        async with asyncio.TaskGroup() as group:
            clients = await self._connect(proxy, book)
            book.begun_s = time.monotonic()
            for name, work in clients:
                group.create_task(guarded(name, work, book))
            group.create_task(self._watch(proxy, book))
            cuts = await self._strike(book, hops)
            status = await _status(proxy)
            book.over.set()
        after = await self._gone(proxy, before)
        rows = await asyncio.to_thread(self._rows)
        written = balance(book.writes, rows)
        bugs = status["workers"][0]["bugs"] + proxy.log_text().count('"event":"task_crashed"')
        result = Result(self.plan, book, cuts, self._samples, before, after, status, written, bugs)
        result.problems = problems(result)
        return result

    async def _connect(
        self, proxy: Backstay, book: Book
    ) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """Everybody, a few at a time."""
        turns = asyncio.Semaphore(CONNECT_AT_A_TIME)
        dsn = postgres_url(("127.0.0.1", proxy.port()), USER, "app", sslmode="disable")

        async def postgres(number: int) -> tuple[str, Callable[[], Awaitable[None]]]:
            async with turns:
                session = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            client = PostgresClient(session, TABLE, number)
            return f"postgres {number}", lambda: client.run(book, self._mean_s(number))

        async def redis(number: int) -> tuple[str, Callable[[], Awaitable[None]]]:
            client = RedisClient(proxy.port("redis"), number)
            async with turns:
                await client.open()
            return f"redis {number}", lambda: client.run(book, self._mean_s(number))

        opened = [postgres(number) for number in range(self.plan.postgres)]
        opened += [redis(number) for number in range(self.plan.redis)]
        return list(await asyncio.gather(*opened))

    def _mean_s(self, number: int) -> float:
        return ACTIVE_S if number % 100 < ACTIVE_SHARE * 100 else IDLE_S

    async def _strike(self, book: Book, hops: tuple[ThreadCutter, ThreadCutter]) -> int:
        """One stroke each `cut_every_s`, on some links or, now and then, all; how many it broke."""
        end_s = book.begun_s + self.plan.seconds
        strokes = 0
        while (left_s := end_s - time.monotonic()) > 0 and not book.broken:
            await asyncio.sleep(min(self.plan.cut_every_s, left_s))
            strokes += 1
            kinds = (Cut.FIN, Cut.RST, Cut.TLS_ABORT) if strokes % 2 else (Cut.FIN, Cut.RST)
            share = self._rng.choice((0.02, 0.1, 0.2)) if strokes % 2 else 0.5
            if strokes % ALL_CUT_EVERY >= ALL_CUT_EVERY - 2:
                share = 1.0
            cut, hop = self._rng.choice(kinds), hops[1 - strokes % 2]
            await asyncio.to_thread(hop.call, partial(_cut_some, cut=cut, share=share))
        return sum(len(hop.cutter.history) for hop in hops)

    async def _watch(self, proxy: Backstay, book: Book) -> None:
        """Samples, and with each how long a statement takes without the proxy, now."""
        dsn = self._servers[0].dsn(database="app", sslmode="disable")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as direct:
            while not book.over.is_set():
                self._samples.append(_sample(await _status(proxy), time.monotonic() - book.begun_s))
                began_s = time.monotonic()
                await direct.execute("select 1")
                book.took(DIRECT, began_s)
                await asyncio.sleep(self.plan.sample_s)

    async def _gone(self, proxy: Backstay, before: Sample) -> Sample:
        """A sample when the last client and the links nobody needs have gone, or time is up."""
        end_s = time.monotonic() + self.leave_s_max
        while True:
            status = await _status(proxy)
            after = _sample(status, 0.0)
            clients = sum(route["clients"] for route in (*status["postgres"], *status["redis"]))
            gone = clients == 0 and not left_behind(before, after)
            if gone or time.monotonic() > end_s:
                return after
            await asyncio.sleep(0.1)

    def _prepare(self) -> None:
        postgres, redis = self._servers
        with postgres.connect() as direct:
            direct.execute(f"drop table if exists {TABLE}")
            direct.execute(f"create table {TABLE} (id bigint)")
            direct.execute(f"grant all on {TABLE} to public")
        with redis.connect() as client:
            for key in client.scan_iter("soak:*"):
                client.delete(key)
            client.mset({f"hot:{number}": hot(number) for number in range(HOT_KEYS)})

    def _rows(self) -> list[tuple[int, int]]:
        with self._servers[0].connect() as direct, direct.transaction():
            direct.execute(f"lock table {TABLE} in share mode")
            return direct.execute(f"select id, count(*) from {TABLE} group by id").fetchall()

    def _settings(self, postgres_port: int, redis_port: int) -> dict[str, Any]:
        login = f"{USER}:{ROLE_PASSWORDS[USER]}"
        verify = f"sslmode=verify-full&sslrootcert={self._tls.ca}"
        url = f"postgresql://{login}@127.0.0.1:{postgres_port}/app?{verify}"
        pool = {"size": self.plan.postgres + 10, "clients": self.plan.postgres + 10}
        return {
            "postgres": [{"upstream": url, "pool": pool | {"idle_s": 1, "warm": 1}}],
            "redis": [
                {
                    "upstream": f"redis://127.0.0.1:{redis_port}/0",
                    "clients": self.plan.redis + 10,
                    "hold_s": 15,
                }
            ],
            "log": {"level": "warning", "format": "json"},
        }


def problems(result: Result) -> list[str]:
    """What was not as promised; empty if all was."""
    book, seconds = result.book, result.plan.seconds
    found = [f"not a named error: {text}" for text in book.broken[:5]]
    found += [f"wrong answer: {text}" for text in book.wrong[:5]]
    if not result.balance.right:
        found.append(f"the ledger: {result.balance}")
    if result.bugs:
        found.append(f"the proxy reports {result.bugs} bugs")
    found += leaks(result.samples, seconds)
    found += left_behind(result.before, result.after)
    before, now = latencies(result, DIRECT)
    for kind in ("postgres", "redis"):
        found += slower(kind, *latencies(result, kind), machine=(before, now))
    return found


def latencies(result: Result, kind: str) -> tuple[Any, Any]:
    """Of the first and of the last third of the time after warm-up."""
    calm = settled(result.samples, result.plan.seconds)
    began_s = calm[0].at_s if calm else 0.0
    third_s = (result.plan.seconds - began_s) / 3
    all_s = result.book.durations[kind]
    first = [took_s for at_s, took_s in all_s if began_s <= at_s < began_s + third_s]
    last = [took_s for at_s, took_s in all_s if at_s >= result.plan.seconds - third_s]
    return quantiles(first or [0.0]), quantiles(last or [0.0])


def _cut_some(cutter: Cutter, cut: Cut, share: float) -> int:
    return cutter.cut_some((cut,), share)


async def _status(proxy: Backstay) -> dict[str, Any]:
    address = f"http://{proxy.config['admin']['listen']}/api/v1/status"

    def ask() -> dict[str, Any]:
        with urllib.request.urlopen(address, timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    return await asyncio.to_thread(ask)


def _sample(status: dict[str, Any], at_s: float) -> Sample:
    worker = status["workers"][0]
    return Sample(at_s, worker["rss_bytes"], worker["open_fds"], worker["tasks"])
