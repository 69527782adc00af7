"""Fixtures of the tests that look at one route from all sides."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from proxy.demo.cutter import Target
from proxy.demo.servers import PostgresServer
from tests.integration.postgres.kit import Make, Proxied, Told


@pytest.fixture
def proxied() -> Iterator[Make]:
    """`proxied(server, query="sslmode=disable", auth={…}, pool={…}, …)`: a route behind a cutter.

    Without a server give `upstream`, a URL; then there is no cutter. `user` is that of the URL.
    """
    made: list[Proxied] = []

    def make(
        server: PostgresServer | None = None,
        query: str = "sslmode=disable",
        user: str = "postgres",
        setting: Mapping[str, Any] | None = None,
        **told: Any,
    ) -> Proxied:
        chosen = {"listen": "127.0.0.1:0", "auth": {"method": "trust"}, **(setting or {})}
        if server is not None:
            chosen["upstream"] = f"postgresql://{user}@127.0.0.1:{{port}}/app?{query}"
            told["cutter"] = Target(address=("127.0.0.1", server.port))
        made.append(Proxied(Told(setting=chosen, **told)))
        return made[-1].start()

    yield make
    for one in made:
        one.stop()
