"""`status` and `top` against an admin port of canned answers; a real one is in integration."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from proxy.core.histogram import BOUNDS_S, Histogram
from proxy.core.report import (
    CacheReport,
    Incident,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
)
from proxy.demo.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


def status(**changes: Any) -> dict[str, Any]:
    """A status as the admin port tells it."""
    pool = PoolReport("app", "shop", 3, 9, 1, 3, 1, 0, 20, 1.5)
    postgres = PostgresReport("main", ["127.0.0.1:6432"], ["db:5432"], "up", clients=13)
    postgres.clients_max, postgres.pools = 1000, [pool]
    for _ in range(99):
        postgres.latency.server.observe(0.002)
    cache = CacheReport(True, hits=900, misses=100, negative_hits=7, entries=5, bytes=4096)
    cache.max_bytes = 64 << 20
    redis = RedisReport("cache", ["127.0.0.1:6380"], ["r:6379"], "up", clients=4, commands=1000)
    redis.links, redis.cache = {"data": 1, "tracking": 1, "exclusive": 0}, cache
    incident = Incident("1", "main", "postgres", "upstream_eof", "db:5432", "", 990.0, 992.5, 3, 12)
    incident.longest_wait_s, incident.errors = 1.2, {"40001": 2}
    report = Report(
        "0.1.0",
        workers=[WorkerReport(0, 4711, rss_bytes=50 << 20, cpu_s=3.0)],
        postgres=[postgres],
        redis=[redis],
    )
    report.incidents = [incident]
    told = plain(report)
    told |= {
        "now_s": 1000.0,
        "uptime_s": 7200.0,
        "bounds_s": list(BOUNDS_S),
        "well": True,
        "summary": "All is well.",
        "findings": [],
        "saved": {"drops_absorbed": 5, "errors_answered": 2, "reads_saved": 900},
    }
    return told | changes


def plain(report: Report) -> dict[str, Any]:
    data: dict[str, Any] = _plain(asdict(report))
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        quantiles = {f"p{n}_s": value.quantile_s(n / 100) for n in (50, 90, 99)}
        return {"count": value.count, "sum_s": value.sum_s, "max_s": value.max_s, **quantiles}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


class Canned(ThreadingHTTPServer):
    """Answers with `body`, one after another if it is a list."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, json.dumps(status()).encode())
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Canned

    def do_GET(self) -> None:
        assert self.path == "/api/v1/status"
        self.server.asked += 1
        code, body = self.server.answer
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def canned() -> Iterator[Canned]:
    with Canned() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("BACKSTAY_CONFIG", "BACKSTAY_POSTGRES_UPSTREAM", "BACKSTAY_REDIS_UPSTREAM"):
        monkeypatch.delenv(name, raising=False)
    return lambda *words: CliRunner().invoke(cli, words)


def test_all_is_well(run: Callable[..., Result], canned: Canned) -> None:
    result = run("status", "--url", canned.url)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "All is well.  Backstay 0.1.0, ready, up 2 h",
        "postgres main: up  127.0.0.1:6432 → db:5432",
        "  13 of 1000 clients, 0 waiting",
        "  app@shop: sessions 3 active, 9 idle; links 3 active, 1 idle, 0 opening, at most 20; "
        "1 waiting, the longest 1.5 s",
        "  server p50 1.8 ms, p99 2 ms",
        "redis cache: up  127.0.0.1:6380 → r:6379",
        "  4 of 0 clients, 0 waiting; links: 1 data, 1 tracking",
        "  cache 90 % hits (7 of keys that do not exist, 0 repeats); 5 keys, 4 KiB of 64 MiB",
        "process 4711: 50 MiB",
        "drops absorbed 5, errors answered 2, reads saved 900",
        "last incident: main, 10 s ago, the server, or something on the path, closed the link: "
        "3 links lost, 12 sessions, longest wait 1.2 s, 2 errors answered, over after 2.5 s",
    ]


def test_not_well(run: Callable[..., Result], canned: Canned) -> None:
    findings = [
        {"level": "critical", "route": "main", "text": "it is away", "advice": "Look at db."},
        {"level": "info", "route": "", "text": "quiet", "advice": ""},
    ]
    told = status(well=False, summary="main: the upstream is away.", findings=findings)
    told["postgres"][0] |= {"state": "away", "away_s": 12.0, "reason": "upstream_unreachable"}
    told["redis"][0]["cache"]["refused"] = "Redis 6.2"
    canned.answer = (200, json.dumps(told).encode())
    result = run("status", "--url", canned.url)
    assert result.exit_code == 1
    for text in (
        "postgres main: away for 12 s: the server could not be reached",
        "CRITICAL main: it is away\n    → Look at db.\nINFO quiet\n",
        "cache off: Redis 6.2",
    ):
        assert text in result.stdout


def test_machine_readable(run: Callable[..., Result], canned: Canned) -> None:
    result = run("status", "--json", "--url", canned.url)
    assert json.loads(result.stdout) == json.loads(canned.answer[1])


def test_names_cannot_steer_the_terminal(run: Callable[..., Result], canned: Canned) -> None:
    told = status()
    told["postgres"][0]["pools"][0]["user"] = "\x1b]0;owned\x07[red]me[/red]"
    canned.answer = (200, json.dumps(told).encode())
    result = run("status", "--url", canned.url)
    assert "\x1b" not in result.stdout
    assert "?]0;owned?[red]me[/red]@shop" in result.stdout


