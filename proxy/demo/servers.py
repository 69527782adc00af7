"""Real servers on free ports, for the demo and the tests: start, break in every way, restart.

Blocking calls with bounded waits; from a coroutine use `asyncio.to_thread`. Every server is a child
that dies with this process, its data in a scratch folder that goes with it. Programs are found by
binaries.py. As root, PostgreSQL runs as an unprivileged user.
"""

import os
import signal
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlencode

from proxy.demo.binaries import postgres_bin, reachable_bin, redis_has_tls, redis_server
from proxy.demo.certificates import TlsFiles
from proxy.demo.child import (
    Child,
    ServerError,
    remove_folder,
    run_tool,
    scratch_folder,
    unprivileged_owner,
)
from proxy.demo.ports import free_port

if TYPE_CHECKING:
    import psycopg

PROBE_S_MAX: Final = 5.0

# One role per login method; pg_hba below sends each to its own. The trusted ones have a password
# too, though the server never asks: a proxy that does not know that yet may ask for one.
ROLE_PASSWORDS: Final[Mapping[str, str]] = {
    "postgres": "postgres-Pa55word",
    "app_trust": "trust-Pa55word",
    "app_password": "clear-Pa55 word",
    "app_md5": "md5-Pa55%word",
    "app_scram": "scram-Pa55/wörd",
    "app_tls": "tls-Pa55word",  # SCRAM, TLS only
}

_HBA: Final = """
local   all          postgres                   trust
host    all          postgres     127.0.0.1/32  trust
host    all          postgres     ::1/128       trust
local   replication  postgres                   trust
host    replication  postgres     127.0.0.1/32  trust
hostssl all          app_tls      all           scram-sha-256
{certificate_line}
local   all          app_trust                  trust
host    all          app_trust    all           trust
local   all          app_password               password
host    all          app_password all           password
local   all          app_md5                    md5
host    all          app_md5      all           md5
local   all          app_scram                  scram-sha-256
host    all          app_scram    all           scram-sha-256
"""

# Speed over durability of the machine's own power: kill -9 of the server loses nothing by this.
_FAST: Final[Mapping[str, str]] = {
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "max_wal_senders": "5",
    "wal_level": "replica",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "lc_messages": "C",
}


class Stop(Enum):
    """Ways a PostgreSQL server goes away; the value is the signal."""

    SMART = signal.SIGTERM
    """Waits for its clients."""
    FAST = signal.SIGINT
    """Each session gets a FATAL 57P01."""
    IMMEDIATE = signal.SIGQUIT
    """Each session gets a WARNING and is aborted; recovery at the next start."""
    KILL = signal.SIGKILL
    """kill -9 to every process of the server: clients see a reset and nothing else."""


@dataclass(frozen=True, kw_only=True)
class PostgresOptions:
    """What a PostgreSQL server is started with."""

    settings: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    bin_folder: Path | None = None


