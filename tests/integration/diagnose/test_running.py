"""`status` and `top` against a running Backstay: over TCP and a Unix socket, well and not well."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer, RedisServer
from tests.fix_backstay import Backstay

pytestmark = pytest.mark.servers

MakeBackstay = Callable[..., Backstay]


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def until(condition: Callable[[], bool], seconds_max: float = 10.0) -> None:
    until_s = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def told(proxy: Backstay) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run("status", "-c", str(proxy.file), "--json").stdout)
    return data


def test_a_proxy_with_work(
    make_backstay: MakeBackstay, postgres: PostgresServer, redis: RedisServer
) -> None:
    proxy = make_backstay(
        postgres=[{"upstream": f"postgresql://127.0.0.1:{postgres.port}/app", "name": "main"}],
        redis=[{"upstream": redis.url(), "name": "cache"}],
    )
    with psycopg.connect(proxy.dsn(), autocommit=True) as session:
        session.execute("select 1")
        result = run("status", "-c", str(proxy.file))
        assert result.exit_code == 0, result.output
        assert "postgres main: up" in result.stdout
        assert "1 of 1000 clients, 0 waiting" in result.stdout
        assert "postgres@app: sessions 0 active, 1 idle; links " in result.stdout
        assert "redis cache: " in result.stdout
        data = told(proxy)
        assert data["well"]
        assert data["postgres"][0]["clients"] == 1
        assert run("top", "-c", str(proxy.file)).stdout.startswith(data["summary"])


def test_an_upstream_that_is_away(make_backstay: MakeBackstay) -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/app"
    proxy = make_backstay(postgres=[{"upstream": url, "name": "main", "resilience": {"hold_s": 9}}])
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn(), connect_timeout=2)
    until(lambda: not told(proxy)["well"])
    result = run("status", "-c", str(proxy.file))
    assert result.exit_code == 1
    assert "postgres main: away for " in result.stdout


def test_over_a_unix_socket(
    make_backstay: MakeBackstay, redis: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    proxy = make_backstay(redis=[{"upstream": redis.url()}], admin={"listen": str(path)})
    for words in (("-c", str(proxy.file)), ("--url", str(path)), ("--url", f"unix://{path}")):
        assert run("status", *words).exit_code == 0


def test_a_proxy_that_has_gone(make_backstay: MakeBackstay, redis: RedisServer) -> None:
    proxy = make_backstay(redis=[{"upstream": redis.url()}])
    proxy.kill()
    result = run("status", "-c", str(proxy.file))
    assert result.exit_code == 69
    assert "does not answer: connection refused" in result.stderr
