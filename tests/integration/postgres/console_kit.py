"""An operator of one route for the console's tests: real reports and rows, acts by hand.

The service's own operator is tested with the service; this one shows what the console asks for.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report
from proxy.postgres.protocol.console_door import ConsoleOptions
from proxy.postgres.runtime.detail import rows
from proxy.postgres.runtime.report import report
from proxy.postgres.runtime.route import PostgresRoute
from tests.integration.postgres.kit import Proxied
from tests.wire import PgWire


@dataclass
class RouteOperator:
    """Implements Operator over one route. PAUSE waits until `paused` is set."""

    route: PostgresRoute
    asked: list[tuple[Act, str | None, int]] = field(default_factory=list)
    waiting: int = 0
    cancelled: int = 0
    paused: asyncio.Event = field(default_factory=asyncio.Event)

    async def report(self, full_keys: bool = False) -> Report:
        return Report(version="1.2.3", postgres=[report(self.route)])

    async def detail(self) -> Detail:
        return rows(self.route)

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        self.asked.append((what, route, number))
        if what is Act.PAUSE:
            await self._wait()
        if what is Act.KILL_CLIENT:
            for session in self.route.sessions:
                if session.number == number:
                    session.kill()
                    return Outcome(True, "")
            return Outcome(False, "there is no such client")
        return Outcome(True, "")

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await self.paused.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        return [("postgres.main.pool.size", "20", "20", False)]


def open_console(proxy: Proxied, options: ConsoleOptions | None = None) -> RouteOperator:
    """Give the route of a proxy a console."""

    def opened() -> RouteOperator:
        operator = RouteOperator(proxy.route)
        proxy.route.console.open(operator, options or ConsoleOptions())
        return operator

    made: RouteOperator = proxy.call(opened)
    return made


def console(proxy: Proxied, user: str = "postgres", **parameters: str) -> PgWire:
    """A raw client at the console."""
    return proxy.wire(user, **{"database": "backstay", **parameters})
