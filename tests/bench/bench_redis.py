"""Redis: work per CPU second, Backstay beside redis-server itself and HAProxy in TCP mode.

python -m tests.bench.bench_redis [rounds] [seconds] [--only WORD] [--json FILE]

Every contestant gets the same load from redis-benchmark, in turn, round after round. The figure is
operations per second of CPU time of the contestant's process: what one core of its own would do.
Behind a proxy the server works as well; its share is in the JSON as `server_us`.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from proxy.demo.certificates import make_tls
from proxy.demo.ports import free_port
from proxy.demo.servers import RedisOptions, RedisServer
from tests.bench.yardstick import cpu_s, need, output_of

CLIENTS = 50
VALUE_BYTES = 32
KEY = "user:42:profile"
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
    required: float
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
            _await(self.ports[name])

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
        return (
            "global\n  nbthread 1\n  maxconn 1000\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n"
            f"listen redis\n  bind 127.0.0.1:{self.ports['haproxy']}\n"
            f"  server one 127.0.0.1:{self.server.port}\n"
        )

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


def _await(port: int) -> None:
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


@dataclass
class Figures:
    """Of one contestant at one kind of work, one a round."""

    us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    wall_per_s: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(all_), 3) for name, all_ in vars(self).items()}


def load(ground: Ground, work: Work, contestant: str, operations: int) -> float:
    """Run the load; its length in seconds."""
    tls = ("--tls", "--cacert", str(ground.authority)) if contestant.endswith("tls") else ()
    began_s = time.monotonic()
    output_of(
        need("redis-benchmark"), "-h", "127.0.0.1", "-p", str(ground.ports[contestant]), "-c",
        str(CLIENTS), "-n", str(operations), "-P", str(work.pipeline), "-q", *tls, *work.words,
        *work.command,
    )  # fmt: skip
    return time.monotonic() - began_s


def compare(ground: Ground, work: Work, rounds: int, seconds: float) -> dict[str, Figures]:
    """The same load on both contestants, in turn."""
    figures = {work.route: Figures(), work.yardstick: Figures()}
    operations = {
        name: int(FIRST_OPERATIONS * seconds / load(ground, work, name, FIRST_OPERATIONS))
        for name in figures
    }
    for _ in range(rounds):
        for name, found in figures.items():
            own_s, server_s = cpu_s(ground.pid(name)), cpu_s(ground.server.pid)
            took_s = load(ground, work, name, operations[name])
            per_operation = 1e6 / operations[name]
            found.us.append((cpu_s(ground.pid(name)) - own_s) * per_operation)
            found.server_us.append((cpu_s(ground.server.pid) - server_s) * per_operation)
            found.wall_per_s.append(operations[name] / took_s)
    return figures


def row(work: Work, figures: dict[str, Figures]) -> dict[str, object]:
    """What came out. `ratio`: our operations per CPU second in units of the yardstick's."""
    ours, theirs = figures[work.route], figures[work.yardstick]
    ratio = statistics.median(b / a for a, b in zip(ours.us, theirs.us, strict=True) if a)
    return {
        "work": work.name,
        "yardstick": work.yardstick,
        "ratio": round(ratio, 3),
        "required": work.required,
        "goal": work.goal,
        "backstay": ours.medians(),
        "beside": theirs.medians(),
    }


def show(found: dict[str, object], work: Work, figures: dict[str, Figures]) -> None:
    ours = statistics.median(figures[work.route].us)
    theirs = statistics.median(figures[work.yardstick].us)
    print(
        f"{work.name:28} {ours:8.2f} {theirs:8.2f} {work.yardstick:10} {found['ratio']:6.2f}x"
        f"   required {work.required:.1f}x, goal {work.goal:.1f}x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    parser.add_argument("seconds", nargs="?", type=float, default=1.5)
    parser.add_argument("--only", default="", help="rows whose name has this word")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        ground = Ground(Path(name))
        print(f"{'work':28} {'backstay':>8} {'beside':>8} (µs of CPU per operation); rate ratio")
        try:
            for work in ROWS:
                if given.only in work.name:
                    figures = compare(ground, work, given.rounds, given.seconds)
                    rows.append(row(work, figures))
                    show(rows[-1], work, figures)
        finally:
            ground.close()
    if given.json is not None:
        given.json.write_text(json.dumps({"clients": CLIENTS, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
