"""Several workers on shared ports: one view, limits shared, a dead one replaced, cancels found."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from proxy.demo.servers import PostgresServer, RedisServer
from tests.fix_backstay import Backstay
from tests.integration.admin_client import EventStream
from tests.integration.life.load import Load, logged, queries
from tests.integration.life.test_reload import reload

pytestmark = pytest.mark.servers

Make = Callable[..., Backstay]


@pytest.fixture
def proxy(make_backstay: Make, postgres: PostgresServer, redis: RedisServer) -> Backstay:
    made = make_backstay(
        workers=3,
        postgres=[
            {
                "upstream": f"postgresql://postgres:x@127.0.0.1:{postgres.port}/app",
                "auth": {"method": "trust"},
                "pool": {"size": 30},
            }
        ],
        redis=[{"upstream": f"redis://127.0.0.1:{redis.port}"}],
        admin={"listen": [], "users": ["postgres"]},
    )
    logged(made, "started")
    return made


def shown(proxy: Backstay, what: str) -> list[dict[str, Any]]:
    """The rows of SHOW at the console."""
    with psycopg.connect(proxy.dsn(database="backstay"), autocommit=True) as console:
        cursor = console.execute(f"show {what}")
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_one_view_of_all(proxy: Backstay) -> None:
    """SHOW CLIENTS tells everybody, with numbers of their own; KILL_CLIENT finds one anywhere."""
    sessions = [psycopg.connect(proxy.dsn(), autocommit=True) for _ in range(12)]
    try:
        rows = [row for row in shown(proxy, "clients") if row["database"] != "backstay"]
        assert len(rows) == 12, rows
        assert len(proxy.logged("connected", "worker")) > 1
        numbers = proxy.logged("connected", "session")
        assert len(numbers) == 12, "no two workers give the same"
        with psycopg.connect(proxy.dsn(database="backstay"), autocommit=True) as console:
            console.execute("pause")
            assert {row["state"] for row in shown(proxy, "clients")} <= {"idle", "active"}
            asked = threading.Thread(target=lambda: sessions[0].execute("select 1"))
            asked.start()
            asked.join(0.3)
            assert asked.is_alive()
            console.execute("resume")
            asked.join(10)
    finally:
        for session in sessions:
            session.close()
    assert "30 = 10 + 10 + 10" in proxy.log_text()


def test_a_worker_killed_under_load(proxy: Backstay) -> None:
    """kill -9: its own sessions are cut off, the others notice nothing, it is replaced."""
    pids = sorted(proxy.logged("worker_started", "pid"))
    assert len(pids) == 3
    with Load(queries(proxy.dsn()), 12) as asking:
        os.kill(pids[0], signal.SIGKILL)
        logged(proxy, "worker_started", 4)
        time.sleep(0.2)
        alive = sum(thread.is_alive() for thread in asking._threads)
        assert alive > 0
        done = asking.done
        while asking.done < done + 50:
            time.sleep(0.01)
    lost = sum(asking.errors.values())
    assert lost == 12 - alive, asking.errors
    for error in asking.errors:
        assert "server closed the connection" in error or "reset" in error, error
    assert proxy.logged("worker_died", "code") == {-9}
    for _ in range(20):
        psycopg.connect(proxy.dsn()).close()


def test_cancels_find_the_worker(proxy: Backstay) -> None:
    """A CancelRequest is a connection of its own, which two times of three reaches another one."""
    with psycopg.connect(proxy.dsn(), autocommit=True) as session:
        for _ in range(20):
            failed: list[str | None] = []

            def sleep(failed: list[str | None] = failed) -> None:
                with pytest.raises(psycopg.errors.QueryCanceled) as caught:
                    session.execute("select pg_sleep(20)")
                failed.append(caught.value.diag.sqlstate)

            sleeping = threading.Thread(target=sleep)
            sleeping.start()
            end_s = time.monotonic() + 10
            while not failed and time.monotonic() < end_s:
                session.cancel_safe(timeout=5)
                sleeping.join(0.05)
            sleeping.join(10)
            assert failed == ["57014"]
        assert session.execute("select 1").fetchone() == (1,)


def test_a_reload_reaches_all_or_none(proxy: Backstay, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    with Load(queries(proxy.dsn()), 6) as asking:
        files = {"cert": str(tmp_path / "no.pem"), "key": str(tmp_path / "no.pem")}
        proxy.config["postgres"][0]["tls"] = {"mode": "allow", **files}
        text = reload(proxy, "reload_refused")
        refused = [line for line in text.splitlines() if "reload_refused" in line][-1]
        assert "backstay.yaml:" in refused
        assert refused.count("certificate: cannot use") == 1, "said once, not by each"
        del proxy.config["postgres"][0]["tls"]
        directory = tmp_path / "sockets"
        directory.mkdir()
        address = f"127.0.0.1:{proxy.port()}"
        proxy.config["postgres"][0]["listen"] = [address, str(directory)]
        proxy.config["postgres"][0]["pool"] = {"size": 31}
        reload(proxy)
        for _ in range(12):
            psycopg.connect(f"host={directory} port=6432 user=postgres dbname=app").close()
        proxy.config["postgres"][0]["listen"] = address
        reload(proxy)
        assert not list(directory.iterdir())
        asking.progress()
    assert not asking.errors


def test_a_worker_that_stands_still_is_replaced(proxy: Backstay) -> None:
    """Its loop does not turn, as with a bug of ours: its clients get another worker's."""
    pids = sorted(proxy.logged("worker_started", "pid"))
    os.kill(pids[0], signal.SIGSTOP)
    logged(proxy, "worker_started", 4)
    assert proxy.logged("worker_stuck", "pid") == {pids[0]}
    assert proxy.logged("worker_died", "code") == {-9}
    for _ in range(20):
        with psycopg.connect(proxy.dsn()) as session:
            assert session.execute("select 1").fetchone() == (1,)


