"""PostgreSQL: CPU of the proxy per unit of work and latency, Backstay beside PgBouncer and HAProxy.

All contestants get the same load in turn, round after round: pgbench's for small statements,
psql's for large results and COPY. What is compared is CPU time of the proxy's process.
"""

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proxy.demo.binaries import postgres_bin
from proxy.demo.certificates import make_tls
from proxy.demo.servers import PostgresOptions, PostgresServer
from tests.bench.figures import Row, Target
from tests.bench.ground import Contestants, Ground, Way
from tests.bench.yardstick import Budget, measured, output_of, percentile, ratio

CLIENTS = 16
PIPELINE = 10
COPIED_ROWS = 1_000_000
ALONE = 1000  # transactions of one client, a round, whose latencies count

Load = Callable[[Way], int]  # → how many units of work it did

SMALL = Target(1.35, 1.0)
SMALL_TLS = Target(1.5, 1.1)
ROWS = Target(2.0, 0.7)
WIDE = Target(1.0, 0.6)

_MANY = "select n from generate_series(1, 1000000) n"
_WIDE = "select repeat('x', 20000) from generate_series(1, 10000)"
_COPY_OUT = f"copy (select n, 'a row of text' from generate_series(1, {COPIED_ROWS}) n) to stdout"


@dataclass(frozen=True)
class Work:
    """One row. `scale`: from microseconds to `unit`; `alone`: measures latencies of one client."""

    name: str
    load: Load
    target: Target
    unit: str = "µs CPU"
    scale: float = 1.0
    alone: Callable[[Way], list[float]] | None = None
    haproxy: bool = True


def pgbench(folder: Path, seconds: float, words: tuple[str, ...], way: Way) -> int:
    """CLIENTS clients at once; how many transactions they ran."""
    text = _pgbench(folder, words, way, "-c", str(CLIENTS), "-T", str(max(1, round(seconds))))
    done = next(line for line in text.splitlines() if "actually processed" in line)
    return int(done.split(":")[1].split("/")[0])


def alone(folder: Path, words: tuple[str, ...], way: Way) -> list[float]:
    """Latencies of one client's transactions, microseconds.

    With many clients pgbench reads its clock once for all that are ready, and says too little.
    """
    prefix = folder / "latency"
    _pgbench(folder, words, way, "-c", "1", "-t", str(ALONE), "-l", "--log-prefix", str(prefix))
    latencies: list[float] = []
    for log in folder.glob(prefix.name + ".*"):
        latencies.extend(int(line.split()[2]) for line in log.read_text().splitlines())
        log.unlink()
    return latencies


def _pgbench(folder: Path, words: tuple[str, ...], way: Way, *more: str) -> str:
    script = folder / ("pipeline.sql" if "pipeline" in words else "select.sql")
    return output_of(
        str(postgres_bin() / "pgbench"), "-n", "-h", "127.0.0.1", "-p", str(way.port), "-U",
        "postgres", "-f", str(script), *more, *(word for word in words if word != "pipeline"),
        "app",
        PGSSLMODE=way.sslmode,
    )  # fmt: skip


def psql(command: str, way: Way) -> int:
    """One command of psql, whose output nobody reads; one unit of work."""
    output_of(
        "psql", "-h", "127.0.0.1", "-p", str(way.port), "-U", "postgres", "-d", "app", "-qAt", "-o",
        "/dev/null", "-c", command,
        PGSSLMODE=way.sslmode,
    )  # fmt: skip
    return 1


def copy_in(server: Way, path: Path, way: Way) -> int:
    """COPY FROM STDIN of all the file's rows into an empty table."""
    psql("truncate copied", server)
    return psql(f"\\copy copied from '{path}'", way)


