"""Delays before the next try, and the token bucket."""

import random

import pytest

from proxy.core.backoff import Backoff, RateLimit


class Highest(random.Random):
    """Chance at its worst: always the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_first_try_is_immediate_then_the_cap_doubles_up_to_the_longest() -> None:
    backoff = Backoff(shortest_s=0.05, longest_s=2.0)
    delays = [backoff.next_delay_s(Highest()) for _ in range(9)]
    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert backoff.tries == 9


def test_full_jitter_reaches_down_to_zero() -> None:
    backoff = Backoff()
    assert [backoff.next_delay_s(Lowest()) for _ in range(5)] == [0.0] * 5


def test_success_starts_over() -> None:
    backoff = Backoff()
    for _ in range(6):
        backoff.next_delay_s(Highest())
    backoff.reset()
    assert backoff.tries == 0
    assert [backoff.next_delay_s(Highest()) for _ in range(2)] == [0.0, 0.05]


def test_jitter_spreads_evenly_below_the_cap() -> None:
    rng = random.Random(7)
    delays = []
    for _ in range(2000):
        backoff = Backoff(1.0, 1.0)
        backoff.next_delay_s(rng)
        delays.append(backoff.next_delay_s(rng))
    assert 0.0 <= min(delays) < 0.02
    assert 0.98 < max(delays) <= 1.0
    assert 0.47 < sum(delays) / len(delays) < 0.53


def test_endless_tries_do_not_overflow() -> None:
    backoff = Backoff()
    for _ in range(5000):
        assert backoff.next_delay_s(Highest()) <= 2.0


@pytest.mark.parametrize(("shortest_s", "longest_s"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_unusable_limits_are_a_bug(shortest_s: float, longest_s: float) -> None:
    with pytest.raises(AssertionError):
        Backoff(shortest_s, longest_s)


def test_burst_then_the_rate() -> None:
    limit = RateLimit(rate_per_s=10.0, burst=3)
    assert [limit.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert limit.wait_s(5.0) == pytest.approx(0.1)
    assert not limit.take(5.05)
    assert limit.wait_s(5.05) == pytest.approx(0.05)
    assert limit.take(5.11)
    assert not limit.take(5.11)


def test_idle_time_fills_up_to_the_burst_only() -> None:
    limit = RateLimit(rate_per_s=1.0, burst=2)
    assert limit.take(0.0)
    assert limit.take(0.0)
    assert [limit.take(1000.0) for _ in range(3)] == [True, True, False]


def test_long_run_keeps_the_rate() -> None:
    limit = RateLimit(rate_per_s=50.0, burst=5)
    taken = sum(limit.take(tick / 1000) for tick in range(10_000))
    assert 495 <= taken <= 506


def test_clock_that_steps_back_gives_nothing() -> None:
    limit = RateLimit(rate_per_s=1.0, burst=1)
    assert limit.take(10.0)
    assert not limit.take(3.0)
    assert limit.wait_s(3.0) == 1.0


def test_a_token_is_there_after_the_wait() -> None:
    limit = RateLimit(rate_per_s=3.0, burst=1)
    assert limit.wait_s(0.0) == 0.0
    assert limit.take(0.0)
    wait_s = limit.wait_s(0.0)
    assert limit.take(wait_s + 1e-9)


@pytest.mark.parametrize(("rate_per_s", "burst"), [(0.0, 1), (1.0, 0)])
def test_unusable_rate_is_a_bug(rate_per_s: float, burst: int) -> None:
    with pytest.raises(AssertionError):
        RateLimit(rate_per_s, burst)
