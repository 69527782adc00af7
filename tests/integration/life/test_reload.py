"""SIGHUP under load: each kind of change takes effect, and no client notices."""

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml

from proxy.demo.certificates import TlsFiles, make_tls
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer, RedisServer
from tests.fix_backstay import Backstay
from tests.integration.life.load import Load, commands, logged, nothing_lost, queries

pytestmark = pytest.mark.servers

Make = Callable[..., Backstay]


def reload(proxy: Backstay, event: str = "reloaded") -> str:
    """Write the settings as they are now, SIGHUP, and wait for what comes of it."""
    before = proxy.log_text().count(f'"event":"{event}"')
    proxy.file.write_text(yaml.safe_dump(proxy.config))
    proxy.signal(signal.SIGHUP)
    return logged(proxy, event, before + 1)


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def server_port(session: "psycopg.Connection[Any]") -> int:
    row = session.execute("show port").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def both(make_backstay: Make, postgres: PostgresServer, redis: RedisServer) -> Backstay:
    return make_backstay(
        postgres=[{"upstream": f"postgresql://127.0.0.1:{postgres.port}/app"}],
        redis=[{"upstream": f"redis://127.0.0.1:{redis.port}"}],
    )


def test_numbers_change_in_place(both: Backstay) -> None:
    """Pools, waits, keepalive, replay, cache, log, drain: nobody is touched, links stay."""
    with (
        Load(queries(both.dsn())) as asking,
        Load(commands(both.port("redis"))) as telling,
        psycopg.connect(both.dsn()) as session,
    ):
        before = session.info.backend_pid
        for size in (9, 8, 10):
            both.config["postgres"][0].update(
                pool={"size": size, "warm": 0, "idle_s": 100 + size, "connect_parallel": size},
                resilience={"hold_s": size, "hold_clients": size, "replay": "reads"},
                keepalive={"idle_s": size, "ping_s": size},
            )
            both.config["redis"][0].update(
                hold_s=size,
                command_timeout_s=size,
                clients=100 * size,
                replay="off",
                keepalive={"idle_s": size, "ping_s": size},
                cache={
                    "max_bytes": f"{size}MiB",
                    "ttl_s": size,
                    "lease_ms": 100 * size,
                    "exclude": [f"x{size}*"],
                },
            )
            both.config["drain_s"] = size
            text = reload(both)
            assert "postgres.postgres.pool.size" in text
            asking.progress()
            telling.progress()
        pid = session.execute("select pg_backend_pid()").fetchone()
        assert pid is not None
        assert pid[0] == before
    assert not asking.errors
    assert not telling.errors
    nothing_lost(both)


def test_the_pool_becomes_smaller_and_larger(make_backstay: Make, postgres: PostgresServer) -> None:
    upstream = f"postgresql://127.0.0.1:{postgres.port}/app"
    proxy = make_backstay(postgres=[{"upstream": upstream, "pool": {"size": 2}}])
    proxy.config["postgres"][0]["resilience"] = {"hold_s": 0.3}
    reload(proxy)
    with psycopg.connect(proxy.dsn()), psycopg.connect(proxy.dsn()):
        with pytest.raises(psycopg.OperationalError, match=r"pool\.size"):
            psycopg.connect(proxy.dsn())
        proxy.config["postgres"][0]["pool"] = {"size": 3}
        reload(proxy)
        psycopg.connect(proxy.dsn()).close()


def test_another_upstream(
    both: Backstay,
    make_postgres: Callable[..., PostgresServer],
    make_redis: Callable[..., RedisServer],
) -> None:
    """Each session goes over at a boundary, with its state; the old server can be switched off."""
    other, store = make_postgres(), make_redis()
    with (
        Load(queries(both.dsn())) as asking,
        Load(commands(both.port("redis"))) as telling,
        psycopg.connect(both.dsn()) as busy,
        psycopg.connect(both.dsn(), autocommit=True) as idle,
        redis.Redis(port=both.port("redis")) as client,
    ):
        idle.execute("set search_path to a_schema")
        old = server_port(busy)
        both.config["postgres"][0]["upstream"] = f"postgresql://127.0.0.1:{other.port}/app"
        both.config["redis"][0]["upstream"] = f"redis://127.0.0.1:{store.port}"
        client.set("where", "old")
        # The load looks for its own last write: it may look again on the other server.
        telling.__exit__()
        reload(both)
        assert server_port(busy) == old, "inside a transaction"
        busy.commit()
        assert server_port(busy) == other.port
        assert server_port(idle) == other.port
        assert idle.execute("show search_path").fetchone() == ("a_schema",)
        eventually(lambda: client.get("where") is None)
        asking.progress()
    assert not asking.errors
    assert not telling.errors
    nothing_lost(both)


