"""`diagnose` against PostgreSQL servers and paths that really have each fault."""

import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from proxy.demo.certificates import TlsFiles
from proxy.demo.cutter import Cut, FlowPlan, Plan, Target
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer
from proxy.diagnose import postgres_link
from proxy.diagnose.facts import PostgresFacts
from proxy.diagnose.finding import Level
from proxy.diagnose.postgres_facts import gather
from proxy.diagnose.postgres_rules import idle_sessions, idle_transactions
from tests.fix_bouncer import MakeBouncer
from tests.fix_cutter import ThreadCutter
from tests.integration.diagnose.kit import checks, diagnosed, finding, kills_idle, postgres_at

pytestmark = pytest.mark.servers


def test_a_healthy_server(postgres: PostgresServer) -> None:
    (found,) = diagnosed(postgres.dsn(sslmode="disable"))
    facts = found.facts
    assert isinstance(facts, PostgresFacts)
    assert found.reached
    assert found.served
    assert {f.level for f in found.findings} <= {Level.INFO}
    assert facts.connect is not None
    assert 0 < (facts.connect.tcp_s or 0) < (facts.connect.login_s or 0) < 2
    assert facts.connect.tls_s is None
    assert facts.latency is not None
    assert 5 <= facts.latency.samples <= 200
    assert 0 < facts.latency.p50_s <= facts.latency.p99_s <= facts.latency.max_s < 1
    assert facts.version.startswith(f"{postgres.sql('show server_version')[0][0]}"[:2])
    assert facts.pooler is not None
    assert not facts.pooler.transaction
    assert not facts.pooler.key_pid_differs


def test_it_leaves_no_session_behind(postgres: PostgresServer) -> None:
    ours = "select pid from pg_stat_activity where application_name = 'backstay diagnose'"
    before = postgres.sql(ours)  # the shared proxy's links keep the name of who opened them
    diagnosed(postgres.dsn(), idle_s=1.0)
    until_s = time.monotonic() + 5
    while set(postgres.sql(ours)) - set(before):
        assert time.monotonic() < until_s, "its sessions stay"


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def tls_server(postgres: PostgresServer) -> PostgresServer:
    if postgres.options.tls is None:
        pytest.skip("this PostgreSQL has no TLS")
    return postgres


def test_no_verification(tls_server: PostgresServer) -> None:
    (found,) = diagnosed(tls_server.dsn(sslmode="require"))
    weak = finding(found, "postgres.tls.verify")
    assert weak.measured.startswith("sslmode=require checks nothing of the certificate")
    assert "would have refused it: self-signed certificate in certificate chain" in weak.measured
    assert weak.change is not None
    assert weak.change.value == "sslmode=verify-full&sslrootcert=the provider's CA file"
    assert found.facts.tls_used
    assert found.facts.tls.version == "TLSv1.3"
    assert found.facts.connect is not None
    assert found.facts.connect.tls_s
    assert found.facts.connect.tls_s > 0


def test_a_root_certificate_that_would_do(tls_server: PostgresServer, tls_files: TlsFiles) -> None:
    url = tls_server.dsn(sslmode="require", sslrootcert=str(tls_files.ca))
    (found,) = diagnosed(url)
    weak = finding(found, "postgres.tls.verify")
    assert "chain, not its name; a client that verifies everything would have acc" in weak.measured
    assert weak.change is not None
    assert weak.change.value == f"sslmode=verify-full&sslrootcert={tls_files.ca}"
    assert found.facts.tls.expires_days is not None


def test_full_verification_is_no_finding(tls_server: PostgresServer, tls_files: TlsFiles) -> None:
    url = tls_server.dsn(sslmode="verify-full", sslrootcert=str(tls_files.ca))
    (found,) = diagnosed(url)
    assert found.served
    assert not any(check.startswith("postgres.tls") for check in checks(found))


def test_a_certificate_that_is_refused(tls_server: PostgresServer) -> None:
    (found,) = diagnosed(tls_server.dsn(sslmode="verify-full", sslrootcert="system"))
    refused = finding(found, "postgres.tls")
    assert refused.level is Level.CRITICAL
    assert "certificate" in refused.measured
    assert not found.served


def test_tls_where_there_is_none(make_postgres: Callable[..., PostgresServer]) -> None:
    (found,) = diagnosed(make_postgres().dsn(sslmode="require"))
    assert finding(found, "postgres.tls").level is Level.CRITICAL
    assert found.facts.tls.offered is False


# ---- cannot connect -----------------------------------------------------------------------------


def test_a_wrong_password(postgres: PostgresServer) -> None:
    url = f"postgresql://app_scram:wr0ng-Pa55@127.0.0.1:{postgres.port}/app"
    (found,) = diagnosed(url)
    wrong = finding(found, "postgres.login")
    assert wrong.level is Level.CRITICAL
    assert 'password authentication failed for user "app_scram"' in wrong.measured
    assert found.reached
    assert not found.served
    assert "wr0ng" not in str(found.findings)


