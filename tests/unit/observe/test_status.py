"""The JSON of /api/v1/status, and its findings."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from proxy.core.histogram import BOUNDS_S, Histogram
from proxy.core.report import (
    CacheReport,
    Incident,
    KeyCount,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
)
from proxy.observe.findings import findings
from proxy.observe.status import status

WELL = Report(
    version="1",
    workers=[WorkerReport(0, 1, started_s=100.0), WorkerReport(1, 2, started_s=160.0)],
    postgres=[PostgresReport("main", upstream=["db:5432"], state="up", clients_max=1000)],
    redis=[
        RedisReport(
            "cache", upstream=["r:6379"], state="up", clients_max=1000, cache=CacheReport(True)
        )
    ],
)


def postgres(**changes: Any) -> Report:
    return replace(WELL, postgres=[replace(WELL.postgres[0], **changes)])


def redis(**changes: Any) -> Report:
    return replace(WELL, redis=[replace(WELL.redis[0], **changes)])


def cache(**changes: Any) -> Report:
    return redis(cache=CacheReport(enabled=True, **changes))


def worker(**changes: Any) -> Report:
    return replace(WELL, workers=[replace(WELL.workers[0], **changes)])


def lagging(seconds: float, count: int = 100) -> Histogram:
    lag = Histogram()
    for _ in range(count):
        lag.observe(seconds)
    return lag


def pool(**changes: int) -> Report:
    return postgres(pools=[PoolReport("app", "shop", links_max=2, **changes)])


def test_all_is_well() -> None:
    told = status(WELL, 200.0)
    assert (told["well"], told["summary"], told["findings"]) == (True, "All is well.", [])
    assert (told["now_s"], told["uptime_s"], told["bounds_s"]) == (200.0, 100.0, list(BOUNDS_S))


def test_it_is_the_report_as_json() -> None:
    report = replace(WELL, incidents=[Incident("i1", "main", "postgres", "r", "u", "", 5.0)])
    report.postgres[0].latency.wait.observe(0.2)
    told = json.loads(json.dumps(status(report, 1.0), allow_nan=False))
    plain = asdict(report)
    assert told["redis"][0]["cache"] == plain["redis"][0]["cache"]
    assert told["incidents"] == plain["incidents"]
    wait = told["postgres"][0]["latency"]["wait"]
    assert set(wait) == {"count", "sum_s", "max_s", "p50_s", "p90_s", "p99_s", "counts"}
    assert (wait["count"], wait["max_s"], sum(wait["counts"])) == (1, 0.2, 1)


def test_what_was_saved() -> None:
    report = replace(
        WELL,
        postgres=[replace(WELL.postgres[0], counts={"absorbed": 3}, errors={"a": 1, "b": 2})],
        redis=[
            replace(
                WELL.redis[0],
                counts={"absorbed": 4},
                errors={"a": 5},
                cache=CacheReport(True, hits=10, coalesced=2),
            )
        ],
    )
    assert status(report, 1.0)["saved"] == {
        "drops_absorbed": 7,
        "errors_answered": 8,
        "reads_saved": 12,
    }


KEYS = [KeyCount("user:*:token", 14), KeyCount("rare:*", 4)]
CASES = [
    (
        postgres(state="away", reason="upstream_reset", away_s=12.3, waiting=37),
        (
            "critical",
            "main",
            "the upstream has been away for 12 s (the link was reset); 37 sessions wait",
        ),
    ),
    (
        postgres(state="away", away_s=0.4, waiting=1),
        ("critical", "main", "the upstream has been away for 400 ms; 1 session waits"),
    ),
    (
        postgres(state="away", away_s=20.0),
        ("critical", "main", "the upstream has been away for 20 s; nobody waits"),
    ),
    (
        redis(state="away", reason="upstream_unreachable", away_s=2.0, waiting=3),
        (
            "critical",
            "cache",
            "the upstream has been away for 2.0 s (the server could not be reached);"
            " 3 commands wait",
        ),
    ),
    (postgres(state="paused"), ("warning", "main", "paused")),
    (
        postgres(clients=800),
        ("warning", "main", "800 of at most 1000 clients are connected"),
    ),
    (
        redis(clients=1000),
        ("critical", "cache", "1000 of at most 1000 clients are connected"),
    ),
    (
        pool(links_active=2, sessions_waiting=3),
        ("warning", "main", "3 sessions of app@shop wait for one of 2 links"),
    ),
    (postgres(pooler=True), ("info", "main", "the upstream is a pooler")),
    (postgres(counts={"doubts": 1}), ("info", "main", "1 statement ended with the outcome unkn")),
    (cache(refused="too old"), ("warning", "cache", "nothing is cached: too old")),
    (
        cache(repeated_keys=KEYS),
        (
            "info",
            "cache",
            "clients read the same key again within a second: user:*:token (14 times)",
        ),
    ),
    (
        cache(missing_keys=[KeyCount("a:*", 20)]),
        ("info", "cache", "keys that do not exist are read again and again: a:* (20 times)"),
    ),
    (
        cache(hits=50, misses=950),
        ("info", "cache", "only 5 % of 1000 reads were answered from the cache"),
    ),
    (worker(bugs=2), ("warning", "", "process 1 met 2 bugs")),
    (worker(recent_lag=lagging(0.2)), ("warning", "", "process 1 is short of CPU")),
    (worker(log_lines_dropped=1), ("info", "", "1 log line did not fit")),
    (worker(state="draining"), ("warning", "", "process 1 is draining")),
    (
        replace(WELL, reload_problems=["b.yaml:1:1: x"]),
        ("warning", "", "the last reload was refused: b.yaml:1:1: x"),
    ),
]


@pytest.mark.parametrize(("report", "expected"), CASES, ids=[case[1][2][:40] for case in CASES])
def test_findings(report: Report, expected: tuple[str, str, str]) -> None:
    (finding,) = findings(report)
    assert (finding.level, finding.route) == expected[:2]
    assert finding.text.startswith(expected[2])
    assert finding.advice.endswith((".", "?"))


@pytest.mark.parametrize(
    "report",
    [
        postgres(clients=799),
        pool(links_active=1, sessions_waiting=3),  # a link is on its way
        cache(repeated_keys=[KeyCount("a", 4)], missing_keys=[KeyCount("b", 19)]),
        cache(hits=0, misses=499),
        cache(hits=300, misses=700),
        worker(recent_lag=lagging(0.2, 99)),
        worker(recent_lag=lagging(0.01, 1000)),
        worker(loop_lag=lagging(0.2)),  # long ago
        redis(cache=CacheReport(enabled=False, refused="off")),
    ],
)
def test_no_findings(report: Report) -> None:
    assert findings(report) == []


def test_the_summary_is_a_sentence() -> None:
    refused = replace(WELL, reload_problems=["f.yaml:1:1: no"])
    assert status(refused, 1.0)["summary"].startswith("The last reload was refused: f.yaml")


def test_the_worst_comes_first_and_is_the_summary() -> None:
    report = replace(
        cache(repeated_keys=KEYS),
        postgres=[replace(WELL.postgres[0], state="away", away_s=3.0, waiting=2)],
        workers=[replace(WELL.workers[0], bugs=1)],
    )
    told = status(report, 1.0)
    assert [one["level"] for one in told["findings"]] == ["critical", "warning", "info"]
    assert told["summary"] == "main: the upstream has been away for 3.0 s; 2 sessions wait."
    assert told["well"] is False


def test_hints_for_the_application_are_no_trouble() -> None:
    told = status(cache(repeated_keys=KEYS), 1.0)
    assert (told["well"], told["summary"]) == (True, "All is well.")
    assert set(told["findings"][0]) == {"level", "route", "text", "advice"}
