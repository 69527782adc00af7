"""PAUSE, RESUME, RECONNECT and KILL on a PostgreSQL route: sessions stay, links go and come."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from proxy.demo.servers import PostgresServer, Stop
from proxy.postgres.runtime import control
from tests.integration.postgres.kit import Make, Proxied, eventually

pytestmark = pytest.mark.servers


@pytest.fixture
def opened() -> Iterator[Callable[..., "psycopg.Connection[Any]"]]:
    """`opened(one, …)`: as `one.connect`, closed at the end."""
    with ExitStack() as stack:
        yield lambda one, **options: stack.enter_context(closing(one.connect(**options)))


Opened = Callable[..., "psycopg.Connection[Any]"]


def pid(session: "psycopg.Connection[Any]") -> int:
    row = session.execute("select pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def backends(server: PostgresServer) -> int:
    with psycopg.connect(server.dsn()) as direct:
        text = "select count(*) from pg_stat_activity where application_name = 'paused'"
        row = direct.execute(text).fetchone()
    assert row is not None
    return int(row[0])


def pausing(one: Proxied) -> "Future[bool]":
    """PAUSE, in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(one.call, lambda: control.pause(one.route))
    pool.shutdown(wait=False)
    one.until("paused")
    return future


def resume(one: Proxied) -> None:
    one.call(lambda: control.resume(one.route))


def test_the_server_restarts_under_a_pause(
    proxied: Make, opened: Opened, make_postgres: Any
) -> None:
    """State is kept, a transaction is waited for, nobody sees an error, hold_s does not run."""
    server = make_postgres()
    one = proxied(server, setting={"resilience": {"hold_s": 0.4}})
    idle, busy, fresh = (opened(one, application_name="paused") for _ in range(3))
    idle.execute("set search_path to a_schema; set work_mem to '7MB'")
    idle.execute("prepare twice as select 2 * $1::int")
    fresh.execute("select 1")
    busy.autocommit = False
    busy.execute("create table kept (n int)")
    paused = pausing(one)
    eventually(lambda: backends(server) == 1, lambda: backends(server))
    busy.execute("insert into kept values (1)")  # its transaction goes on
    assert not paused.done()
    busy.commit()
    assert paused.result(10) is True
    assert backends(server) == 0
    server.stop(Stop.FAST)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(idle.execute("execute twice(4)")))
    joining = threading.Thread(target=lambda: answers.append(opened(one)))
    asking.start()
    joining.start()
    server.start()
    time.sleep(0.6)  # longer than hold_s: the clock of those who wait stands still
    assert not answers
    resume(one)
    asking.join(10)
    joining.join(10)
    assert len(answers) == 2
    shown = idle.execute("select current_setting('search_path'), current_setting('work_mem')")
    assert shown.fetchone() == ("a_schema", "7MB")
    assert fresh.execute("select n from kept").fetchone() == (1,)
    assert not one.named("session_ended")
    assert one.counts()["waiting"] == 0


def test_state_that_cannot_be_rebuilt_is_waited_for(
    proxied: Make, opened: Opened, postgres: PostgresServer
) -> None:
    one = proxied(postgres)
    session = opened(one)
    session.execute("create temp table held (n int)")
    paused = pausing(one)
    session.execute("insert into held values (1)")
    assert not paused.done()
    session.execute("discard all")
    assert paused.result(10) is True
    resume(one)
    assert session.execute("select 1").fetchone() == (1,)


def test_a_resume_ends_the_wait_of_a_pause(
    proxied: Make, opened: Opened, postgres: PostgresServer
) -> None:
    one = proxied(postgres)
    session = opened(one)
    session.execute("listen news")
    before = pid(session)
    paused = pausing(one)
    resume(one)
    assert paused.result(10) is False
    assert pid(session) == before


def test_reconnect_replaces_every_link(
    proxied: Make, opened: Opened, postgres: PostgresServer
) -> None:
    one = proxied(postgres)
    sessions = [opened(one) for _ in range(5)]
    for number, session in enumerate(sessions):
        session.execute(f"set work_mem to '{number + 2}MB'")
    busy = sessions[0]
    busy.autocommit = False
    before = [pid(session) for session in sessions]
    one.call(lambda: control.reconnect(one.route))
    assert pid(busy) == before[0], "inside a transaction the link stays"
    busy.commit()
    after = [pid(session) for session in sessions]
    assert not set(before) & set(after)
    for number, session in enumerate(sessions):
        assert session.execute("show work_mem").fetchone() == (f"{number + 2}MB",)
    assert not one.named("link_lost")
    one.settled(attached=5)


def test_kill_ends_sessions_until_resume(
    proxied: Make, opened: Opened, postgres: PostgresServer
) -> None:
    one = proxied(postgres)
    idle, busy = opened(one), opened(one, application_name="paused")
    failed: list[Any] = []

    def sleep() -> None:
        with pytest.raises(psycopg.errors.AdminShutdown) as caught:
            busy.execute("select pg_sleep(30)")
        failed.append(caught.value.diag.sqlstate)

    sleeping = threading.Thread(target=sleep)
    sleeping.start()
    eventually(lambda: backends(postgres) == 1, lambda: backends(postgres))
    assert one.call(lambda: control.kill(one.route)) == 2
    sleeping.join(10)
    assert failed == ["57P01"]
    with pytest.raises(psycopg.errors.AdminShutdown):
        idle.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="an operator of Backstay has stopped"):
        opened(one)
    eventually(lambda: backends(postgres) == 0, lambda: backends(postgres))
    resume(one)
    assert opened(one).execute("select 1").fetchone() == (1,)


def test_kill_client_ends_one(proxied: Make, opened: Opened, postgres: PostgresServer) -> None:
    one = proxied(postgres)
    first, second = opened(one), opened(one)
    number = one.named("connected")[0]["session"]
    assert one.call(lambda: control.kill_client(one.route, number))
    assert not one.call(lambda: control.kill_client(one.route, 10**9))
    with pytest.raises(psycopg.errors.AdminShutdown, match="an operator of Backstay ended it"):
        first.execute("select 1")
    assert second.execute("select 1").fetchone() == (1,)
