"""Writes docs/metrics.md: every metric with its type, labels and meaning.

Usage: python -m tools.metrics_reference

Asks the metrics themselves, made from a report in which everything occurs once. A test compares
the file with what this makes (tests/unit/deploy/test_monitoring.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

from proxy.core.report import PoolReport, PostgresReport, RedisReport, Report, WorkerReport
from proxy.observe.metrics import families

TARGET = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"

HEAD = """\
# Metrics

<!-- Made by tools/metrics_reference.py from proxy/observe/metrics.py; do not edit. -->

`GET /metrics` on the admin port (`admin.listen`, 127.0.0.1:9127) gives them to Prometheus. Counting
costs the data path next to nothing, a scrape nothing at all. Labels are bounded: routes come from
the settings, reasons from [a fixed list](errors.md#reasons), users and databases are the 50 pools
with the most sessions, and `other`.

[config/prometheus/alerts.yml](../config/prometheus/alerts.yml) has alert rules,
[config/grafana/backstay.json](../config/grafana/backstay.json) a dashboard made of them.

Counters end in `_total`; histograms have `_bucket`, `_sum` and `_count`, in seconds.
"""

GROUPS = {
    "PostgreSQL": "backstay_postgres_",
    "Redis": "backstay_redis_",
    "The process": "backstay_",
}


def specimen() -> Report:
    """A report with one of everything, so that each metric has a sample with all its labels."""
    postgres = PostgresReport("main", pools=[PoolReport("app", "app")])
    redis = RedisReport("cache", links={"data": 1})
    for route in (postgres, redis):
        route.losses = {"upstream_eof": 1}
        route.errors = {"rolled_back": 1}
    redis.cache.enabled = True
    redis.cache.bypassed = {"excluded": 1}
    return Report("0", workers=[WorkerReport()], postgres=[postgres], redis=[redis])


def shown_name(metric: Metric) -> str:
    """The name that samples have, a histogram's without its endings."""
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def labels(metric: Metric) -> list[str]:
    """The labels of its samples, without `le`."""
    (first, *_) = metric.samples
    return [name for name in first.labels if name != "le"]


def reference() -> str:
    """The whole page."""
    left = list(families(specimen()))
    parts = [HEAD]
    for title, prefix in GROUPS.items():
        group = [metric for metric in left if metric.name.startswith(prefix)]
        left = [metric for metric in left if metric not in group]
        parts += [f"## {title}\n", "\n".join(_table(group)), ""]
    assert not left, left
    return "\n".join(parts)


def _table(group: list[Metric]) -> Iterator[str]:
    yield "| metric | type | labels | meaning |\n|---|---|---|---|"
    for metric in group:
        cells: list[Any] = [f"`{shown_name(metric)}`", metric.type]
        cells += [", ".join(f"`{name}`" for name in labels(metric)), metric.documentation]
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    TARGET.write_text(reference())
