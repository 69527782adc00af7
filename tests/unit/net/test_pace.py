"""The pace of a drain: a floor, half of the time for all, the first at once."""

import pytest

from proxy.net.pace import CLIENTS_PER_S, TICK_S, Pace


@pytest.mark.parametrize(("clients", "drain_s"), [(5, 30.0), (10_000, 30.0), (10, 0.0)])
def test_all_are_told_within_half_of_the_time(clients: int, drain_s: float) -> None:
    pace, now_s, told, most = Pace(clients, drain_s), 0.0, 0, 0
    assert pace.per_s >= CLIENTS_PER_S
    while told < clients:
        count = pace.due(now_s)
        told, most = told + count, max(most, count)
        now_s += TICK_S
    assert now_s <= max(drain_s / 2, clients / CLIENTS_PER_S) + 2 * TICK_S
    assert most <= pace.per_s * TICK_S + 1


def test_a_long_pause_gives_no_burst_of_more_than_a_second() -> None:
    pace = Pace(100_000, 100.0)
    assert pace.due(0.0) == int(pace.per_s * TICK_S)
    assert pace.due(60.0) <= pace.per_s
