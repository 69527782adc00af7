"""Redis: CPU per operation, Backstay beside redis-server itself and HAProxy in TCP mode.

Every contestant gets the same load from redis-benchmark, in turn, round after round. The ratio is
of rates, operations per second of CPU time of the contestant's process: what one core of its own
would do. Behind a proxy the server works as well; that is not in the figure.
"""

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.demo.certificates import make_tls
from proxy.demo.ports import free_port
from proxy.demo.servers import RedisOptions, RedisServer
from tests.bench.figures import Row, Target
from tests.bench.ground import haproxy_settings
from tests.bench.yardstick import Budget, await_port, cpu_s, need, output_of, ratio

CLIENTS = 50
VALUE_BYTES = 32
KEY = "user:42:profile"
SECONDS = 0.7  # of a round's, as redis-benchmark needs no time to start
FIRST_OPERATIONS = 20_000  # warms up, fills the cache, and says how many fit into a round

GET = ("GET", KEY)
SET = ("SET", KEY, "x" * VALUE_BYTES)


@dataclass(frozen=True)
class Work:
    """One row. `route`: the way through Backstay; `yardstick`: who is beside it."""

    name: str
    command: tuple[str, ...]
    route: str
    yardstick: str
    required: float  # of the yardstick's rate
    goal: float
    pipeline: int = 1
    words: tuple[str, ...] = ()


ROWS = (
    Work("cached GET", GET, "cached", "redis", 0.9, 1.3),
    Work("cached GET, pipeline 16", GET, "cached", "redis", 0.5, 1.0, 16),
    Work("cached GET, over TLS", GET, "cached-tls", "redis-tls", 0.9, 1.3),
    Work("cached GET, RESP3", GET, "cached", "redis", 0.9, 1.3, 1, ("-3",)),
    Work("uncached GET", GET, "plain", "haproxy", 1.0, 1.8),
    Work("uncached SET", SET, "plain", "haproxy", 1.0, 1.8),
    Work("uncached GET, pipeline 16", GET, "plain", "haproxy", 1.0, 1.8, 16),
    Work("uncached SET, pipeline 16", SET, "plain", "haproxy", 1.0, 1.8, 16),
    Work("SET beside the cache", SET, "cached", "haproxy", 1.0, 1.8),
)


class Ground:
    """The server, and both proxies in front of it."""

    def __init__(self, folder: Path) -> None:
        self._files = make_tls(folder)
        self.server = RedisServer(RedisOptions(tls=self._files)).start()
        routes = ("cached", "cached-tls", "plain")
        self.ports = {name: free_port() for name in (*routes, "haproxy")}
        self.ports["redis"], self.ports["redis-tls"] = self.server.port, self.server.tls_port
        settings, haproxy = folder / "backstay.yaml", folder / "haproxy.cfg"
        settings.write_text(self._settings(routes))
        haproxy.write_text(self._haproxy())
        self._log = (folder / "log").open("w")
        self._children = {
            "backstay": self._start(sys.executable, "-m", "proxy", "run", "-c", str(settings)),
            "haproxy": self._start(need("haproxy"), "-db", "-f", str(haproxy)),
        }
        for name in (*routes, "haproxy"):
            await_port(self.ports[name])

    def _start(self, *command: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def _settings(self, routes: Iterable[str]) -> str:
        tls = f"tls: {{mode: require, cert: {self._files.certificate}, key: {self._files.key}}}"
        rows = [
            f"  - name: {name}\n    listen: 127.0.0.1:{self.ports[name]}\n"
            f"    upstream: {self.server.url()}\n    auth: {{method: trust}}\n"
            f"    cache: {{enabled: {str(name != 'plain').lower()}}}\n"
            + (f"    {tls}\n" if name.endswith("tls") else "")
            for name in routes
        ]
        return "redis:\n" + "".join(rows) + "log: {level: warning}\nadmin: {listen: []}\n"

    def _haproxy(self) -> str:
        return haproxy_settings(self.ports["haproxy"], self.server.port)

    def pid(self, contestant: str) -> int:
        """The process whose work counts, for a port's name."""
        if contestant.startswith("redis"):
            return self.server.pid
        return self._children["haproxy" if contestant == "haproxy" else "backstay"].pid

    @property
    def authority(self) -> Path:
        return self._files.ca

    def close(self) -> None:
        for child in self._children.values():
            child.terminate()
            child.wait()
        self._log.close()
        self.server.close()


@dataclass(frozen=True)
class Ran:
    """One run of redis-benchmark: how long it took, and its latencies."""

    seconds: float
    p50_us: float
    p99_us: float


def load(ground: Ground, work: Work, contestant: str, operations: int) -> Ran:
    """Run the load."""
    tls = ("--tls", "--cacert", str(ground.authority)) if contestant.endswith("tls") else ()
    began_s = time.monotonic()
    text = output_of(
        need("redis-benchmark"), "-h", "127.0.0.1", "-p", str(ground.ports[contestant]), "-c",
        str(CLIENTS), "-n", str(operations), "-P", str(work.pipeline), "--csv", *tls, *work.words,
        *work.command,
    )  # fmt: skip
    took_s = time.monotonic() - began_s
    lines = [line for line in text.splitlines() if line.startswith('"')]
    found = next(csv.DictReader(lines))
    p50_ms, p99_ms = float(found["p50_latency_ms"]), float(found["p99_latency_ms"])
    return Ran(took_s, p50_ms * 1e3, p99_ms * 1e3)


def compare(ground: Ground, work: Work, budget: Budget) -> Row:
    """The same load on both contestants, in turn."""
    names = (work.route, work.yardstick)
    cpu_us: dict[str, list[float]] = {name: [] for name in names}
    latencies: dict[str, list[Ran]] = {name: [] for name in names}
    operations = {
        name: int(FIRST_OPERATIONS * budget.seconds * SECONDS / _warm(ground, work, name))
        for name in names
    }
    for _ in range(budget.rounds):
        for name in names:
            own_s = cpu_s(ground.pid(name))
            latencies[name].append(load(ground, work, name, operations[name]))
            used_s = cpu_s(ground.pid(name)) - own_s
            cpu_us[name].append(used_s * 1e6 / operations[name])
    ours, theirs = cpu_us[work.route], cpu_us[work.yardstick]
    return Row(
        f"Redis: {work.name}", "µs CPU", statistics.median(ours),
        Target(work.required, work.goal, at_least=True), work.yardstick, statistics.median(theirs),
        ratio(theirs, ours), {},
        {
            "backstay": _medians(latencies[work.route]),
            work.yardstick: _medians(latencies[work.yardstick]),
        },
    )  # fmt: skip


def _warm(ground: Ground, work: Work, name: str) -> float:
    """Fills the cache; how many seconds FIRST_OPERATIONS take."""
    return load(ground, work, name, FIRST_OPERATIONS).seconds


def _medians(runs: list[Ran]) -> tuple[float, float]:
    """Of the rounds' percentiles."""
    return (
        statistics.median(run.p50_us for run in runs),
        statistics.median(run.p99_us for run in runs),
    )


def rows(budget: Budget, only: str = "") -> Iterator[Row]:
    """Each row as it is found. `only`: those whose name has this word."""
    chosen = [
        work for work in ROWS if only in f"Redis: {work.name}" and not (budget.quick and work.words)
    ]
    if not chosen:
        return
    with tempfile.TemporaryDirectory() as name:
        ground = Ground(Path(name))
        try:
            for work in chosen:
                yield compare(ground, work, budget)
        finally:
            ground.close()
