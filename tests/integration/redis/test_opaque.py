"""A write whose keys nobody can name (rule W4): its fence comes before its reply."""

import pytest

from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.framing import COMPILED
from proxy.redis.runtime.runs import shared_run
from tests.integration.redis.conftest import MakeRoute
from tests.integration.redis.wire import command

pytestmark = pytest.mark.servers

SET_HIDDEN = "redis.call('set', ARGV[1], ARGV[2]) return 'ok'"


@pytest.mark.skipif(COMPILED, reason="looks into a compiled module")
async def test_a_script_ends_its_run(
    make_route: MakeRoute, redis: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind it in one pipeline nothing may share its run, or its reply would leave unfenced."""
    routed = await make_route(redis.port, cache=CacheOptions())  # type: ignore[attr-defined]
    ends: list[int] = []

    def spy(client: object, cached: bool) -> object:
        before = client.at  # type: ignore[attr-defined]
        result = shared_run(client, cached)  # type: ignore[arg-type]
        ends.append((result[0] - before) // 4)
        return result

    monkeypatch.setattr("proxy.redis.runtime.client.shared_run", spy)
    wire = await routed.wire()
    wire.send(
        command("SET", "w4:a", "1")
        + command("EVAL", SET_HIDDEN, 0, "w4:b", "2")
        + command("SET", "w4:c", "3")
    )
    replies = await wire.replies(3)
    assert replies == [b"+OK\r\n", b"$2\r\nok\r\n", b"+OK\r\n"]
    # EVAL takes the bulk link, so it begins a run; the SET behind it must not be in it.
    assert set(ends) == {1}
