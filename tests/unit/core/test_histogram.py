"""Histograms: buckets, merging, quantiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.histogram import BOUNDS_S, Histogram

DURATIONS = st.lists(st.floats(min_value=0, max_value=500), max_size=60)


def filled(seconds: list[float]) -> Histogram:
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    return histogram


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = filled([*BOUNDS_S, 61.0])
    assert histogram.counts == [1] * (len(BOUNDS_S) + 1)
    assert histogram.max_s == 61.0
    assert histogram.sum_s == pytest.approx(sum(BOUNDS_S) + 61.0)


def test_nothing_counted() -> None:
    assert (Histogram().count, Histogram().quantile_s(0.99), Histogram().max_s) == (0, 0.0, 0.0)


@given(DURATIONS, DURATIONS)
def test_adding_is_counting_both(one: list[float], two: list[float]) -> None:
    total = filled(one)
    total.add(filled(two))
    assert total.counts == filled(one + two).counts
    assert total.max_s == filled(one + two).max_s
    assert total.sum_s == pytest.approx(filled(one + two).sum_s)


@given(DURATIONS.filter(bool), st.floats(min_value=0.01, max_value=1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    histogram = filled(seconds)
    found = histogram.quantile_s(share)
    rank = max(1, -int(-share * len(seconds) // 1))  # of the value that `share` do not exceed
    true = sorted(seconds)[min(rank, len(seconds)) - 1]
    low = max((bound for bound in BOUNDS_S if bound < true), default=0.0)
    high = min((bound for bound in BOUNDS_S if bound >= true), default=histogram.max_s)
    assert low <= found <= max(high, true) + 1e-9
    assert found <= histogram.max_s


def test_quantiles_in_between() -> None:
    histogram = filled([0.02] * 50 + [0.2] * 50)
    assert 0.01 <= histogram.quantile_s(0.5) <= 0.025
    assert 0.1 <= histogram.quantile_s(0.9) <= 0.2  # the largest that was seen


def test_a_copy_is_its_own() -> None:
    one = filled([1.0])
    two = Histogram(one.counts, one.sum_s, one.max_s)
    two.observe(2.0)
    assert (one.count, two.count) == (1, 2)
