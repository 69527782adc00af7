"""PostgreSQL: CPU of the proxy per transaction, Backstay beside PgBouncer, in one interleaved run.

python -m tests.bench.bench_postgres [rounds] [seconds]
"""

import re
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from proxy.demo.binaries import postgres_bin
from proxy.demo.certificates import make_tls
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresOptions, PostgresServer
from tests.bench.yardstick import Series, measured, need, output_of

CLIENTS = 16


class Contestants:
    """Both proxies in front of one server, plain or over TLS upstream."""

    def __init__(self, port: int, folder: Path, sslmode: str, pool_size: int = 50) -> None:
        self.ports = {"backstay": free_port(), "pgbouncer": free_port()}
        folder.chmod(0o755)
        (folder / "backstay.yaml").write_text(
            "postgres:\n"
            f"  - listen: 127.0.0.1:{self.ports['backstay']}\n"
            f"    upstream: postgresql://postgres@127.0.0.1:{port}/app?sslmode={sslmode}\n"
            f"    auth: {{method: trust}}\n    pool: {{size: {pool_size}}}\n"
            "log: {level: warning}\n"
            "admin: {listen: []}\n"
        )
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\napp = host=127.0.0.1 port={port} user=postgres\n[pgbouncer]\n"
            f"listen_addr=127.0.0.1\nlisten_port={self.ports['pgbouncer']}\nauth_type=any\n"
            f"pool_mode=session\ndefault_pool_size={pool_size}\nmax_client_conn=1000\n"
            f"server_tls_sslmode={sslmode}\n"
            "unix_socket_dir=\nlogfile=/dev/null\n"
        )
        log = (folder / "log").open("w")
        self.processes = {
            "backstay": subprocess.Popen(
                [sys.executable, "-m", "proxy", "run", "-c", str(folder / "backstay.yaml")],
                stderr=log,
            ),
            "pgbouncer": subprocess.Popen(
                [need("pgbouncer"), str(folder / "pgbouncer.ini")],
                stderr=log,
                user="nobody",
            ),
        }
        for port in self.ports.values():
            _await(port)

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
            process.wait()


def _await(port: int) -> None:
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


def _pgbench(port: int, seconds: int, script: Path, *words: str) -> int:
    text = output_of(
        str(postgres_bin() / "pgbench"), "-n", "-h", "127.0.0.1", "-p", str(port), "-U",
        "postgres", "-T", str(seconds), "-f", str(script), *words, "app",
    )  # fmt: skip
    match = re.search(r"actually processed: (\d+)", text)
    assert match is not None, text
    return int(match[1])


def _rows(port: int, query: str) -> int:
    """Read a large result with psql's COPY-free path; one unit of work."""
    output_of(
        "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-d", "app", "-qAt", "-o",
        "/dev/null", "-c", query,
    )  # fmt: skip
    return 1


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # PgBouncer does not run as root
        script = folder / "select.sql"
        script.write_text("select 1;\n")
        tls = make_tls(folder)
        server = PostgresServer(
            PostgresOptions(tls=tls, settings={"max_connections": "200"})
        ).create()
        server.start()
        print(f"{'work':44} {'backstay':>9} {'pgbouncer':>9}   (µs of CPU per unit)")
        try:
            for sslmode in ("disable", "require"):
                part = folder / sslmode
                part.mkdir()
                _compare(server, part, sslmode, script, (rounds, seconds))
        finally:
            server.close()


def _compare(
    server: PostgresServer, folder: Path, sslmode: str, script: Path, size: tuple[int, int]
) -> None:
    rounds, seconds = size
    contestants = Contestants(server.port, folder, sslmode)
    tls = sslmode != "disable"
    suffix = ", TLS upstream" if tls else ""
    words = ("-c", str(CLIENTS))
    work = [
        (Series(f"SELECT 1, simple, 16 clients{suffix}", 1.5 if tls else 1.35), words),
        (Series(f"SELECT 1, extended, 16 clients{suffix}", 1.5), (*words, "-M", "extended")),
        (Series(f"SELECT 1, prepared, 16 clients{suffix}", 1.5), (*words, "-M", "prepared")),
    ]
    large = [
        (Series(f"1 M small rows{suffix}", 2.0), "select n from generate_series(1, 1000000) n"),
        (
            Series(f"200 MB in wide rows{suffix}", 1.0),
            "select repeat('x', 20000) from generate_series(1, 10000)",
        ),
    ]
    try:
        for series, options in work:
            for _ in range(rounds):
                for name, port in contestants.ports.items():
                    series.add(
                        name,
                        measured(
                            contestants.pid(name),
                            partial(_pgbench, port, seconds, script, *options),
                        ),
                    )
            print(series.row("backstay", "pgbouncer"), flush=True)
        for series, query in large:
            for _ in range(rounds):
                for name, port in contestants.ports.items():
                    series.add(
                        name,
                        measured(contestants.pid(name), partial(_rows, port, query)),
                    )
            print(series.row("backstay", "pgbouncer"), flush=True)
    finally:
        contestants.close()


if __name__ == "__main__":
    main()
