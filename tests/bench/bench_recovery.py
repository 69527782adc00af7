"""PostgreSQL: what a cut costs, what a new client costs. Direct, PgBouncer and Backstay in turns.

errors per cut      idle sessions whose upstream links are all cut, then one statement each
time after a cut    from the cut to the next answer of a session, upstream up (Backstay alone)
new client          connect and SELECT 1, wall clock; the server is reached over TLS. Each after
                    a rest, as the server takes 3 ms of a core to end the session before it
idle client         memory of the proxy per logged-in client and its link
"""

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
from tests.bench import figures
from tests.bench.figures import Row
from tests.bench.ground import Contestants, Ground
from tests.bench.yardstick import Budget, percentile, ratio
from tests.fix_cutter import ThreadCutter

SESSIONS = 16
IDLE_CLIENTS = 150
REST_S = 0.02
CUTS = (Cut.FIN, Cut.RST)
WAYS = ("backstay", "pgbouncer", "direct")
Connection = psycopg.Connection[tuple[object, ...]]


class Cuttable:
    """A server over TLS behind a cutter, and the three ways to it."""

    def __init__(self, folder: Path, sslmode: str) -> None:
        settings = {"max_connections": "250", "password_encryption": "scram-sha-256"}
        self.server = PostgresServer(
            PostgresOptions(tls=make_tls(folder), settings=settings)
        ).create()
        self.server.start()
        self._stack = contextlib.ExitStack()
        target = Target(address=("127.0.0.1", self.server.port))
        self.cutter = self._stack.enter_context(ThreadCutter(target))
        self.proxies = Contestants(Ground(self.cutter.port, sslmode, 200), folder)

    def connect(self, name: str) -> Connection:
        way = self.proxies.ways[name]
        return psycopg.connect(
            host="127.0.0.1", port=way.port, user="postgres", dbname="app", sslmode=way.sslmode,
            autocommit=True,
        )  # fmt: skip

    def cut(self, cut: Cut) -> None:
        self.cutter.call(lambda cutter: cutter.cut_all(cut))

    def close(self) -> None:
        self.proxies.close()
        self._stack.close()
        self.server.close()


@contextlib.contextmanager
def sessions(ground: Cuttable, way: str, count: int) -> Iterator[list[Connection]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(ground.connect(way))) for _ in range(count)]


def errors_per_cut(ground: Cuttable, way: str, rounds: int) -> float:
    """Errors the application sees, per link that was cut."""
    errors = total = 0
    for number in range(rounds):
        with sessions(ground, way, SESSIONS) as clients:
            for client in clients:
                client.execute("SET search_path TO public")
            ground.cut(CUTS[number % len(CUTS)])
            for client in clients:
                total += 1
                try:
                    client.execute("SET search_path TO public")
                except psycopg.Error:
                    errors += 1
    return errors / total


def recovery_ms(ground: Cuttable, rounds: int) -> list[float]:
    """From the cut of a session's link to its next answer."""
    times = []
    with sessions(ground, "backstay", 1) as (client,):
        client.execute("SET search_path TO public")
        for number in range(rounds):
            client.execute("SELECT 1")
            began_s = time.perf_counter()
            ground.cut(CUTS[number % len(CUTS)])
            client.execute("SELECT 1")
            times.append((time.perf_counter() - began_s) * 1e3)
    return times


def connect_ms(ground: Cuttable, way: str) -> float:
    time.sleep(REST_S)
    began_s = time.perf_counter()
    with contextlib.closing(ground.connect(way)) as client:
        client.execute("SELECT 1")
    return (time.perf_counter() - began_s) * 1e3


def idle_bytes(ground: Cuttable, name: str) -> float:
    """Memory that the proxy's process grows by, per idle client with its link."""
    statm = Path(f"/proc/{ground.proxies.ways[name].pid}/statm")

    def rss_bytes() -> int:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with sessions(ground, name, 10):
        before = rss_bytes()
        with sessions(ground, name, IDLE_CLIENTS):
            return (rss_bytes() - before) / IDLE_CLIENTS


def _latencies(times_ms: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    return {
        way: (percentile(found, 50) * 1e3, percentile(found, 99) * 1e3)
        for way, found in times_ms.items()
    }


def cuts(ground: Cuttable, budget: Budget) -> Iterator[Row]:
    """What a cut costs, and what a new client does."""
    rounds = 2 if budget.quick else 4
    errors = {way: errors_per_cut(ground, way, rounds) for way in WAYS}
    yield Row(
        "errors per cut link, idle session", "errors", errors["backstay"],
        figures.Target(0.0, 0.0), "pgbouncer", errors["pgbouncer"], None,
        {"direct": errors["direct"]},
    )  # fmt: skip
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(20 if budget.quick else 100):
        first = number % len(WAYS)
        for way in WAYS[first:] + WAYS[:first]:
            times[way].append(connect_ms(ground, way))
    login_ms = statistics.median(times["direct"])
    recovery = recovery_ms(ground, 10 if budget.quick else 50)
    yield Row(
        "answer after a cut, upstream up", "ms", statistics.median(recovery),
        figures.Target(50.0, 5.0 + login_ms), "a direct login", login_ms, None, {},
        _latencies({"backstay": recovery}),
    )  # fmt: skip
    yield Row(
        "new client, warm pool, TLS upstream", "ms", statistics.median(times["backstay"]),
        figures.Target(0.3, 0.1), "direct", login_ms, ratio(times["backstay"], times["direct"]),
        {"pgbouncer": statistics.median(times["pgbouncer"])}, _latencies(times),
    )  # fmt: skip


def memory(ground: Cuttable) -> Row:
    """Of a client at rest, with its link (session pooling: each has one)."""
    kept = {way: idle_bytes(ground, way) / 1024 for way in ("backstay", "pgbouncer")}
    return Row(
        "idle client and its link, memory", "KiB", kept["backstay"], figures.Target(8.0, 3.0),
        "pgbouncer", kept["pgbouncer"],
    )  # fmt: skip


def rows(budget: Budget, only: str = "") -> Iterator[Row]:
    """Each row as it is found. `only`: those whose name has this word."""
    for sslmode, find in (("require", lambda ground: cuts(ground, budget)),
                          ("disable", lambda ground: [memory(ground)])):  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            ground = Cuttable(folder, sslmode)
            try:
                for row in find(ground):
                    if only in row.name:
                        yield row
            finally:
                ground.close()
