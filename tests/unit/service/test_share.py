"""Limits shared out: nothing is lost where it can be divided, and nobody gets nothing."""

import pytest

from proxy.service.share import part, shared, told, worker_count
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