def test_an_unknown_host() -> None:
    (found,) = diagnosed("postgresql://u@no-such-host.invalid/app")
    unknown = finding(found, "postgres.dns")
    assert unknown.level is Level.CRITICAL
    assert "the name no-such-host.invalid has no address" in unknown.measured
    assert not found.reached


def test_a_refused_port() -> None:
    port = free_port()
    (found,) = diagnosed(f"postgresql://u@127.0.0.1:{port}/app")
    assert f"nothing listens on 127.0.0.1 port {port}" in finding(found, "postgres.tcp").measured


def test_a_server_that_says_nothing() -> None:
    target = Target(address=("127.0.0.1", 1))
    with ThreadCutter(target, plan=Plan(mute=True)) as cutter:
        url = f"postgresql://u@127.0.0.1:{cutter.port}/app"
        (found,) = diagnosed(postgres_at(url, timeout_s=0.5))
    assert "no end of the TLS handshake within 0.5 s" in finding(found, "postgres.tls").measured


def test_something_else_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen()
        url = f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/app?sslmode=disable"
        (found,) = diagnosed(postgres_at(url, timeout_s=0.5))
    assert "no end of the login" in finding(found, "postgres.login").measured


# ---- connections and sessions -------------------------------------------------------------------


@contextlib.contextmanager
def sessions(server: PostgresServer, number: int, sql: str = "") -> Iterator[None]:
    """So many sessions of the application, after `sql`."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            link = stack.enter_context(contextlib.closing(let_in(server)))
            if sql:
                link.execute(sql.encode())
        yield


def let_in(server: PostgresServer) -> psycopg.Connection[Any]:
    """One more session: a backend goes a moment after its client, and holds its place so long."""
    url = server.dsn("app_trust", application_name="gunicorn")
    end_s = time.monotonic() + 10
    while True:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError as error:
            if "connection slots" not in str(error) or time.monotonic() > end_s:
                raise
            time.sleep(0.01)


def test_connections_nearly_used_up(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(settings={"max_connections": "12", "max_wal_senders": "0"})
    with sessions(server, 8):
        (found,) = diagnosed(server.dsn())
        full = finding(found, "postgres.connections")
        assert full.level is Level.CRITICAL
        assert full.measured.startswith(
            "9 of 9 connections are taken (100 %; max_connections 12, 3 reserved), 8 of them idle"
        )
        (found,) = diagnosed(server.dsn(), idle_s=60.0)
        left_out = finding(found, "postgres.idle_path").measured
        assert left_out == "The idle probe was left out: 0 connections free."
        with sessions(server, 1):
            (refused,) = diagnosed(server.dsn("app_trust"))
        assert "remaining connection slots" in finding(refused, "postgres.login").measured


def test_idle_sessions(postgres: PostgresServer) -> None:
    with sessions(postgres, 3):
        postgres.sql("select pg_sleep(0.3)")
        ours = [s for s in gathered(postgres).sessions or [] if s.user == "app_trust"]
        (idle,) = idle_sessions(ours, idle_s=0.2)
        assert idle.measured.startswith("3 of 3 other sessions idle for more than 200 ms")
        assert "3 of app_trust (gunicorn) at 127.0.0.1" in idle.measured
        assert idle.level is Level.WARNING
        assert not list(idle_sessions(ours, idle_s=300.0))


def test_idle_in_transaction(postgres: PostgresServer) -> None:
    with sessions(postgres, 2, "begin"):
        postgres.sql("select pg_sleep(0.3)")
        facts = gathered(postgres)
        (stuck,) = idle_transactions(facts, limit_s=0.2)
        assert stuck.measured.startswith("2 sessions idle in a transaction")
        assert "The server never ends them" in stuck.meaning
        assert stuck.change is not None
        assert stuck.change.key == "idle_in_transaction_session_timeout"
        assert not list(idle_transactions(facts, limit_s=60.0))


def gathered(server: PostgresServer, user: str = "postgres") -> PostgresFacts:
    facts = PostgresFacts()
    target = postgres_at(server.dsn(user))
    connection, _ = postgres_link.connect(target.upstream, None, 5.0)
    with contextlib.closing(connection):
        gather(connection, facts)
    return facts


def test_what_a_user_may_not_see(postgres: PostgresServer) -> None:
    with contextlib.closing(psycopg.connect(postgres.dsn())):
        (found,) = diagnosed(postgres.dsn("app_trust"))
    assert finding(found, "postgres.visibility").change is not None
    facts = found.facts
    assert isinstance(facts, PostgresFacts)
    assert facts.hidden >= 1
    assert (facts.connections or 0) >= 2


# ---- what is in between -------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer")
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler(postgres: PostgresServer, make_bouncer: MakeBouncer, mode: str) -> None:
    bouncer = make_bouncer(postgres, mode)
    url = f"postgresql://postgres@127.0.0.1:{bouncer.port}/app?sslmode=disable"
    (found,) = diagnosed(url)
    pooler = finding(found, "postgres.pooler")
    if mode == "session":
        assert pooler.level is Level.INFO
        return
    assert pooler.level is Level.CRITICAL
    assert "two connections shared a server process" in pooler.measured
    assert "SET search_path was gone in the next transaction" in pooler.measured
    assert "another connection got our search_path" in pooler.measured
    facts = found.facts
    assert isinstance(facts, PostgresFacts)
    assert facts.pooler is not None
    assert facts.pooler.moved
    # What our SET has left behind on the pooler's links means what the default means, and does not
    # grow when it is tried again.
    diagnosed(url, url)
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as after:
        (row,) = after.execute(
            "select current_schemas(true)::text, current_setting('search_path')"
        ).fetchall()
    assert row[0] == "{pg_catalog,public}"
    assert len(row[1].split(", ")) <= 4


def test_a_server_that_takes_no_writes(postgres: PostgresServer) -> None:
    (found,) = diagnosed(postgres.dsn(options="-cdefault_transaction_read_only=on"))
    assert finding(found, "postgres.read_only").level is Level.WARNING


def test_a_slow_path(postgres: PostgresServer) -> None:
    plan = Plan(to_client=FlowPlan(delay_s=0.03))
    with ThreadCutter(Target(address=("127.0.0.1", postgres.port)), plan=plan) as cutter:
        (found,) = diagnosed(f"postgresql://postgres@127.0.0.1:{cutter.port}/app?sslmode=disable")
    slow = finding(found, "postgres.latency")
    assert slow.level is Level.WARNING
    assert slow.number is not None
    assert 0.03 <= slow.number.value < 0.2


@pytest.mark.timeout(40)
def test_a_path_that_kills_idle_links(postgres: PostgresServer) -> None:
    address = ("127.0.0.1", postgres.port)
    with contextlib.ExitStack() as stack:
        targets = []
        for cut in (Cut.FIN, Cut.RST, Cut.SILENCE):
            cutter = stack.enter_context(
                # Not at 3 s, when a link is asked: libpq has the same words for a reset and an end.
                ThreadCutter(Target(address=address), on_hop=kills_idle(2.5, cut))
            )
            url = f"postgresql://postgres@127.0.0.1:{cutter.port}/app?sslmode=disable"
            targets.append(postgres_at(url, name=cut.name))
        fin, rst, silence = diagnosed(*targets, idle_s=6.0)
    for found, words in ((fin, "closed in good order (FIN) after"), (rst, "reset (RST) after")):
        killed = finding(found, "postgres.idle_path")
        assert words in killed.measured
        assert killed.number is not None
        assert 2.4 <= killed.number.value <= 4.0
    killed = finding(silence, "postgres.idle_path")
    assert "dropped in silence: nothing comes back any more between" in killed.measured
    for found in (fin, rst, silence):
        killed = finding(found, "postgres.idle_path")
        assert killed.level is Level.CRITICAL
        assert "TCP keepalive did not help; a request each second did." in killed.measured
        assert str(killed.change) == "backstay.yaml: keepalive = {idle_s: 1, ping_s: 1}"


def test_a_path_that_breaks_idle_tls(tls_server: PostgresServer) -> None:
    address = ("127.0.0.1", tls_server.port)
    on_hop = kills_idle(1.5, Cut.TLS_ABORT)
    with ThreadCutter(Target(address=address), on_hop=on_hop) as cutter:
        url = f"postgresql://postgres@127.0.0.1:{cutter.port}/app?sslmode=require"
        (found,) = diagnosed(url, idle_s=3.0)
    killed = finding(found, "postgres.idle_path")
    assert killed.number is not None
    assert 1.3 <= killed.number.value <= 2.9
    assert "TCP keepalive did not help; a request each second did." in killed.measured


def test_the_servers_own_idle_timeout(postgres: PostgresServer) -> None:
    url = postgres.dsn(sslmode="disable", options="-cidle_session_timeout=1500")
    (found,) = diagnosed(url, idle_s=3.0)
    killed = finding(found, "postgres.idle_path")
    assert "The server's last words: 57P05 terminating connection due to idle" in killed.measured
    timeout = finding(found, "postgres.idle_session_timeout")
    assert timeout.measured == "The server ends sessions that are idle for 1.5 s (57P05)."
    assert timeout.level is Level.WARNING
