"""What known exporters do with the console's tables, as their sources have it (read 2026-11).

prometheus-community/pgbouncer_exporter looks columns up by name and makes floats of them; telegraf
makes integers of every STATS column it does not ignore; Datadog's check parses every time and skips
rows of a database `pgbouncer`. All of them speak the simple protocol and read texts.
"""

import re
from datetime import datetime

import pytest

from tests import wire
from tests.unit.postgres.protocol.console_kit import Client

PROMETHEUS = {
    "STATS_TOTALS": "query_count query_time bytes_received bytes_sent wait_time xact_count"
    " xact_time client_parse_count server_parse_count bind_count",
    "POOLS": "cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active"
    " sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait",
    "DATABASES": "pool_size max_connections current_connections paused disabled",
}
LABELS = {"STATS_TOTALS": "database", "POOLS": "database user", "DATABASES": "name host port"}
LISTS = "databases users pools free_clients used_clients login_clients free_servers used_servers"


def texts(name: str) -> list[dict[str, str | None]]:
    """The rows of a SHOW as a client of the simple protocol reads them."""
    answer = Client().query(f"SHOW {name};")
    raw, names, pos = answer[0], [], 7
    for _ in range(int.from_bytes(raw[5:7])):
        end = raw.index(b"\0", pos)
        names.append(raw[pos:end].decode())
        pos = end + 19
    return [
        dict(zip(names, (None if v is None else v.decode() for v in row), strict=True))
        for row in wire.rows(answer)
    ]


@pytest.mark.parametrize("name", PROMETHEUS)
def test_prometheus(name: str) -> None:
    found = texts(name)
    assert found
    for row in found:
        for column in PROMETHEUS[name].split():
            float(row[column] or "no number")
        assert all(row[label] is not None for label in LABELS[name].split())
    labels = [tuple(row[label] for label in LABELS[name].split()) for row in found]
    assert len(set(labels)) == len(labels)  # twice the same labels: it would refuse the scrape


def test_prometheus_lists_and_config() -> None:
    lists = {row["list"]: float(row["items"] or "") for row in texts("LISTS")}
    assert set(LISTS.split()) <= set(lists)
    config = texts("CONFIG")
    assert all(len(row) == 4 for row in config)
    values = {row["key"]: row["value"] for row in config}
    assert float(values["max_client_conn"] or "") == 100
    assert float(values["max_user_connections"] or "") == 0


def test_telegraf() -> None:
    for row in texts("STATS"):
        for column, value in row.items():
            if column not in ("database", "avg_recv", "avg_sent"):
                int(value or "no number")
    for row in texts("POOLS"):
        assert row["database"]
        assert row["pool_mode"] == "session"


def test_datadog() -> None:
    for name in ("CLIENTS", "SERVERS"):
        for row in texts(name):
            assert row["database"] != "pgbouncer"
            for column in ("connect_time", "request_time"):
                (time,) = re.findall(r"^[^ ]+ [^ ]+", row[column] or "")
                datetime.strptime(time, "%Y-%m-%d %H:%M:%S")
            assert float(row["wait"] or "") >= 0
    (version,) = texts("VERSION")
    assert re.findall(r"\d+\.\d+\.\d+", version["version"] or "")[0] == "1.25.0"
