"""The decision table of the reference (section 2), row by row, on a real server.

Each test breaks the link of one session at a chosen place and looks at what the client is told, at
what is stored, and at the session afterwards.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
import sqlalchemy

from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer, Stop
from proxy.postgres.protocol.verdict import Replay
from proxy.postgres.runtime.options import ResilienceOptions
from tests import wire
from tests.faults.cut_bench import CutBench, Wound, gone
from tests.wire import COPY_DONE, FLUSH, SYNC, Binding, PgWire, WireClosed

pytestmark = pytest.mark.servers

NOW = Wound(Direction.TO_CLIENT, 0, Cut.RST)
AT_ANSWER = Wound(Direction.TO_CLIENT, 1, Cut.RST)
SCHEMA = """
drop table if exists losses; create table losses (id int);
drop table if exists losses_gone; create table losses_gone (id int);
create or replace function losses_write(n int) returns int language sql volatile as
    $$ insert into losses values (n) returning id $$;
create or replace function losses_set() returns text language sql volatile as
    $$ select set_config('work_mem', '7MB', false) $$;
do $$ begin create role losses_role; exception when duplicate_object then null; end $$;
"""

LATE = """
drop table if exists losses_late; create table losses_late (id int);
create or replace function losses_sleep() returns trigger language plpgsql as
    $$ begin perform pg_sleep(1); return null; end $$;
create constraint trigger late after insert on losses_late deferrable initially deferred
    for each row execute function losses_sleep();
