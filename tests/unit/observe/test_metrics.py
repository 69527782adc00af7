"""The metrics: names, units, help, labels, and that they parse."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.histogram import BOUNDS_S
from proxy.core.reasons import Reason
from proxy.core.report import (
    CacheReport,
    Incident,
    Latency,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
)
from proxy.observe.metrics import OTHER, POOLS_MAX, families, metric_names, text
from proxy.postgres.runtime.counters import Counters as PostgresCounters
from proxy.redis.runtime.counters import Counters as RedisCounters

LABELS = {
    "route", "reason", "certificate", "state", "user", "database", "worker", "kind", "outcome",
    "version", "le",
}  # fmt: skip
UNITS = ("seconds", "bytes")
PLAIN_GAUGES = re.compile(
    r"(clients|waiting|links|sessions|entries|limit|fds|tasks|ready|state|refused|open)$"
)


def latency() -> Latency:
    made = Latency()
    for field in fields(Latency):
        getattr(made, field.name).observe(0.003)
        getattr(made, field.name).observe(100.0)
    return made


def full() -> Report:
    """A report in which everything has happened."""
    reasons = {str(reason): 1 for reason in Reason}
    cache = CacheReport(enabled=True, hits=7, bypassed={"barrier": 2}, max_bytes=1000)
    return Report(
        version="1.2.3",
        workers=[WorkerReport(0, 11, cpu_s=1.5), WorkerReport(1, 12, state="draining")],
        postgres=[
            PostgresReport(
                "main",
                state="away",
                pools=[PoolReport("app", 'sh"op\\', sessions_active=3, links_active=3)],
                counts={field.name: 5 for field in fields(PostgresCounters)},
                losses=reasons,
                errors=reasons,
                latency=latency(),
            )
        ],
        redis=[
            RedisReport(
                "cache",
                links={"data": 1, "tracking": 1},
                commands=42,
                counts={field.name: 6 for field in fields(RedisCounters)},
                losses=reasons,
                errors=reasons,
                cache=cache,
                latency=latency(),
            )
        ],
        incidents=[Incident("i", "main", "postgres", "upstream_eof", "db", "", 1.0)],
    )


def samples(report: Report) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, _ = text(report)
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(report: Report, name: str, **labels: str) -> float:
    return samples(report)[name, frozenset(labels.items())]


def test_names_follow_the_rules() -> None:
    for family in families(full()):
        name = family.name
        assert re.fullmatch(r"backstay_[a-z0-9]+(_[a-z0-9]+)*", name)
        match family.type:
            case "counter":
                assert not name.endswith("_total"), "the library adds it"
            case "histogram":
                assert name.endswith("_seconds")
            case "gauge":
                assert name.endswith(UNITS) or PLAIN_GAUGES.search(name), name
            case "info":
                assert name == "backstay_build"
            case other:
                pytest.fail(f"{name}: {other}")


def test_each_has_a_help_text() -> None:
    for family in families(full()):
        assert family.documentation.endswith("."), family.name
        assert 5 <= len(family.documentation) <= 200


def test_labels_are_the_known_ones() -> None:
    for name, labels in samples(full()):
        assert {label for label, _ in labels} <= LABELS, name


def test_reasons_are_bounded() -> None:
    for name, labels in samples(full()):
        reason = dict(labels).get("reason")
        if reason is not None:
            assert reason in set(Reason) | {"barrier"}, name


@pytest.mark.parametrize("report", [Report(), full()], ids=["empty", "full"])
def test_openmetrics_takes_it(report: Report) -> None:
    body, content_type = text(report, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    names = [family.name for family in openmetrics.text_string_to_metric_families(body.decode())]
    assert len(names) == len(set(names)) > 50


def test_metric_names_are_complete() -> None:
    seen = {name for name, _ in samples(full())}
    names = metric_names()
    assert seen <= names
    without_values = {name for name in names - seen if not name.endswith("_created")}
    assert without_values == set(), "a name that never has a value"


def test_reasons_are_there_before_their_first_event() -> None:
    """With 0: a counter that appears with its first event has no increase to be alerted on."""
    report = full()
    report.postgres[0].losses = {"upstream_eof": 3}
    report.redis[0].errors = {}
    lost = {"route": "main", "reason": "upstream_silent"}
    assert value(report, "backstay_postgres_links_lost_total", **lost) == 0
    lost["reason"] = "upstream_eof"
    assert value(report, "backstay_postgres_links_lost_total", **lost) == 3
    answered = {"route": "cache", "reason": "hold_full"}
    assert value(report, "backstay_redis_errors_answered_total", **answered) == 0


def test_values() -> None:
    report = full()
    assert value(report, "backstay_build_info", version="1.2.3") == 1
    assert value(report, "backstay_cpu_seconds_total", worker="0") == 1.5
    assert value(report, "backstay_ready", worker="0") == 1
    assert value(report, "backstay_ready", worker="1") == 0
    assert value(report, "backstay_postgres_state", route="main", state="away") == 1
    assert value(report, "backstay_postgres_state", route="main", state="up") == 0
    assert value(report, "backstay_redis_commands_total", route="cache") == 42
    assert value(report, "backstay_redis_cache_hits_total", route="cache") == 7
    assert value(report, "backstay_incidents_open", route="main") == 1
    assert value(report, "backstay_incidents_open", route="cache") == 0
    lost = {"route": "main", "reason": "upstream_eof"}
    assert value(report, "backstay_postgres_links_lost_total", **lost) == 1
    pool = {"route": "main", "user": "app", "database": 'sh"op\\', "state": "active"}
    assert value(report, "backstay_postgres_pool_sessions", **pool) == 3


def test_histograms_are_cumulative() -> None:
    report = full()
    name = "backstay_postgres_wait_seconds"
    counts = [value(report, f"{name}_bucket", route="main", le=str(b)) for b in BOUNDS_S]
    assert counts == [0.0] * 6 + [1.0] * 13
    assert value(report, f"{name}_bucket", route="main", le="+Inf") == 2
    assert value(report, f"{name}_count", route="main") == 2
    assert value(report, f"{name}_sum", route="main") == pytest.approx(100.003)


def test_many_pools_are_few_series() -> None:
    pools = [PoolReport(f"u{n}", "d", sessions_idle=n, links_max=2) for n in range(POOLS_MAX + 30)]
    report = Report(postgres=[PostgresReport("main", pools=pools)])
    name = "backstay_postgres_pool_links_limit"
    shown = {dict(labels)["user"]: v for (n, labels), v in samples(report).items() if n == name}
    assert len(shown) == POOLS_MAX + 1
    assert shown[OTHER] == 60
    assert "u79" in shown
    assert "u0" not in shown


def test_every_counter_of_the_runtimes_is_told() -> None:
    """A counter that nobody reads is a number without a use."""
    untold = {
        "PostgresCounters": {"losses", "idle_losses"},  # links_lost has them by reason
        "RedisCounters": {
            "clients", "commands",  # fields of the report
            "links_lost",  # has its reason
            "clients_too_slow", "protocol_errors", "muted",  # the log and errors_answered
        },
    }  # fmt: skip
    for kind, name in ((PostgresCounters, "PostgresCounters"), (RedisCounters, "RedisCounters")):
        for field in fields(kind):
            if field.name in untold[name]:
                continue
            base = full()
            assert changed(base, field.name), f"{name}.{field.name}"


def changed(base: Report, counter: str) -> bool:
    def with_(route: Any) -> Any:
        return replace(route, counts={**route.counts, counter: 77})

    other = replace(base, postgres=[with_(base.postgres[0])], redis=[with_(base.redis[0])])
    return samples(base) != samples(other)
