"""The JSON of /api/v1/status: a report, what is wrong in it, and what the proxy has saved.

Pure. The contract with the dashboard, `backstay status` and `backstay top`.
"""

from dataclasses import fields, is_dataclass
from typing import Any

from proxy.core.histogram import BOUNDS_S, Histogram
from proxy.core.report import PostgresReport, RedisReport, Report
from proxy.observe.findings import CRITICAL, WARNING, findings

QUANTILES = {"p50_s": 0.5, "p90_s": 0.9, "p99_s": 0.99}


def status(report: Report, now_s: float) -> dict[str, Any]:
    """The report as JSON types. `now_s`: Unix time."""
    found = findings(report)
    started_s = [worker.started_s for worker in report.workers if worker.started_s]
    troubles = [finding for finding in found if finding.level in (CRITICAL, WARNING)]
    return {
        **plain(report),
        "now_s": now_s,
        "uptime_s": max(0.0, now_s - min(started_s)) if started_s else 0.0,
        "bounds_s": list(BOUNDS_S),
        "well": not troubles,
        "summary": f"{troubles[0].sentence}." if troubles else "All is well.",
        "findings": [plain(finding) for finding in found],
        "saved": saved(report),
    }


def saved(report: Report) -> dict[str, int]:
    """What the applications were spared."""
    routes: list[PostgresReport | RedisReport] = [*report.postgres, *report.redis]
    caches = [redis.cache for redis in report.redis]
    return {
        "drops_absorbed": sum(route.counts.get("absorbed", 0) for route in routes),
        "errors_answered": sum(sum(route.errors.values()) for route in routes),
        "reads_saved": sum(cache.hits + cache.coalesced for cache in caches),
    }


def plain(value: Any) -> Any:
    """Dataclasses and histograms as mappings, all the rest as it is."""
    if isinstance(value, Histogram):
        return _histogram(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {
        "count": histogram.count,
        "sum_s": histogram.sum_s,
        "max_s": histogram.max_s,
        **{name: histogram.quantile_s(share) for name, share in QUANTILES.items()},
        "counts": list(histogram.counts),
    }
