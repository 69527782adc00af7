"""Facts of PostgreSQL to findings, for what no server on this machine can show."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.diagnose.facts import (
    ConnectTimes,
    Failure,
    Latency,
    Pooler,
    PostgresFacts,
    ProxyFacts,
    Session,
    TlsFacts,
)
from proxy.diagnose.finding import Finding, Level
from proxy.diagnose.path_rules import failed, proxy_rules
from proxy.diagnose.postgres_facts import rewritten
from proxy.diagnose.postgres_link import without
from proxy.diagnose.postgres_rules import idle_sessions, idle_transactions, postgres_findings
from proxy.diagnose.targets import PostgresTarget
from proxy.settings.load import load_text
from proxy.settings.urls import parse_postgres_url

ROUTE = """
postgres:
  - upstream: postgresql://app:pw@db.example.com/app?sslmode=require
    keepalive: {ping_s: 25}
"""


def target(url: str = "postgresql://app@db.example.com/app", route: str = "") -> PostgresTarget:
    own = load_text(route, "f.yaml", {}).postgres[0] if route else None
    upstream = own.upstream if own is not None else parse_postgres_url(url)
    proxy = parse_postgres_url("postgresql://app@127.0.0.1:6432/app") if own else None
    return PostgresTarget(name="main", upstream=upstream, source="f.yaml", route=own, proxy=proxy)


def found(facts: PostgresFacts, where: PostgresTarget | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in postgres_findings(where or target(), facts)}


def session(**given: Any) -> Session:
    fields = {
        "user": "app",
        "application": "gunicorn",
        "address": "10.0.0.7",
        "state": "idle",
        "state_s": 10.0,
        "transaction_s": None,
        "backend_s": 3600.0,
    }
    return Session(**{**fields, **given})


# ---- sessions -----------------------------------------------------------------------------------


def test_idle_for_more_than_five_minutes() -> None:
    rows = [
        session(state_s=299.0),
        session(state_s=301.0),
        session(state_s=7200.0),
        session(state_s=400.0, application="", user="report", address="local"),
        session(state="active", state_s=900.0),
        session(state=None, state_s=None),
    ]
    (idle,) = idle_sessions(rows)
    assert idle.level is Level.WARNING
    assert idle.measured == (
        "3 of 6 other sessions idle for more than 5 min, the longest for 2 h: "
        "2 of app (gunicorn) at 10.0.0.7, 1 of report at local."
    )
    assert idle.number is not None
    assert (idle.number.value, idle.number.unit) == (3, "sessions")


def test_whose_they_are_is_kept_short() -> None:
    rows = [session(state_s=400.0, user=f"u{n}") for n in range(9)]
    (idle,) = idle_sessions(rows)
    assert idle.measured.endswith("6 others.")


def test_nobody_is_idle_too_long() -> None:
    assert list(idle_sessions([session(state_s=299.9)])) == []
    assert list(idle_sessions([])) == []


def test_forgotten_transactions() -> None:
    rows = [
        session(state="idle in transaction", transaction_s=61.0),
        session(state="idle in transaction (aborted)", transaction_s=90.0),
        session(state="active", transaction_s=500.0),
    ]
    facts = PostgresFacts(sessions=rows)
    facts.settings = {"idle_in_transaction_session_timeout": "120000"}
    (stuck,) = idle_transactions(facts)
    assert stuck.level is Level.WARNING
    assert stuck.measured.startswith("2 sessions idle in a transaction for more than 60 s")
    assert "after 120000 ms" in stuck.meaning
    facts.sessions = [session(state="idle in transaction", transaction_s=601.0)]
    (stuck,) = idle_transactions(facts)
    assert stuck.level is Level.CRITICAL


@pytest.mark.parametrize(
    ("taken", "level"),
    [(77, None), (78, Level.WARNING), (92, Level.WARNING), (93, Level.CRITICAL)],
)
def test_connections(taken: int, level: Level | None) -> None:
    settings = {"max_connections": "100", "superuser_reserved_connections": "3"}
    facts = PostgresFacts(connections=taken, settings=settings)
    one = found(facts).get("postgres.connections")
    assert (one.level if one else None) is level


def test_a_pool_larger_than_the_server() -> None:
    settings = {"max_connections": "20", "superuser_reserved_connections": "3"}
    facts = PostgresFacts(connections=1, settings=settings, role_limit=10)
    both = found(facts, target(route=ROUTE))
    assert both["postgres.pool"].measured == "pool.size is 20, the server allows 17 in all."
    assert str(both["postgres.user_limit"].change).endswith("pool.size = at most 10")
    assert "postgres.database_limit" not in both


# ---- TLS ----------------------------------------------------------------------------------------


def test_no_tls_to_another_machine_is_critical() -> None:
    facts = PostgresFacts(tls_used=False, tls=TlsFacts(offered=True))
    one = found(facts)["postgres.tls"]
    assert one.level is Level.CRITICAL
    assert "db.example.com:5432 is not encrypted; the server offers it" in one.measured
    facts.tls.offered = False
    assert str(found(facts)["postgres.tls"].change) == "postgresql.conf: ssl = on"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgresql"])
def test_no_tls_on_this_machine_is_fine(host: str) -> None:
    facts = PostgresFacts(tls_used=False, tls=TlsFacts(offered=True))
    assert "postgres.tls" not in found(facts, target(f"postgresql://app@{host}/app"))


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("postgresql://db.example.com/app?sslmode=require", Level.WARNING),
        ("postgresql://db.example.com/app?sslmode=prefer", Level.WARNING),
        ("postgresql://db.example.com/app?sslmode=verify-ca&sslrootcert=ca.pem", Level.INFO),
        ("postgresql://127.0.0.1/app?sslmode=require", Level.INFO),
        ("postgresql://db.example.com/app?sslmode=verify-full&sslrootcert=ca.pem", None),
    ],
)
def test_less_than_full_verification(url: str, level: Level | None) -> None:
    facts = PostgresFacts(tls_used=True, tls=TlsFacts(True, "TLSv1.3", verified=True))
    one = found(facts, target(url)).get("postgres.tls.verify")
    assert (one.level if one else None) is level


def test_the_machines_own_authorities_would_do() -> None:
    facts = PostgresFacts(tls_used=True, tls=TlsFacts(True, "TLSv1.3", verified=True))
    one = found(facts, target("postgresql://db.example.com/app?sslmode=require"))
    change = str(one["postgres.tls.verify"].change)
    assert change == "f.yaml: the URL = sslmode=verify-full&sslrootcert=system"


def test_old_tls_and_old_certificates() -> None:
    tls = TlsFacts(True, "TLSv1.1", verified=True, expires_days=5.5)
    both = found(PostgresFacts(tls_used=True, tls=tls))
    assert both["postgres.tls.version"].level is Level.CRITICAL
    assert both["postgres.tls.expiry"].level is Level.CRITICAL
    tls.expires_days = 20.0
    both = found(PostgresFacts(tls_used=True, tls=tls))
    assert both["postgres.tls.expiry"].level is Level.WARNING


# ---- poolers, timeouts, times -------------------------------------------------------------------


def test_poolers() -> None:
    for pooler, level in (
        (Pooler(), None),
        (Pooler(key_pid_differs=True), Level.INFO),
        (Pooler(key_pid_differs=True, shared=True), Level.WARNING),
        (Pooler(set_lost=True), Level.CRITICAL),
        (Pooler(set_leaked=True), Level.CRITICAL),
    ):
        one = found(PostgresFacts(pooler=pooler)).get("postgres.pooler")
        assert (one.level if one else None) is level, pooler


def test_a_standby() -> None:
    facts = PostgresFacts(in_recovery=True)
    for url, level in (
        ("postgresql://db/app", Level.WARNING),
        ("postgresql://db/app?target_session_attrs=read-write", Level.WARNING),
        ("postgresql://db/app?target_session_attrs=prefer-standby", Level.INFO),
    ):
        assert found(facts, target(url))["postgres.recovery"].level is level
    two = ROUTE.replace("db.example.com", "a,b").replace(
        "require", "require&target_session_attrs=read-write"
    )
    assert found(facts, target(route=two))["postgres.recovery"].level is Level.INFO


def test_set_that_fails() -> None:
    one = found(PostgresFacts(pooler=Pooler(set_failed="42501 not allowed here")))
    assert one["postgres.search_path"].measured == "SET search_path fails: 42501 not allowed here."
    assert one["postgres.search_path"].level is Level.CRITICAL


def test_the_servers_idle_timeout_against_the_ping() -> None:
    facts = PostgresFacts(settings={"idle_session_timeout": "60000"})
    kept = found(facts, target(route=ROUTE))["postgres.idle_session_timeout"]
    assert kept.level is Level.INFO
    facts.settings = {"idle_session_timeout": "20000"}
    late = found(facts, target(route=ROUTE))["postgres.idle_session_timeout"]
    assert late.level is Level.WARNING
    assert str(late.change) == "f.yaml (postgres: main): keepalive.ping_s = 10"


def test_slow_paths() -> None:
    facts = PostgresFacts(
        connect=ConnectTimes(0.05, 0.03, 0.1, 0.09),
        latency=Latency(100, 0.025, 0.3, 0.4),
    )
    all_of = found(facts)
    assert all_of["postgres.connect"].measured == (
        "Opening a connection takes 270 ms (name 50 ms, TCP 30 ms, TLS 100 ms, login 90 ms)."
    )
    assert "waits 500 ms for the network alone" in all_of["postgres.latency"].meaning
    assert "postgres.jitter" in all_of
    facts = replace(facts, latency=Latency(100, 0.001, 0.04, 0.4), connect=None)
    assert not {"postgres.latency", "postgres.jitter", "postgres.connect"} & found(facts).keys()


def test_through_backstay() -> None:
    where = target(route=ROUTE)
    direct = (ConnectTimes(None, 0.001, 0.01, 0.02), Latency(9, 0.001, 0.002, 0.003))
    fast = ProxyFacts(ConnectTimes(None, 0.001, None, 0.002), Latency(9, 0.00103, 0.002, 0.003))
    (one,) = proxy_rules(where, direct, fast)
    assert one.level is Level.INFO
    assert one.measured == (
        "Backstay on 127.0.0.1:6432 adds 30 µs to a round trip of 1 ms (p50). Opening a "
        "connection takes 3 ms through it, 31 ms directly."
    )
    (one,) = proxy_rules(where, direct, ProxyFacts(None, Latency(9, 0.0025, 0.002, 0.003)))
    assert one.level is Level.WARNING
    (one,) = proxy_rules(where, direct, ProxyFacts(None, Latency(9, 0.0009, 0.002, 0.003)))
    assert "takes 100 µs off a round trip" in one.measured
    refused = ProxyFacts(failure=Failure("login", "password", "no"))
    (one,) = proxy_rules(where, direct, refused)
    assert one.level is Level.WARNING
    assert list(proxy_rules(target(), direct, None)) == []


def test_an_application_that_goes_past() -> None:
    where = replace(target(route=ROUTE), past=True)
    gone = ProxyFacts(failure=Failure("tcp", "refused", "nothing listens"))
    past, _ = proxy_rules(where, (None, None), gone)
    assert past.measured == "$DATABASE_URL leads to db.example.com:5432, past Backstay."
    assert str(past.change) == "$DATABASE_URL: host and port = 127.0.0.1:6432"


def test_a_server_that_repeats_the_password() -> None:
    upstream = parse_postgres_url("postgresql://u:9ecret@db/app")
    told = without('FATAL:  no "9ecret"\n  here\nDETAIL:  Nor "b".\nHINT:  Wait.\n', upstream)
    assert told == 'no "***" here. Nor "b".'


def test_every_reason_for_a_failure_has_words() -> None:
    for reason in ("unknown-host", "refused", "timeout", "password", "full", "odd"):
        one = failed(target(), Failure("login", reason, "it says no", 1.0))
        assert one.level is Level.CRITICAL
        assert one.measured == "db.example.com:5432: it says no (after 1 s)."
        assert one.meaning


@pytest.mark.parametrize(
    ("path", "doubled"),
    [
        ('"$user", public', "'$user', 'public', '$user', 'public'"),
        ("public", "'public', 'public'"),
        ('""', "'', ''"),
        ("", "'pg_catalog', 'pg_catalog'"),
        ("a, b, a, b", "'a', 'b'"),
        ("a, b, a", "'a', 'b'"),
        ('"od""d, o\'clock",b', "'od\"d, o''clock', 'b', 'od\"d, o''clock', 'b'"),
    ],
)
def test_a_search_path_that_means_the_same(path: str, doubled: str) -> None:
    assert rewritten(path) == doubled
