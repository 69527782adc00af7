"""Writes config/grafana/backstay.json: the dashboard for Grafana 10 or newer.

Usage: python -m tools.grafana_dashboard

The panels stand in `ROWS`, in the order in which one asks: is it well, what did clients see, what
broke, how fast is it, how full. A test compares the file with this, its queries with the metrics.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "config" / "grafana" / "backstay.json"
WIDTH = 24
PICK = 'job=~"$job", instance=~"$instance"'
ROUTE = f'{PICK}, route=~"$route"'
SOURCE = {"type": "prometheus", "uid": "${source}"}
GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and what its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`kind`: timeseries or stat. `unit`: Grafana's. `warn`: values from which a stat turns."""

    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    warn: Sequence[tuple[str, float]] = ()
    stacked: bool = False


def rate(metric: str, by: str, more: str = "") -> str:
    """Per second, summed."""
    return f"sum by ({by}) (rate({metric}{{{ROUTE}{more}}}[$__rate_interval]))"


def during(metric: str, by: str = "", more: str = "") -> str:
    """How often in the time shown, summed."""
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (increase({metric}{{{ROUTE}{more}}}[$__range]))"


def quantile(share: float, metric: str, by: str = "route", pick: str = ROUTE) -> str:
    """The duration that `share` of all did not exceed."""
    bucket = f"rate({metric}_bucket{{{pick}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({by}, le) ({bucket}))"


def latency(title: str, about: str, metric: str) -> Panel:
    """Median and 99th percentile of a route's histogram."""
    queries = [Query(quantile(s, metric), f"{{{{route}}}} p{s * 100:g}") for s in (0.5, 0.99)]
    return Panel(title, about, queries, unit="s")


def stat(title: str, about: str, expr: str, **more: Any) -> Panel:
    """One number."""
    return Panel(title, about, [Query(expr)], kind="stat", width=4, **more)


def of_dialect(dialect: str) -> Iterator[Panel]:
    """What both dialects have."""
    prefix = f"backstay_{dialect}_"
    yield Panel(
        "Clients",
        "Connected, and the limit.",
        [
            Query(f"sum by (route) ({prefix}clients{{{ROUTE}}})", "{{route}}"),
            Query(f"sum by (route) ({prefix}clients_limit{{{ROUTE}}})", "{{route}} limit"),
        ],
    )
    yield Panel(
        "Links lost, by reason",
        "Links that died, each an error without Backstay.",
        [Query(rate(f"{prefix}links_lost_total", "route, reason"), "{{route}} {{reason}}")],
        unit="ops",
        stacked=True,
    )
    yield Panel(
        "Errors answered, by reason",
        "What clients were told by Backstay itself. docs/errors.md has each.",
        [Query(rate(f"{prefix}errors_answered_total", "route, reason"), "{{route}} {{reason}}")],
        unit="ops",
        stacked=True,
    )
    yield Panel(
        "Waiting",
        "For a link: an outage, or a full pool.",
        [Query(f"sum by (route) ({prefix}waiting{{{ROUTE}}})", "{{route}}")],
    )
    yield Panel(
        "Upstream away",
        "For how long no link could be opened.",
        [Query(f"max by (route) ({prefix}upstream_away_seconds{{{ROUTE}}})", "{{route}}")],
        unit="s",
    )
    yield latency("Time at the server", "A sample of requests.", f"{prefix}server_seconds")
    yield latency("Time in Backstay", "Its own share of it.", f"{prefix}proxy_seconds")
    yield latency("Wait for a link", "0 where one was ready.", f"{prefix}wait_seconds")
    yield latency("New link after a loss", "Until work went on.", f"{prefix}restore_seconds")
    yield latency("Opening a link", "DNS, TCP, TLS and login.", f"{prefix}connect_seconds")


