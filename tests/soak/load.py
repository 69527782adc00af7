"""The clients of a soak: as applications are, mostly idle; each knows what it may be told."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from proxy.demo.ledger import Tally

NOTHING_SAVED = frozenset(("40001", "25P02", "08006"))
POSTGRES_NAMED = NOTHING_SAVED | {"08007"}
REDIS_NAMED = ("UPSTREAMLOST", "UPSTREAMDOWN")
DIRECT = "without the proxy"
HOT_KEYS = 50
ANSWER_S_MAX = 40.0


@dataclass
class Book:
    """Everything the clients were told; one loop, so no lock."""

    begun_s: float = field(default_factory=time.monotonic)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    writes: Tally = field(default_factory=Tally)
    served: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    durations: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {"postgres": [], "redis": [], DIRECT: []}
    )
    """Kind → (when it was answered, since the load began; how long it took), seconds."""

    async def thinks(self, mean_s: float, rng: random.Random) -> bool:
        """Wait as a user does between two requests; False when it is over."""
        try:
            async with asyncio.timeout(min(rng.expovariate(1 / mean_s), 4 * mean_s)):
                await self.over.wait()
        except TimeoutError:
            return True
        return False

    def took(self, kind: str, began_s: float) -> None:
        """A request was answered, with or without an error."""
        now_s = time.monotonic()
        self.durations[kind].append((now_s - self.begun_s, now_s - began_s))


class PostgresClient:
    """One session with a setting of its own."""

    def __init__(self, session: "psycopg.AsyncConnection[Any]", table: str, number: int) -> None:
        self._session, self._table = session, table
        self._rng = random.Random(number)
        self._tenant = f"tenant {number}"

    async def run(self, book: Book, mean_s: float) -> None:
        """Work until it is over. Whatever it may not be told is raised."""
        try:
            await self._work(book, mean_s)
        finally:
            await self._session.close()

    async def _work(self, book: Book, mean_s: float) -> None:
        await self._session.execute(f"set app.tenant to '{self._tenant}'")
        ways = (self._check, self._read, self._simple, self._extended, self._transaction)
        while await book.thinks(mean_s, self._rng):
            way, number, began_s = self._rng.choice(ways), next(book.ids), time.monotonic()
            writes = way in (self._simple, self._extended, self._transaction)
            try:
                right = await way(number)
            except psycopg.Error as error:
                code = error.sqlstate or type(error).__name__
                if code not in POSTGRES_NAMED or self._session.closed:
                    raise
                book.codes[code] += 1
                if writes:
                    book.writes.unsure.add(number)
                    if code in NOTHING_SAVED:
                        book.writes.refused.add(number)
                await self._session.rollback()
            else:
                if writes:
                    book.writes.acknowledged.add(number)
                if not right:
                    book.wrong.append(f"{way.__name__} of {self._tenant}")
                book.served[f"postgres {way.__name__.strip('_')}"] += 1
            book.took("postgres", began_s)

    async def _value(self, query: str, *values: object) -> Any:
        cursor = await self._session.execute(query, values or None)
        row = await cursor.fetchone()
        return row[0] if row else None

    async def _check(self, _: int) -> bool:
        return await self._value("select current_setting('app.tenant')") == self._tenant

    async def _read(self, number: int) -> bool:
        query = "select sum(n) from generate_series(1, %s) n"
        size = number % 300
        return (await self._value(query, size) or 0) == size * (size + 1) // 2

    async def _simple(self, number: int) -> bool:
        await self._session.execute(f"insert into {self._table} values ({number})")
        return True

    async def _extended(self, number: int) -> bool:
        await self._session.execute(f"insert into {self._table} values (%s)", (number,))
        return True

    async def _transaction(self, number: int) -> bool:
        async with self._session.transaction():
            right = await self._check(number)
            await asyncio.sleep(0.002)
            await self._session.execute(f"insert into {self._table} values (%s)", (number,))
        return right


class RedisClient:
    """One connection with a counter of its own; reads what all read."""

    def __init__(self, port: int, number: int) -> None:
        self._rng = random.Random(10_000 + number)
        self._key = f"soak:{number}"
        self._least = self._most = 0  # acknowledged, and with those of unknown outcome
        retry = Retry(NoBackoff(), 0)
        self._redis = redis.asyncio.Redis(
            port=port,
            retry=retry,
            socket_timeout=ANSWER_S_MAX,
            decode_responses=True,
        )

    async def open(self) -> None:
        """Connect."""
        await self._redis.initialize()
        await self._redis.ping()

    async def run(self, book: Book, mean_s: float) -> None:
        """Work until it is over. Whatever it may not be told is raised."""
        try:
            await self._work(book, mean_s)
        finally:
            await self._redis.aclose()

    async def _work(self, book: Book, mean_s: float) -> None:
        ways = (self._hot, self._hot, self._missing, self._increment, self._own, self._pipeline)
        while await book.thinks(mean_s, self._rng):
            way, began_s = self._rng.choice(ways), time.monotonic()
            try:
                answers = await way()
            except ResponseError as error:
                answers = [error]
            for answer in answers:
                if isinstance(answer, RedisError):
                    code = str(answer).partition(" ")[0]
                    if code not in REDIS_NAMED:
                        raise answer
                    book.codes[code] += 1
                elif answer is False:
                    book.wrong.append(f"{way.__name__} of {self._key}")
            book.served[f"redis {way.__name__.strip('_')}"] += len(answers)
            book.took("redis", began_s)

    async def _hot(self) -> list[Any]:
        number = self._rng.randrange(HOT_KEYS)
        return [await self._redis.get(f"hot:{number}") == hot(number)]

    async def _missing(self) -> list[Any]:
        return [await self._redis.get(f"missing:{self._rng.randrange(HOT_KEYS)}") is None]

    async def _own(self) -> list[Any]:
        return [self._least <= int(await self._redis.get(self._key) or 0) <= self._most]

    async def _increment(self) -> list[Any]:
        try:
            return [self._counted(await self._redis.incr(self._key))]
        except ResponseError as error:
            return [self._counted(error)]

    async def _pipeline(self) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for _ in range(4):
                pipeline.incr(self._key)
            return [self._counted(one) for one in await pipeline.execute(raise_on_error=False)]

    def _counted(self, answer: Any) -> Any:
        """The error, or whether the counter is right."""
        self._most += 1
        if isinstance(answer, RedisError):
            return answer
        right = self._least < int(answer) <= self._most
        self._least = int(answer)
        return right


def hot(number: int) -> str:
    """What everybody reads under `hot:number`."""
    return f"value {number} " * 10


async def guarded(name: str, work: Callable[[], Awaitable[None]], book: Book) -> None:
    """Run a client; what it raises is an error that nobody may get."""
    try:
        await work()
    except Exception as error:
        book.broken.append(f"{name}: {type(error).__name__}: {error}")
