"""What hides from the look at a text must not run twice, nor be lost in silence."""

from collections.abc import Iterator

import pytest

from proxy.demo.servers import PostgresServer
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
