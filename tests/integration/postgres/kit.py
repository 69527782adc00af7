"""A route in a loop of its own thread, so that tests may use blocking clients and servers.

Its parts are within reach: `call` runs something in the loop, `reports` holds the events, and
whatever goes wrong unseen (a crashed task, an exception in a callback) fails the test at its end.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import psycopg
import uvloop
import yaml

from proxy.demo.cutter import Cut, Cutter, Target
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.postgres.runtime.options import RouteOptions
from proxy.postgres.runtime.route import PostgresRoute
from proxy.service.postgres_options import postgres_options
from proxy.settings.load import load_text
from tests.wire import PgWire, startup

T = TypeVar("T")
CALL_S_MAX = 30.0
WAIT_S_MAX = 15.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a route under test is told: settings as in the YAML, and changes of its options."""

    setting: Mapping[str, Any]
    cutter: Target | None = None
    pool: Mapping[str, Any] = field(default_factory=dict)
    resilience: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    unix_name: str = ".s.PGSQL.6432"


class Proxied:
    """One running route."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.reports: list[dict[str, Any]] = []
        self.bugs: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        self._thread = threading.Thread(target=self._run, daemon=True, name="route")
        self.route: PostgresRoute
        self.listeners: list[Listener] = []
        self.cutter: Cutter

    # -- life

    def start(self) -> Self:
        self._thread.start()
        assert self._started.wait(CALL_S_MAX), "the route did not start"
        if self._failed is not None:
            raise self._failed
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(CALL_S_MAX)
        bugs = self.named("task_crashed") + self.named("task_stuck") + self.bugs
        assert not bugs, bugs

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        try:
            await self._open()
        except BaseException as error:
            self._failed = error
            if self._told.cutter is not None:
                await self.cutter.close()
            return
        finally:
            self._started.set()
        await self._over.wait()
        for listener in self.listeners:
            listener.close()
        await self.route.stop(0)
        if self._told.cutter is not None:
            await self.cutter.close()

    async def _open(self) -> None:
        told = self._told
        setting = dict(told.setting)
        if told.cutter is not None:
            self.cutter = Cutter(told.cutter, seed=1)
            await self.cutter.accept()
            setting["upstream"] = setting["upstream"].format(port=self.cutter.port)
        text = yaml.safe_dump({"postgres": [setting]})
        loaded = load_text(text, "test", {}).postgres[0]
        options: RouteOptions = postgres_options(loaded, False)
        options = replace(
            options,
            pool=replace(options.pool, **told.pool),
            resilience=replace(options.resilience, **told.resilience),
        )
        options = replace(options, **told.options)
        self.route = PostgresRoute(options, self._record, random.Random(1))
        how = ListenOptions(unix_name=told.unix_name)
        for address in loaded.listen:
            self.listeners.append(await listen(str(address), self.route.client_protocol, how))
        self.route.start()

    # -- looking

    def _record(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        with self._changed:
            self.reports.append({"event": event, "level": level, **fields})
            self._changed.notify_all()

    def named(self, event: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        return [report for report in self.reports if report["event"] == event]

    def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for that many events of that name, and return them."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.named(event)) >= count, WAIT_S_MAX)
        assert done, f"{len(self.named(event))} of {count} {event}: {self.reports[-5:]}"
        return self.named(event)

    def call(self, act: Callable[[], Any]) -> Any:
        """Run `act()` in the loop; a coroutine is awaited there."""

        async def run() -> Any:
            result = act()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_S_MAX)

    def counts(self) -> dict[str, int]:
        """The links of all pools by what they do."""

        def sums() -> dict[str, int]:
            pools = [pool.counts() for pool in self.route.pools.values()]
            return {name: sum(p[name] for p in pools) for name in (pools[0] if pools else ())}

        found: dict[str, int] = self.call(sums)
        return found

    def settled(self, **wanted: int) -> None:
        """Wait until the pools' counts are these."""
        eventually(lambda: self.counts().items() >= wanted.items(), self.counts)

    # -- using

    @property
    def port(self) -> int:
        return next(
            int(address.rpartition(":")[2])
            for listener in self.listeners
            for address in listener.addresses
            if "/" not in address
        )

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def wire(self, user: str = "postgres", **parameters: str) -> PgWire:
        """A raw session."""
        password = parameters.pop("password", ROLE_PASSWORDS.get(user, "any"))
        return PgWire.session(self.address, user, password, **parameters)

    def wire_started(self, user: str = "postgres") -> PgWire:
        """A raw connection that has sent its start-up packet: `trust` asks for no more."""
        wire = PgWire.connect(self.address)
        wire.send(startup(user=user, database="app"))
        return wire

    def connect(self, user: str = "postgres", **options: Any) -> "psycopg.Connection[Any]":
        """A psycopg session in autocommit mode."""
        options = {
            "host": "127.0.0.1",
            "port": self.port,
            "dbname": "app",
            "user": user,
            "password": ROLE_PASSWORDS.get(user, "any"),
            "autocommit": True,
            **options,
        }
        return psycopg.connect(**options)

    def cut(self, how: Cut = Cut.RST) -> int:
        """Break all links."""
        count: int = self.call(lambda: self.cutter.cut_all(how))
        return count

    def passed(self) -> tuple[int, int]:
        """Bytes that went through the cutter so far: (to the client, to the server)."""

        def sums() -> tuple[int, int]:
            hops = self.cutter.hops.values()
            ended = self.cutter.counters
            down = sum(hop.to_client.passed_bytes for hop in hops) + ended["to_client_bytes"]
            return down, sum(h.to_server.passed_bytes for h in hops) + ended["to_server_bytes"]

        found: tuple[int, int] = self.call(sums)
        return found


def eventually(condition: Callable[[], object], shown: Callable[[], object] = str) -> None:
    """Wait until the condition holds: for what no event tells, such as a server's own view."""
    end_s = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < end_s, shown()
        time.sleep(0.02)


def backends(server: PostgresServer, where: str = "true") -> list[tuple[Any, ...]]:
    """(pid, state, query) of the server's client backends, but for the one that asks."""
    return server.sql(
        "select pid, state, query from pg_stat_activity where backend_type = 'client backend'"
        f" and pid <> pg_backend_pid() and {where}"
    )


Make = Callable[..., Proxied]
