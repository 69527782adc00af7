"""Reports made by hand, with the real dataclasses: what a page must show, without a wait."""

import json
import random
from typing import Any

from proxy.core.histogram import Histogram
from proxy.core.report import (
    CacheReport,
    Incident,
    KeyCount,
    Latency,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
)
from proxy.observe import status as observed

STARTED_S = 1_780_000_000.0
NOW_S = STARTED_S + 7260
EVIL = '<img src=x onerror="window.pwned=1">'


def histogram(median_s: float, count: int = 4000) -> Histogram:
    """Spread around a median."""
    rng = random.Random(1)
    made = Histogram()
    for _ in range(count):
        made.observe(median_s * rng.lognormvariate(0, 0.7))
    return made


def latency(count: int = 4000) -> Latency:
    """Of a route in use."""
    return Latency(
        wait=histogram(0.000_08, count),
        server=histogram(0.0012, count),
        proxy=histogram(0.000_06, count),
        outage=histogram(1.2, count // 1000),
        restore=histogram(0.006, count // 100),
        connect=histogram(0.004, count // 100),
    )


def postgres(**changes: Any) -> PostgresReport:
    """A route with two pools and some history."""
    made = PostgresReport(
        name="main",
        listen=["127.0.0.1:6432"],
        upstream=["db.example.com:5432"],
        state="up",
        clients=42,
        clients_max=1000,
        waiting_max=1000,
        pools=[
            PoolReport("app", "gym", 6, 31, 0, 6, 8, 0, 20),
            PoolReport("reporting", "gym", 1, 4, 0, 1, 2, 1, 20),
        ],
        counts={
            "units": 918_220,
            "restores": 1296,
            "absorbed": 1284,
            "resent_fatal": 14,
            "resent_unsent": 274,
            "replayed_read_only": 331,
            "resent_harmless": 96,
        },
        losses={"upstream_reset": 611, "upstream_eof": 602, "upstream_fatal": 71},
        errors={"outcome_unknown": 3, "rolled_back": 9},
        latency=latency(),
    )
    return _changed(made, changes)


def redis(**changes: Any) -> RedisReport:
    """A route whose cache has work to do."""
    made = RedisReport(
        name="cache",
        listen=["127.0.0.1:6380"],
        upstream=["redis.example.com:6379"],
        state="up",
        clients=18,
        clients_max=1000,
        waiting_max=1000,
        links={"data": 2, "tracking": 1, "exclusive": 1},
        partitions=1,
        commands=183_402,
        counts={"absorbed": 48, "resent": 31},
        losses={"upstream_reset": 12},
        cache=cache(),
        latency=latency(),
    )
    return _changed(made, changes)


def cache() -> CacheReport:
    """A full one."""
    names = ("user:*", "user_gym_membership:*", "gym:*:settings", "session:*", "feature:flags")
    names += ("gym:*:classes:*", "rate:*")
    return CacheReport(
        enabled=True,
        entries=3120,
        bytes=11 * 2**20,
        max_bytes=64 * 2**20,
        hits=151_230,
        negative_hits=22_014,
        misses=9120,
        coalesced=4107,
        saved_repeats=88_310,
        invalidations=2210,
        bypassed={"not_cacheable": 18_433, "barrier": 402, "order": 91},
        top_keys=[KeyCount(name, 61_000 // (i + 1)) for i, name in enumerate(names)],
        repeated_keys=[KeyCount("user:*", 52_113), KeyCount("gym:*:settings", 9_120)],
        missing_keys=[KeyCount("user_gym_membership:*", 21_300), KeyCount("avatar:*", 714)],
        refilled_keys=[KeyCount("rate:*", 812)],
    )


def incident(number: int, ago_s: float, now_s: float, **changes: Any) -> Incident:
    """One that was absorbed, `ago_s` before `now_s`."""
    made = Incident(
        id=f"{number}",
        route="main",
        kind="postgres",
        reason="upstream_fatal",
        upstream="db.example.com:5432",
        last_words="FATAL: terminating connection due to administrator command (57P01)",
        started_s=now_s - ago_s,
        ended_s=now_s - ago_s + 1.4,
        losses=12,
        sessions=31,
        longest_wait_s=1.31,
        replayed={"fatal": 4, "read_only": 7, "unsent": 2},
        outage_s=1.2,
    )
    return _changed(made, changes)


def report(now_s: float = NOW_S, **changes: Any) -> Report:
    """Everything well, with a past."""
    made = Report(
        version="0.1.0",
        workers=[
            WorkerReport(
                *(0, 4711, "ready", STARTED_S, histogram(0.0004), 81.5, 61 * 2**20, 74, 12),
                recent_lag=histogram(0.0004),
            )
        ],
        postgres=[postgres()],
        redis=[redis()],
        incidents=[
            incident(3, 250, now_s),
            incident(
                2,
                1900,
                now_s,
                reason="upstream_reset",
                last_words="",
                errors={"08007": 3, "40001": 9},
                outage_s=0.0,
                ended_s=now_s - 1899.7,
                longest_wait_s=0.021,
            ),
            incident(1, 5300, now_s, route="cache", kind="redis", replayed={}, losses=3),
        ],
    )
    return _changed(made, changes)


def status(made: Report, now_s: float = NOW_S, **top: Any) -> dict[str, Any]:
    """The JSON of /api/v1/status, as the admin port makes it; `top` replaces parts of it."""
    return {**observed.status(made, now_s), **top}


def as_json(value: Any) -> str:
    """To stand in a script."""
    return json.dumps(value)


def _changed(made: Any, changes: dict[str, Any]) -> Any:
    for name, value in changes.items():
        setattr(made, name, value)
    return made
