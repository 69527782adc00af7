"""What is printed and what machines read: the schema, exit codes, narrow and dumb terminals."""

import io
import json
import re

import pytest
from rich.console import Console

from proxy.diagnose.facts import (
    ConnectTimes,
    IdleFacts,
    IdleLink,
    Latency,
    Pooler,
    PostgresFacts,
    ProxyFacts,
    RedisFacts,
    Session,
    TlsFacts,
)
from proxy.diagnose.finding import Change, Finding, Level, Number
from proxy.diagnose.report import as_json, exit_code
from proxy.diagnose.run import Diagnosis
from proxy.diagnose.targets import PostgresTarget, RedisTarget
from proxy.diagnose.text import show
from proxy.settings.load import load_text
from proxy.settings.urls import parse_redis_url

SECRET = "pa55-9ecret"
ROUTE = f"postgres:\n  - upstream: postgresql://app:{SECRET}@db.example.com/shop?sslmode=require\n"


def finding(level: Level, measured: str = "97 of 97 connections are taken.") -> Finding:
    return Finding(
        level=level,
        check="postgres.connections",
        measured=measured,
        meaning="When the last one goes, logins fail.",
        change=Change("backstay.yaml", "pool.size", "10"),
        number=Number(100.0, "%"),
    )


def postgres(*findings: Finding, reached: bool = True) -> Diagnosis:
    route = load_text(ROUTE, "f.yaml", {}).postgres[0]
    target = PostgresTarget(name="main", upstream=route.upstream, source="f.yaml", route=route)
    session = Session("app", "gunicorn", "10.0.0.7", "idle", 400.0, None, 7200.0)
    facts = PostgresFacts(
        connect=ConnectTimes(0.002, 0.02, 0.04, 0.03),
        tls=TlsFacts(True, "TLSv1.3", "TLS_AES_256_GCM_SHA384", True, expires_days=80.2),
        tls_used=True,
        version="15.20",
        user="app",
        database="shop",
        latency=Latency(142, 0.021, 0.034, 0.035),
        settings={"max_connections": "100", "superuser_reserved_connections": "3"},
        in_recovery=False,
        connections=97,
        sessions=[session],
        pooler=Pooler(),
    )
    proxy = ProxyFacts(ConnectTimes(None, 0.0001, None, 0.002), Latency(142, 0.0211, 0.04, 0.05))
    idle = IdleFacts([IdleLink(1.0, "", "none")], 1.0)
    return Diagnosis(target, reached, reached, facts, proxy, idle, list(findings))


def redis(*findings: Finding, reached: bool = True) -> Diagnosis:
    upstream = parse_redis_url(f"redis://:{SECRET}@r.example.com")
    target = RedisTarget(name="cache", upstream=upstream, source="$REDIS_URL")
    info = {
        "redis_version": "7.2.4",
        "role": "master",
        "used_memory": "1048576",
        "maxmemory": "4194304",
        "maxmemory_policy": "allkeys-lru",
        "connected_clients": "3",
        "maxclients": "10000",
        "keyspace_hits": "3",
        "keyspace_misses": "1",
        "secret_field": SECRET,
    }
    return Diagnosis(
        target,
        reached,
        reached,
        RedisFacts(info=info, tracking="", slow=[]),
        None,
        None,
        [*findings],
    )


# ---- JSON ---------------------------------------------------------------------------------------


