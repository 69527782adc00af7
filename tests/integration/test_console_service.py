"""The console of a whole Backstay, as it is run: all routes, its settings, its life."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client
import yaml

from proxy.demo.servers import PostgresServer, RedisServer
from tests.fix_backstay import Backstay

pytestmark = pytest.mark.servers

SECRET = "planted-S3cret-value"
MakeBackstay = Callable[..., Backstay]
Row = dict[str, Any]


class Console:
    """psycopg at the console of a Backstay."""

    def __init__(self, proxy: Backstay, user: str, password: str) -> None:
        self.connection = psycopg.connect(
            host="127.0.0.1",
            port=proxy.port(),
            user=user,
            password=password,
            dbname="backstay",
            autocommit=True,
            row_factory=psycopg.rows.dict_row,
        )

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def show(self, text: str) -> list[Row]:
        rows: list[Row] = self.connection.execute(f"SHOW {text}").fetchall()
        return rows

    def act(self, text: str) -> str | None:
        return self.connection.execute(text).statusmessage


@pytest.fixture
def proxy(make_backstay: MakeBackstay, postgres: PostgresServer, redis: RedisServer) -> Backstay:
    upstream = f"postgresql://app_trust:{SECRET}@127.0.0.1:{postgres.port}/app"
    return make_backstay(
        postgres=[
            {"name": "main", "upstream": upstream, "auth": {"users": {"ops": f"ops-{SECRET}"}}},
            {"name": "other", "upstream": upstream},
        ],
        redis=[{"name": "cache", "upstream": f"redis://127.0.0.1:{redis.port}"}],
        admin={"users": ["ops"], "stats_users": ["app_trust"], "listen": [], "token": SECRET},
    )


def ops(proxy: Backstay) -> Console:
    return Console(proxy, "ops", f"ops-{SECRET}")


TABLES = (
    "STATS STATS_TOTALS STATS_AVERAGES TOTALS POOLS DATABASES USERS LISTS CONFIG MEM STATE VERSION"
    " CLIENTS SERVERS SOCKETS ACTIVE_SOCKETS DNS_HOSTS DNS_ZONES PEERS PEER_POOLS ROUTES"
    " ROUTE_POOLS INCIDENTS CACHE KEYS COUNTERS LATENCY WORKERS"
)


def test_every_route_is_shown_and_no_secret(proxy: Backstay) -> None:
    cache = redis_client.Redis(port=proxy.port("redis"))
    cache.get("some-key")
    with (
        psycopg.connect(proxy.dsn("app_trust").replace("trust-Pa55word", SECRET)) as client,
        ops(proxy) as console,
    ):
        client.execute("select 1")
        tables = {name: console.show(name) for name in TABLES.split()}
        assert SECRET not in str(tables)
        assert SECRET not in str(console.show("CLIENTS ALL") + console.show("SERVERS ALL"))
        assert [row["name"] for row in tables["DATABASES"]] == ["main", "other"]
        assert [row["name"] for row in tables["ROUTES"]] == ["main", "other", "cache"]
        assert [row["database"] for row in tables["CLIENTS"]] == ["main"]
        assert [row["database"] for row in console.show("CLIENTS ALL")] == ["main", "cache"]
        (size,) = (row for row in tables["CONFIG"] if row["key"] == "postgres.main.pool.size")
        assert (size["value"], size["default"]) == ("20", "20")
        (token,) = (row for row in tables["CONFIG"] if row["key"] == "admin.token")
        assert token["value"] == "***"
        (worker,) = tables["WORKERS"]
        assert worker["rss_bytes"] > 1 << 20
    cache.close()
    with Console(proxy, "app_trust", SECRET) as watcher:
        assert watcher.show("STATE")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            watcher.act("PAUSE")


def test_a_reload_tells_each_mistake(proxy: Backstay) -> None:
    with ops(proxy) as console:
        assert console.act("RELOAD") == "RELOAD"
        good = proxy.file.read_text()
        proxy.file.write_text(good + "\nnonsense: 1\n")
        with pytest.raises(psycopg.errors.ConfigFileError) as caught:
            console.act("RELOAD")
        assert "nonsense" in (caught.value.diag.message_detail or "")
        assert f"{Path(proxy.file).name}:" in (caught.value.diag.message_detail or "")
        proxy.file.write_text(good)
        assert console.act("RELOAD") == "RELOAD"


def test_a_reload_changes_who_may(proxy: Backstay) -> None:
    proxy.config["admin"]["users"] = []
    with ops(proxy) as console:
        proxy.file.write_text(yaml.safe_dump(proxy.config))
        assert console.act("RELOAD") == "RELOAD"
    with pytest.raises(psycopg.OperationalError, match="may not use the admin console"):
        ops(proxy)


def test_pause_and_kill_client_of_both_kinds(proxy: Backstay) -> None:
    cache = redis_client.Redis(port=proxy.port("redis"), retry=None)
    number = cache.client_id()
    with ops(proxy) as console:
        assert console.act("PAUSE main") == "PAUSE"
        states = {row["name"]: row["state"] for row in console.show("ROUTES")}
        assert (states["main"], states["other"] != "paused") == ("paused", True)
        assert [row["paused"] for row in console.show("DATABASES")] == [1, 0]
        assert console.act("RESUME main") == "RESUME"
        with pytest.raises(psycopg.errors.InvalidCatalogName):
            console.act("PAUSE nowhere")
        assert number in {row["id"] for row in console.show("CLIENTS cache")}
        assert console.act(f"KILL_CLIENT {number}") == "KILL_CLIENT"
        with contextlib.suppress(redis_client.ConnectionError):
            cache.ping()  # it hears of it, or has connected again already
        assert cache.client_id() != number
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            console.act(f"KILL_CLIENT {number}")
    cache.close()


def test_shutdown(proxy: Backstay) -> None:
    with ops(proxy) as console:
        assert console.act("SHUTDOWN") == "SHUTDOWN"
        end_s = time.monotonic() + 15
        while proxy.running() and time.monotonic() < end_s:
            time.sleep(0.05)
    assert not proxy.running()
    assert proxy.logged("console_command", "command") == {"shutdown"}
    assert SECRET not in proxy.log_text()


def test_one_console_for_all_workers(make_backstay: MakeBackstay, postgres: PostgresServer) -> None:
    upstream = f"postgresql://postgres@127.0.0.1:{postgres.port}/app"
    route = {
        "name": "main",
        "upstream": upstream,
        "auth": {"method": "trust"},
        "pool": {"size": 80},  # however unevenly the kernel spreads the clients
    }
    proxy = make_backstay(postgres=[route], workers=2)
    clients = []
    with Console(proxy, "postgres", "any") as console:
        while len({row["worker"] for row in console.show("CLIENTS")}) < 2:
            assert len(clients) < 40, "all of them came to one worker"
            clients.append(psycopg.connect(proxy.dsn(), autocommit=True))
        rows = console.show("CLIENTS")
        assert len({row["id"] for row in rows}) == len(rows) == len(clients)
        assert len(console.show("WORKERS")) == 2
        last = max(row["id"] for row in rows)  # of the worker with the higher numbers
        assert console.act(f"KILL_CLIENT {last}") == "KILL_CLIENT"
        assert last not in {row["id"] for row in console.show("CLIENTS")}
        assert console.act("PAUSE main") == "PAUSE"
        assert console.show("SERVERS") == []
        assert console.act("RESUME main") == "RESUME"
    alive = 0
    for client in clients:
        with contextlib.suppress(psycopg.OperationalError):
            alive += len(client.execute("select 1").fetchall())
        client.close()
    assert alive == len(clients) - 1
