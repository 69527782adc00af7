"""Ways an upstream is away: what is a wait, what is an answer, who is told what and when."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer, Stop
from proxy.postgres.protocol.restore import Restoration, restoration
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.runtime import attach
from tests import wire
from tests.integration.postgres.fake import (
    FakePostgres,
    answer,
    failure,
    log_in,
    read,
    read_startup,
)
from tests.integration.postgres.kit import Make, Proxied, eventually

pytestmark = pytest.mark.servers

Script = Callable[[FakePostgres, socket.socket], None]


def in_thread(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run it beside the test; the list gets its result or its exception."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(act())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def one(proxy: Proxied) -> bytes | None:
    with proxy.wire() as session:
        return session.value("select 1")


def good_after(refusals: list[bytes]) -> Script:
    """A server that refuses the first logins in these words, then serves."""

    def script(server: FakePostgres, sock: socket.socket) -> None:
        number = server.connections
        if number <= len(refusals):
            read_startup(sock)
            sock.sendall(refusals[number - 1])
            return
        log_in(sock)
        while True:
            sock.sendall(answer(*read(sock)))

    return script


STARTING = failure("57P03", "the database system is starting up")


@pytest.mark.parametrize(
    ("refusals", "reason"),
    [
        ([STARTING] * 4, "upstream_starting"),
        (
            [failure("57P01", "terminating connection due to administrator command")],
            "upstream_fatal",
        ),
        ([b""] * 3, "upstream_eof"),
        (
            [failure("08P01", "server login has been failing, cached error")] * 2,
            "upstream_unreachable",
        ),
    ],
    ids=["starting", "stopping", "closes", "pooler in trouble"],
)
def test_a_server_that_is_not_ready_is_waited_for(
    proxied: Make, refusals: list[bytes], reason: str
) -> None:
    with FakePostgres(good_after(refusals)) as server:
        proxy = proxied(setting={"upstream": server.url}, pool={"warm": 0})
        assert one(proxy) == b"1"
        assert server.connections == len(refusals) + 1
        (down,) = proxy.named("upstream_down")
        assert down["reason"] == reason
        assert len(proxy.named("upstream_up")) == 1


def test_the_first_retry_is_immediate_and_later_ones_are_not(proxied: Make) -> None:
    at: list[float] = []

    def script(server: FakePostgres, sock: socket.socket) -> None:
        at.append(time.monotonic())
        read_startup(sock)
        sock.sendall(STARTING)

    with FakePostgres(script) as server:
        proxy = proxied(setting={"upstream": server.url}, resilience={"hold_s": 2.5})
        with pytest.raises(wire.LoginRefused) as refused:
            proxy.wire()
    fields = refused.value.args[0]
    assert fields["C"] == "57P03"
    assert "waited 2.5 s" in fields["M"]
    assert "the database system is starting up" in fields["D"]
    assert at[1] - at[0] < 0.05
    assert 5 <= len(at) <= 60
    assert max(later - before for before, later in pairwise(at)) < 0.7


def test_full_backs_off_and_ends_well(proxied: Make) -> None:
    with FakePostgres(good_after([failure("53300", "sorry, too many clients already")] * 2)) as s:
        proxy = proxied(setting={"upstream": s.url}, pool={"warm": 0})
        started_s = time.monotonic()
        assert one(proxy) == b"1"
        assert 1.0 < time.monotonic() - started_s < 4
        assert s.connections == 3
        assert proxy.named("upstream_down") == []  # it is there


@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [
        ("28P01", "password authentication failed"),
        ("28000", "no pg_hba.conf entry"),
        ("3D000", 'database "app" does not exist'),
        ("42501", "permission denied for database"),
        ("", "an answer without a SQLSTATE"),
    ],
)
def test_an_answer_is_told_at_once(proxied: Make, sqlstate: str, text: str) -> None:
    with FakePostgres(good_after([failure(sqlstate, text)] * 9)) as server:
        proxy = proxied(setting={"upstream": server.url})
        with pytest.raises(wire.LoginRefused) as refused:
            proxy.wire()
        assert refused.value.args[0]["C"] == sqlstate
        assert refused.value.args[0]["M"] == text
        assert server.connections == 1


@pytest.mark.timeout(60)
def test_a_restart_with_sessions_waiting(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    """FAST, then IMMEDIATE with its recovery, then kill -9, then frozen during a login."""
    server = make_postgres()
    proxy = proxied(server)
    with proxy.wire() as session:
        for how in (Stop.FAST, Stop.IMMEDIATE, Stop.KILL):
            server.stop(how)
            proxy.until("link_lost", len(proxy.named("link_lost")) or 1)
            session.send(wire.query("select 1"))
            time.sleep(0.2)
            server.start()
            assert wire.rows(session.until_ready()) == [(b"1",)]
    proxy.settled(idle=1)


def test_a_server_that_is_silent_during_the_login(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres()
    query = "sslmode=disable&connect_timeout=2"
    proxy = proxied(server, query, resilience={"hold_s": 15})
    server.freeze()
    thread, results = in_thread(lambda: one(proxy))
    (down,) = proxy.until("upstream_down")
    assert down["reason"] == "upstream_silent"
    assert "did not finish the login within 2 s" in down["error"]
    server.thaw()
    thread.join(15)
    assert results == [b"1"]


# -- waiting


def test_notice_after_a_while(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, resilience={"notice_s": 0.3})
    with proxy.wire() as session:
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        session.send(wire.query("select 1"))
        notice = session.read_message()
        assert notice[:1] == b"N"
        fields = wire.error_fields(notice)
        assert fields["S"] == "NOTICE"
        assert "waiting for the database: unreachable for 0.3 s" in fields["M"]
        (waiting,) = proxy.until("waiting")
        assert waiting["waited_s"] == 0.3
        proxy.call(lambda: proxy.cutter.accept())
        assert wire.rows(session.until_ready()) == [(b"1",)]
        assert len(proxy.named("waiting")) == 1
    assert proxy.route.counters.holds_noticed == 1


def test_a_full_pool_is_not_called_an_outage(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(
        postgres, pool={"size": 1, "warm": 0}, resilience={"notice_s": 0.2, "hold_s": 0.6}
    )
    with proxy.wire() as first, proxy.wire_started() as second:
        (waiting,) = proxy.until("waiting")
        assert waiting["cause"] == "pool_full"
        fields = wire.error_fields(second.until_closed()[-1])
        assert fields["C"] == "53300"
        assert "all 1 links are taken, waited 0.6 s" in fields["M"]
        assert first.value("select 1") == b"1"


def test_an_established_session_hears_that_the_pool_is_full(
    proxied: Make, postgres: PostgresServer
) -> None:
    """Its link was lost, and another session took the place."""
    proxy = proxied(postgres, pool={"size": 1, "warm": 0}, resilience={"notice_s": 0.2})
    with proxy.wire() as first:
        proxy.cut()
        proxy.until("link_lost")
        with proxy.wire() as second:
            first.send(wire.query("select 1"))
            fields = wire.error_fields(first.read_message())
            assert "all are taken, waited 0.2 s" in fields["M"]
            assert "unreachable" not in fields["M"]
            assert second.value("select 1") == b"1"
        assert wire.rows(first.until_ready()) == [(b"1",)]


def test_what_waited_in_vain_is_not_said_to_have_done_nothing(
    proxied: Make, postgres: PostgresServer
) -> None:
    """A read that calls a function waits for its second, read-only run: the first may write."""
    postgres.sql(
        "create or replace function slow() returns int language plpgsql volatile as"
        " 'begin perform pg_sleep(1); return 1; end'"
    )
    proxy = proxied(postgres, resilience={"hold_s": 0.5}, pool={"warm": 0})
    with proxy.wire() as session:
        session.send(wire.query("select slow()"))
        running = (
            "select 1 from pg_stat_activity where query = 'select slow()' and state = 'active'"
        )
        eventually(lambda: postgres.sql(running))
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        said = wire.error_fields(session.until_closed()[-1])
    assert said["C"] == "08006"
    assert "may have changed data before its link died" in said["D"]
    assert proxy.named("link_lost")[-1]["verdicts"] == ["read_only"]


def test_the_hold_queue_is_bounded(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, resilience={"hold_clients": 2}, pool={"warm": 0})
    sessions = [proxy.wire() for _ in range(3)]
    proxy.call(lambda: proxy.cutter.refuse())
    proxy.cut()
    proxy.until("link_lost", 3)
    for count, session in enumerate(sessions[:2], 1):
        session.send(wire.query("select 1"))
        proxy.settled(waiting=count)
    sessions[2].send(wire.query("select 1"))
    answer_ = sessions[2].until_closed()
    assert wire.sqlstate(answer_) == "08006"
    assert "2 sessions wait for the database already" in wire.error_fields(answer_[-1])["M"]
    with pytest.raises(wire.LoginRefused) as refused:
        proxy.wire()
    assert refused.value.args[0]["C"] == "57P03"
    assert proxy.named("session_ended")[-1]["reason"] == "hold_full"
    proxy.call(lambda: proxy.cutter.accept())
    for session in sessions[:2]:
        assert wire.rows(session.until_ready()) == [(b"1",)]
    for session in sessions:
        session.close()


def test_whoever_waited_longest_is_served_first(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"connect_parallel": 1, "warm": 0})
    sessions = [proxy.wire() for _ in range(8)]
    proxy.call(lambda: proxy.cutter.refuse())
    proxy.cut()
    proxy.until("link_lost", 8)
    order = [3, 1, 7, 0, 5, 2, 6, 4]
    for count, number in enumerate(order, 1):
        sessions[number].send(wire.query("select 1"))
        proxy.settled(waiting=count)
    proxy.call(lambda: proxy.cutter.accept())
    for session in sessions:
        assert wire.rows(session.until_ready()) == [(b"1",)]
        session.close()
    first = proxy.named("connected")[0]["session"]  # numbers go on from one route to the next
    assert [report["session"] - first for report in proxy.named("restored")] == order


def test_no_link_is_opened_that_nobody_waits_for_any_more(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"size": 20, "connects_per_s": 20.0, "warm": 0})
    sessions = [proxy.wire() for _ in range(20)]
    proxy.cut()
    proxy.until("link_lost", 20)
    for session in sessions:
        session.send(wire.query("select 1"))
    for session in sessions:  # each hands its link on to the next
        assert wire.rows(session.until_ready()) == [(b"1",)]
        session.send(wire.TERMINATE)
        session.close()
    proxy.settled(opening=0, attached=0, waiting=0)
    assert proxy.route.upstream.opens < 40


def test_the_return_is_paced(proxied: Make, postgres: PostgresServer) -> None:
    """Sessions that come back all at once do not storm the server."""
    proxy = proxied(postgres, pool={"size": 30, "connects_per_s": 10.0, "warm": 0})
    sessions = [proxy.wire() for _ in range(30)]
    proxy.cut()
    proxy.until("link_lost", 30)
    started_s = time.monotonic()
    for session in sessions:
        session.send(wire.query("select 1"))
    for session in sessions:
        assert wire.rows(session.until_ready()) == [(b"1",)]
    for session in sessions:
        session.close()
    # 30 at once are the burst, used up by the first round and partly filled again since.
    assert time.monotonic() - started_s > 0.4


# -- things that are gone when the server is back


def test_a_role_that_is_gone(proxied: Make, make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres()
    proxy = proxied(server, setting={"auth": {"method": "passthrough"}}, pool={"warm": 0})
    with proxy.wire("app_scram") as session, proxy.wire("app_trust") as other:
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        proxy.until("link_lost", 2)
        session.send(wire.query("select 1"))
        proxy.settled(waiting=1)
        server.sql("alter role app_scram password 'another'")
        proxy.call(lambda: proxy.cutter.accept())
        end = session.until_closed()
        assert wire.sqlstate(end) == "28P01"
        assert "app_scram" in wire.error_fields(end[-1])["M"]
        assert other.value("select 1") == b"1"


def test_a_database_that_is_gone(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres()
    server.sql("create database doomed")
    proxy = proxied(server, pool={"warm": 0})
    with proxy.wire(database="doomed") as session, proxy.wire() as other:
        server.sql("drop database doomed with (force)")
        proxy.until("link_lost")
        session.send(wire.query("select 1"))
        end = session.until_closed()
        assert wire.sqlstate(end) == "3D000"
        assert 'database "doomed" does not exist' in wire.error_fields(end[-1])["M"]
        assert other.value("select 1") == b"1"


def test_a_setting_that_is_refused_now(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    """State that cannot be rebuilt is never lost in silence."""
    server = make_postgres()
    server.sql("create role lent; grant lent to app_trust")
    proxy = proxied(server, pool={"warm": 0})
    with proxy.wire("app_trust") as session:
        session.query("set role lent")
        server.sql("revoke lent from app_trust")
        proxy.cut()
        proxy.until("link_lost")
        session.send(wire.query("select 1"))
        end = session.until_closed()
        assert wire.sqlstate(end) == "57P01"
        assert "cannot be rebuilt" in wire.error_fields(end[-1])["M"]
    assert proxy.named("session_ended")[-1]["reason"] == "restore_failed"


@pytest.mark.parametrize(
    ("statement", "looked_at"),
    [
        ("set app.tenant to '7'", False),
        ("listen news", False),
        ("prepare p as select 1", False),
        ("set search_path to a_schema", True),  # the server has to have shown it once
    ],
)
def test_a_restore_that_leaves_something_out(
    proxied: Make, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch,
    statement: str, looked_at: bool,
) -> None:  # fmt: skip
    """The fingerprint proves a restore: a session that is not what it was goes no further."""
    proxy = proxied(postgres, setting={"resilience": {"listen_loss": "notice"}})
    with proxy.wire() as session:
        session.query(statement)
        if looked_at:
            session.query("do $$ begin perform 1; end $$")
            session.query("select 1")

        def forgetful(state: SessionState) -> Restoration:
            return replace(restoration(state), messages=b"", readies=0)

        monkeypatch.setattr(attach, "restoration", forgetful)
        proxy.cut()
        proxy.until("link_lost")
        session.send(wire.query("select 1"))
        end = session.until_closed()
        assert wire.sqlstate(end) == "57P01"
        assert "cannot be rebuilt" in wire.error_fields(end[-1])["M"]
    assert proxy.named("session_ended")[-1]["reason"] == "restore_failed"


def test_links_that_die_while_they_are_restored(proxied: Make) -> None:
    """hold_s bounds the whole wait, however many links come and go in it."""

    def script(server: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        if server.connections == 1:
            sock.sendall(answer(*read(sock)).replace(b"SELECT 1", b"SET\0\0\0\0\0"))
            return  # dies
        read(sock)  # the restoration: it dies with every link

    with FakePostgres(script) as server:
        proxy = proxied(
            setting={"upstream": server.url}, resilience={"hold_s": 1.5}, pool={"warm": 0}
        )
        with proxy.wire() as session:
            session.send(wire.query("set work_mem = '5MB'"))
            eventually(lambda: proxy.named("link_lost"))
            started_s = time.monotonic()
            session.send(wire.query("select 1"))
            end = session.until_closed()
            assert end[-1][:1] == b"E"
            assert time.monotonic() - started_s < 4
    assert ROLE_PASSWORDS  # the fake asks for none
