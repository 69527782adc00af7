"""The writers of `make bench`: the closing table, docs/bench.json and docs/bench.svg."""

import json
from xml.etree import ElementTree

import pytest

from tests.bench.chart import svg
from tests.bench.figures import Row, Run, Target, table
from tests.bench.yardstick import percentile, ratio

COST = Row(
    "SELECT 1, simple", "µs CPU", 19.46, Target(1.35, 1.0), "pgbouncer", 15.0, 1.3, {"haproxy": 17},
    {"backstay": (70, 120), "direct": (41.4, 80)},
)  # fmt: skip
RATE = Row("Redis: cached GET", "µs CPU", 6.0, Target(0.9, 1.3, at_least=True), "redis", 5.1, 0.85)
ERRORS = Row("errors per cut <link>", "errors", 0.0, Target(0.0, 0.0), "pgbouncer", 1.0)
FREE = Row("new connections", "µs CPU", 310.0, Target(), "pgbouncer", 127.0, 2.44)
ROWS = (COST, RATE, ERRORS, FREE)
RUN = Run("2026-11-24", "c210cf0", "2 x CPU, Linux 6.18", "3.11.2", 7, ROWS, compiled=True)


@pytest.mark.parametrize(
    ("target", "found", "holds", "goal"),
    [
        (Target(1.35, 1.0), 1.36, False, False),
        (Target(1.35, 1.0), 1.35, True, False),
        (Target(1.35, 1.0), 1.0, True, True),
        (Target(0.9, 1.3, at_least=True), 0.89, False, False),
        (Target(0.9, 1.3, at_least=True), 0.9, True, False),
        (Target(0.9, 1.3, at_least=True), 1.3, True, True),
        (Target(), 99.0, None, False),
    ],
)
def test_target(target: Target, found: float, holds: bool | None, goal: bool) -> None:
    assert target.holds(found) is holds
    assert target.reaches_goal(found) is goal


def test_cost_is_in_units_of_the_yardsticks_whichever_way_the_ratio_goes() -> None:
    assert COST.cost == pytest.approx(1.3)
    assert COST.cost_required == pytest.approx(1.35)
    assert RATE.cost == pytest.approx(1 / 0.85)
    assert RATE.cost_required == pytest.approx(1 / 0.9)
    assert ERRORS.cost is None


def test_table_shows_the_ratio_beside_what_is_wanted_and_whether_it_holds() -> None:
    head, cost, rate, errors, free = table(ROWS).splitlines()
    assert head.split()[:5] == ["work", "unit", "backstay", "yardstick", "ratio"]
    assert "19.46      15.00  pgbouncer, haproxy 17.00  1.30x  <= 1.35x  <= 1.00x  yes" in cost
    assert cost.endswith("backstay 0.07/0.12, direct 0.04/0.08")
    assert "0.85x  >= 0.90x  >= 1.30x  NO" in rate
    assert "<= 0.00   <= 0.00  goal" in errors
    assert free.rstrip().endswith("2.44x")


def test_json_holds_every_figure_rounded() -> None:
    told = json.loads(RUN.as_json())
    head = {name: value for name, value in told.items() if name != "rows"}
    assert head == {
        "date": "2026-11-24",
        "commit": "c210cf0",
        "machine": "2 x CPU, Linux 6.18",
        "python": "3.11.2",
        "rounds": 7,
        "compiled": True,
    }
    assert told["rows"][0] == {
        "name": "SELECT 1, simple",
        "unit": "µs CPU",
        "ours": 19.46,
        "yardstick": 15.0,
        "beside": "pgbouncer",
        "ratio": 1.3,
        "required": 1.35,
        "goal": 1.0,
        "at_least": False,
        "holds": True,
        "others": {"haproxy": 17.0},
        "latency_us": {"backstay": [70, 120], "direct": [41, 80]},
    }
    assert [row["holds"] for row in told["rows"]] == [True, False, True, None]


def test_svg_is_well_formed_with_a_bar_for_each_ratio_and_words_for_the_rest() -> None:
    page = ElementTree.fromstring(svg(RUN))
    space = {"s": "http://www.w3.org/2000/svg"}
    bars = [rect for rect in page.findall("s:rect", space) if rect.get("class") != "page"]
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert [bar.get("class") for bar in bars] == ["bar", "over", "bar"]
    assert widths[1] / widths[0] == pytest.approx(1 / 0.85 / 1.3, rel=0.01)
    right, edge = float(bars[2].get("x", "0")) + widths[2], float(page.get("width", "0"))
    assert right < edge - 100  # a long bar is cut off before it leaves the picture
    words = [text.text or "" for text in page.findall("s:text", space)]
    assert {"1.30", "1.18", "2.44", "errors per cut <link>"} <= set(words)
    assert "Backstay 0, pgbouncer 1 (errors)" in words
    assert any("c210cf0" in line and "Python 3.11.2" in line for line in words)


def test_percentile_is_the_nearest_rank() -> None:
    times = [float(n) for n in range(100, 0, -1)]
    assert percentile(times, 50) == 50.0
    assert percentile(times, 99) == 99.0
    assert percentile([7.0], 99) == 7.0


def test_ratio_is_the_median_of_each_rounds_own() -> None:
    assert ratio([2.0, 30.0, 3.0], [1.0, 10.0, 3.0]) == pytest.approx(2.0)
