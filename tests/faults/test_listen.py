"""LISTEN across a loss with `listen_loss: notice`: the session hears again at once, and is told."""

import select
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.options import ResilienceOptions
from tests.faults.cut_bench import CutBench, Wound
from tests.faults.test_losses import Case
from tests.wire import PgWire, kinds, query, sqlstate

pytestmark = pytest.mark.servers

HOLD_S = 0.3


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    options = ResilienceOptions(listen_loss="notice")
    with CutBench(postgres, resilience=options) as made:
        yield made


@pytest.fixture
def case(postgres: PostgresServer, bench: CutBench) -> Iterator[Case]:
    made = Case(postgres, bench)
    made.client.query("listen gossip")
    yield made
    made.client.close()


def told(client: PgWire) -> None:
    """The next message says that notifications may have been missed."""
    warning = client.read_message()
    assert warning[:1] == b"N"
    assert b"notifications may have been missed" in warning


def hears(case: Case, word: str) -> None:
    """Without having asked for anything."""
    case.server.sql(f"notify gossip, '{word}'")
    assert word.encode() in case.client.read_message()


def test_an_idle_listener_hears_again_at_once(case: Case) -> None:
    for turn in range(3):
        case.cut()
        told(case.client)
        hears(case, f"turn {turn}")


def test_it_is_told_when_it_hears_again_and_not_before(case: Case) -> None:
    """Who looks at what it may have missed must not miss more after that. The outage is longer than
    anybody waits: the proxy goes on trying."""
    bench = case.bench
    context = bench.route.context
    usual = context.resilience
    context.resilience = replace(usual, hold_s=HOLD_S)
    bench.call(lambda cutter: cutter.refuse())
    bench.call(lambda cutter: cutter.cut_all(Cut.RST))  # those in the pool, too
    until_s = time.monotonic() + 10
    while not any(report["event"] == "attach_given_up" for report in bench.reports):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert not select.select([case.client.sock], [], [], 0)[0]
    context.resilience = usual
    bench.call(lambda cutter: cutter.accept())
    told(case.client)
    hears(case, "back")


def test_a_listener_in_a_transaction_hears_again_behind_its_end(case: Case) -> None:
    case.client.query("begin")
    case.client.query("listen other")
    case.client.query("insert into pg_temp.nothing values (1)")
    case.cut()
    assert kinds(case.client.query("rollback")) == "CZ"
    told(case.client)
    hears(case, "outside")
    case.server.sql("notify other, 'never'")
    assert case.client.value("select string_agg(c, ',') from pg_listening_channels() c") == (
        b"gossip"
    )


def test_a_listen_that_is_in_flight_is_sent_again(case: Case) -> None:
    case.cut(Wound(Direction.TO_CLIENT, 1, Cut.RST))
    answer = case.client.query("listen more")
    assert sqlstate(answer) is None
    assert "C" in kinds(answer)
    assert case.client.value("select count(*) from pg_listening_channels()") == b"2"


def test_what_comes_while_the_proxy_asks_is_heard(case: Case) -> None:
    """Its own link is asked how it is (a ping, a fingerprint), and a notification comes first."""
    bench = case.bench
    bench.arm(None)

    def look(route: Any) -> None:
        (session,) = route.sessions
        hop = bench._hop
        assert hop is not None
        hop.to_server.delay_s = 0.3  # the question comes late
        session.look()

    bench.ask(look)
    case.server.sql("notify gossip, 'between'")
    assert b"between" in case.client.read_message()
    assert case.client.value("select 1") == b"1"


def test_what_the_client_sends_just_before_the_proxy_asks_is_answered(case: Case) -> None:
    """Asking is a task of its own; a statement may come between the decision and its first step.
    Each got the other's answer: the client a bare ReadyForQuery, or a lost link (soak, seed 1)."""
    bench, client = case.bench, case.client
    bench.arm(None)

    def look(route: Any) -> None:
        (session,) = route.sessions
        session.look()
        session.data_received(query("select 'mine'"))

    bench.ask(look)
    assert kinds(client.until_ready()) == "TDCZ"
    assert client.value("select 1") == b"1"
