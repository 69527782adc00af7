"""Reports of several workers add up to one."""

from dataclasses import fields, is_dataclass, replace

import pytest

from proxy.core import report as module
from proxy.core.histogram import Histogram
from proxy.core.report import (
    INCIDENTS_MAX,
    CacheReport,
    Incident,
    KeyCount,
    Latency,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
    merged,
)


def latency(seconds: float) -> Latency:
    made = Latency()
    made.wait.observe(seconds)
    return made


def postgres(**changes: object) -> PostgresReport:
    made = PostgresReport(
        name="main",
        listen=["127.0.0.1:6432"],
        upstream=["db:5432"],
        state="up",
        clients=2,
        clients_max=500,
        pools=[PoolReport("app", "shop", links_idle=1, links_max=10, longest_wait_s=1.0)],
        counts={"losses": 1},
        losses={"upstream_eof": 1},
        latency=latency(0.2),
    )
    return replace(made, **changes)


def incident(number: int, started_s: float) -> Incident:
    return Incident(f"i{number}", "main", "postgres", "upstream_eof", "db:5432", "", started_s)


def test_numbers_add_up_and_names_stay() -> None:
    two = postgres(clients=3, counts={"losses": 2, "restores": 5}, losses={"upstream_reset": 1})
    total = merged([postgres(), two])
    assert (total.name, total.listen, total.upstream) == ("main", ["127.0.0.1:6432"], ["db:5432"])
    assert (total.clients, total.clients_max) == (5, 1000)
    assert total.counts == {"losses": 3, "restores": 5}
    assert total.losses == {"upstream_eof": 1, "upstream_reset": 1}
    assert total.latency.wait.count == 2


def test_pools_of_one_name_are_one() -> None:
    other = PoolReport("app", "shop", links_idle=2, links_max=10, longest_wait_s=3.0)
    apart = PoolReport("app", "other", links_idle=7)
    total = merged([postgres(), postgres(pools=[other, apart])])
    assert [(pool.database, pool.links_idle) for pool in total.pools] == [("shop", 3), ("other", 7)]
    assert (total.pools[0].links_max, total.pools[0].longest_wait_s) == (20, 3.0)


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        ("up", "away", "away"),
        ("idle", "up", "up"),
        ("paused", "draining", "draining"),
        ("up", "up", "up"),
    ],
)
def test_the_worse_state_counts(one: str, two: str, both: str) -> None:
    assert merged([postgres(state=one), postgres(state=two)]).state == both
    assert merged([postgres(state=two), postgres(state=one)]).state == both


def test_the_reason_is_that_of_the_worker_that_has_one() -> None:
    away = postgres(state="away", reason="upstream_reset", away_s=3.0)
    for pair in ([postgres(), away], [away, postgres()]):
        assert (merged(pair).reason, merged(pair).away_s) == ("upstream_reset", 3.0)


def test_what_was_merged_is_not_changed() -> None:
    one, two = postgres(), postgres()
    total = merged([one, two])
    total.latency.wait.observe(1.0)
    total.pools[0].links_idle = 99
    assert one.latency.wait.count == 1
    assert one.pools[0].links_idle == two.pools[0].links_idle == 1


def test_one_alone_is_a_copy_with_its_own_histograms() -> None:
    one = postgres()
    alone = merged([one])
    assert alone.name == "main"
    one.latency.wait.observe(1.0)
    assert alone.latency.wait.count == 1


def test_whole_reports() -> None:
    cache = CacheReport(enabled=True, hits=3, top_keys=[KeyCount("user:*", 4)])
    one = Report(
        version="1",
        workers=[WorkerReport(0, 10, cpu_s=1.5)],
        postgres=[postgres()],
        redis=[RedisReport("cache", commands=3, cache=cache)],
        incidents=[incident(1, 10.0)],
    )
    two = replace(one, workers=[WorkerReport(1, 11, cpu_s=2.5)], incidents=[incident(2, 20.0)])
    total = merged([one, two])
    assert [worker.number for worker in total.workers] == [0, 1]
    assert total.redis[0].commands == 6
    assert (total.redis[0].cache.hits, total.redis[0].cache.enabled) == (6, True)
    assert total.redis[0].cache.top_keys == [KeyCount("user:*", 8)]
    assert [one.id for one in total.incidents] == ["i2", "i1"]


def test_the_newest_incidents_are_kept() -> None:
    many = [incident(number, float(number)) for number in range(INCIDENTS_MAX)]
    total = merged([Report(incidents=many), Report(incidents=[incident(999, 999.0)])])
    assert len(total.incidents) == INCIDENTS_MAX
    assert total.incidents[0].id == "i999"
    assert total.incidents[-1].id == "i1"


def test_every_field_can_be_merged() -> None:
    kinds = [kind for kind in vars(module).values() if is_dataclass(kind) and kind is not Incident]
    assert len(kinds) >= 8
    for kind in kinds:
        made = merged([kind(), kind()])
        for field in fields(kind):
            value = getattr(made, field.name)
            assert isinstance(value, Histogram) or value == getattr(kind(), field.name) or value