class PostgresServer:
    """A PostgreSQL cluster: superuser `postgres` (trust), ROLE_PASSWORDS, database `app`."""

    def __init__(self, options: PostgresOptions = PostgresOptions()) -> None:
        self.options = options
        self.settings = {**_FAST, **options.settings}
        self.port = free_port()
        self._owner = unprivileged_owner()
        self.bin = reachable_bin(options.bin_folder or postgres_bin(), self._owner)
        self.folder = scratch_folder(self._owner)
        self._child: Child | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """The directory of the Unix socket."""
        return self.folder

    def dsn(self, user: str = "postgres", database: str = "app", **options: str) -> str:
        """A URL with password to this server over TCP; options are libpq's (`sslmode` …)."""
        return postgres_url(("127.0.0.1", self.port), user, database, **options)

    def create(self) -> Self:
        """initdb and the roles, in single-user mode so that no client library is needed."""
        words = [
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
            "-A",
            "trust",
        ]
        run_tool([str(self.bin / "initdb"), *words], self._owner)
        single = ["--single", "-D", str(self.data), "-c", "fsync=off"]
        run_tool([str(self.bin / "postgres"), *single, "postgres"], self._owner, _roles_sql())
        self._write_files()
        return self

    def create_standby_of(self, primary: "PostgresServer") -> Self:
        """Copy a running primary with pg_basebackup and follow it by streaming replication."""
        source = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"]
        words = [*source, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "-N"]
        run_tool([str(self.bin / "pg_basebackup"), *words], self._owner)
        self._write_files()
        return self

    def start(self) -> Self:
        """Start and wait until logins work."""
        words = ["-D", str(self.data), "-p", str(self.port), "-k", str(self.socket_folder)]
        words += ["-c", "listen_addresses=127.0.0.1"]
        for name, value in self.settings.items():
            words += ["-c", f"{name}={value}"]
        self._child = Child(
            [str(self.bin / "postgres"), *words],
            self.folder.with_name(f"{self.folder.name}.log"),
            owner=self._owner,
            death_signal=signal.SIGQUIT,  # the server then removes its shared memory itself
        )
        self._child.start()
        self._child.wait_ready(self.answers)
        return self

    def stop(self, how: Stop = Stop.FAST) -> None:
        """Stop in the given way; returns when every process is gone."""
        if self._child is None:
            return
        if how is Stop.KILL:
            self._child.kill_tree()
        else:
            self._child.end(how.value)
        self._child = None

    def restart(self, how: Stop = Stop.FAST) -> None:
        """Stop and start again on the same port."""
        self.stop(how)
        self.start()

    def reload(self, **settings: str) -> None:
        """Append to postgresql.conf and SIGHUP. Those given at start (command line) stay."""
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(lines)
        assert self._child is not None, "not running"
        self._child.send(signal.SIGHUP)

    def promote(self) -> None:
        """Make a standby the primary; returns when it accepts writes."""
        run_tool([str(self.bin / "pg_ctl"), "promote", "-w", "-D", str(self.data)], self._owner)

    def freeze(self) -> None:
        """SIGSTOP to every process: the kernel still accepts and acknowledges, nobody answers."""
        assert self._child is not None, "not running"
        self._child.signal_tree(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        assert self._child is not None, "not running"
        self._child.signal_tree(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good and remove the data."""
        self.stop(Stop.IMMEDIATE)
        remove_folder(self.folder)
        self.folder.with_name(f"{self.folder.name}.log").unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether the postmaster exists."""
        return self._child is not None and self._child.running()

    def answers(self) -> bool:
        """Whether a login over the Unix socket succeeds now."""
        return postgres_answers(self.socket_folder / f".s.PGSQL.{self.port}")

    def connect(self, database: str = "app", **options: Any) -> "psycopg.Connection[Any]":
        """A superuser's autocommit psycopg connection, for looking behind the proxy's back."""
        import psycopg  # only in the `demo` extra

        return psycopg.connect(self.dsn(database=database), autocommit=True, **options)

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one query as superuser; its rows ([] if it returns none)."""
        with self.connect() as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def log_text(self) -> str:
        """All the server has logged."""
        return self.folder.with_name(f"{self.folder.name}.log").read_text(errors="replace")

    def _write_files(self) -> None:
        tls = self.options.tls
        line = "hostssl all app_cert all cert" if tls else ""
        (self.data / "pg_hba.conf").write_text(_HBA.format(certificate_line=line))
        if tls is None:
            return
        for name, source, mode in (
            ("server.crt", tls.certificate, 0o644),
            ("server.key", tls.key, 0o600),
            ("root.crt", tls.ca, 0o644),
        ):
            self._install(self.data / name, source.read_bytes(), mode)
        self.settings |= {"ssl": "on", "ssl_ca_file": "root.crt"}

    def _install(self, path: Path, content: bytes, mode: int) -> None:
        path.touch(mode)
        path.write_bytes(content)
        path.chmod(mode)
        if self._owner.uid >= 0:
            os.chown(path, self._owner.uid, self._owner.gid)


def postgres_url(address: tuple[str, int], user: str, database: str, **options: str) -> str:
    """A libpq URL for one of the known roles, password and options percent-encoded."""
    password = ROLE_PASSWORDS.get(user, "")
    login = f"{user}:{quote(password, safe='')}" if password else user
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{login}@{address[0]}:{address[1]}/{database}{query}"


def postgres_answers(path: Path, user: str = "postgres", database: str = "postgres") -> bool:
    """Whether a trust login over this Unix socket gets `R` (and not 57P03 or a refusal)."""
    body = struct.pack("!I", 196608) + b"user\0%b\0database\0%b\0\0" % (
        user.encode(),
        database.encode(),
    )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(PROBE_S_MAX)
            link.connect(str(path))
            link.sendall(struct.pack("!I", len(body) + 4) + body)
            answer = link.recv(1)
            if answer == b"R":
                link.sendall(b"X\0\0\0\4")
            return answer == b"R"
    except OSError:
        return False


def _roles_sql() -> bytes:
    # Whoever belongs to the database's owner may create in its schema `public`, also since 15.
    lines = ["CREATE ROLE app_owners;", "CREATE DATABASE app OWNER app_owners;"]
    for role, password in ROLE_PASSWORDS.items():
        encryption = "md5" if role == "app_md5" else "scram-sha-256"
        verb = "ALTER" if role == "postgres" else "CREATE"
        lines.append(f"SET password_encryption = '{encryption}';")
        lines.append(f"{verb} ROLE {role} LOGIN PASSWORD '{password}';")
    lines.append("CREATE ROLE app_cert LOGIN;")
    roles = ", ".join([*(set(ROLE_PASSWORDS) - {"postgres"}), "app_cert"])
    lines.append(f"GRANT app_owners TO {roles};")
    return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True, kw_only=True)
class RedisOptions:
    """What a Redis server is started with. `users`: ACL rules by name ({"app": ">pw ~* +@all"})."""

    users: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    persistent: bool = False
    program: Path | None = None


class RedisServer:
    """A Redis (or Valkey) server; with TLS files also on `tls_port`."""

    def __init__(self, options: RedisOptions = RedisOptions()) -> None:
        self.options = options
        self.program = options.program or redis_server()
        if options.tls and not redis_has_tls(self.program):
            raise ServerError(f"{self.program} was built without TLS")
        self.port = free_port()
        self.tls_port = free_port() if options.tls else 0
        self.folder = scratch_folder()
        self._child = Child(
            [str(self.program), str(self.folder / "redis.conf")], self.folder / "redis.log"
        )

    @property
    def socket_path(self) -> Path:
        """The Unix socket."""
        return self.folder / "redis.sock"

    @property
    def pid(self) -> int:
        """The running server's process."""
        return self._child.pid

    def url(self, user: str = "", password: str = "", database: int = 0) -> str:
        """A `redis://` URL to this server."""
        login = f"{user}:{password}@" if password else ""
        return f"redis://{login}127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """Start and wait until it has loaded its data and answers."""
        (self.folder / "redis.conf").write_text("".join(f"{line}\n" for line in self._conf()))
        self._child.start()
        self._child.wait_ready(self.answers)
        return self

    def stop(self) -> None:
        """SIGTERM: saves if persistent, then ends."""
        self._child.end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._child.kill_tree()

    def restart(self, *, kill: bool = False) -> None:
        """End, by SIGTERM or SIGKILL, and start again on the same port."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts and acknowledges, nobody answers."""
        self._child.signal_tree(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._child.signal_tree(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good and remove the data."""
        self._child.kill_tree()
        remove_folder(self.folder)

    def running(self) -> bool:
        """Whether the process exists."""
        return self._child.running()

    def answers(self) -> bool:
        """Whether PING gets an answer other than -LOADING (a refusal of our login counts)."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.settimeout(PROBE_S_MAX)
                link.connect(str(self.socket_path))
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
        except OSError:
            return False

    def connect(self, **options: Any) -> Any:
        """A redis-py client over the Unix socket, for looking behind the proxy's back."""
        import redis  # only in the `demo` extra

        return redis.Redis(unix_socket_path=str(self.socket_path), **options)

    def log_text(self) -> str:
        """All the server has logged."""
        return self._child.log.read_text(errors="replace")

    def _conf(self) -> list[str]:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self.socket_path}",
            f"dir {self.folder}",
            "daemonize no",
            f"appendonly {'yes' if self.options.persistent else 'no'}",
            "appendfsync always" if self.options.persistent else 'save ""',
        ]
        if tls := self.options.tls:
            lines += [
                f"tls-port {self.tls_port}",
                f"tls-cert-file {tls.certificate}",
                f"tls-key-file {tls.key}",
                f"tls-ca-cert-file {tls.ca}",
                "tls-auth-clients optional",
            ]
        lines += [f"user {name} on {rules}" for name, rules in self.options.users.items()]
        lines += [f"{name} {value}" for name, value in self.options.settings.items()]
        return lines
