"""Links are shared as far as that is safe: reused, cleaned, bounded, replaced, never mixed up."""

from tests.integration.postgres.kit import Make
from proxy.demo.servers import PostgresServer


def test_smoke(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as client:
        assert client.value("select 1") == b"1"
    print(proxy.reports, proxy.counts())
