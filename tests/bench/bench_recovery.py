"""PostgreSQL: what a cut costs, what a new client costs. Direct, PgBouncer and Backstay in turns.

python -m tests.bench.bench_recovery [rounds] [--json FILE]

    errors per cut      idle sessions whose upstream links are all cut, then one statement each
    time after a cut    from the cut to the next answer of a session, upstream up (Backstay alone)
    new client          connect and SELECT 1, wall clock; the server is reached over TLS
    idle client         memory of the proxy per logged-in client and its link
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from proxy.demo.certificates import make_tls
from proxy.demo.cutter import Cut, Target
from proxy.demo.servers import PostgresOptions, PostgresServer
from tests.bench.bench_postgres import Contestants
from tests.bench.yardstick import save
from tests.fix_cutter import ThreadCutter

SESSIONS = 16
IDLE_CLIENTS = 150
CUTS = (Cut.FIN, Cut.RST)


class Ways:
    """A server over TLS behind a cutter, and the three ways to it."""

    def __init__(self, folder: Path) -> None:
        settings = {"max_connections": "250", "password_encryption": "scram-sha-256"}
        self.server = PostgresServer(
            PostgresOptions(tls=make_tls(folder), settings=settings)
        ).create()
        self.server.start()
        self._stack = contextlib.ExitStack()
        target = Target(address=("127.0.0.1", self.server.port))
        self.cutter = self._stack.enter_context(ThreadCutter(target))
        self.proxies = Contestants(self.cutter.port, folder, "require", 200)
        self.ports = {"direct": self.cutter.port, **self.proxies.ports}

    def connect(self, way: str) -> "psycopg.Connection[tuple[object, ...]]":
        mode = "require" if way == "direct" else "disable"
        return psycopg.connect(
            host="127.0.0.1", port=self.ports[way], user="postgres", dbname="app", sslmode=mode,
            autocommit=True,
        )  # fmt: skip

    def cut(self, cut: Cut) -> None:
        self.cutter.call(lambda cutter: cutter.cut_all(cut))

    def close(self) -> None:
        self.proxies.close()
        self._stack.close()
        self.server.close()


@contextlib.contextmanager
def sessions(ways: Ways, way: str, count: int) -> Iterator[list["psycopg.Connection[object]"]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(ways.connect(way))) for _ in range(count)]


def errors_per_cut(ways: Ways, way: str, rounds: int) -> float:
    """Errors the application sees, per link that was cut."""
    errors = total = 0
    for number in range(rounds):
        with sessions(ways, way, SESSIONS) as clients:
            for client in clients:
                client.execute("SET search_path TO public")
            ways.cut(CUTS[number % len(CUTS)])
            for client in clients:
                total += 1
                try:
                    client.execute("SET search_path TO public")
                except psycopg.Error:
                    errors += 1
    return errors / total


def recovery_ms(ways: Ways, rounds: int) -> list[float]:
    """From the cut of a session's link to its next answer."""
    times = []
    with sessions(ways, "backstay", 1) as (client,):
        client.execute("SET search_path TO public")
        for number in range(rounds * 5):
            client.execute("SELECT 1")
            began_s = time.perf_counter()
            ways.cut(CUTS[number % len(CUTS)])
            client.execute("SELECT 1")
            times.append((time.perf_counter() - began_s) * 1e3)
    return times


def connect_ms(ways: Ways, way: str) -> float:
    began_s = time.perf_counter()
    with contextlib.closing(ways.connect(way)) as client:
        client.execute("SELECT 1")
    return (time.perf_counter() - began_s) * 1e3


def idle_bytes(ways: Ways, way: str) -> float:
    """Memory that the proxy's process grows by, per idle client with its link."""
    statm = Path(f"/proc/{ways.proxies.pid(way)}/statm")

    def rss_bytes() -> int:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with sessions(ways, way, 10):
        before = rss_bytes()
        with sessions(ways, way, IDLE_CLIENTS):
            return (rss_bytes() - before) / IDLE_CLIENTS


def measure(ways: Ways, rounds: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []

    def add(work: str, unit: str, required: str, **found: float) -> None:
        rows.append({"work": work, "unit": unit, "required": required, **found})
        shown = "  ".join(f"{name} {value:9.2f}" for name, value in found.items())
        print(f"{work:28} {shown}   {unit}; required {required}", flush=True)

    errors = {way: errors_per_cut(ways, way, rounds) for way in ways.ports}
    add("errors per cut link", "errors", "backstay 0", **errors)
    recovery = recovery_ms(ways, rounds)
    add(
        "answer after a cut", "ms, median and worst", "50 ms",
        backstay=statistics.median(recovery), worst=max(recovery),
    )  # fmt: skip
    times: dict[str, list[float]] = {way: [] for way in ways.ports}
    for _ in range(rounds * 20):
        for way, found in times.items():
            found.append(connect_ms(ways, way))
    medians = {way: statistics.median(found) for way, found in times.items()}
    add("new client, warm pool", "ms", "0.3x of direct", **medians)
    memory = {way: idle_bytes(ways, way) for way in ("backstay", "pgbouncer")}
    add("idle client and its link", "bytes", "8192", **memory)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        ways = Ways(folder)
        try:
            rows = measure(ways, given.rounds)
        finally:
            ways.close()
    save(given.json, {"rows": rows})


if __name__ == "__main__":
    main()
