"""A client cancels what waits in the proxy's queue for a link."""

import asyncio
from collections.abc import Iterator

import pytest

from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.route import PostgresRoute
from tests import wire
from tests.faults.cut_bench import CutBench
from tests.faults.test_losses import SCHEMA, Case
from tests.wire import SYNC

pytestmark = pytest.mark.servers


@pytest.fixture
def case(postgres: PostgresServer) -> Iterator[Case]:
    postgres.sql(SCHEMA)
    with CutBench(postgres) as bench:
        made = Case(postgres, bench)
        yield made
        made.client.close()


async def waits(route: PostgresRoute) -> None:
    """Return once its one session waits for a link."""
    while not any(session.waits for session in route.sessions):
        await asyncio.sleep(0.001)


def cancel(route: PostgresRoute) -> None:
    """As a CancelRequest of its one client does it."""
    (session,) = route.sessions
    assert session.key is not None
    assert route.cancel(session.key) is None


def test_what_waits_behind_it_in_its_transaction_fails(case: Case) -> None:
    """BEGIN is begun again, INSERT and COMMIT are to be sent again: the INSERT is cancelled, so
    the COMMIT meets a failed transaction."""
    assert case.told("begin") == ("", "T")
    killer = case.kill("PgSleep")
    case.bench.call(lambda cutter: cutter.refuse())
    writes = ["insert into losses select 1 from pg_sleep(5)", "insert into losses values (2)"]
    parts = [wire.run(text) + SYNC for text in (*writes, "commit", "select 7")]
    case.client.send(b"".join(parts))
    killer.join()
    case.bench.call(lambda _: waits(case.bench.route))
    case.bench.ask(cancel)
    case.bench.call(lambda cutter: cutter.accept())
    answers = [case.client.until_ready() for _ in parts]
    assert [wire.sqlstate(answer) for answer in answers] == ["57014", "25P02", None, None]
    assert [answer[-1][5:] for answer in answers] == [b"E", b"E", b"I", b"I"]
    assert wire.tags(answers[2]) == ["ROLLBACK"]
    assert wire.rows(answers[3]) == [(b"7",)]
    assert case.stored() == []
