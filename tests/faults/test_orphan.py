"""The backend behind a dead link: it must not hold the locks of a transaction that is lost."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core.reasons import Reason
from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer
from tests import wire
from tests.faults.cut_bench import CutBench, Wound, gone
from tests.wire import PgWire

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    postgres.sql(
        "drop table if exists orphans; create table orphans (id int primary key, n int);"
        "insert into orphans values (1, 0), (2, 0);"
        "do $$ begin create role orphans_role; exception when duplicate_object then null; end $$"
    )
    with CutBench(postgres) as made:
        yield made


@pytest.fixture
def client(bench: CutBench, postgres: PostgresServer) -> Iterator[PgWire]:
    bench.call(lambda _: gone(bench))
    postgres.sql("update orphans set n = 0")
    with PgWire.session(("127.0.0.1", bench.proxy_port)) as made:
        yield made


def silence(bench: CutBench, after_bytes: int = 1) -> int:
    """The path goes silent with the next answer (0: now). The server does not find out."""
    return bench.arm(Wound(Direction.TO_CLIENT, after_bytes, Cut.SILENCE))


def found_out(bench: CutBench) -> None:
    def lose(route: Any) -> None:
        (session,) = route.sessions
        session.link.lose(Reason.UPSTREAM_SILENT)

    bench.ask(lose)


def backend(server: PostgresServer, pid: int) -> list[Any]:
    return server.sql(f"select state from pg_stat_activity where pid = {pid}")


def until(condition: Any) -> None:
    end_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_the_second_run_does_not_wait_for_the_locks_of_the_first(
    bench: CutBench, client: PgWire, postgres: PostgresServer
) -> None:
    """Certificate OT: the statement had run, in a transaction that nobody will end."""
    client.query("begin")
    pid = silence(bench)
    client.send(wire.query("update orphans set n = n + 1 where id = 1"))
    ran = f"select query from pg_stat_activity where pid = {pid} and state = 'idle in transaction'"
    until(lambda: "update" in str(postgres.sql(ran)))
    found_out(bench)
    begun_s = time.monotonic()
    assert wire.tags(client.until_ready()) == ["UPDATE 1"]
    assert time.monotonic() - begun_s < 2
    assert wire.tags(client.query("commit")) == ["COMMIT"]
    assert postgres.sql("select n from orphans where id = 1") == [(1,)]
    until(lambda: not backend(postgres, pid))


@pytest.mark.parametrize("role", ["", "set role orphans_role"])
def test_who_tries_again_does_not_wait_for_what_was_lost(
    bench: CutBench, client: PgWire, postgres: PostgresServer, role: str
) -> None:
    postgres.sql("grant all on orphans to orphans_role")
    client.query(role)
    client.query("set timezone = 'Asia/Tokyo'; set datestyle = german")
    client.query("begin")
    client.query("update orphans set n = n + 1 where id = 2")
    pid = silence(bench, 0)
    found_out(bench)
    assert backend(postgres, pid) == [("idle in transaction",)]
    assert wire.sqlstate(client.query("select 1")) == "40001"
    client.query("rollback")
    begun_s = time.monotonic()
    assert wire.tags(client.query("update orphans set n = n + 10 where id = 2")) == ["UPDATE 1"]
    assert time.monotonic() - begun_s < 2
    assert postgres.sql("select n from orphans where id = 2") == [(10,)]


@pytest.mark.parametrize("sql", ["insert into orphans values (7, 7)", "select pg_sleep(0)"])
def test_a_backend_that_may_commit_is_left_alone(
    bench: CutBench, client: PgWire, postgres: PostgresServer, sql: str
) -> None:
    pid = silence(bench)
    client.send(wire.query(sql))
    until(lambda: backend(postgres, pid) == [("idle",)])
    found_out(bench)
    client.until_ready()
    assert client.value("select 1") == b"1"
    assert backend(postgres, pid) == [("idle",)]
    postgres.sql(f"select pg_terminate_backend({pid})")
    postgres.sql("delete from orphans where id = 7")


def test_a_commit_in_doubt_is_left_alone(
    bench: CutBench, client: PgWire, postgres: PostgresServer
) -> None:
    client.query("begin")
    client.query("update orphans set n = 5 where id = 1")
    pid = silence(bench)
    client.send(wire.query("commit"))
    until(lambda: backend(postgres, pid) == [("idle",)])
    found_out(bench)
    assert wire.sqlstate(client.until_ready()) == "08007"
    assert client.value("select n from orphans where id = 1") == b"5"
    assert backend(postgres, pid) == [("idle",)]
    postgres.sql(f"select pg_terminate_backend({pid})")


def test_nobody_else_is_ended(bench: CutBench, client: PgWire, postgres: PostgresServer) -> None:
    """The process id has been given to another backend since."""
    client.query("begin")
    client.query("update orphans set n = n + 1 where id = 2")
    silence(bench, 0)
    with postgres.connect() as other:
        (pid,) = other.execute("select pg_backend_pid()").fetchone() or (0,)

        def mistake(route: Any) -> None:
            (session,) = route.sessions
            session.link.pid = pid
            session.link.lose(Reason.UPSTREAM_SILENT)

        bench.ask(mistake)
        assert wire.sqlstate(client.query("select 1")) == "40001"
        client.query("rollback")
        assert client.value("select 1") == b"1"
        assert other.execute("select 1").fetchone() == (1,)
    postgres.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction'"
    )
