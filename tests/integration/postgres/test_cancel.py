"""A cancel hits the query it was meant for, or nothing."""

import socket
import threading
import time

import psycopg
import pytest

from proxy.demo.servers import PostgresServer
from tests import wire
from tests.integration.postgres.fake import FakePostgres, answer, log_in, read
from tests.integration.postgres.kit import Make, Proxied, backends, eventually
from tests.wire import PgWire

pytestmark = pytest.mark.servers

SLEEP = "select pg_sleep(60)"


def cancel(proxy: Proxied, key: tuple[int, bytes]) -> None:
    """Send it, and wait for the end of its connection."""
    with PgWire.connect(proxy.address) as other:
        other.send(wire.cancel(*key))
        assert other.until_closed() == []


def polite(_: FakePostgres, sock: socket.socket) -> None:
    log_in(sock)
    while True:
        sock.sendall(answer(*read(sock)))


def running(server: PostgresServer, count: int = 1) -> None:
    eventually(lambda: len(backends(server, "query ~ 'pg_sleep.60' and state = 'active'")) == count)


def test_only_its_own_query(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as first, proxy.wire() as second:
        for session in (first, second):
            session.send(wire.query(SLEEP))
        running(postgres, 2)
        cancel(proxy, first.key)
        answer = first.until_ready()
        assert wire.sqlstate(answer) == "57014"
        assert answer[-1] == b"Z\0\0\0\5I"
        running(postgres, 1)
        cancel(proxy, second.key)
        assert wire.sqlstate(second.until_ready()) == "57014"
        assert first.value("select 1") == b"1"
    assert proxy.route.counters.cancels == 2


def test_the_end_of_the_request_means_it_was_delivered(
    proxied: Make, postgres: PostgresServer
) -> None:
    """So that a client that goes on after it is not hit by it."""
    proxy = proxied(postgres)
    with proxy.wire() as session:
        for _ in range(30):
            session.send(wire.query("select pg_sleep(0.001)"))
            cancel(proxy, session.key)
            assert wire.sqlstate(session.until_ready()) in (None, "57014")
            for _ in range(3):
                assert session.value("select 1") == b"1"


def test_psycopgs_cancel(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.connect() as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(SLEEP)
        timer.join()
        assert connection.execute("select 1").fetchone() == (1,)


def test_keys_that_nobody_has(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        pid, secret = session.key
        session.send(wire.query("select pg_sleep(0.3)"))
        wrong = bytes(byte ^ 1 for byte in secret)
        for key in [(pid, wrong), (pid ^ 1, secret), (0, bytes(4)), (pid, bytes(32))]:
            cancel(proxy, key)
        assert wire.sqlstate(session.until_ready()) is None
    cancel(proxy, (pid, secret))  # of a session that has ended
    assert proxy.route.counters.cancels == 0


def test_nothing_runs(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        before = proxy.call(lambda: proxy.cutter.counters["accepted"])
        cancel(proxy, session.key)
        assert session.value("select 1") == b"1"
        # The server is not even asked.
        assert proxy.call(lambda: proxy.cutter.counters["accepted"]) == before


@pytest.mark.timeout(50)
def test_a_late_cancel_never_hits_the_next_session(proxied: Make, postgres: PostgresServer) -> None:
    """100 races: one session leaves while its cancel is under way, another takes its link."""
    proxy = proxied(postgres, pool={"size": 1})
    pids = set()
    for _ in range(100):
        with proxy.wire() as first:
            first.send(wire.query("select pg_sleep(0.002)"))
            with PgWire.connect(proxy.address) as other:
                other.send(wire.cancel(*first.key))
                first.until_ready()
                first.send(wire.TERMINATE)
                with proxy.wire() as second:
                    pids.add(second.key[0])
                    answer = second.query("select pg_sleep(0.004)")
                    assert wire.sqlstate(answer) is None, wire.error_fields(answer[0])
    assert len(pids) < 50  # links were handed on, not thrown away


def test_while_it_waits_for_the_upstream(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, resilience={"hold_s": 3.0})
    with proxy.wire() as session, proxy.wire() as idle:
        session.query("set work_mem = '5MB'")
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        proxy.until("link_lost", 2)
        session.send(wire.query("select 1") + wire.query("select 2"))
        proxy.settled(waiting=1)
        cancel(proxy, session.key)
        answer = session.until_ready()
        assert wire.sqlstate(answer) == "57014"
        assert "was not executed" in wire.error_fields(answer[0])["D"]
        cancel(proxy, session.key)
        assert wire.sqlstate(session.until_ready()) == "57014"
        time.sleep(3.5)  # past hold_s: nothing waits any more, so nobody is sent away
        proxy.call(lambda: proxy.cutter.accept())
        assert session.value("show work_mem") == b"5MB"
        assert idle.value("select 1") == b"1"


def test_what_is_sent_behind_it_has_hold_s_of_its_own(proxied: Make) -> None:
    hold_s = 1.5
    with FakePostgres(polite) as server:
        proxy = proxied(setting={"upstream": server.url}, resilience={"hold_s": hold_s})
        with proxy.wire() as session:
            server.__exit__()
            proxy.until("link_lost")
            session.send(wire.query("select 1"))
            time.sleep(hold_s * 0.6)
            cancel(proxy, session.key)
            assert wire.sqlstate(session.until_ready()) == "57014"
            sent_s = time.monotonic()
            session.send(wire.query("select 2"))
            assert wire.sqlstate(session.until_closed()) == "08006"
            assert time.monotonic() - sent_s > hold_s * 0.95


def test_in_a_transaction_that_waits(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.query("begin")
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        proxy.until("link_lost")
        session.send(wire.query("select 1"))
        proxy.settled(waiting=1)
        cancel(proxy, session.key)
        answer = session.until_ready()
        assert wire.sqlstate(answer) == "57014"
        assert answer[-1] == b"Z\0\0\0\5E"
        proxy.call(lambda: proxy.cutter.accept())
        assert wire.sqlstate(session.query("select 1")) == "25P02"
        assert wire.tags(session.query("rollback")) == ["ROLLBACK"]
        assert session.value("select 1") == b"1"


def test_after_the_link_was_replaced(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        first = session.key[0]
        proxy.cut()
        proxy.until("link_lost")
        assert int(session.value("select pg_backend_pid()") or 0) != first
        session.send(wire.query(SLEEP))
        running(postgres)
        cancel(proxy, session.key)  # the key of the first backend's days
        assert wire.sqlstate(session.until_ready()) == "57014"
