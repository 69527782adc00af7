"""What hides from the look at a text must not run twice, nor be lost in silence."""

import time
from collections.abc import Iterator

import pytest

from proxy.demo.servers import PostgresServer
from proxy.postgres.protocol.session_state import Need
from tests import wire
from tests.faults.cut_bench import CutBench
from tests.faults.test_losses import AT_ANSWER, Case

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    with CutBench(postgres) as made:
        yield made


@pytest.fixture
def case(postgres: PostgresServer, bench: CutBench) -> Iterator[Case]:
    made = Case(postgres, bench)
    yield made
    made.client.close()


EXPLAINED = [
    'explain ("analyze") {}',
    'explain (costs, "analyze" true) {}',
    "explain (analyze off, analyze on) {}",
    "explain (analyze 'off', verbose, analyze 1) {}",
]
"""All of these run the statement."""


@pytest.mark.parametrize("explain", EXPLAINED)
def test_explain_that_runs_a_notify(case: Case, explain: str) -> None:
    """READ ONLY does not stop a NOTIFY: as a read it would be sent twice."""
    case.client.query("prepare tell as select pg_notify('losses', 'x')")
    for inner in ("select pg_notify('losses', 'x')", "execute tell"):
        case.cut(AT_ANSWER)
        assert case.told(explain.format(inner)) == ("08007", "I")
        assert case.told("select 1") == ("", "I")


@pytest.mark.parametrize("explain", EXPLAINED)
def test_explain_that_takes_a_lock(case: Case, explain: str) -> None:
    """The session holds what cannot be rebuilt: it must not go on as if it had it."""
    case.client.query(explain.format("select pg_advisory_lock(4711)"))
    locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    assert case.client.value(locks) == b"1"
    case.cut()
    assert "advisory locks" in case.ended()["D"]


def test_a_setting_of_a_function_that_was_followed_by_a_slow_read(case: Case) -> None:
    """The read's answer, in a chunk of its own, teaches nothing: the one before it did."""
    case.server.sql(
        "create or replace function hidden_set() returns text language sql volatile as"
        " $$ select set_config('work_mem', '6MB', false) $$"
    )
    case.client.send(wire.query("select hidden_set()") + wire.query("select pg_sleep(0.1)"))
    case.client.until_ready(2)
    until_s = time.monotonic() + 5
    while case.bench.ask(lambda route: next(iter(route.sessions)).state.need) is not Need.NONE:
        assert time.monotonic() < until_s, "nobody looks"
        time.sleep(0.01)
    case.cut()
    assert case.client.value("show work_mem") == b"6MB"
