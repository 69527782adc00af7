"""Our own tables: the numbers of a known report."""

import pytest

from proxy.postgres.protocol.console_ours import MADE, table
from tests.unit.postgres.protocol.console_kit import facts, shown


def rows(name: str) -> list[dict[str, object]]:
    made = table(name, facts())
    return [shown(made.columns, row) for row in made.rows]


@pytest.mark.parametrize("name", MADE)
def test_each_row_has_a_value_for_each_column(name: str) -> None:
    made = table(name, facts())
    assert made.rows
    assert all(len(row) == len(made.columns) for row in made.rows)


def test_routes_of_both_kinds() -> None:
    main, other, cache = rows("routes")
    assert (main["kind"], main["links"], main["losses"], main["errors"]) == ("postgres", 7, 3, 1)
    assert main["upstream"] == "db1:5432, db2:5433"
    assert other["state"] == "paused"
    assert (cache["kind"], cache["links"]) == ("redis", 3)


def test_route_pools() -> None:
    found = [(row["user"], row["dbname"], row["links_max"]) for row in rows("route_pools")]
    assert found == [("app", "shop", 20), ("app", "crm", 20), ("etl", "shop", 20)]


def test_incidents() -> None:
    (one,) = rows("incidents")
    assert (one["id"], one["ended"], one["losses"]) == ("i1", None, 3)
    assert (one["replayed"], one["errors"]) == ("RO=2", "40001=1")


def test_cache_and_keys() -> None:
    (cache,) = rows("cache")
    assert (cache["hit_rate"], cache["enabled"], cache["bypassed"]) == (0.75, True, "write=2")
    assert [(row["list"], row["key"], row["count"]) for row in rows("keys")] == [
        ("top", "user:*", 9),
        ("missing", "gone:*", 3),
    ]


def test_counters_and_latency() -> None:
    counters = {(row["what"], row["name"]): row["value"] for row in rows("counters")}
    assert counters["loss", "upstream_eof"] == 3
    assert counters["error", "rolled_back"] == 1
    assert counters["count", "units"] == 1000
    latency = {(row["route"], row["what"]): row for row in rows("latency")}
    server = latency["main", "server"]
    assert server["count"] == 2
    assert server["mean_ms"] == pytest.approx(2.0)
    assert server["max_ms"] == pytest.approx(3.0)
    assert latency["other", "server"]["p99_ms"] is None


def test_workers() -> None:
    (worker,) = rows("workers")
    assert (worker["pid"], worker["rss_bytes"], worker["cpu_s"]) == (77, 1 << 32, 1.5)