def test_listeners_come_and_go(both: Backstay, tmp_path: Path) -> None:
    first = both.port()
    second, directory = free_port(), tmp_path / "sockets"
    directory.mkdir()
    with Load(queries(both.dsn())) as asking:
        both.config["postgres"][0]["listen"] = [
            f"127.0.0.1:{first}",
            f"127.0.0.1:{second}",
            str(directory),
        ]
        reload(both)
        unix = f"host={directory} port=6432 user=postgres dbname=app password=any"
        for dsn in (both.dsn(), both.dsn().replace(str(first), str(second)), unix):
            psycopg.connect(dsn).close()
        both.config["postgres"][0]["listen"] = f"127.0.0.1:{second}"
        reload(both)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", first))
        assert not list(directory.iterdir())
        asking.progress()  # it came in where nobody can any more, and stays
    assert not asking.errors
    nothing_lost(both)


def test_routes_come_and_go(both: Backstay, postgres: PostgresServer) -> None:
    upstream = f"postgresql://127.0.0.1:{postgres.port}/app"
    with Load(queries(both.dsn())) as asking, Load(commands(both.port("redis"))) as telling:
        port = free_port()
        route = {"name": "second", "listen": f"127.0.0.1:{port}", "upstream": upstream}
        both.config["postgres"].append(route)
        reload(both)
        dsn = both.dsn().replace(str(both.port()), str(port))
        idle, busy = psycopg.connect(dsn, autocommit=True), psycopg.connect(dsn)
        with contextlib.closing(idle), contextlib.closing(busy):
            busy.execute("select 1")
            both.config["postgres"].pop()
            reload(both)
            with pytest.raises(psycopg.OperationalError, match="refused"):
                psycopg.connect(dsn)
            with pytest.raises(psycopg.errors.AdminShutdown):
                while True:
                    idle.execute("select 1")
            assert busy.execute("select 2").fetchone() == (2,), "its transaction is left alone"
            busy.commit()
        asking.progress()
        telling.progress()
    assert not asking.errors
    assert not telling.errors


def test_a_renamed_route_keeps_its_port(both: Backstay) -> None:
    """Whoever connects while the name changes is served by one or the other."""
    port = both.port()
    refused: list[Exception] = []

    def connect(load: Load) -> None:
        while not load.over:
            try:
                psycopg.connect(both.dsn()).close()
            except psycopg.OperationalError as error:
                refused.append(error)
            load.count()

    with Load(connect, 2) as connecting:
        for name in ("one", "two", "three"):
            both.config["postgres"][0]["name"] = name
            reload(both)
            connecting.progress(10)
    assert both.port() == port
    assert all("57P01" in str(getattr(e, "sqlstate", "")) or "shutting" in str(e) for e in refused)
    assert len(refused) <= 6, refused


