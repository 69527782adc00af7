"""SHOW CLIENTS and SHOW SERVERS of a Redis route: rows that say what Redis itself says."""

from datetime import UTC, datetime

import pytest

from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.runtime.detail import rows
from tests.integration.redis.conftest import MakeRoute

pytestmark = pytest.mark.servers


def unix_s() -> float:
    return datetime.now(UTC).timestamp()


async def test_rows_name_clients_and_links(make_route: MakeRoute, redis: RedisServer) -> None:
    routed = await make_route(redis.port, cache=CacheOptions())
    began_s = unix_s()
    one, other = await routed.wire(resp=3), await routed.wire()
    await one.ask("CLIENT", "SETNAME", "shop")
    await one.ask("SET", "k", "v")  # on the shared link
    number = int((await one.ask("CLIENT", "ID"))[1:-2])
    assert await other.ask("MULTI") == b"+OK\r\n"
    found = rows(routed.route)
    sessions = {row.id: row for row in found.sessions}
    assert len(sessions) == 2
    shop = sessions.pop(number)
    assert (shop.kind, shop.route, shop.user, shop.database) == ("redis", "test", "default", "0")
    assert (shop.application, shop.state, shop.tls) == ("shop", "idle", "")
    assert began_s - 1 < shop.connected_s <= unix_s()
    (alone,) = sessions.values()
    assert alone.state == "active"  # it has a link of its own, for its transaction
    links = {row.id: row for row in found.links}
    assert links[alone.link].session == alone.id
    assert links[shop.link].session == 0
    assert await other.ask("DISCARD") == b"+OK\r\n"
    listed = await one.ask("CLIENT", "LIST")
    for row in links.values():
        assert f"id={row.pid} addr=127.0.0.1:{row.local_port}".encode() in listed
        assert began_s - 1 < row.opened_s <= row.used_s <= unix_s() + 1


@pytest.mark.parametrize("cache", [None, CacheOptions()], ids=["uncached", "cached"])
async def test_a_client_whose_commands_are_held_is_waiting(
    make_route: MakeRoute, cache: CacheOptions | None
) -> None:
    routed = await make_route(1, hold_s=5.0, cache=cache)
    wire = await routed.wire()
    wire.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    while not (found := rows(routed.route).sessions) or found[0].state != "waiting":
        await routed.route.dial_permit()
    assert 0.0 <= found[0].waited_s < 5.0
    assert found[0].link == 0
