"""PgBouncer's tables: its columns in its order (as of 1.25), and the numbers of a known report."""

import pytest

from proxy.core.report import Report
from proxy.postgres.protocol import console_show
from proxy.postgres.protocol.console_show import MADE, table, version_text, when
from proxy.postgres.protocol.console_stats import STATS, STATS_TOTALS, TOTALS
from tests.unit.postgres.protocol.console_kit import NOW_S, facts, shown

# From PgBouncer 1.25's usage page and the columns its console sends.
SOCKET = (
    "type user database replication state addr port local_addr local_port connect_time request_time"
    " wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id"
)
PGBOUNCER = {
    "clients": SOCKET,
    "servers": SOCKET,
    "sockets": SOCKET + " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail",
    "pools": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req"
    " sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait"
    " maxwait_us pool_mode load_balance_hosts",
    "databases": "name host port database force_user pool_size min_pool_size reserve_pool_size"
    " server_lifetime pool_mode load_balance_hosts max_connections current_connections"
    " max_client_connections current_client_connections paused disabled",
    "users": "name pool_size reserve_pool_size pool_mode max_user_connections current_connections"
    " max_user_client_connections current_client_connections",
    "lists": "list items",
    "config": "key value default changeable",
    "mem": "name size used free memtotal",
    "state": "key value",
    "version": "version",
    "dns_hosts": "hostname ttl addrs",
    "dns_zones": "zonename serial count",
    "peers": "peer_id host port pool_size",
}


def rows(name: str) -> list[dict[str, object]]:
    made = table(name, facts())
    return [shown(made.columns, row) for row in made.rows]


@pytest.mark.parametrize("name", PGBOUNCER)
def test_columns_begin_with_pgbouncers(name: str) -> None:
    ours = [column.name for column in MADE[name][0]]
    theirs = PGBOUNCER[name].split()
    assert ours[: len(theirs)] == theirs
    more = {"dbname", "worker"} if name in ("clients", "servers", "sockets") else set()
    assert set(ours[len(theirs) :]) == more


NAMES = (
    "server_assignment_count xact_count query_count received sent xact_time query_time wait_time"
    " client_parse_count server_parse_count bind_count"
)


def test_columns_of_the_stats_family() -> None:
    names = NAMES.split()
    averages = ["recv" if name == "received" else name for name in names]
    assert [column.name for column in STATS] == (
        ["database"] + [f"total_{name}" for name in names] + [f"avg_{name}" for name in averages]
    )
    assert [column.name for column in STATS_TOTALS][4:6] == ["bytes_received", "bytes_sent"]
    assert [column.name for column in TOTALS] == ["name", "value"]


@pytest.mark.parametrize("name", MADE)
def test_each_row_has_a_value_for_each_column(name: str) -> None:
    made = table(name, facts())
    assert all(len(row) == len(made.columns) for row in made.rows)


def test_clients_and_servers_point_at_each_other() -> None:
    client, waiting, _ = rows("clients")
    server, asking, _ = rows("servers")
    assert (client["link"], server["link"]) == (server["ptr"], client["ptr"])
    assert (client["database"], client["dbname"]) == ("main", "shop")
    assert (client["id"], client["state"]) == (17, "active")
    assert (waiting["state"], waiting["wait"], waiting["wait_us"]) == ("waiting", 2, 500_000)
    assert (server["close_needed"], server["remote_pid"]) == (1, 815)
    assert server["application_name"] == "web"
    assert (asking["state"], asking["link"], asking["application_name"]) == ("tested", "", "")


def test_sockets_are_both_and_active_ones_are_fewer() -> None:
    assert [row["state"] for row in rows("sockets")] == [
        "cl_active", "cl_waiting", "cl_idle", "sv_active", "sv_tested", "sv_idle",
    ]  # fmt: skip
    assert len(rows("active_sockets")) == 4
    assert rows("sockets")[0]["recv_pos"] is None


def test_pools_are_one_for_each_route_and_user() -> None:
    app, etl = rows("pools")
    assert (app["database"], app["user"]) == ("main", "app")
    assert (app["cl_active"], app["cl_waiting"]) == (3, 2)
    assert (app["sv_active"], app["sv_idle"], app["maxwait"]) == (3, 1, 1)
    assert (app["maxwait_us"], app["pool_mode"]) == (250_000, "session")
    assert (etl["sv_active"], etl["sv_login"]) == (2, 1)


def test_databases_are_routes() -> None:
    main, other = rows("databases")
    assert (main["name"], main["host"], main["port"]) == ("main", "db1", 5432)
    assert (main["pool_size"], main["min_pool_size"]) == (25, 2)  # as the settings have it
    assert (main["current_connections"], main["max_client_connections"]) == (7, 100)
    assert (main["paused"], other["paused"]) == (0, 1)
    assert main["load_balance_hosts"] == "round-robin"
    assert (other["host"], other["port"], other["load_balance_hosts"]) == ("/run/db", 5432, None)


def test_hosts_as_pgbouncer_writes_them() -> None:
    made = facts()
    route = made.report.postgres[0]
    for address, host, port in (("[::1]:5", "::1", 5), ("odd", "odd", 0), ("", None, 0)):
        route.upstream = [address]
        (row, _) = table("databases", made).rows
        assert row[1:3] == [host, port]


def test_no_exporter_meets_a_time_that_is_null() -> None:
    for row in rows("clients") + rows("servers"):
        assert row["connect_time"]
        assert row["request_time"]


def test_lists_users_config_mem_and_state() -> None:
    lists = {row["list"]: row["items"] for row in rows("lists")}
    assert lists["databases"] == 2
    assert (lists["users"], lists["pools"]) == (2, 2)
    assert (lists["used_clients"], lists["used_servers"]) == (7, 7)
    assert [row["name"] for row in rows("users")] == ["app", "etl"]
    config = {row["key"]: row for row in rows("config")}
    assert config["log.level"] == {
        "key": "log.level", "value": "debug", "default": "info", "changeable": "yes",
    }  # fmt: skip
    assert config["max_client_conn"]["value"] == "100"
    mem = {row["name"]: row for row in rows("mem")}
    assert mem["worker_0"]["memtotal"] == 1 << 32
    assert (mem["cache_cache"]["size"], mem["cache_cache"]["free"]) == (100, 600)
    assert {row["key"]: row["value"] for row in rows("state")} == {
        "active": "yes", "paused": "no", "suspended": "no",
    }  # fmt: skip


def test_paused_is_said_when_every_route_is() -> None:
    made = facts()
    for route in (*made.report.postgres, *made.report.redis):
        route.state = "paused"
    assert table("state", made).rows[1] == ["paused", "yes"]
    empty = console_show.Facts(Report(), made.detail, [], made.stats, NOW_S)
    assert table("state", empty).rows[1] == ["paused", "no"]


def test_times_and_version() -> None:
    assert when(NOW_S) == "2027-01-15 08:00:00 UTC"
    assert [when(odd) for odd in (0.0, -5.0, float("inf"), float("nan"))] == [None] * 4
    assert version_text("1.2.3").startswith("PgBouncer 1.25.0 ")
    assert "Backstay 1.2.3" in version_text("1.2.3")
