"""The servers and proxies of a PostgreSQL benchmark: ours, PgBouncer, HAProxy in TCP mode."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from proxy.demo.ports import free_port
from tests.bench.yardstick import await_port, need


@dataclass(frozen=True)
class Way:
    """A way to the server. `pid`: of the process whose CPU counts; None for the server itself."""

    port: int
    pid: int | None
    sslmode: str = "disable"


@dataclass(frozen=True)
class Ground:
    """Where the contestants stand: the server's port, how they reach it, links of each."""

    port: int
    sslmode: str
    pool_size: int = 50
    haproxy: bool = False


class Contestants:
    """The proxies in front of one server, plain or over TLS upstream, and the server itself."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        folder.chmod(0o755)  # PgBouncer does not run as root
        self._log = (folder / "log").open("w")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ways = {"backstay": self._backstay(ground, folder)}
        self.ways["pgbouncer"] = self._pgbouncer(ground, folder)
        if ground.haproxy:
            self.ways["haproxy"] = self._haproxy(ground, folder)
        for way in self.ways.values():
            await_port(way.port)
        self.ways["direct"] = Way(ground.port, None, ground.sslmode)

    def _start(self, port: int, *command: str, user: str | None = None) -> Way:
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log, user=user)
        self.processes.append(process)
        return Way(port, process.pid)

    def _backstay(self, ground: Ground, folder: Path) -> Way:
        port, settings = free_port(), folder / "backstay.yaml"
        settings.write_text(
            "postgres:\n"
            f"  - listen: 127.0.0.1:{port}\n"
            "    upstream: "
            f"postgresql://postgres@127.0.0.1:{ground.port}/app?sslmode={ground.sslmode}\n"
            f"    auth: {{method: trust}}\n    pool: {{size: {ground.pool_size}}}\n"
            "log: {level: warning}\n"
            "admin: {listen: []}\n"
        )
        return self._start(port, sys.executable, "-m", "proxy", "run", "-c", str(settings))

    def _pgbouncer(self, ground: Ground, folder: Path) -> Way:
        port, settings = free_port(), folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\napp = host=127.0.0.1 port={ground.port} user=postgres\n[pgbouncer]\n"
            f"listen_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\n"
            f"pool_mode=session\ndefault_pool_size={ground.pool_size}\nmax_client_conn=1000\n"
            f"server_tls_sslmode={ground.sslmode}\n"
            "unix_socket_dir=\nlogfile=/dev/null\n"
        )
        user = "nobody" if os.geteuid() == 0 else None
        return self._start(port, need("pgbouncer"), str(settings), user=user)

    def _haproxy(self, ground: Ground, folder: Path) -> Way:
        port, settings = free_port(), folder / "haproxy.cfg"
        settings.write_text(haproxy_settings(port, ground.port))
        return self._start(port, need("haproxy"), "-db", "-f", str(settings))

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait()
        self._log.close()


def haproxy_settings(port: int, upstream_port: int) -> str:
    """One thread, TCP mode, one server."""
    return (
        "global\n  nbthread 1\n  maxconn 1000\n"
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n"
        f"listen one\n  bind 127.0.0.1:{port}\n"
        f"  server one 127.0.0.1:{upstream_port}\n"
    )