def peer_serial(port: int, ca: Path) -> int:
    """The serial number of the certificate that a PostgreSQL client is shown."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert raw.recv(1) == b"S"
        with context.wrap_socket(raw) as wrapped:
            found = wrapped.getpeercert()
            assert found is not None
            return int(str(found["serialNumber"]), 16)


def test_renewed_certificates(
    make_backstay: Make, postgres: PostgresServer, tls_files: TlsFiles, tmp_path: Path
) -> None:
    """The files have the same names and other contents; who is connected stays so."""
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"

    def put(files: TlsFiles) -> None:
        shutil.copy(files.certificate, cert)
        shutil.copy(files.key, key)
        with ca.open("ab") as known:
            known.write(files.ca.read_bytes())

    put(tls_files)
    route = {
        "upstream": f"postgresql://127.0.0.1:{postgres.port}/app",
        "tls": {"mode": "allow", "cert": str(cert), "key": str(key)},
    }
    proxy = make_backstay(postgres=[route])
    with Load(queries(proxy.dsn(sslmode="require"))) as asking:
        first = peer_serial(proxy.port(), ca)
        (tmp_path / "next").mkdir()
        renewed = make_tls(tmp_path / "next")
        put(renewed)
        key.write_text("no key at all")
        text = reload(proxy, "reload_refused")
        assert "backstay.yaml:" in text
        assert "certificate" in text
        assert peer_serial(proxy.port(), ca) == first, "a refused reload changes nothing"
        put(renewed)
        reload(proxy)
        assert peer_serial(proxy.port(), ca) != first
        asking.progress()
        psycopg.connect(proxy.dsn(sslmode="require")).close()
    assert not asking.errors
    nothing_lost(proxy)


def test_other_passwords(make_backstay: Make, postgres: PostgresServer) -> None:
    """New clients need the new one; who is connected stays, also over a lost link."""
    proxy = make_backstay(
        postgres=[
            {
                "upstream": f"postgresql://127.0.0.1:{postgres.port}/app",
                "auth": {"method": "scram-sha-256", "users": {"postgres": "old"}},
            }
        ]
    )
    with psycopg.connect(proxy.dsn(password="old"), autocommit=True) as session:
        proxy.config["postgres"][0]["auth"]["users"] = {"postgres": "new", "other": "x"}
        reload(proxy)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(proxy.dsn(password="old"))
        psycopg.connect(proxy.dsn(password="new")).close()
        pid = session.execute("select pg_backend_pid()").fetchone()
        assert pid is not None
        postgres.sql(f"select pg_terminate_backend({pid[0]})")
        assert session.execute("select pg_backend_pid()").fetchone() != pid


def test_the_cache_is_switched_off_and_on(both: Backstay, redis: RedisServer) -> None:
    def reads_upstream() -> int:
        with redis.connect() as direct:
            stats = direct.info("commandstats")
            return int(stats.get("cmdstat_get", {}).get("calls", 0))

    with Load(commands(both.port("redis"), protocol=3)) as telling:
        for enabled in (False, True, False, True):
            both.config["redis"][0]["cache"] = {"enabled": enabled}
            reload(both)
            telling.progress(100)
    assert not telling.errors
    nothing_lost(both)
    with redis_client(both) as client:
        client.set("again", "1")
        eventually(lambda: _hit(client, reads_upstream))


def redis_client(proxy: Backstay) -> "redis.Redis":
    return redis.Redis(port=proxy.port("redis"))


def _hit(client: "redis.Redis", reads_upstream: Callable[[], int]) -> bool:
    client.get("again")
    before = reads_upstream()
    client.get("again")
    return reads_upstream() == before


def test_caching_begins_in_a_route_without(make_backstay: Make, redis: RedisServer) -> None:
    route = {"upstream": f"redis://127.0.0.1:{redis.port}", "cache": {"enabled": False}}
    proxy = make_backstay(redis=[{**route, "command_timeout_s": 1}])
    with Load(commands(proxy.port("redis"))) as telling:
        proxy.config["redis"][0]["cache"] = {"enabled": True}
        reload(proxy)
        telling.progress(300)
    assert not telling.errors
    nothing_lost(proxy)


def test_a_bad_change_changes_nothing(both: Backstay, tmp_path: Path) -> None:
    """Whatever is wrong with it: the file, a taken port, a certificate that is none."""
    good = yaml.safe_load(both.file.read_text())
    with Load(queries(both.dsn())) as asking, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        both.file.write_text("postgres: [{upstreem: nothing}]\n")
        both.signal(signal.SIGHUP)
        assert "upstreem" in logged(both, "reload_refused")

        free = f"127.0.0.1:{free_port()}"
        both.config["postgres"][0]["listen"] = [both.config["postgres"][0]["listen"], free, address]
        text = reload(both, "reload_refused")
        line = [line for line in text.splitlines() if "reload_refused" in line][-1]
        assert f"cannot listen on {address}: Address already in use" in line
        assert "backstay.yaml:" in line
        assert "postgres[0].listen" in line
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(free.rpartition(":")[2])))

        both.config["postgres"][0]["listen"] = good["postgres"][0]["listen"]
        no_cert = tmp_path / "cert.pem"
        no_cert.write_text("nothing")
        both.config["redis"][0]["tls"] = {
            "mode": "require",
            "cert": str(no_cert),
            "key": str(no_cert),
        }
        assert "certificate: cannot use" in reload(both, "reload_refused")
        asking.progress()
        del both.config["redis"][0]["tls"]
        reload(both)
    assert not asking.errors
    nothing_lost(both)


def test_what_waits_for_a_restart_is_said(both: Backstay) -> None:
    both.config["admin"] = {"listen": []}
    assert '"waits_for_restart":["admin.listen"]' in reload(both)


def test_signals_pause_and_resume(both: Backstay) -> None:
    with psycopg.connect(both.dsn(), autocommit=True) as session:
        session.execute("select 1")
        both.signal(signal.SIGUSR1)
        logged(both, "operator_act")
        psql = ["psql", "-qAtc", "select 7", both.dsn()]
        with subprocess.Popen(psql, stdout=subprocess.PIPE, text=True) as asking:
            with pytest.raises(subprocess.TimeoutExpired):
                asking.wait(0.3)
            both.signal(signal.SIGUSR2)
            out, _ = asking.communicate(timeout=10)
        assert out == "7\n"
        assert session.execute("select 1").fetchone() == (1,)
