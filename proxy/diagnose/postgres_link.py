"""A psycopg connection whose opening was timed step by step, and calls on it that always end.

libpq opens it, as it does for the application; its state tells what it is waiting for. Every
blocking call runs under `bounded`, which cuts the socket when the time is over: libpq itself knows
no time limit for a query.
"""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from proxy.diagnose.facts import ConnectTimes, Failure
from proxy.diagnose.reach import Way
from proxy.settings.urls import PostgresUpstream

Connection = psycopg.Connection[tuple[Any, ...]]

_TCP = (pq.ConnStatus.STARTED, pq.ConnStatus.NEEDED, pq.ConnStatus.ALLOCATED)
_TLS = (pq.ConnStatus.SSL_STARTUP, pq.ConnStatus.GSS_STARTUP)
_SQLSTATES = {"28P01": "password", "28000": "password", "53300": "full", "57P03": "starting"}


class CannotConnect(Exception):
    """No usable connection; `failure` says why, without a secret."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def conninfo(upstream: PostgresUpstream, way: Way | None, **extra: str | int) -> str:
    """libpq's connection string for a single-host upstream; `way` spares it the name lookup."""
    host = upstream.hosts[0]
    given: dict[str, str | int | None] = {
        "host": host.host.rstrip("/") if host.is_unix else host.host,
        "hostaddr": way.address if way is not None and way.address else host.hostaddr,
        "port": host.port,
        "user": upstream.user,
        "password": upstream.password,
        "dbname": upstream.dbname,
        "sslmode": upstream.sslmode,
        "sslnegotiation": upstream.sslnegotiation,
        "sslrootcert": upstream.sslrootcert,
        "sslcert": upstream.sslcert,
        "sslkey": upstream.sslkey,
        "sslpassword": upstream.sslpassword,
        "channel_binding": upstream.channel_binding,
        "options": upstream.options,
        "application_name": "backstay diagnose",
        "gssencmode": "disable",
        **extra,
    }
    return make_conninfo(
        "", **{name: str(value) for name, value in given.items() if value is not None}
    )


def connect(
    upstream: PostgresUpstream, way: Way | None, timeout_s: float, **extra: str | int
) -> tuple[Connection, ConnectTimes]:
    """A connection in autocommit, and how long each step took. Raises CannotConnect."""
    spent = {"tcp": 0.0, "tls": 0.0, "login": 0.0}
    began_s = time.perf_counter()
    pgconn = pq.PGconn.connect_start(conninfo(upstream, way, **extra).encode())
    try:
        stage = _open(pgconn, began_s + timeout_s, spent)
    except TimeoutError:
        stage = _stage(pgconn.status)
        pgconn.finish()
        text = f"no end of the {_STAGES[stage]} within {timeout_s:g} s"
        raise CannotConnect(Failure(stage, "timeout", text, timeout_s)) from None
    if stage is not None:
        failure = _failure(pgconn, stage, upstream)
        failure.after_s = time.perf_counter() - began_s
        pgconn.finish()
        raise CannotConnect(failure)
    connection: Connection = psycopg.Connection(pgconn)
    pgconn.nonblocking = 1
    connection.autocommit = True
    return connection, ConnectTimes(
        dns_s=way.dns_s if way is not None else None,
        tcp_s=spent["tcp"],
        tls_s=spent["tls"] if pgconn.ssl_in_use else None,
        login_s=spent["login"],
    )


_STAGES = {"tcp": "TCP connection", "tls": "TLS handshake", "login": "login"}


def _stage(status: int) -> str:
    return "tcp" if status in _TCP else "tls" if status in _TLS else "login"


def _open(pgconn: pq.abc.PGconn, until_s: float, spent: dict[str, float]) -> str | None:
    """Poll until it is open; None, or the stage where it failed. Raises TimeoutError."""
    while True:
        stage = _stage(pgconn.status)
        last_s = time.perf_counter()
        polled = pgconn.connect_poll()
        if polled == pq.PollingStatus.OK:
            spent[stage] += time.perf_counter() - last_s
            return None
        if polled == pq.PollingStatus.FAILED:
            return stage
        waits = [pgconn.socket]
        read = polled == pq.PollingStatus.READING
        left_s = until_s - time.perf_counter()
        ready = select.select(waits if read else [], [] if read else waits, [], max(0.0, left_s))
        if not (ready[0] or ready[1]):
            raise TimeoutError
        spent[stage] += time.perf_counter() - last_s


def _failure(pgconn: pq.abc.PGconn, stage: str, upstream: PostgresUpstream) -> Failure:
    text = without(pgconn.get_error_message("utf-8"), upstream)
    text = text.rpartition("failed: ")[2]
    reason = "other"
    for words, name in (
        ("database not available", "away"),  # Backstay's own: it quotes what it met itself
        ("password authentication failed", "password"),
        ("no password supplied", "password"),
        ("authentication failed", "password"),
        ("no pg_hba.conf entry", "password"),
        ("too many", "full"),
        ("remaining connection slots", "full"),
        ("certificate", "certificate"),
        ("server closed the connection", "closed"),
        ("does not support SSL", "no-tls"),
        ("Connection refused", "refused"),
        ("starting up", "starting"),
    ):
        if words in text:
            reason = name
            break
    return Failure("tls" if reason in ("certificate", "no-tls") else stage, reason, text)


def without(text: str, upstream: PostgresUpstream) -> str:
    """An error's message and detail on one line; no passwords, should a server repeat them."""
    for secret in (upstream.password, upstream.sslpassword):
        if secret:
            text = text.replace(secret, "***")
    text = " ".join(text.replace("FATAL:", "").partition("HINT:")[0].split())
    return text.replace(" DETAIL: ", ". ")[:300]


class TooLate(Exception):
    """The server did not answer in time; the connection is of no use any more."""


@contextlib.contextmanager
def bounded(connection: Connection, timeout_s: float) -> Iterator[None]:
    """Run blocking calls on the connection; after `timeout_s` it is cut, and they raise TooLate."""
    copy = socket.socket(fileno=os.dup(connection.fileno()))
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.Error:
        if late.is_set():
            raise TooLate from None
        raise
    finally:
        timer.cancel()
        copy.close()