def test_one_stream_of_events_for_all(make_backstay: Make, postgres: PostgresServer) -> None:
    """Whichever worker lost a link: the listener at the admin port hears of it."""
    upstream = f"postgresql://postgres:x@127.0.0.1:{postgres.port}/app"
    route = {"upstream": upstream, "auth": {"method": "trust"}, "pool": {"size": 80}}
    proxy = make_backstay(workers=2, postgres=[route])
    with ExitStack() as stack:
        ours = []
        while len(proxy.logged("connected", "worker")) < 2:
            session = psycopg.connect(proxy.dsn(), autocommit=True)
            ours.append(stack.enter_context(contextlib.closing(session)))
            assert len(ours) < 40, "all of them came to one worker"
        events = stack.enter_context(EventStream(proxy.config["admin"]["listen"]))
        told = events.until("status", lambda status: status["postgres"][0]["clients"] == len(ours))
        assert [worker["number"] for worker in told["workers"]] == [1, 2]
        postgres.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where backend_type = 'client backend' and pid = any(%s)",
            [session.info.backend_pid for session in ours],
        )
        workers: set[str] = set()
        while len(workers) < 2:
            incident = events.until("incident", lambda incident: incident["ended_s"])
            assert incident["reason"] == "upstream_fatal"
            workers.add(incident["id"].split("-")[1])
        for session in ours:
            assert session.execute("select 1").fetchone() == (1,)


def test_workers_end_with_their_parent(proxy: Backstay) -> None:
    """Killed parent: the workers drain and go, and the ports are free again."""
    pids = proxy.logged("worker_started", "pid")
    proxy.kill()
    end_s = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_drain_ends_all(proxy: Backstay) -> None:
    with redis.Redis(port=proxy.port("redis")) as client, psycopg.connect(proxy.dsn()) as session:
        client.ping()
        session.execute("select 1")
        proxy.signal(signal.SIGTERM)
        logged(proxy, "draining")
        assert session.execute("select 2").fetchone() == (2,)
        session.commit()
    end_s = time.monotonic() + 10
    while proxy.running():
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert '"event":"stopped"' in proxy.log_text()


def test_more_workers_than_links_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text("workers: 4\npostgres: [{upstream: host=h, pool: {size: 3}}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check-config", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "b.yaml:1:10: workers: expected at most 3" in done.stderr