def overview() -> Iterator[Panel]:
    """One look."""
    away = " or ".join(
        f"backstay_{dialect}_upstream_away_seconds{{{ROUTE}}}" for dialect in ("postgres", "redis")
    )
    yield stat(
        "Upstreams away",
        "Routes whose server cannot be reached now.",
        f"count(({away}) > 0) or vector(0)",
        warn=[(RED, 1)],
    )
    yield stat(
        "Incidents open",
        "Times of trouble that are not over.",
        f"sum(backstay_incidents_open{{{ROUTE}}})",
        warn=[(ORANGE, 1)],
    )
    absorbed = (during(f"backstay_{d}_drops_absorbed_total") for d in ("postgres", "redis"))
    yield stat(
        "Drops absorbed",
        "Clients whose link died and who noticed nothing, in the time shown.",
        " + ".join(f"({one} or vector(0))" for one in absorbed),
    )
    told = (during(f"backstay_{d}_errors_answered_total") for d in ("postgres", "redis"))
    yield stat(
        "Errors answered",
        "What clients were told instead, in the time shown.",
        " + ".join(f"({one} or vector(0))" for one in told),
        warn=[(ORANGE, 1)],
    )
    hits, misses = (during(f"backstay_redis_cache_{name}_total") for name in ("hits", "misses"))
    yield stat(
        "Cache hit rate", "In the time shown.", f"{hits} / ({hits} + {misses})", unit="percentunit"
    )
    unknown = (
        during("backstay_postgres_lost_answers_total", more=', outcome="outcome_unknown"'),
        during("backstay_redis_outcome_unknown_total"),
    )
    yield stat(
        "Outcome unknown",
        "Writes of which nobody can say whether they were saved, in the time shown.",
        " + ".join(f"({one} or vector(0))" for one in unknown),
        warn=[(RED, 1)],
    )


def postgres() -> Iterator[Panel]:
    """PostgreSQL."""
    yield Panel(
        "Requests",
        "Queries, or batches up to their Sync, per second.",
        [Query(rate("backstay_postgres_units_total", "route"), "{{route}}")],
        unit="reqps",
    )
    yield Panel(
        "Sessions of pools",
        "By what they do. Each holds a link; the limit is pool.size.",
        [
            Query(
                f"sum by (route, state) (backstay_postgres_pool_sessions{{{ROUTE}}})",
                "{{route}} {{state}}",
            ),
            Query(
                f"sum by (route) (backstay_postgres_pool_links_limit{{{ROUTE}}})", "{{route}} limit"
            ),
        ],
    )
    yield Panel(
        "Sent again, by certificate",
        "Why a second run was safe: docs/guarantees.md.",
        [
            Query(
                rate("backstay_postgres_replayed_total", "route, certificate"),
                "{{route}} {{certificate}}",
            )
        ],
        unit="ops",
        stacked=True,
    )
    yield Panel(
        "Sessions",
        "Restored after a loss, and ended because their state cannot be rebuilt.",
        [
            Query(rate("backstay_postgres_sessions_restored_total", "route"), "{{route}} restored"),
            Query(rate("backstay_postgres_state_lost_total", "route"), "{{route}} state lost"),
        ],
        unit="ops",
    )
    yield Panel(
        "Lost answers",
        "Requests whose link was lost and that were answered with an error, by what it says.",
        [Query(rate("backstay_postgres_lost_answers_total", "route, outcome"), "{{outcome}}")],
        unit="ops",
    )
    yield from of_dialect("postgres")


