"""SIGHUP: what follows at once, what waits, and a file with mistakes that changes nothing."""

import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import yaml

from proxy.demo.servers import PostgresServer
from tests.fix_backstay import Backstay

pytestmark = pytest.mark.servers


def _await(proxy: Backstay, event: str, count: int = 1) -> str:
    end_s = time.monotonic() + 10
    while (text := proxy.log_text()).count(f'"event":"{event}"') < count:
        assert time.monotonic() < end_s, text
        time.sleep(0.02)
    return text


def test_sighup(make_backstay: Callable[..., Backstay], postgres: PostgresServer) -> None:
    upstream = f"postgresql://127.0.0.1:{postgres.port}/app"
    proxy = make_backstay(postgres=[{"upstream": upstream}])
    with psycopg.connect(proxy.dsn()) as session:
        config: dict[str, Any] = proxy.config
        proxy.file.write_text("postgres: [{upstreem: nothing}]\n")
        proxy.signal(signal.SIGHUP)
        assert "upstreem" in _await(proxy, "reload_refused")

        config["log"] = {"level": "info", "format": "json"}
        config["postgres"][0]["pool"] = {"size": 7}
        proxy.file.write_text(yaml.safe_dump(config))
        proxy.signal(signal.SIGHUP)
        assert '"waits_for_restart":["postgres"]' in _await(proxy, "reloaded")
        assert session.execute("select 1").fetchone() == (1,)