"""

Make = Callable[..., "Case"]


class Case:
    """One client of a route whose link can be broken."""

    def __init__(self, server: PostgresServer, bench: CutBench) -> None:
        self.server = server
        self.bench = bench
        bench.call(lambda _: gone(bench))
        self.client = PgWire.session(("127.0.0.1", bench.proxy_port))

    def cut(self, wound: Wound = NOW) -> int:
        pid = self.bench.arm(wound)
        if wound is NOW:
            self.lost()
        return pid

    def lost(self) -> None:
        """Return once the proxy knows that the link is gone."""
        until_s = time.monotonic() + 5
        while self.bench.alive():
            assert time.monotonic() < until_s
            time.sleep(0.001)

    def kill(self, during: str) -> threading.Thread:
        """pg_terminate_backend as soon as the server is running or waiting in `during`."""
        pid = self.bench.arm(None)

        def strike() -> None:
            with self.server.connect() as direct:
                question = "select 1 from pg_stat_activity where pid = %s and wait_event = %s"
                until_s = time.monotonic() + 5
                while not direct.execute(question, (pid, during)).fetchone():
                    assert time.monotonic() < until_s, "it never ran"
                direct.execute("select pg_terminate_backend(%s)", (pid,))

        thread = threading.Thread(target=strike)
        thread.start()
        return thread

    def stored(self) -> list[int]:
        """What is in the table once the orphan has ended."""
        question = f"select 1 from pg_stat_activity where pid = {self.bench.pid}"
        while self.server.sql(question):
            time.sleep(0.002)
        return sorted(row[0] for row in self.server.sql("select id from losses"))

    def told(self, sql: str) -> tuple[str, str]:
        """SQLSTATE and status a query ends with."""
        answer = self.client.query(sql)
        return wire.sqlstate(answer) or "", answer[-1][5:].decode()

    def ended(self) -> dict[str, str]:
        """The FATAL the session ends with, without being asked."""
        with pytest.raises(WireClosed):
            while True:
                last = self.client.read_message()
        return wire.error_fields(last)


@pytest.fixture(scope="module")
def benches(postgres: PostgresServer) -> Iterator[Callable[..., CutBench]]:
    made: dict[ResilienceOptions, CutBench] = {}

    def make(**changes: Any) -> CutBench:
        options = ResilienceOptions(**changes)
        if options not in made:
            made[options] = CutBench(postgres, resilience=options).__enter__()
        return made[options]

    yield make
    for bench in made.values():
        bench.__exit__()


@pytest.fixture
def make(postgres: PostgresServer, benches: Callable[..., CutBench]) -> Iterator[Make]:
    made: list[Case] = []
    postgres.sql(SCHEMA)

    def new(**changes: Any) -> Case:
        made.append(Case(postgres, benches(**changes)))
        return made[-1]

    yield new
    for case in made:
        case.client.close()


@contextmanager
def counted(case: Case, name: str, times: int = 1) -> Iterator[None]:
    """That counter grows by so much."""
    before = getattr(case.bench.counters, name)
    yield
    assert getattr(case.bench.counters, name) - before == times, name


# ---- idle


def test_idle_settings_are_restored(make: Make) -> None:
    case = make()
    case.client.query("set work_mem = '9MB'; set losses.tenant = 'seven'")
    case.cut()
    assert case.client.value("show work_mem") == b"9MB"
    assert case.client.value("show losses.tenant") == b"seven"


def test_idle_role_is_restored(make: Make) -> None:
    case = make()
    case.client.query("set role losses_role")
    case.cut()
    assert case.client.value("select current_user") == b"losses_role"


def test_idle_setting_of_a_function_is_learnt_by_fingerprint(make: Make) -> None:
    case = make()
    case.client.query("select losses_set()")
    until_s = time.monotonic() + 5
    while case.bench.ask(lambda route: next(iter(route.sessions)).state.need.value) > 0:
        assert time.monotonic() < until_s
        time.sleep(0.01)
        if case.bench.ask(lambda route: next(iter(route.sessions)).state.need.name) == "NONE":
            break
    case.cut()
    assert case.client.value("show work_mem") == b"7MB"


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("create temp table t (i int)", "temporary tables"),
        ("select pg_advisory_lock(77)", "advisory locks"),
        ("declare c cursor with hold for select 1", "WITH HOLD cursor"),
    ],
)
def test_idle_state_that_cannot_be_rebuilt(make: Make, sql: str, what: str) -> None:
    case = make()
    with counted(case, "state_lost"):
        case.client.query(sql)
        case.cut()
        fields = case.ended()
    assert (fields["V"], fields["C"]) == ("FATAL", "57P01")
    assert fields["M"].startswith("terminating connection: link to the database was lost")
    assert what in fields["D"]


def test_listen_loss_close(make: Make) -> None:
    case = make()
    case.client.query("listen losses")
    case.cut()
    fields = case.ended()
    assert fields["C"] == "57P01"
    assert "LISTEN" in fields["D"]


def test_listen_loss_notice(make: Make) -> None:
    case = make(listen_loss="notice")
    case.client.query("listen losses")
    case.cut()
    gap = case.client.read_message()
    assert gap[:1] == b"N"
    assert case.client.value("select 1") == b"1"
    case.server.sql("notify losses, 'again'")
    assert b"again" in case.client.until(b"A")[-1]


def test_sql_prepare_is_restored(make: Make) -> None:
    case = make()
    case.client.query("prepare p (int) as select $1 + 1")
    case.cut()
    assert case.client.value("execute p (41)") == b"42"


def test_protocol_statements_come_back_when_they_are_needed(make: Make) -> None:
    case = make()
    case.client.send(wire.parse("select $1::int * 2", name="twice") + SYNC)
    case.client.until_ready()
    case.cut()
    case.client.send(wire.values("21", statement="twice") + wire.execute() + SYNC)
    answer = case.client.until_ready()
    assert wire.kinds(answer) == "2DCZ"
    assert wire.rows(answer) == [(b"42",)]


def test_a_statement_that_is_no_longer_valid_fails_where_it_is_used(make: Make) -> None:
    case = make()
    case.client.send(wire.parse("select * from losses_gone", name="gone") + SYNC)
    case.client.send(wire.parse("select 5", name="kept") + SYNC)
    case.client.until_ready(2)
    case.server.sql("drop table losses_gone")
    case.cut()
    case.client.send(wire.values(statement="kept") + wire.execute() + SYNC)
    assert wire.rows(case.client.until_ready()) == [(b"5",)]
    case.client.send(wire.values(statement="gone") + wire.execute() + SYNC)
    assert wire.sqlstate(case.client.until_ready()) == "42P01"
    assert case.told("select 1") == ("", "I")


# ---- a unit was sent


def test_read_is_run_again_read_only(make: Make) -> None:
    case = make()
    case.cut(AT_ANSWER)
    with counted(case, "replayed_read_only"):
        assert case.client.value("select 6 * 7") == b"42"


def test_read_that_writes_is_in_doubt(make: Make) -> None:
    case = make()
    case.cut(AT_ANSWER)
    with counted(case, "doubts"):
        assert case.told("select losses_write(1)") == ("08007", "I")
    assert case.stored() in ([], [1])
    assert case.told("select 1") == ("", "I")


@pytest.mark.parametrize(
    "sql", ["insert into losses values (1)", "call nothing()", "vacuum losses"]
)
def test_write_or_worse_is_in_doubt(make: Make, sql: str) -> None:
    case = make()
    case.cut(AT_ANSWER)
    assert case.told(sql) == ("08007", "I")
    assert case.stored() in ([], [1])


def test_doubt_sqlstate(make: Make) -> None:
    case = make(doubt_sqlstate="40003")
    case.cut(AT_ANSWER)
    assert case.told("insert into losses values (1)") == ("40003", "I")


def test_setting_is_sent_again(make: Make) -> None:
    case = make()
    case.cut(AT_ANSWER)
    with counted(case, "resent_harmless"):
        assert case.told("set work_mem = '5MB'") == ("", "I")
    assert case.client.value("show work_mem") == b"5MB"


def test_batch_without_sync_is_sent_again(make: Make) -> None:
    case = make()
    case.cut(AT_ANSWER)
    with counted(case, "resent_unsent"):
        case.client.send(wire.run("insert into losses values (1)") + FLUSH)
        case.client.until(b"C")
        case.client.send(SYNC)
        case.client.until_ready()
    assert case.server.sql("select id from losses") == [(1,)]


def test_fatal_certifies_that_a_write_may_run_again(make: Make) -> None:
    case = make()
    killer = case.kill("PgSleep")
    with counted(case, "resent_fatal"):
        assert case.told("insert into losses select 1 from pg_sleep(0.3)") == ("", "I")
    killer.join()
    assert case.stored() == [1]


def test_fatal_certifies_nothing_of_what_is_not_transactional(make: Make) -> None:
    case = make()
    killer = case.kill("PgSleep")
    assert case.told("do $$ begin perform pg_sleep(5); end $$") == ("08007", "I")
    killer.join()


def test_replay_reads_does_not_run_a_write_again(make: Make) -> None:
    case = make(replay=Replay.READS)
    killer = case.kill("PgSleep")
    assert case.told("insert into losses select 1 from pg_sleep(5)") == ("40001", "I")
    killer.join()
    assert case.stored() == []
    assert case.told("select 1") == ("", "I")  # so that it has a link again
    case.cut(AT_ANSWER)
    assert case.client.value("select 1") == b"1"


def test_replay_off_runs_nothing_again(make: Make) -> None:
    case = make(replay=Replay.OFF)
    case.cut(AT_ANSWER)
    assert case.told("select 1") == ("08006", "I")
    assert case.told("select 1") == ("", "I")
    case.cut(AT_ANSWER)
    assert case.told("insert into losses values (1)") == ("08007", "I")


def test_a_query_that_is_done_has_dropped_the_unnamed_statement(make: Make) -> None:
    case = make()
    case.client.send(wire.parse("select 1") + SYNC)
    case.client.until_ready()
    answer = case.client.query("select 2")
    case.client.send(wire.parse("select 1") + SYNC)
    case.client.until_ready()
    case.cut(Wound(Direction.TO_CLIENT, sum(map(len, answer)) - 2, Cut.FIN))
    assert case.client.query("select 2") == answer
    case.client.send(wire.values() + wire.execute() + SYNC)
    assert wire.sqlstate(case.client.until_ready()) == "26000"


def test_a_statement_closed_by_the_unit_that_runs_again(make: Make) -> None:
    """Its CloseComplete had come, but the unit needs the statement a second time."""
    case = make()
    unit = wire.values(statement="late") + wire.execute() + wire.close("S", "late") + SYNC
    case.client.send(wire.parse("select 8", name="late") + SYNC)
    case.client.until_ready()
    case.cut(Wound(Direction.TO_CLIENT, 39, Cut.FIN))  # 2, D, C and 3 have come
    case.client.send(unit)
    answer = case.client.until_ready()
    assert wire.kinds(answer) == "2DC3Z"
    case.client.send(unit)
    assert wire.sqlstate(case.client.until_ready()) == "26000"
    case.client.send(wire.parse("select 9", name="late") + SYNC)
    assert wire.kinds(case.client.until_ready()) == "1Z"


# ---- mid-result


def test_a_result_that_broke_off_says_how_many_rows_came(make: Make) -> None:
    case = make()
    case.cut(Wound(Direction.TO_CLIENT, 600_123, Cut.RST))
    answer = case.client.query("select i, repeat('x', 1000) from generate_series(1, 2000) i")
    error = wire.error_fields(answer[-2])
    assert (error["V"], error["C"]) == ("ERROR", "08006")
    rows = wire.rows(answer)
    assert [int(row[0] or 0) for row in rows] == list(range(1, len(rows) + 1))
    (said,) = re.findall(r"after (\d+) rows", error["M"])
    assert 64 <= int(said) == len(rows)
    assert case.told("select 1") == ("", "I")


def test_a_result_of_functions_that_may_write_is_in_doubt(make: Make) -> None:
    """It is no read that one may call read-only: its first run may be saved."""
    case = make()
    case.cut(Wound(Direction.TO_CLIENT, 200_123, Cut.RST))
    sql = "select losses_write(i), repeat('x', 1000) from generate_series(1, 1000) i"
    assert case.told(sql) == ("08007", "I")
    assert len(case.stored()) in (0, 1000)
    assert case.told("select 1") == ("", "I")


def test_copy_out(make: Make) -> None:
    case = make()
    sql = "copy (select i, repeat('x', 1000) from generate_series(1, 2000) i) to stdout"
    case.cut(AT_ANSWER)
    assert wire.kinds(case.client.query(sql)) == "H" + "d" * 2000 + "cCZ"
    case.cut(Wound(Direction.TO_CLIENT, 600_123, Cut.RST))
    assert case.told(sql) == ("08006", "I")


# ---- in a transaction


def test_idle_in_transaction(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("insert into losses values (1)")
    with counted(case, "rolled_back"):
        case.cut()
        assert case.told("select 1") == ("40001", "E")
        assert case.told("select 1") == ("25P02", "E")
    assert wire.tags(case.client.query("rollback")) == ["ROLLBACK"]
    assert case.stored() == []
    assert case.told("select 1") == ("", "I")


def test_idle_in_transaction_and_commit_is_next(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("insert into losses values (1)")
    case.cut()
    assert case.told("commit") == ("40001", "I")
    assert case.stored() == []


def test_mid_statement_in_transaction(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("insert into losses values (1)")
    case.cut(AT_ANSWER)
    assert case.told("insert into losses values (2)") == ("40001", "E")
    assert case.told("commit") == ("", "I")
    assert case.stored() == []


def test_commit_sent(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("insert into losses values (1)")
    case.cut(AT_ANSWER)
    assert case.told("commit") == ("08007", "I")
    assert case.stored() in ([], [1])


def test_commit_and_chain_done_and_what_it_chained_lost(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("insert into losses values (1)")
    case.cut(Wound(Direction.TO_CLIENT, 15, Cut.FIN))  # its tag came, its ReadyForQuery did not
    assert case.told("commit and chain") == ("", "T")
    assert case.told("insert into losses values (2)") == ("40001", "E")
    assert case.told("rollback") == ("", "I")
    assert case.stored() == [1]


def test_rollback_sent(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("insert into losses values (1)")
    case.cut(AT_ANSWER)
    answer = case.client.query("rollback")
    assert wire.tags(answer) == ["ROLLBACK"]
    assert answer[-1][5:] == b"I"
    assert case.stored() == []


def test_transaction_of_settings_is_begun_again(make: Make) -> None:
    case = make()
    case.client.query("begin isolation level serializable")
    case.client.query("set local work_mem = '6MB'")
    case.client.query("prepare inside as select 5")
    case.cut()
    with counted(case, "rolled_back", 0):
        assert case.client.value("show transaction_isolation") == b"serializable"
        assert case.client.value("show work_mem") == b"6MB"
        assert case.client.value("execute inside") == b"5"
        assert case.told("commit") == ("", "I")


def test_failed_transaction_stays_failed(make: Make) -> None:
    case = make()
    case.client.query("begin")
    case.client.query("select 1/0")
    case.cut()
    assert case.told("select 1") == ("25P02", "E")
    assert case.told("rollback") == ("", "I")


def test_savepoint_cannot_be_gone_back_to(make: Make) -> None:
    case = make()
    for sql in ("begin", "insert into losses values (1)", "savepoint s"):
        case.client.query(sql)
    case.cut()
    assert case.told("rollback to s") == ("40001", "E")
    assert case.told("select 1") == ("25P02", "E")
    assert case.told("rollback") == ("", "I")


def test_rollback_to_savepoint_sent(make: Make) -> None:
    """Not 25P02: the client would not know that its whole transaction is gone."""
    case = make()
    for sql in ("begin", "insert into losses values (1)", "savepoint s", "select 1/0"):
        case.client.query(sql)
    case.cut(AT_ANSWER)
    assert case.told("rollback to s") == ("40001", "E")
    assert case.told("commit") == ("", "I")
    assert case.stored() == []


def test_an_error_that_had_come_is_the_answer(make: Make) -> None:
    case = make()
    error = case.client.query("insert into losses values (1/0)")
    case.cut(Wound(Direction.TO_CLIENT, len(error[0]) + 2, Cut.FIN))
    assert case.client.query("insert into losses values (1/0)") == error


# ---- COPY IN and pipelines


BEHIND = pytest.mark.parametrize(
    "before",
    [b"", FLUSH, wire.run("select 1") + FLUSH],
    ids=["alone", "behind a Flush", "behind a batch without Sync"],
)


@BEHIND
def test_copy_in_before_its_end(make: Make, before: bytes) -> None:
    case = make()
    case.client.send(before + wire.query("copy losses from stdin"))
    case.client.until(b"G")
    case.client.send(wire.copy_data(b"1\n"))
    case.cut()
    case.client.send(wire.copy_data(b"2\n") + COPY_DONE)
    answer = case.client.until_ready()
    assert wire.sqlstate(answer) == "40001"
    assert case.stored() == []
    assert case.told("select 1") == ("", "I")


@BEHIND
def test_copy_in_behind_its_end(make: Make, before: bytes) -> None:
    case = make()
    case.client.send(before + wire.query("copy losses from stdin"))
    case.client.until(b"G")
    case.cut(AT_ANSWER)
    case.client.send(wire.copy_data(b"1\n") + COPY_DONE)
    assert wire.sqlstate(case.client.until_ready()) == "08007"
    assert case.stored() in ([], [1])


@BEHIND
def test_copy_in_behind_its_failure(make: Make, before: bytes) -> None:
    """CopyFail went out: whatever became of it, nothing is saved."""
    case = make()
    case.client.send(before + wire.query("copy losses from stdin"))
    case.client.until(b"G")
    case.cut(AT_ANSWER)
    case.client.send(wire.copy_data(b"1\n") + wire.copy_fail("no more"))
    assert wire.sqlstate(case.client.until_ready()) == "40001"
    assert case.stored() == []
    assert case.told("select 1") == ("", "I")


def test_copy_in_whose_rows_came_while_the_link_was_away(make: Make) -> None:
    """Its CopyDone waited in the queue, before its Sync, and went out: it may have committed."""
    case = make()
    case.server.sql(LATE)
    case.bench.call(lambda cutter: cutter.refuse())
    case.cut()
    case.client.send(wire.run("copy losses_late from stdin") + FLUSH)
    case.bench.call(lambda _: queued(case.bench, 1))
    before = case.bench.call(lambda _: queued(case.bench, 1))
    case.client.send(wire.copy_data(b"1\n") + COPY_DONE)
    case.bench.call(lambda _: queued(case.bench, before + 1))
    case.client.send(SYNC)
    case.bench.call(lambda cutter: cutter.accept())
    question = "select pid from pg_stat_activity where wait_event = 'PgSleep'"
    until_s = time.monotonic() + 5
    while not case.server.sql(question):
        assert time.monotonic() < until_s, "it never came to its commit"
    case.bench.arm(NOW)
    assert wire.sqlstate(case.client.until_ready()) == "08007"
    while case.server.sql(question):
        time.sleep(0.002)
    assert case.server.sql("select id from losses_late") == [(1,)]


async def queued(bench: CutBench, least: int) -> int:
    """The bytes that wait in the one session, once they are so many at least."""
    (session,) = bench.route.sessions
    while session._queued_bytes < least:
        await asyncio.sleep(0.001)
    return session._queued_bytes


def test_pipeline_without_fatal(make: Make) -> None:
    case = make()
    case.cut(AT_ANSWER)
    texts = [f"insert into losses values ({n})" for n in (1, 2)]
    case.client.send(b"".join(wire.run(text) + SYNC for text in [*texts, "select 7"]))
    codes = [wire.sqlstate(case.client.until_ready()) for _ in range(2)]
    assert codes == ["08007", "08007"]
    assert wire.rows(case.client.until_ready()) == [(b"7",)]
    stored = case.stored()
    assert sorted(set(stored)) == stored


def test_pipeline_with_fatal_is_sent_again_whole(make: Make) -> None:
    case = make()
    killer = case.kill("PgSleep")
    texts = ["insert into losses select 1 from pg_sleep(0.3)"]
    texts += [f"insert into losses values ({n})" for n in (2, 3)]
    with counted(case, "resent_fatal", 3):
        case.client.send(b"".join(wire.run(text) + SYNC for text in texts))
        assert wire.sqlstate(case.client.until_ready(3)) is None
    killer.join()
    assert case.stored() == [1, 2, 3]


# ---- the server dies


@pytest.mark.parametrize("how", [Stop.IMMEDIATE, Stop.KILL, Stop.FAST])
def test_server_restarts_under_a_write(
    make_postgres: Callable[..., PostgresServer], how: Stop
) -> None:
    server = make_postgres()
    server.sql(SCHEMA)
    with CutBench(server) as bench:
        case = Case(server, bench)
        case.client.send(wire.query("insert into losses select 1 from pg_sleep(1.5)"))
        until_s = time.monotonic() + 5
        while not server.sql("select 1 from pg_stat_activity where wait_event = 'PgSleep'"):
            assert time.monotonic() < until_s
        server.restart(how)
        answer = case.client.until_ready()
        if how is Stop.FAST:  # FATAL 57P01: rolled back for certain
            assert wire.tags(answer) == ["INSERT 0 1"]
        else:  # a WARNING 57P01 or nothing: no certificate
            assert wire.sqlstate(answer) == "08007"
        assert server.sql("select count(*) from losses") == [(int(how is Stop.FAST),)]
        assert case.told("select 1") == ("", "I")
        case.client.close()


# ---- what drivers make of it


def test_psycopg2_keeps_its_connection(make: Make) -> None:
    case = make()
    case.client.close()
    case.bench.call(lambda _: gone(case.bench))
    dsn = f"host=127.0.0.1 port={case.bench.proxy_port} user=postgres dbname=app password=x"
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    case.cut(AT_ANSWER)
    with pytest.raises(psycopg2.Error) as doubt:
        cursor.execute("insert into losses values (1)")
    assert doubt.value.pgcode == "08007"
    assert connection.closed == 0
    connection.autocommit = False
    cursor.execute("insert into losses values (2)")
    case.cut()
    with pytest.raises(psycopg2.errors.SerializationFailure):
        cursor.execute("select 1")
    connection.rollback()
    cursor.execute("select 1")
    connection.close()


def test_sqlalchemy_does_not_invalidate(make: Make) -> None:
    case = make()
    case.client.close()
    case.bench.call(lambda _: gone(case.bench))
    url = f"postgresql+psycopg2://postgres:x@127.0.0.1:{case.bench.proxy_port}/app"
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("insert into losses values (1)"))
        case.cut()
        with pytest.raises(sqlalchemy.exc.DBAPIError) as rolled:
            connection.execute(sqlalchemy.text("select 1"))
        assert not rolled.value.connection_invalidated
        connection.rollback()
        connection.execute(sqlalchemy.text("insert into losses values (2)"))
        case.cut(AT_ANSWER)
        with pytest.raises(sqlalchemy.exc.DBAPIError) as doubt:
            connection.commit()
        assert not doubt.value.connection_invalidated
        connection.rollback()
        assert connection.scalar(sqlalchemy.text("select 3")) == 3
    engine.dispose()


def test_a_function_that_is_done_and_whose_setting_nobody_has_seen(make: Make) -> None:
    """All but the end of its answer has come: that is delivered; then the session ends."""
    case = make()
    answer = case.client.query("select losses_set()")
    assert case.client.value("show work_mem") == b"7MB"
    case.cut(Wound(Direction.TO_CLIENT, sum(map(len, answer)) - 2, Cut.FIN))
    assert case.client.query("select losses_set()") == answer
    case.client.send(wire.query("show work_mem"))
    assert case.ended()["C"] == "57P01"


# ---- settings by bound values


@pytest.mark.parametrize(
    ("types", "formats", "values", "text"),
    [
        ((), (), (b"losses.tenant", b"seven"), "select set_config($1, $2, false)"),
        ((), (1,), (b"losses.tenant", b"seven"), "select set_config($1, $2, false)"),
        ((25, 25), (1, 1), (b"losses.tenant", b"seven"), "select set_config($1, $2, false)"),
        ((1043, 1043), (1, 0), (b"losses.tenant", b"seven"), "select set_config($1, $2, false)"),
        ((19,), (1,), (b"losses.tenant",), "select set_config($1, 'seven', false)"),
        ((16,), (1,), (b"\0",), "select set_config('losses.tenant', 'seven', $1)"),
    ],
)
def test_a_setting_of_bound_values_is_restored(
    make: Make, types: Any, formats: Any, values: Any, text: str
) -> None:
    case = make()
    for name in ("", "named"):
        binding = Binding(values=values, formats=formats)
        case.client.send(
            wire.parse(text, name, types) + wire.bind(name, "", binding) + wire.execute() + SYNC
        )
        assert wire.sqlstate(case.client.until_ready()) is None
        case.cut()
        assert case.client.value("show losses.tenant") == b"seven"


def test_a_setting_whose_bound_value_cannot_be_read_is_looked_up(make: Make) -> None:
    """A number in binary, cast to text by the statement: its bytes are not its text."""
    case = make()
    text = "select set_config('losses.tenant', $1::text, false)"
    binding = Binding(values=(b"\0\0\0\7",), formats=(1,))
    case.client.send(
        wire.parse(text, types=(23,)) + wire.bind("", "", binding) + wire.execute() + SYNC
    )
    assert wire.sqlstate(case.client.until_ready()) is None
    assert case.client.value("select 1") == b"1"  # behind the look
    case.cut()
    assert case.client.value("show losses.tenant") == b"7"