def test_the_schema_stays() -> None:
    data = json.loads(json.dumps(as_json([postgres(finding(Level.INFO)), redis()], "0.1.0")))
    assert list(data) == [
        *("schema", "version", "exit_code", "counts", "targets", "findings"),
    ]
    assert data["schema"] == 1
    assert data["counts"] == {"critical": 0, "warning": 0, "info": 1}
    assert data["findings"] == [
        {
            "level": "info",
            "target": "main",
            "check": "postgres.connections",
            "measured": "97 of 97 connections are taken.",
            "meaning": "When the last one goes, logins fail.",
            "change": {"place": "backstay.yaml", "key": "pool.size", "value": "10"},
            "number": {"value": 100.0, "unit": "%"},
        }
    ]
    one, two = data["targets"]
    keys = ["name", "kind", "address", "source", "reached", "served", "connect", "latency", "tls"]
    assert list(one) == list(two) == [*keys, "proxy", "idle", "server"]
    assert list(one["connect"]) == ["dns_s", "tcp_s", "tls_s", "login_s", "total_s"]
    assert list(one["latency"]) == ["samples", "p50_s", "p99_s", "max_s"]
    assert list(one["proxy"]) == ["listen", "runs", "connect", "latency", "failure"]
    assert one["server"]["sessions"] == {"idle": 1}
    assert one["server"]["oldest_session_s"] == 7200.0
    assert two["connect"] is None
    assert two["server"]["tracking"] is True
    assert SECRET not in json.dumps(data)


def test_the_worst_of_all_targets_comes_first() -> None:
    both = [postgres(finding(Level.INFO)), redis(finding(Level.CRITICAL))]
    told = as_json(both, "0.1.0")["findings"]
    assert [(one["level"], one["target"]) for one in told] == [
        ("critical", "cache"),
        ("info", "main"),
    ]


def test_exit_codes() -> None:
    fine, bad = postgres(finding(Level.WARNING)), redis(finding(Level.CRITICAL))
    assert exit_code([fine]) == 0
    assert exit_code([fine, bad]) == 1
    gone = postgres(finding(Level.CRITICAL), reached=False)
    assert exit_code([gone]) == 1  # Backstay reaches it
    gone.proxy = None
    assert exit_code([gone]) == 69
    assert exit_code([gone, fine]) == 1
    assert exit_code([gone, bad]) == 1


# ---- for people ---------------------------------------------------------------------------------


def printed(*diagnoses: Diagnosis, width: int = 80, terminal: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=terminal, highlight=False, legacy_windows=False
    )
    show(console, diagnoses)
    return stream.getvalue()


def test_piped_output_has_no_colour_and_a_sentence_a_line() -> None:
    text = printed(postgres(finding(Level.CRITICAL)), redis())
    assert "\x1b" not in text
    assert text == (
        "postgres main: db.example.com:5432\n"
        "  connect: 92 ms = DNS 2 ms + TCP 20 ms + TLS 40 ms + login 30 ms\n"
        "  round trip: p50 21 ms, p99 34 ms, max 35 ms (142 times)\n"
        "  through Backstay: p50 21 ms, p99 40 ms, max 50 ms (142 times)\n"
        "  TLS: TLSv1.3, TLS_AES_256_GCM_SHA384, certificate fine, 80 days left\n"
        "  server: PostgreSQL 15.20, primary\n"
        "  connections: 97 of 100, 3 reserved\n"
        "  other sessions: 1 idle; the oldest 2 h\n"
        "  CRITICAL 97 of 97 connections are taken.\n"
        "      When the last one goes, logins fail.\n"
        "      → backstay.yaml: pool.size = 10\n"
        "\n"
        "redis cache: r.example.com:6379\n"
        "  server: Redis 7.2.4, master\n"
        "  memory: 1 MiB (25 %), allkeys-lru\n"
        "  clients: 3 of 10000\n"
        "  reads: 75 % found their key\n"
        "  client tracking: available\n"
        "  Nothing to complain about.\n"
        "\n"
        "Findings: 1 critical, 0 warning, 0 info.\n"
    )


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_terminals_of_any_width(width: int) -> None:
    text = printed(postgres(finding(Level.WARNING)), redis(), width=width, terminal=True)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= width
    assert "WARNING" in "".join(lines)
    assert not any(line.endswith(" ") for line in lines)


def test_words_of_a_server_cannot_steer_the_terminal() -> None:
    text = printed(postgres(finding(Level.INFO, "it says \x1b]0;owned\x07 [red]no[/red]\n!")))
    assert "\x1b" not in text
    assert "INFO it says ?]0;owned [red]no[/red]?!\n" in text  # rich drops the bell itself
