"""Numbers for people."""

import pytest

from proxy.diagnose.finding import Change, Finding, Level, ranked
from proxy.diagnose.units import counted, duration, percent, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.000_042, "42 µs"),
        (0.0031, "3.1 ms"),
        (0.025, "25 ms"),
        (1.0, "1 s"),
        (1.5, "1.5 s"),
        (119, "119 s"),
        (300, "5 min"),
        (7200, "2 h"),
        (864_000, "10 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (512, "512 B"),
        (1024, "1 KiB"),
        (3_250_000, "3.1 MiB"),
        (2 << 30, "2 GiB"),
        (5 << 40, "5 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_counts() -> None:
    assert percent(0.966) == "97 %"
    assert counted(1, "key") == "1 key"
    assert counted(0, "key") == "0 keys"


def test_the_worst_comes_first() -> None:
    levels = [Level.INFO, Level.CRITICAL, Level.WARNING, Level.CRITICAL]
    findings = [
        Finding(level=level, check=str(n), measured="", meaning="")
        for n, level in enumerate(levels)
    ]
    assert [finding.check for finding in ranked(findings)] == ["1", "3", "2", "0"]


def test_a_change_in_words() -> None:
    assert str(Change("redis.conf", "maxmemory", "1gb")) == "redis.conf: maxmemory = 1gb"
    assert str(Change("the network", "firewall")) == "the network: firewall"
