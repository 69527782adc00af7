"""The log: one event for each thing that happens, with its reason, and no secret in any."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.demo.cutter import Cut, Target
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from tests import wire
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter
from tests.integration.postgres.kit import Make, eventually
from tests.wire import PgWire

pytestmark = pytest.mark.servers

SECRETS = ("s3cret-literal", "b1nd-value", "c0py-row", "pr3pared-text", "s3tting-value")


def fields(report: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: report[name] for name in names}


# -- one event each


def test_a_session_from_its_login_to_its_end(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire(application_name="x") as session:
        pid = session.key[0]
    proxy.until("disconnected")
    (connected,) = proxy.named("connected")
    assert fields(connected, "user", "database", "pid", "route") == {
        "user": "postgres",
        "database": "app",
        "pid": pid,
        "route": "main",
    }
    assert connected["waited_s"] >= 0
    (left,) = proxy.named("disconnected")
    assert fields(left, "session", "reason") == {
        "session": connected["session"],
        "reason": "client_closed",
    }
    assert {report["event"] for report in proxy.reports} == {"connected", "disconnected"}


@pytest.mark.parametrize(
    ("cut", "reason"), [(Cut.FIN, "upstream_eof"), (Cut.RST, "upstream_reset")]
)
def test_an_idle_loss_and_its_repair(
    proxied: Make, postgres: PostgresServer, cut: Cut, reason: str
) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire() as session:
        pid = session.key[0]
        proxy.cut(cut)
        (lost,) = proxy.until("link_lost")
        assert fields(lost, "session", "pid", "in_flight", "verdicts", "level") == {
            "session": proxy.named("connected")[0]["session"],
            "pid": pid,
            "in_flight": 0,
            "verdicts": [],
            "level": "info",
        }
        assert lost["reason"] == reason
        assert session.value("select 1") == b"1"
        (restored,) = proxy.named("restored")
        assert restored["session"] == lost["session"]
        assert restored["away_s"] >= 0
    assert len(proxy.named("link_lost")) == 1


def test_a_loss_in_flight_and_what_was_done(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire() as session:
        for sql, verdict in (
            ("select pg_sleep(0.4)", "read_only"),
            ("create table if not exists logged as select 1 from pg_sleep(0.4)", "doubt"),
        ):
            session.send(wire.query(sql))
            eventually(lambda: postgres.sql("select 1 from pg_stat_activity where query ~ '0.4'"))
            count = len(proxy.named("link_lost"))
            proxy.cut()
            lost = proxy.until("link_lost", count + 1)[-1]
            assert fields(lost, "in_flight", "verdicts", "level") == {
                "in_flight": 1,
                "verdicts": [verdict],
                "level": "warning",
            }
            session.until_ready()
        (replayed,) = proxy.named("replayed")
        assert fields(replayed, "session", "certificate", "attempt") == {
            "session": proxy.named("connected")[0]["session"],
            "certificate": "read_only",
            "attempt": 1,
        }
    eventually(lambda: not postgres.sql("select 1 from pg_stat_activity where query ~ '0[.]4'"))
    postgres.sql("drop table if exists logged")


def test_the_servers_last_words(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire() as session:
        postgres.sql("select pg_terminate_backend(%s)", session.key[0])
        (lost,) = proxy.until("link_lost")
        assert fields(lost, "reason", "sqlstate", "last_words") == {
            "reason": "upstream_fatal",
            "sqlstate": "57P01",
            "last_words": "terminating connection due to administrator command",
        }


def test_an_outage_and_its_end(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0}, resilience={"notice_s": 0.2})
    with proxy.wire() as session:
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        session.send(wire.query("select 1"))
        (waiting,) = proxy.until("waiting")
        assert fields(waiting, "session", "waited_s") == {
            "session": proxy.named("connected")[0]["session"],
            "waited_s": 0.2,
        }
        (down,) = proxy.named("upstream_down")
        assert fields(down, "reason", "level", "route") == {
            "reason": "upstream_unreachable",
            "level": "warning",
            "route": "main",
        }
        assert "Connection refused" in down["error"]
        proxy.call(lambda: proxy.cutter.accept())
        session.until(b"Z")
        (up,) = proxy.named("upstream_up")
        assert 0.1 < up["away_s"] < 10


def test_refusals(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(
        postgres, setting={"auth": {"method": "passthrough"}}, pool={"warm": 0, "clients": 1}
    )
    with pytest.raises(wire.LoginRefused):
        proxy.wire("app_scram", password="wrong")
    assert fields(proxy.until("session_ended")[-1], "reason") == {"reason": "upstream_refused"}
    with pytest.raises(wire.LoginRefused):
        proxy.wire("app_scram", password="")
    assert fields(proxy.until("refused")[-1], "reason", "sqlstate") == {
        "reason": "login_refused",
        "sqlstate": "28P01",
    }
    with proxy.wire(), pytest.raises(wire.LoginRefused):
        proxy.wire()
    assert fields(proxy.until("refused", 2)[-1], "reason", "sqlstate") == {
        "reason": "too_many_clients",
        "sqlstate": "53300",
    }


def test_sql_only_when_asked_for(proxied: Make, postgres: PostgresServer) -> None:
    for log_sql in (False, True):
        proxy = proxied(postgres, pool={"warm": 0}, options={"log_sql": log_sql})
        with proxy.wire() as session:
            session.send(wire.parse("select $1::text from pg_sleep(0.4)", "named") + wire.SYNC)
            session.until_ready()
            session.send(wire.values("b1nd-value", statement="named") + wire.execute() + wire.SYNC)
            eventually(
                lambda: postgres.sql("select 1 from pg_stat_activity where query ~ 'text f'")
            )
            proxy.cut()
            assert wire.rows(session.until_ready()) == [(b"b1nd-value",)]
        for event in ("link_lost", "replayed"):
            found = [report.get("sql") for report in proxy.named(event)]
            expected = ["select $1::text from pg_sleep(0.4)"] if log_sql else None
            assert found == [expected]
        assert "b1nd-value" not in repr(proxy.reports)


# -- the whole process, at level debug


@pytest.mark.timeout(60)
def test_no_secret_reaches_the_log(
    postgres: PostgresServer, make_backstay: Callable[..., Backstay]
) -> None:
    with ThreadCutter(Target(address=("127.0.0.1", postgres.port))) as hop:
        url = f"postgresql://127.0.0.1:{hop.port}/app?sslmode=disable"
        proxy = make_backstay(postgres=[{"upstream": url}])
        address = ("127.0.0.1", proxy.port())
        password = ROLE_PASSWORDS["app_password"]
        with PgWire.session(address, "app_password", password) as session:
            for cut in (False, True):
                _secretive(
                    session, (lambda: hop.call(lambda c: c.cut_all(Cut.RST))) if cut else None
                )
        with pytest.raises(wire.LoginRefused):
            PgWire.session(address, "app_password", "wrong-Pa55word")
        with pytest.raises(wire.LoginRefused):
            PgWire.session(address, "app_password", password, options="-c s3tting-value=1")
        with PgWire.session(address, "app_password", password) as session:
            session.query("create temp table t as select 's3cret-literal'::text as a")
            session.query("do $$ begin perform 's3cret-literal'; end $$")
            session.send(b"\xff" + b"s3cret-literal" * 3)
            session.until_closed()
        proxy.stop()
        log = proxy.log_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    for event in ("connected", "link_lost", "restored", "replayed", "session_ended", "stopped"):
        assert event in events, event
    for secret in (*SECRETS, password, "clear-Pa55", "wrong-Pa55word"):
        assert secret not in log, secret


def _secretive(session: PgWire, cut: Callable[[], object] | None) -> None:
    """Say every kind of secret, with the link cut in each if asked."""
    session.query("set app.secret = 's3tting-value'")
    session.query("select 's3cret-literal'")
    session.query("select 's3cret-literal' from nowhere")
    session.send(wire.query("prepare p as select 'pr3pared-text'"))
    session.until_ready()
    session.send(wire.parse("select 'pr3pared-text', $1::text", "n") + wire.SYNC)
    session.until_ready()
    batches = [
        wire.query("select 's3cret-literal' from pg_sleep(0.1)"),
        wire.values("b1nd-value", statement="n") + wire.execute() + wire.SYNC,
        wire.query("begin; select 's3cret-literal'"),
        wire.query("insert into nowhere values ('s3cret-literal')"),
        wire.query("rollback"),
    ]
    for batch in batches:
        session.send(batch)
        if cut is not None:
            cut()
        session.until_ready()
    session.query("deallocate p")
    session.send(wire.close("S", "n") + wire.SYNC)
    session.until_ready()
