"""Redis failover: the address leads to the new primary a while after the old one refuses writes."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from proxy.demo.cutter import Cutter, Target
from proxy.demo.servers import RedisServer
from proxy.redis.runtime.roles import LOOK_S_MAX, LOOK_S_MIN, Roles
from tests.integration.redis.conftest import MakeRoute
from tests.wire_redis import command

pytestmark = pytest.mark.servers

SINGLE = ((command("SET", "k", "v"),), -1)
PIPELINE = ((command("SET", "k", "v"), command("SET", "k", "v")), -1)
MULTI = ((command("MULTI"), command("SET", "k", "v"), command("EXEC")), 1)


@pytest.mark.parametrize(("sent", "refusal"), [SINGLE, PIPELINE, MULTI])
async def test_writes_find_the_new_primary(
    make_redis: Callable[..., RedisServer],
    make_cutter: Callable[..., Awaitable[Cutter]],
    make_route: MakeRoute,
    sent: tuple[bytes, ...],
    refusal: int,
) -> None:
    old, new = make_redis(), make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", old.port)))
    routed = await make_route(cutter.port, hold_s=5.0)
    wire = await routed.wire()

    async def write() -> bytes:
        wire.send(b"".join(sent))
        return (await wire.replies(len(sent)))[refusal]

    assert b"READONLY" not in await write()
    with old.connect() as client:
        client.replicaof("127.0.0.1", 1)
    for _ in range(3):  # the address is behind: the proxy looks, and finds the old one again
        assert (await write()).startswith(b"-READONLY")
    cutter.target = Target(address=("127.0.0.1", new.port))
    async with asyncio.timeout(3):
        while (await write()).startswith(b"-READONLY"):
            await asyncio.sleep(0.01)
    with new.connect() as client:
        assert client.get("k") == b"v"
    assert routed.named("redis_role_changed")
    assert await wire.ask("PING") == b"+PONG\r\n"


async def test_a_server_that_stays_a_replica_is_left_ever_more_rarely(
    make_redis: Callable[..., RedisServer], make_route: MakeRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_redis()
    routed = await make_route(server.port)
    roles, now_s, looked_s = routed.route.roles, 1000.0, []
    assert isinstance(roles, Roles)
    monkeypatch.setattr(routed.route, "loop", _Clock(lambda: now_s, lambda: looked_s.append(now_s)))
    while now_s < 1300.0:
        roles.refused()
        now_s += 0.05
    pauses_s = [after - before for before, after in itertools.pairwise(looked_s)]
    assert len(looked_s) < 20
    assert pauses_s[0] == pytest.approx(LOOK_S_MIN, abs=0.06)
    assert pauses_s == sorted(pauses_s)
    assert pauses_s[-1] == pytest.approx(LOOK_S_MAX, abs=0.06)
    now_s += 2 * LOOK_S_MAX
    roles.refused()
    now_s += 2 * LOOK_S_MIN
    roles.refused()
    assert len(looked_s) == len(pauses_s) + 3  # long ago: it is looked at once more in a hurry


class _Clock:
    """A loop of which only these two are used."""

    def __init__(self, time: Callable[[], float], called: Callable[[], None]) -> None:
        self.time = time
        self._called = called

    def call_soon(self, *_: object) -> None:
        self._called()
