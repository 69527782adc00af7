"""Limits shared out: nothing is lost where it can be divided, and nobody gets nothing."""

import random

import pytest

from proxy.net.listen import ListenOptions
from proxy.redis.runtime.options import Limits
from proxy.service.listeners import Listeners
from proxy.service.routes import Routes
from proxy.service.share import divided, part, shared, told, worker_count
from proxy.settings.model import Settings


@pytest.mark.parametrize("total", [1, 2, 3, 7, 20, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_parts(total: int, count: int) -> None:
    parts = [part(total, index, count) for index in range(count)]
    assert min(parts) >= 1
    assert max(parts) - min(parts) <= 1
    assert sum(parts) == max(total, count)
    assert [part(0, index, count) for index in range(count)] == [0] * count


def settings(**more: object) -> Settings:
    return Settings.model_validate(
        {
            "postgres": [{"upstream": "host=h", "pool": {"size": 20, "connects_per_s": 50}}],
            "redis": [
                {"upstream": "redis://h", "cache": {"max_bytes": 100, "max_entry_bytes": 90}}
            ],
            **more,
        }
    )


def test_each_worker_has_its_part() -> None:
    whole = settings()
    mine = [shared(whole, index, 3) for index in range(3)]
    assert [one.postgres[0].pool.size for one in mine] == [7, 7, 6]
    assert [one.postgres[0].resilience.hold_clients for one in mine] == [334, 333, 333]
    assert sum(one.postgres[0].pool.connects_per_s for one in mine) == pytest.approx(50)
    assert [one.redis[0].cache.max_bytes for one in mine] == [34, 33, 33]
    assert mine[1].redis[0].cache.max_entry_bytes == 33
    assert whole.postgres[0].pool.size == 20
    assert told(whole, 3)["postgres.main.pool.size"] == "20 = 7 + 7 + 6"
    assert told(whole, 3)["postgres.main.pool.warm"] == "[1, 1, 1] each"


def test_how_many() -> None:
    assert worker_count(settings(workers=5), 2) == 5
    assert worker_count(settings(workers="auto"), 4) == 4
    assert worker_count(settings(workers="auto"), 100) == 20, "a link of its own for each"


def test_bounds_of_a_redis_route_that_no_setting_names() -> None:
    whole = Limits()
    mine = [divided(whole, index, 3) for index in range(3)]
    for name in ("hold_commands_max", "hold_bytes_max", "exclusive_links_max", "dials_burst"):
        assert sum(getattr(one, name) for one in mine) == getattr(whole, name), name
    assert sum(one.dials_per_s for one in mine) == pytest.approx(whole.dials_per_s)
    assert {one.client_inflight_bytes_max for one in mine} == {whole.client_inflight_bytes_max}
    assert {one.partitions_max for one in mine} == {whole.partitions_max}
    assert divided(whole, 0, 1) is whole


async def test_a_workers_redis_route_has_its_part() -> None:
    def events(event: str, /, *, level: str = "info", **fields: object) -> None: ...

    listening = {"listen": "127.0.0.1:0"}
    whole = Settings.model_validate(
        {"redis": [{"upstream": "redis://h", "name": "c", **listening}]}
    )
    routes = Routes(events, random.Random(1), Listeners(), ListenOptions())
    routes.worker = (1, 3)
    change = await routes.prepare(shared(whole, 1, 3))
    assert change.redis["c"].limits.exclusive_links_max == 333
    assert change.redis["c"].limits.clients_max == 333
    change.drop()
