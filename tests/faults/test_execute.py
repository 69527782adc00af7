"""EXECUTE of a statement that SQL's PREPARE made: judged by what it runs, where that is proven."""

from collections.abc import Iterator
from typing import Any

import pytest

from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer
from tests import wire
from tests.faults.cut_bench import CutBench, Wound, gone
from tests.faults.test_losses import AT_ANSWER, Case, counted
from tests.wire import SYNC

pytestmark = pytest.mark.servers

WRITE = "insert into losses values (1)"


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    postgres.sql("drop table if exists losses; create table losses (id int)")
    with CutBench(postgres) as made:
        yield made


@pytest.fixture
def case(postgres: PostgresServer, bench: CutBench) -> Iterator[Case]:
    bench.call(lambda _: gone(bench))
    postgres.sql("truncate losses")
    made = Case(postgres, bench)
    yield made
    made.client.close()


@pytest.mark.parametrize("name", ["", "by_driver"])
def test_a_read_in_the_extended_protocol_runs_again(case: Case, name: str) -> None:
    """As psycopg sends it: at once by the unnamed statement, repeated by one with a name."""
    case.client.query("prepare one (int) as select $1 * 2")
    if name:
        case.client.send(wire.parse("execute one (21)", name) + SYNC)
        case.client.until_ready()
        unit = wire.values(statement=name) + wire.describe("P") + wire.execute() + SYNC
    else:
        unit = wire.run("execute one (21)") + SYNC
    case.cut(AT_ANSWER)
    with counted(case, "replayed_read_only"):
        case.client.send(unit)
        assert wire.rows(case.client.until_ready()) == [(b"42",)]


def test_reads_of_one_batch_run_again(case: Case) -> None:
    case.client.query("prepare one as select 1")
    case.cut(AT_ANSWER)
    case.client.send(wire.run("execute one") + wire.run("execute one") + SYNC)
    assert wire.rows(case.client.until_ready()) == [(b"1",), (b"1",)]


def test_a_write_is_in_doubt_in_either_protocol(case: Case) -> None:
    case.client.query(f"prepare one as {WRITE}")
    case.cut(AT_ANSWER)
    case.client.send(wire.run("execute one") + SYNC)
    assert wire.sqlstate(case.client.until_ready()) == "08007"
    assert case.stored() in ([], [1])
    assert case.told("select 1") == ("", "I")
    case.cut(AT_ANSWER)
    assert case.told("execute one") == ("08007", "I")


def test_a_read_before_a_write_of_one_batch_is_in_doubt(case: Case) -> None:
    case.client.query("prepare one as select 1")
    case.cut(AT_ANSWER)
    case.client.send(wire.run("execute one") + wire.run(WRITE) + SYNC)
    assert wire.sqlstate(case.client.until_ready()) == "08007"
    assert case.stored() in ([], [1])


RENAMED = {
    "in the same batch": wire.close("S", "one") + wire.parse(WRITE, "one"),
    "in the batch before": wire.close("S", "one") + wire.parse(WRITE, "one") + SYNC,
    "by SQL": wire.query("deallocate one") + wire.query(f"prepare one as {WRITE}"),
    "by SQL in one Query": wire.query(f"deallocate one; prepare one as {WRITE}"),
    "by code": wire.query(f"do $$ begin deallocate one; prepare one as {WRITE}; end $$"),
}


@pytest.mark.parametrize("ahead", RENAMED.values(), ids=RENAMED)
@pytest.mark.parametrize("last", [wire.run("execute one") + SYNC, wire.query("execute one")])
def test_a_name_that_may_mean_another_statement_by_now(case: Case, ahead: bytes, last: Any) -> None:
    """What the session knew it by would have been run again without a question (SHOW)."""
    batch = ahead[:1] == b"C" and ahead[-5:] != SYNC
    if batch and last[:1] == b"Q":
        ahead += SYNC
    case.client.send(wire.parse("show work_mem", "one") + SYNC)
    case.client.until_ready()
    case.cut(Wound(Direction.TO_CLIENT, 1, Cut.RST))
    case.client.send(ahead + last)
    count = (ahead + last).count(SYNC) + ahead.count(b"Q\0\0") + last.count(b"Q\0\0")
    answers = case.client.until_ready(count)
    assert "08007" in {wire.error_fields(raw)["C"] for raw in answers if raw[:1] == b"E"}
    assert len(case.stored()) <= 1
    assert case.told("select 1") == ("", "I")
