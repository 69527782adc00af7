"""A route in the test's own loop, behind a cutter: counters, events and faults within reach."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from proxy.demo.cutter import Cutter, Target
from proxy.demo.servers import PostgresServer
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.postgres.runtime.counters import Counters
from proxy.postgres.runtime.options import RouteOptions
from proxy.postgres.runtime.route import PostgresRoute
from proxy.service.postgres_options import postgres_options
from proxy.settings.load import load_text


@dataclass
class Hopped:
    """A route, the cutter between it and its server, and what it has reported."""

    route: PostgresRoute
    cutter: Cutter
    listener: Listener
    reports: list[dict[str, Any]] = field(default_factory=list)
    opened: list[psycopg.AsyncConnection[Any]] = field(default_factory=list)

    @property
    def counters(self) -> Counters:
        return self.route.counters

    def dsn(self, user: str = "postgres", **options: str) -> str:
        words = " ".join(f"{name}={value}" for name, value in options.items())
        return f"host=127.0.0.1 port={self.listener.port} user={user} dbname=app {words}"

    async def connect(self, **options: Any) -> psycopg.AsyncConnection[Any]:
        options.setdefault("autocommit", True)
        connection = await psycopg.AsyncConnection.connect(self.dsn(), **options)
        self.opened.append(connection)
        return connection

    def named(self, event: str) -> list[dict[str, Any]]:
        return [report for report in self.reports if report["event"] == event]


Make = Callable[..., Awaitable[Hopped]]


@pytest_asyncio.fixture
async def hopped() -> AsyncIterator[Make]:
    """`await hopped(server, query="sslmode=disable", seed=1, **changes of RouteOptions)`."""
    made: list[Hopped] = []

    async def make(
        server: PostgresServer, query: str = "sslmode=disable", seed: int = 1, **changes: Any
    ) -> Hopped:
        cutter = Cutter(Target(address=("127.0.0.1", server.port)), seed=seed)
        await cutter.accept()
        url = f"postgresql://postgres@127.0.0.1:{cutter.port}/app?{query}"
        text = f"postgres: [{{upstream: '{url}', listen: '127.0.0.1:0', auth: {{method: trust}}}}]"
        settings = load_text(text, "test", {})
        options: RouteOptions = postgres_options(settings.postgres[0], False)
        options = replace(options, **changes)
        reports: list[dict[str, Any]] = []

        def record(event: str, /, *, level: str = "info", **fields: object) -> None:
            reports.append({"event": event, "level": level, **fields})

        route = PostgresRoute(options, record, random.Random(seed))
        listener = await listen("127.0.0.1:0", route.client_protocol, ListenOptions())
        route.start()
        one = Hopped(route, cutter, listener)
        one.reports = reports
        made.append(one)
        return one

    yield make
    for one in made:
        for connection in one.opened:
            await connection.close()
        one.listener.close()
        await one.route.stop(0)
        await one.cutter.close()
        crashed = [report for report in one.reports if report["event"] == "task_crashed"]
        bugs = [(report["task"], report["error"], report["where"]) for report in crashed]
        assert not bugs, bugs


@pytest.fixture
def table(postgres: PostgresServer) -> str:
    """An empty table of the test's own."""
    name = f"ledger_{random.SystemRandom().randrange(1 << 48):x}"
    postgres.sql(f"create table {name} (id bigint, at timestamptz default now())")
    return name
