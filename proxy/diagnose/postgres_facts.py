"""Asking a PostgreSQL server, as any client may: settings, sessions, and whether SET sticks."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import psycopg

from proxy.diagnose.facts import Pooler, PostgresFacts, Session
from proxy.diagnose.postgres_link import CannotConnect, Connection, TooLate, bounded

QUERY_S_MAX = 10.0
POOLER_WAIT_S = 3.0
SESSIONS_MAX = 20_000

SETTINGS = (
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "statement_timeout",
    "lock_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_user_timeout",
    "client_connection_check_interval",
    "default_transaction_read_only",
    "password_encryption",
    "ssl",
)

_SETTINGS = "select name, setting from pg_catalog.pg_settings where name = any(%s)"
_SESSIONS = """
select usename, coalesce(application_name, ''), coalesce(host(client_addr), 'local'), state,
    extract(epoch from clock_timestamp() - state_change)::float8,
    extract(epoch from clock_timestamp() - xact_start)::float8,
    extract(epoch from clock_timestamp() - backend_start)::float8,
    backend_type
from pg_catalog.pg_stat_activity
where pid <> pg_catalog.pg_backend_pid() and datid is not null
    and (backend_type is null or backend_type = 'client backend')
limit %s
"""
_TAKEN = (
    "select coalesce(sum(numbackends), 0)::int from pg_catalog.pg_stat_database where datid > 0"
)
_LIMITS = """
select current_user::text, current_database()::text, pg_catalog.pg_is_in_recovery(),
    (select rolconnlimit from pg_catalog.pg_roles where rolname = current_user),
    (select datconnlimit from pg_catalog.pg_database where datname = current_database())
"""


def gather(connection: Connection, facts: PostgresFacts) -> None:
    """Fill in what the server says about itself. Raises psycopg.Error or TooLate.

    What it does not know (it may only resemble PostgreSQL) or does not tell stays None.
    """
    facts.version = connection.info.parameter_status("server_version") or ""
    facts.tls_used = bool(connection.pgconn.ssl_in_use)
    with bounded(connection, QUERY_S_MAX):
        facts.settings = dict(_ask(connection, _SETTINGS, list(SETTINGS)))
        for row in _ask(connection, _LIMITS):
            facts.user, facts.database, facts.in_recovery = row[:3]
            facts.role_limit, facts.database_limit = (-1 if n is None else n for n in row[3:])
        taken = _ask(connection, _TAKEN)
        facts.connections = taken[0][0] if taken else None
        _sessions(connection, facts)


def _ask(connection: Connection, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows; none if the server refuses. Raises psycopg.Error if the connection has ended."""
    try:
        return connection.execute(sql.encode(), values or None).fetchall()
    except psycopg.Error:
        if connection.closed:
            raise
        return []


def _sessions(connection: Connection, facts: PostgresFacts) -> None:
    rows = _ask(connection, _SESSIONS, SESSIONS_MAX)
    facts.hidden = sum(row[7] is None for row in rows)
    facts.sessions = [Session(*row[:7]) for row in rows if row[7] is not None]
    # Without pg_read_all_stats other users' rows do not say what kind of backend they are; the
    # databases' own counters do not hide, but count a few helpers too.
    if rows and not facts.hidden:
        facts.connections = len(rows) + 1


# ---- a pooler in between ------------------------------------------------------------------------


def look_for_pooler(connect: Callable[[], Connection]) -> Pooler:
    """What two connections of one user show about who answers them.

    `SET search_path` is tried with a list that means the same: if a pooler hands our link on
    with it, nobody is harmed. Raises psycopg.Error,
    TooLate or CannotConnect only where already plain queries fail.
    """
    found = Pooler()
    with contextlib.closing(connect()) as one:
        with bounded(one, QUERY_S_MAX):
            pid, path = _who(one)
            found.key_pid_differs = pid != one.info.backend_pid
            try:
                one.execute(f"SET search_path TO {rewritten(path)}".encode())
            except psycopg.Error as error:
                if one.closed:
                    raise
                found.set_failed = f"{error.sqlstate or ''} {_first_line(error)}".strip()
                return found
        with contextlib.suppress(CannotConnect), contextlib.closing(connect()) as two:
            _cross(found, one, two, (pid, path))
    return found


def _cross(found: Pooler, one: Connection, two: Connection, before: tuple[int, str]) -> None:
    """Hold the second connection in a transaction and look at the first one meanwhile."""
    pid, path = before
    try:
        with bounded(two, POOLER_WAIT_S):
            two.execute("BEGIN")
            other_pid, other_path = _who(two)
    except TooLate:
        return  # a full pool, of whatever kind: it says nothing about the first connection
    found.shared = other_pid == pid
    found.set_leaked = other_path != path
    try:
        with bounded(one, POOLER_WAIT_S):
            for _ in range(2):
                now_pid, now_path = _who(one)
                found.moved |= now_pid != pid
                found.set_lost |= now_path == path
    except TooLate:
        found.waited = True
    with contextlib.suppress(psycopg.Error, TooLate), bounded(two, POOLER_WAIT_S):
        two.execute("ROLLBACK")


def _who(connection: Connection) -> tuple[int, str]:
    row = connection.execute(
        "select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('search_path')"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def rewritten(path: str) -> str:
    """A `search_path` list, as SHOW spells it, in other words that mean the same, for SET.

    Everything in it twice; once, if something is there twice already, so that it does not grow.
    """
    names = [
        quoted.replace('""', '"') if quoted or not plain else plain
        for quoted, plain in _ELEMENT.findall(path)
    ]
    once = list(dict.fromkeys(names or ["pg_catalog"]))
    wanted = once if len(once) < len(names) else once * 2
    return ", ".join("'" + name.replace("'", "''") + "'" for name in wanted)


_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"\s][^,"]*?))\s*(?:,|$)')


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error) or type(error).__name__).splitlines()[0][:200]
