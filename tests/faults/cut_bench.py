"""A route and the cutter behind it in a thread, and one session whose link is armed to die."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from proxy.demo.cutter import Cut, Cutter, Direction, Hop, Target
from proxy.demo.servers import PostgresServer
from proxy.net.listen import ListenOptions, listen
from proxy.postgres.runtime.counters import Counters
from proxy.postgres.runtime.route import PostgresRoute
from proxy.service.postgres_options import postgres_options
from proxy.settings.load import load_text
from tests.fix_cutter import ThreadCutter

NEVER_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Wound:
    """How the first link of a session dies: after that many bytes that way, counted from when the
    session has it."""

    direction: Direction
    after_bytes: int
    cut: Cut

    def __str__(self) -> str:
        return f"{self.direction.name} {self.after_bytes} {self.cut.name}"


class CutBench(ThreadCutter):
    """`with CutBench(server) as bench:` a route on `bench.proxy_port`, blocking clients welcome."""

    route: PostgresRoute
    proxy_port: int
    pid = 0
    """Of the server process behind the armed link."""

    def __init__(self, server: PostgresServer, **changes: Any) -> None:
        super().__init__(Target(address=("127.0.0.1", server.port)))
        self.reports: list[dict[str, Any]] = []
        self._changes = changes
        self._hop: Hop | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        self.call(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._close)
        super().__exit__()
        bugs = [report for report in self.reports if report["event"] == "task_crashed"]
        assert not bugs, bugs

    @property
    def counters(self) -> Counters:
        return self.route.counters

    async def _open(self, cutter: Cutter) -> None:
        url = f"postgresql://postgres@127.0.0.1:{cutter.port}/app?sslmode=disable"
        text = f"postgres: [{{upstream: '{url}', listen: '127.0.0.1:0', auth: {{method: trust}}}}]"
        options = postgres_options(load_text(text, "test", {}).postgres[0], False)
        pool = replace(options.pool, warm=0, connects_per_s=10_000.0)
        options = replace(options, pool=pool, **self._changes)

        def record(event: str, /, *, level: str = "info", **fields: object) -> None:
            if len(self.reports) > 1000:
                del self.reports[:500]
            self.reports.append({"event": event, "level": level, **fields})

        self.route = PostgresRoute(options, record, random.Random(1))
        self._listener = await listen("127.0.0.1:0", self.route.client_protocol, ListenOptions())
        self.proxy_port = self._listener.port
        self.route.start()

    async def _close(self, _: Cutter) -> None:
        self._listener.close()
        await self.route.stop(0)

    def ask(self, act: Callable[[PostgresRoute], Any]) -> Any:
        """`act(route)` in its loop."""
        return self.call(lambda _: act(self.route))

    def arm(self, wound: Wound | None) -> int:
        """Of the one session there is: let its link die as told. Returns its server's pid."""
        return self.call(lambda cutter: self._arm(cutter, wound))

    def passed(self) -> tuple[int, int]:
        """Bytes that went to the client and to the server since `arm`."""
        hop = self._hop
        assert hop is not None
        to_client, to_server = self._base
        return hop.to_client.passed_bytes - to_client, hop.to_server.passed_bytes - to_server

    def disarm(self) -> None:
        """The armed link lives on, if it does."""
        self.call(lambda _: self._disarm())

    def _arm(self, cutter: Cutter, wound: Wound | None) -> int:
        (session,) = self.route.sessions
        link = session.link
        assert link is not None
        assert link.transport is not None
        ours = link.transport.get_extra_info("sockname")[1]
        for hop in cutter.hops.values():
            client = hop.client.transport
            if client is not None and client.get_extra_info("peername")[1] == ours:
                self._hop = hop
        hop = self._hop
        assert hop is not None
        self._base = hop.to_client.passed_bytes, hop.to_server.passed_bytes
        if wound is not None:
            hop.cut_after(wound.direction, wound.after_bytes, wound.cut)
        self.pid = link.pid
        return link.pid

    def alive(self) -> bool:
        """Whether the armed link was not cut."""
        return self._hop is not None and self._hop.alive

    def _disarm(self) -> None:
        if self._hop is not None and self._hop.alive:
            for direction in Direction:
                self._hop.cut_after(direction, NEVER_BYTES, Cut.RST)


async def gone(bench: CutBench) -> None:
    """Return once every session has ended."""
    while bench.route.sessions:
        await asyncio.sleep(0.001)
