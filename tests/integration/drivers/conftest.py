"""Each scenario runs against the server and through the proxy; the results must be equal."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest

from proxy.demo.servers import PostgresServer
from tests.fix_backstay import Backstay

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Routes:
    """The two ways to the same database."""

    server: PostgresServer
    proxy: Backstay

    def dsns(self, user: str = "app_scram", **options: str) -> tuple[str, str]:
        """The same login direct and through the proxy."""
        return self.server.dsn(user, **options), self.proxy.dsn(user, **options)

    def same(self, scenario: Callable[[str], T], user: str = "app_scram", **options: str) -> T:
        """Run it both ways, check that the results are equal, return them."""
        direct, proxied = map(scenario, self.dsns(user, **options))
        assert proxied == direct
        return direct

    async def same_async(
        self, scenario: Callable[[str], Awaitable[T]], user: str = "app_scram", **options: str
    ) -> T:
        """Like `same`, for coroutines."""
        direct, proxied = [await scenario(dsn) for dsn in self.dsns(user, **options)]
        assert proxied == direct
        return direct


@pytest.fixture(scope="session")
def routes(postgres: PostgresServer, backstay: Backstay) -> Routes:
    """The shared server and the shared proxy in front of it."""
    return Routes(postgres, backstay)
