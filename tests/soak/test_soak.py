"""The soak's short form, and that a leak of each kind is noticed."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from proxy.demo.binaries import postgres_bin, postgres_has_tls
from proxy.demo.certificates import TlsFiles
from proxy.demo.servers import PostgresServer, RedisServer
from tests.soak.stage import Plan, Result, Soak
from tests.soak.table import table
from tests.soak.watch import (
    MEMORY_S_MIN,
    MIB,
    Latencies,
    Sample,
    leaks,
    left_behind,
    memory_slope,
    quantiles,
    slope,
    slower,
)

# Each dial keeps a descriptor and a task for ever; what else the proxy does is as always.
LEAK = """
import asyncio, os
from proxy.net import dial
connect, kept = dial.connect, []
async def leaky(address, options):
    sock = await connect(address, options)
    os.dup(sock.fileno())
    kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))
    return sock
dial.connect = leaky
"""


def plan(seconds: float) -> Plan:
    return Plan(seed=3, seconds=seconds, postgres=20, redis=80, cut_every_s=0.25, sample_s=0.1)


@pytest.mark.servers
@pytest.mark.timeout(90)
@pytest.mark.parametrize("leaky", [False, True], ids=["as it is", "with a leak"])
async def test_short_soak(
    postgres: PostgresServer,
    redis: RedisServer,
    tls_files: TlsFiles,
    tmp_path: Path,
    leaky: bool,
) -> None:
    if not postgres_has_tls(postgres_bin()):
        pytest.skip("this PostgreSQL was built without TLS")
    soak = Soak(plan(3.0 if leaky else 5.0), (postgres, redis), tls_files, tmp_path)
    if leaky:
        (tmp_path / "leak").mkdir()
        (tmp_path / "leak" / "sitecustomize.py").write_text(LEAK)
        soak.environment = {"PYTHONPATH": str(tmp_path / "leak")}
        soak.leave_s_max = 1.5
    result = await soak.run()
    print(table(result))
    await asyncio.to_thread(postgres.sql, "drop table soak_ledger")
    if leaky:
        assert any("fds more than before" in text for text in result.problems)
        assert any("tasks more than before" in text for text in result.problems)
        return
    assert result.problems == []
    assert_worked(result)


def assert_worked(result: Result) -> None:
    assert result.cuts >= 10
    assert result.status["postgres"][0]["counts"]["losses"] >= 5
    assert result.balance.acknowledged > 0
    assert result.book.served["redis hot"] > 0
    assert len(result.samples) > 10
    assert result.before.fds < min(sample.fds for sample in result.samples[1:])


def steady(**growth: float) -> list[Sample]:
    """600 s of samples; `growth`: a second, by field."""
    base = {"rss_bytes": 80 * MIB, "fds": 2300, "tasks": 30}
    return [
        Sample(float(at_s), **{k: int(v + growth.get(k, 0) * at_s) for k, v in base.items()})
        for at_s in range(600)
    ]


def test_steady_is_well() -> None:
    assert leaks(steady(), 600.0) == []


@pytest.mark.parametrize(
    ("growth", "words"),
    [
        ({"rss_bytes": 15_000.0}, ["memory grew by 7.7 MiB"]),
        ({"rss_bytes": 40_000.0}, ["memory grew by", "memory: 85.7 MiB in the first third"]),
        ({"fds": 0.1}, ["fds: "]),
        ({"tasks": 0.1}, ["tasks: "]),
    ],
)
def test_growth_is_seen(growth: dict[str, float], words: list[str]) -> None:
    found = leaks(steady(**growth), 600.0)
    assert len(found) == len(words), found
    for text, word in zip(found, words, strict=True):
        assert word in text


def test_growth_that_comes_to_an_end_is_growth() -> None:
    """25 MiB in 270 s, then flat: links that waited for the collector of cycles."""
    samples = [
        dataclasses.replace(sample, rss_bytes=int((85 + 25 * min(1.0, sample.at_s / 270)) * MIB))
        for sample in steady()
    ]
    found = leaks(samples, 600.0)
    assert [text.split(" ")[0] for text in found] == ["memory", "memory:"]


def test_a_short_run_says_nothing_of_memory() -> None:
    samples = [sample for sample in steady(rss_bytes=1e6) if sample.at_s < 60]
    assert leaks(samples, MEMORY_S_MIN / 2) == []
    assert leaks(samples[:5], 60.0) == ["only 0 samples after warm-up"]


def test_what_is_left_behind() -> None:
    before = Sample(0.0, 0, 20, 5)
    assert left_behind(before, dataclasses.replace(before, fds=24, rss_bytes=9)) == []
    found = left_behind(before, Sample(0.0, 0, 40, 25))
    assert [text.split(",")[0] for text in found] == [
        "20 fds more than before",
        "20 tasks more than before",
    ]


def test_slope_is_that_of_least_squares() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 0.0), (1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]) == pytest.approx(0.8)
    assert slope([(1.0, 5.0)]) == slope([(1.0, 5.0), (1.0, 7.0)]) == 0.0
    assert memory_slope(steady(rss_bytes=MIB / 10)) == pytest.approx(0.1, rel=0.01)


def test_slower() -> None:
    assert quantiles([0.3, 0.1, 0.2]) == Latencies(3, 0.2, 0.2)
    first, same = Latencies(1000, 0.002, 0.02), (Latencies(9, 0.001, 0.01),) * 2
    assert slower("redis", first, Latencies(1000, 0.008, 0.1), same) == []
    late = Latencies(1000, 0.02, 0.2)
    found = slower("redis", first, late, same)
    assert [text.split(" ")[1] for text in found] == ["p50_s", "p95_s"]
    assert slower("redis", first, late, (same[0], Latencies(9, 0.005, 0.05))) == []
    few = dataclasses.replace(late, count=100)
    assert slower("redis", first, few, same) == slower("redis", few, late, same) == []