def compare(contestants: Contestants, work: Work, budget: Budget) -> Row:
    """The same load on each contestant, in turn; then one client alone, also directly."""
    ways = contestants.ways
    names = [name for name in ways if name != "direct" and (work.haproxy or name != "haproxy")]
    cpu_us: dict[str, list[float]] = {name: [] for name in names}
    latencies: dict[str, list[float]] = {name: [] for name in [*names, "direct"]}
    for _ in range(budget.rounds):
        for name, found in cpu_us.items():
            way = ways[name]
            assert way.pid is not None
            found.append(measured(way.pid, partial(work.load, way)))
        if work.alone is not None:
            for name, times in latencies.items():
                times.extend(work.alone(ways[name]))
    medians = {name: statistics.median(found) * work.scale for name, found in cpu_us.items()}
    return Row(
        work.name,
        work.unit,
        medians.pop("backstay"),
        work.target,
        "pgbouncer",
        medians.pop("pgbouncer"),
        ratio(cpu_us["backstay"], cpu_us["pgbouncer"]),
        medians,
        {n: (percentile(us, 50), percentile(us, 99)) for n, us in latencies.items() if us},
    )


def small(folder: Path, budget: Budget) -> list[Work]:
    """Statements of which the proxy's own work is most of the cost."""

    def work(name: str, *words: str) -> Work:
        load = partial(pgbench, folder, budget.seconds, words)
        return Work(name, load, SMALL, alone=partial(alone, folder, words))

    return [
        work("SELECT 1, simple"),
        work("SELECT 1, prepared", "-M", "prepared"),
        work("SELECT 1, extended", "-M", "extended"),
        work(f"{PIPELINE} x SELECT 1, pipelined", "-M", "prepared", "pipeline"),
        Work("new connections", partial(pgbench, folder, budget.seconds, ("-C",)), Target()),
    ]


def large(folder: Path, server: Way) -> list[Work]:
    """Results and COPY, where bytes and rows are most of the cost."""
    rows = folder / "rows.txt"
    if not rows.exists():
        with rows.open("w") as file:
            file.writelines(f"{n}\ta row of text\n" for n in range(COPIED_ROWS))

    def work(name: str, load: Load, target: Target) -> Work:
        return Work(name, load, target, "ms CPU", 1e-3)

    return [
        work("1 M small rows", partial(psql, _MANY), ROWS),
        work("200 MB in wide rows", partial(psql, _WIDE), WIDE),
        work("COPY OUT, 1 M rows", partial(psql, _COPY_OUT), ROWS),
        work("COPY IN, 1 M rows", partial(copy_in, server, rows), ROWS),
    ]


def over_tls(folder: Path, budget: Budget, server: Way) -> list[Work]:
    """The same with TLS to the server; clients are local and plain. HAProxy cannot do that."""
    few = [*small(folder, budget)[:2], *large(folder, server)]
    if budget.quick:
        few = [work for work in few if work.name in ("SELECT 1, simple", "200 MB in wide rows")]
    return [
        replace(
            work,
            name=f"{work.name}, TLS upstream",
            target=SMALL_TLS if work.target is SMALL else work.target,
            haproxy=False,
        )
        for work in few
    ]


@contextlib.contextmanager
def served() -> Iterator[tuple[PostgresServer, Path]]:
    """A server with what the loads ask for, and a folder for everybody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "select.sql").write_text("select 1;\n")
        (folder / "pipeline.sql").write_text(
            "\\startpipeline\n" + "select 1;\n" * PIPELINE + "\\endpipeline\n"
        )
        options = PostgresOptions(tls=make_tls(folder), settings={"max_connections": "200"})
        server = PostgresServer(options).create()
        server.start()
        try:
            psql("create unlogged table copied (n int, t text)", Way(server.port, None))
            yield server, folder
        finally:
            server.close()


def rows(budget: Budget, only: str = "") -> Iterator[Row]:
    """Each row as it is found. `only`: those whose name has this word."""
    with served() as (server, folder):
        direct = Way(server.port, None)
        plain = [*small(folder, budget), *large(folder, direct)]
        for sslmode, works in (("disable", plain), ("require", over_tls(folder, budget, direct))):
            chosen = [work for work in works if only in work.name]
            if not chosen:
                continue
            part = folder / sslmode
            part.mkdir()
            ground = Ground(server.port, sslmode, haproxy=sslmode == "disable")
            contestants = Contestants(ground, part)
            try:
                for work in chosen:
                    yield compare(contestants, work, budget)
            finally:
                contestants.close()
