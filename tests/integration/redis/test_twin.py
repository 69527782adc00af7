"""The same commands to a server directly and to its twin through the proxy: equal bytes."""

from collections.abc import Callable

import pytest

from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions
from tests.corpus.redis import DEBUG_PROTOCOL, GROUPS, Case
from tests.integration.redis.conftest import MakeRoute
from tests.integration.redis.wire import AsyncWire
from tests.wire_redis import command

pytestmark = pytest.mark.servers
MakeRedis = Callable[..., RedisServer]

# No slow log: on a starved machine SLOWLOG LEN would count a command of one twin.
SETTINGS = {"enable-debug-command": "yes", "hz": "100", "slowlog-log-slower-than": "-1"}


def shown(replies: list[bytes]) -> str:
    """Short: a diff of megabytes would take pytest longer than the test."""
    return repr(b"".join(replies)[:200])


async def answer(wire: AsyncWire, case: Case) -> list[bytes]:
    wire.send(command(*case.words))
    return await wire.replies(case.frames)


def test_the_corpus_is_large_enough() -> None:
    names = {case.words[0].upper() for group in GROUPS.values() for case in group}
    assert sum(len(group) for group in GROUPS.values()) >= 400
    assert len(names) >= 180


@pytest.mark.parametrize("cache", [None, CacheOptions()], ids=["uncached", "cached"])
@pytest.mark.parametrize("resp", [2, 3])
async def test_same_bytes_one_command_at_a_time(
    resp: int, cache: CacheOptions | None, make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    twins = [make_redis(settings=SETTINGS) for _ in range(2)]
    routed = await make_route(twins[1].port, cache=cache)
    direct = await AsyncWire.connect("127.0.0.1", twins[0].port)
    through = await AsyncWire.connect("127.0.0.1", routed.port)
    different = []
    for group in GROUPS.values():
        for wire in (direct, through):
            await wire.ask("HELLO", resp)
        for case in group:
            # Twice the same read: the second is served from the cache, where there is one.
            expected, got = await answer(direct, case), await answer(through, case)
            same = expected == got if case.exact else expected[0][:1] == got[0][:1]
            if not same:
                different.append((str(case), shown(expected), shown(got)))
    assert not different
    assert await through.is_quiet()
    for wire in (direct, through):
        await wire.close()


@pytest.mark.parametrize("cache", [None, CacheOptions()], ids=["uncached", "cached"])
@pytest.mark.parametrize("resp", [2, 3])
async def test_same_bytes_in_pipelines(
    resp: int, cache: CacheOptions | None, make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    twins = [make_redis(settings=SETTINGS) for _ in range(2)]
    routed = await make_route(twins[1].port, cache=cache)
    direct = await AsyncWire.connect("127.0.0.1", twins[0].port)
    through = await AsyncWire.connect("127.0.0.1", routed.port)
    for name, group in GROUPS.items():
        count = sum(case.frames for case in group)
        for wire in (direct, through):
            await wire.ask("HELLO", resp)
            wire.send(b"".join(command(*case.words) for case in group))
        expected, got = await direct.replies(count), await through.replies(count)
        owners = [case for case in group for _ in range(case.frames)]
        different = [
            (str(case), shown([one]), shown([other]))
            for case, one, other in zip(owners, expected, got, strict=True)
            if one != other and case.exact
        ]
        assert not different, name
    for wire in (direct, through):
        await wire.close()


@pytest.mark.parametrize("resp", [2, 3])
async def test_every_reply_type(resp: int, make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis(settings=SETTINGS)
    routed = await make_route(server.port)
    direct = await AsyncWire.connect("127.0.0.1", server.port)
    through = await AsyncWire.connect("127.0.0.1", routed.port)
    for wire in (direct, through):
        await wire.ask("HELLO", resp)
    for kind in DEBUG_PROTOCOL:
        expected = await direct.ask("DEBUG", "PROTOCOL", kind)
        assert await through.ask("DEBUG", "PROTOCOL", kind) == expected
    assert await through.ask("PING") == b"+PONG\r\n"
    for wire in (direct, through):
        await wire.close()