@pytest.mark.parametrize("command", ["status", "top"])
def test_nobody_answers(run: Callable[..., Result], command: str) -> None:
    port = free_port()
    result = run(command, "--url", f"127.0.0.1:{port}")
    assert result.exit_code == 69
    assert result.stderr == f"127.0.0.1:{port} does not answer: connection refused\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b""), "answers 500: Internal Server Error"),
        ((403, b'{"error": "unknown \\u001bhost"}'), "answers 403: unknown ?host"),
        ((200, b"hello"), "is not Backstay's admin port"),
        ((200, b"[]"), "is not Backstay's admin port"),
    ],
)
def test_odd_answers(
    run: Callable[..., Result], canned: Canned, answer: tuple[int, bytes], words: str
) -> None:
    canned.answer = answer
    result = run("status", "--url", canned.url)
    assert result.exit_code == 69
    assert words in result.stderr


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:x", ""])
def test_odd_urls(run: Callable[..., Result], url: str) -> None:
    assert run("status", "--url", url).exit_code == 2


def test_the_place_comes_from_the_settings(run: Callable[..., Result], canned: Canned) -> None:
    text = f"redis:\n  - upstream: redis://r\nadmin: {{listen: '*:{canned.server_port}'}}\n"
    Path("backstay.yaml").write_text(text)
    assert run("status").exit_code == 0
    Path("backstay.yaml").write_text("redis:\n  - upstream: redis://r\nadmin: {listen: []}\n")
    result = run("status")
    assert result.exit_code == 69
    assert "the settings have no admin port" in result.stderr
    Path("backstay.yaml").write_text("postgres: 1\n")
    assert run("status").exit_code == 78


# ---- top ----------------------------------------------------------------------------------------


def test_top_without_a_terminal(run: Callable[..., Result], canned: Canned) -> None:
    result = run("top", "--url", canned.url)
    assert result.exit_code == 0
    assert result.stdout.startswith("All is well.")
    assert canned.asked == 1


class Terminal:
    """`backstay top` on a pseudo terminal."""

    def __init__(self, url: str) -> None:
        self.ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "proxy", "top", "--interval", "0.2", "--url", url]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "60"}
        self.process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        self.seen = b""

    def until(self, words: bytes) -> None:
        until_s = time.monotonic() + 20
        while words not in self.seen:
            assert time.monotonic() < until_s, self.seen[-2000:]
            if select.select([self.ours], [], [], 0.2)[0]:
                self.seen += os.read(self.ours, 65536)

    def end(self) -> int:
        until_s = time.monotonic() + 10
        while self.process.poll() is None:
            assert time.monotonic() < until_s
            if select.select([self.ours], [], [], 0.05)[0]:
                self.seen += self._rest()
        return self.process.returncode

    def _rest(self) -> bytes:
        try:
            return os.read(self.ours, 65536)
        except OSError:  # EIO: the other side is closed
            return b""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def terminal(canned: Canned) -> Iterator[Terminal]:
    one = Terminal(canned.url)
    yield one
    one.close()


def test_top_lives_and_q_quits(terminal: Terminal, canned: Canned) -> None:
    terminal.until(b"All is well.")
    told = status(summary="Quite another summary.", now_s=1002.0)
    told["redis"][0]["commands"] = 1500
    canned.answer = (200, json.dumps(told).encode())
    terminal.until(b"Quite another summary.")
    canned.answer = (500, b"")
    terminal.until(b"answers 500")
    canned.answer = (200, json.dumps(status(summary="Back again.")).encode())
    terminal.until(b"Back again.")
    os.write(terminal.ours, b"q")
    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.seen, "the screen is put back"


def test_top_ends_quietly_on_ctrl_c(terminal: Terminal) -> None:
    terminal.until(b"All is well.")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert b"Traceback" not in terminal.seen


def test_rates_come_from_two_looks() -> None:
    from proxy.cli._screen import lines

    before, now = status(), status(now_s=1010.0)
    now["redis"][0]["commands"] = 1500
    now["postgres"][0]["latency"]["server"]["count"] = 119
    told = "\n".join(line.plain for line in lines(now, before))
    assert "links: 1 data, 1 tracking; 50/s" in told
    assert "0 waiting; 2/s" in told
    assert "process 4711: 50 MiB, CPU 0 %" in told
    now["redis"][0]["commands"] = 3  # it was started anew
    assert "tracking; 0/s" in "\n".join(line.plain for line in lines(now, before))


def test_workers_are_told_apart() -> None:
    from proxy.cli._screen import lines

    before, now = (status(now_s=now_s) for now_s in (1000.0, 1002.0))
    for told, cpu_s in ((before, 1.0), (now, 2.0)):
        told["workers"].append({**told["workers"][0], "number": 1, "pid": 4712, "cpu_s": cpu_s})
    now["workers"][1]["bugs"] = 1
    text = "\n".join(line.plain for line in lines(now, before))
    assert "worker 0 4711: 50 MiB, CPU 0 %\n" in text
    assert "worker 1 4712: 50 MiB, CPU 50 %, 1 bug: see the log\n" in text
