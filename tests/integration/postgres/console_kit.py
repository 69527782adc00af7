"""An operator of one route for the console's tests: its reports, rows and acts are the real ones.

The service's own operator is tested with the service; this one shows what the console asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report
from proxy.postgres.protocol.console_door import ConsoleOptions
from proxy.postgres.runtime import control
from proxy.postgres.runtime.detail import rows
from proxy.postgres.runtime.report import report
from proxy.postgres.runtime.route import PostgresRoute
from tests.integration.postgres.kit import Proxied
from tests.wire import PgWire


@dataclass
class RouteOperator:
    """Implements Operator over one route, with what the service's own is made of."""

    route: PostgresRoute
    asked: list[tuple[Act, str | None, int]] = field(default_factory=list)
    waiting: int = 0  # who waits for a PAUSE
    broken: Exception | None = None  # what comes of every act

    async def report(self, full_keys: bool = False) -> Report:
        return Report(version="1.2.3", postgres=[report(self.route)])

    async def detail(self) -> Detail:
        return rows(self.route)

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        self.asked.append((what, route, number))
        if self.broken is not None:
            raise self.broken
        match what:
            case Act.PAUSE:
                self.waiting += 1
                try:
                    return Outcome(await control.pause(self.route), "")
                finally:
                    self.waiting -= 1
            case Act.RESUME:
                control.resume(self.route)
            case Act.RECONNECT:
                control.reconnect(self.route)
            case Act.KILL:
                control.kill(self.route)
            case Act.KILL_CLIENT if not control.kill_client(self.route, number):
                return Outcome(False, "there is no such client")
        return Outcome(True, "")

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