def redis() -> Iterator[Panel]:
    """Redis."""
    yield Panel(
        "Commands",
        "Read from clients, and answered by the cache, per second.",
        [
            Query(rate("backstay_redis_commands_total", "route"), "{{route}}"),
            Query(rate("backstay_redis_cache_hits_total", "route"), "{{route}} from the cache"),
        ],
        unit="ops",
    )
    yield Panel(
        "Cache",
        "Hits, answers that there is no such key, misses, reads that shared an answer.",
        [
            Query(rate(f"backstay_redis_cache_{name}_total", "route"), f"{{{{route}}}} {about}")
            for name, about in (
                ("hits", "hits"),
                ("negative_hits", "absent keys"),
                ("misses", "misses"),
                ("coalesced", "shared"),
            )
        ],
        unit="ops",
    )
    yield Panel(
        "Cache size",
        "Bytes of keys and replies, and the limit.",
        [
            Query(f"sum by (route) (backstay_redis_cache_size_bytes{{{ROUTE}}})", "{{route}}"),
            Query(
                f"sum by (route) (backstay_redis_cache_limit_bytes{{{ROUTE}}})", "{{route}} limit"
            ),
        ],
        unit="bytes",
    )
    yield Panel(
        "Cache, from the server's side",
        "Keys that changed, entries that made room, replies served from before an outage.",
        [
            Query(rate(f"backstay_redis_cache_{name}_total", "route"), f"{{{{route}}}} {about}")
            for name, about in (
                ("invalidations", "invalidated"),
                ("evictions", "evicted"),
                ("stale_served", "stale"),
            )
        ],
        unit="ops",
    )
    yield Panel(
        "Repeated reads",
        "Hits of a client that had read the same key within the last second: the application could"
        " keep them.",
        [Query(rate("backstay_redis_cache_saved_repeats_total", "route"), "{{route}}")],
        unit="ops",
    )
    yield Panel(
        "Links",
        "By what they are for.",
        [Query(f"sum by (route, kind) (backstay_redis_links{{{ROUTE}}})", "{{route}} {{kind}}")],
    )
    yield from of_dialect("redis")


def processes() -> Iterator[Panel]:
    """The processes themselves."""
    lag = quantile(0.99, "backstay_loop_lag_seconds", "instance, worker", PICK)
    one = "{{instance}} {{worker}}"
    yield Panel(
        "CPU",
        "Cores; a worker uses one at most.",
        [Query(f"rate(backstay_cpu_seconds_total{{{PICK}}}[$__rate_interval])", one)],
        unit="percentunit",
    )
    yield Panel(
        "Memory",
        "Resident.",
        [Query(f"backstay_resident_memory_bytes{{{PICK}}}", one)],
        unit="bytes",
    )
    yield Panel("Loop lag, p99", "How late a timer of 100 ms was.", [Query(lag, one)], unit="s")
    yield Panel("Open files", "File descriptors.", [Query(f"backstay_open_fds{{{PICK}}}", one)])
    yield Panel(
        "Defects and dropped log lines",
        "Both should stay at 0.",
        [
            Query(f"increase(backstay_{name}_total{{{PICK}}}[$__rate_interval])", f"{one} {name}")
            for name in ("bugs", "log_lines_dropped")
        ],
    )
    yield Panel(
        "Version",
        "What runs where.",
        [Query(f"count by (version) (backstay_build_info{{{PICK}}})", "{{version}}")],
    )


ROWS = {
    "Is everything well?": overview,
    "PostgreSQL": postgres,
    "Redis": redis,
    "Processes": processes,
}


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana imports it."""
    return {
        "title": "Backstay",
        "uid": "backstay",
        "description": "Sessions, links, losses and the cache of Backstay.",
        "tags": ["backstay", "postgresql", "redis"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": list(_panels()),
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    queries = {
        "job": "label_values(backstay_build_info, job)",
        "instance": 'label_values(backstay_build_info{job=~"$job"}, instance)',
        "route": 'label_values(backstay_incidents_open{job=~"$job"}, route)',
    }
    chosen = {"text": "All", "value": "$__all"}
    return [
        source,
        *(
            {
                "name": name,
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "includeAll": True,
                "allValue": ".*",
                "multi": True,
                "current": chosen,
            }
            for name, query in queries.items()
        ),
    ]


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": place, "collapsed": False,
               "panels": []}  # fmt: skip
        number, top, left = number + 1, top + 1, 0
        for panel in panels():
            height = 4 if panel.kind == "stat" else 7
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            number, left = number + 1, left + panel.width
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    steps += [{"color": color, "value": value} for color, value in panel.warn]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "stat":
        options: dict[str, Any] = {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "colorMode": "background" if panel.warn else "value",
        }
    else:
        options = {"legend": {"displayMode": "list", "placement": "bottom"}}
        options["tooltip"] = {"mode": "multi", "sort": "desc"}
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 30 if panel.stacked else 5
        defaults["custom"] = {"fillOpacity": fill, "stacking": stacking, "showPoints": "never"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": "ABCDEFGH"[index],
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    TARGET.write_text(json.dumps(dashboard(), indent=1) + "\n")
