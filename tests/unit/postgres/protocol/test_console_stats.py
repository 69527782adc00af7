"""Totals and averages: against sums made by hand, and against the clock of whoever asks."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.postgres.protocol.console_stats import (
    KEPT_MAX,
    STATS,
    STATS_AVERAGES,
    STATS_TOTALS,
    Averages,
    Totals,
    average,
    table,
    totals,
)
from tests.unit.postgres.protocol.console_kit import NOW_S, facts, report, shown


def test_totals_of_a_route() -> None:
    found = totals(report().postgres[0], 16)
    assert found.server_assignment_count == 13  # a link for each login and each restore
    assert found.xact_count == found.query_count == 1000
    assert found.query_time == 64_000  # 4 ms measured, one request in 16
    assert found.wait_time == 500_000


def test_averages_are_per_second_and_per_request() -> None:
    before = Totals(xact_count=100, query_count=100, query_time=1000, received=50)
    now = Totals(
        xact_count=160, query_count=160, query_time=4000, received=650, wait_time=900,
        server_assignment_count=3,
    )  # fmt: skip
    found = average(now, before, 60.0)
    assert (found.xact_count, found.received) == (1, 10)
    assert (found.query_time, found.wait_time) == (50, 300)
    assert average(now, now, 60.0) == Totals()


def test_who_asks_once_gets_the_average_since_the_start() -> None:
    averages = Averages()
    found = averages.rate(NOW_S, NOW_S - 100, {"main": Totals(xact_count=500)})
    assert found["main"].xact_count == 5


def test_who_asks_again_gets_the_average_since_then() -> None:
    averages = Averages()
    averages.rate(NOW_S, NOW_S - 100, {"main": Totals(xact_count=500)})
    later = averages.rate(NOW_S + 20, NOW_S - 100, {"main": Totals(xact_count=900)})
    assert later["main"].xact_count == 20
    # and after more than a minute without anybody asking, since the start again
    last = averages.rate(NOW_S + 900, NOW_S - 100, {"main": Totals(xact_count=1000)})
    assert last["main"].xact_count == 1


def test_a_route_that_is_new_starts_at_nothing() -> None:
    averages = Averages()
    averages.rate(NOW_S, NOW_S - 100, {})
    found = averages.rate(NOW_S + 10, NOW_S - 100, {"new": Totals(xact_count=50)})
    assert found["new"].xact_count == 5


@given(st.lists(st.floats(0, 30), max_size=200))
def test_averages_are_bounded_and_never_negative(pauses: list[float]) -> None:
    averages, now_s, count = Averages(), NOW_S, 0
    for pause_s in pauses:
        now_s += pause_s
        count += 3
        found = averages.rate(now_s, NOW_S - 1, {"main": Totals(xact_count=count)})
        assert 0 <= found["main"].xact_count <= count
    assert len(averages._kept) <= KEPT_MAX


def test_the_four_tables() -> None:
    stats = facts().stats
    full = [shown(STATS, row) for row in table("stats", stats).rows]
    assert [row["database"] for row in full] == ["main", "other"]
    assert full[0]["total_xact_count"] == 1000
    assert full[0]["avg_xact_count"] == 10  # since the start, 100 s ago
    plain = shown(STATS_TOTALS, table("stats_totals", stats).rows[0])
    assert plain["query_time"] == 64_000
    assert (plain["bytes_received"], plain["bytes_sent"]) == (9000, 0)
    assert shown(STATS_AVERAGES, table("stats_averages", stats).rows[0])["query_time"] == 64
    summed = dict(table("totals", stats).rows)  # type: ignore[arg-type, var-annotated]
    assert summed["total_query_count"] == 1000
    assert summed["avg_query_time"] == 32  # the mean of two routes, one of them idle
    assert "total_client_bytes" in summed
