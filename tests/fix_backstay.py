"""The proxy as users run it: a child process with a YAML file."""

import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from proxy.demo.child import Child
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer, RedisServer, postgres_url

ROOT = Path(__file__).resolve().parent.parent


class Backstay:
    """One running proxy. `config` is the YAML as data; free ports are put where none is given."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self.config: dict[str, Any] = dict(config)
        self.config.setdefault("admin", {"listen": f"127.0.0.1:{free_port()}"})
        self.config.setdefault("log", {"level": "debug", "format": "json"})
        self.config.setdefault("drain_s", 3)  # a test that failed may have left a session open
        for dialect in ("postgres", "redis"):
            for route in self.config.get(dialect, []):
                route.setdefault("name", dialect)
                route.setdefault("listen", f"127.0.0.1:{free_port()}")
        self.folder = folder
        self._child = Child(
            [sys.executable, "-m", "proxy", "run", "-c", str(self.file)],
            folder / "backstay.log",
            environment={"PYTHONPATH": str(ROOT), **_coverage()},
            death_signal=signal.SIGKILL,
        )

    @property
    def file(self) -> Path:
        """The settings file."""
        return self.folder / "backstay.yaml"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def start(self) -> Self:
        """Write the file, start, wait until every TCP listener of every worker answers."""
        self.file.write_text(yaml.safe_dump(self.config, allow_unicode=True))
        self._child.start()
        self._child.wait_ready(lambda: self._all_serve() and all(map(_answers, self._ports())))
        return self

    def _all_serve(self) -> bool:
        # Before the last one does, all connections come to the first: enough to fill its pool.
        workers = self.config.get("workers", 1)
        return workers == 1 or len(self.logged("worker_started", "worker")) >= workers

    def add_environment(self, more: Mapping[str, str]) -> None:
        """Variables for the next start; folders in PYTHONPATH come before ours."""
        own = dict(self._child.environment)
        if "PYTHONPATH" in more:
            more = {**more, "PYTHONPATH": os.pathsep.join((more["PYTHONPATH"], own["PYTHONPATH"]))}
        self._child.environment = own | dict(more)

    def stop(self) -> None:
        """SIGTERM and wait; a proxy that had died before fails the test with its log."""
        assert self._child.running(), f"the proxy died:\n{self.log_text()}"
        self._child.end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._child.kill_tree()

    def signal(self, number: int) -> None:
        """Send a signal (SIGHUP reloads)."""
        self._child.send(number)

    def running(self) -> bool:
        """Whether the process exists."""
        return self._child.running()

    def port(self, dialect: str = "postgres", route: int = 0) -> int:
        """The TCP port of a route."""
        return _tcp_port(self.config[dialect][route]["listen"])

    def dsn(self, user: str = "postgres", database: str = "app", **options: str) -> str:
        """A libpq URL to the first PostgreSQL route, like PostgresServer.dsn."""
        return postgres_url(("127.0.0.1", self.port()), user, database, **options)

    def log_text(self) -> str:
        """All it has logged."""
        return (self.folder / "backstay.log").read_text(errors="replace")

    def logged(self, event: str, field: str) -> set[Any]:
        """The values of a field over all log lines with that event."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line[:1] == "{"]
        return {line.get(field) for line in lines if line["event"] == event}

    def _ports(self) -> list[int]:
        routes = [*self.config.get("postgres", []), *self.config.get("redis", [])]
        return [_tcp_port(route["listen"]) for route in routes]


def _tcp_port(listen: str | list[str]) -> int:
    texts = [listen] if isinstance(listen, str) else listen
    return next(int(text.rpartition(":")[2]) for text in texts if not text.startswith("/"))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _coverage() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


def require_proxy() -> None:
    """Skip the calling test while there is no proxy to start."""
    # By file, so that these tests begin to run by themselves the day the service lands.
    if not (ROOT / "proxy" / "service" / "main.py").exists():
        pytest.skip("proxy/service/main.py does not exist yet")
    assert importlib.util.find_spec("proxy.service.main"), "the package does not hold the service"


@pytest.fixture
def make_backstay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Backstay]]:
    """`make_backstay(postgres=[{upstream: …}], …)`: a started proxy of the test's own."""
    require_proxy()
    made: list[Backstay] = []

    def make(**config: Any) -> Backstay:
        made.append(Backstay(config, tmp_path_factory.mktemp("backstay")))
        return made[-1].start()

    yield make
    for proxy in made:
        if proxy.running():
            proxy.stop()


@pytest.fixture(scope="session")
def backstay(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backstay]:
    """The shared proxy in front of the shared PostgreSQL, with default settings."""
    require_proxy()
    route = {"upstream": f"postgresql://127.0.0.1:{postgres.port}/app"}
    proxy = Backstay({"postgres": [route]}, tmp_path_factory.mktemp("backstay")).start()
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def backstay_redis(
    redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backstay]:
    """The shared proxy in front of the shared Redis."""
    require_proxy()
    route = {"upstream": f"redis://127.0.0.1:{redis.port}"}
    proxy = Backstay({"redis": [route]}, tmp_path_factory.mktemp("backstay")).start()
    yield proxy
    proxy.stop()
