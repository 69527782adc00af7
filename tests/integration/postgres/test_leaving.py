"""A session that is told to end: at a boundary, and in words that its client is sure to read.

libpq takes a FATAL that it reads in one go with an answer for a notice, drops it, and calls the
next statement lost ("server closed the connection unexpectedly").
"""

import time
from collections.abc import Callable

import pytest

from proxy.demo.servers import PostgresServer, Stop
from proxy.postgres.runtime.session_end import LAST_WORDS_S
from tests import wire
from tests.integration.postgres.kit import Make, Proxied, backends, eventually

pytestmark = pytest.mark.servers


def drain(proxy: Proxied) -> None:
    proxy.call(lambda: [session.drain() for session in list(proxy.route.sessions)])


def test_its_next_statement_is_told_and_not_run(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.query("create temp table kept (n int)")
        drain(proxy)
        assert not proxy.named("session_ended")
        session.send(wire.query("select pg_notify('leaving', 'it ran')"))
        (said,) = session.until_closed()
        assert wire.error_fields(said)["C"] == "57P01"
    assert [report["reason"] for report in proxy.until("session_ended")] == ["drain"]


def test_one_that_stays_idle_is_told_a_moment_later(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.query("select 1")
        began_s = time.monotonic()
        drain(proxy)
        (said,) = session.until_closed()
        assert time.monotonic() - began_s > LAST_WORDS_S * 0.9
        assert wire.error_fields(said)["C"] == "57P01"


def test_a_transaction_is_finished_first(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.query("begin")
        drain(proxy)
        assert session.value("select 1") == b"1"
        assert wire.tags(session.query("commit")) == ["COMMIT"]
        session.send(wire.run("select 1"))
        (said,) = session.until_closed()
        assert wire.error_fields(said)["C"] == "57P01"


def test_what_was_sent_before_is_answered(proxied: Make, postgres: PostgresServer) -> None:
    """A client that pipelines has sent more than one unit when it is told."""
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.send(wire.query("select pg_sleep(0.1)") + (wire.run("select 2") + wire.SYNC) * 3)
        eventually(lambda: backends(postgres, "query like '%pg_sleep(0.1)'"))
        drain(proxy)
        answers = session.until_closed()
        assert len([one for one in answers if one[:1] == b"Z"]) == 4
        assert wire.error_fields(answers[-1])["C"] == "57P01"


def test_one_that_hangs_up_instead(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.query("select 1")
        drain(proxy)
        session.close()
        assert proxy.until("disconnected")[0]["reason"] == "client_closed"
    assert not proxy.named("session_ended")


@pytest.mark.parametrize("end", ["told to", "waited in vain"])
def test_what_is_in_doubt_is_not_denied(
    proxied: Make, make_postgres: Callable[..., PostgresServer], end: str
) -> None:
    """A write of unknown outcome is to be told behind a read that waits to run again."""
    server = make_postgres()
    hold_s = 30.0 if end == "told to" else 0.2
    proxy = proxied(server, resilience={"hold_s": hold_s})
    with proxy.wire() as session:
        session.send(wire.query("select pg_sleep(60)") + wire.query("create table t (n int)"))
        eventually(lambda: backends(server, "query like '%pg_sleep(60)'"))
        server.stop(Stop.KILL)
        (lost,) = proxy.until("link_lost")
        assert lost["verdicts"] == ["read_only", "doubt"]
        if end == "told to":
            proxy.call(lambda: [one.kill() for one in list(proxy.route.sessions)])
        words = wire.error_fields(session.until_closed()[-1])
        unsure = {
            "told to": "The outcome of the statement that was running is not known",
            "waited in vain": "A statement that waited may have changed data before its link died",
        }
        assert words["D"].startswith(unsure[end]), words
