"""What the server itself says about a session: the question, the answer, the comparison.

Owns the fingerprint query (the substitute for a session tracker: asked on idle links, and after a
restore) and the identity query (asked once per new link). Both run as any role, on PostgreSQL 12 to
18; names are qualified down to the operators, because the client's search_path is in force. The
fingerprint goes through the extended protocol under names of its own, so that the client's unnamed
statement and portal stay untouched. Values it reads may be secrets: differences name things only.
Source: reference/postgres-replay.md, sections 3 and 5.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.setting_text import OF_TRANSACTION

STATEMENT = b"_backstay_fp"
"""Name of the prepared statement and of its portal."""

_SQL = b"""\
select 't' as k, '' as n, case
 when pg_catalog.pg_my_temp_schema() operator(pg_catalog.=) 0::pg_catalog.oid then '0' else (
 (select pg_catalog.count(*) from pg_catalog.pg_class
  where relnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema())
 operator(pg_catalog.+) (select pg_catalog.count(*) from pg_catalog.pg_type
  where typnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema())
 operator(pg_catalog.+) (select pg_catalog.count(*) from pg_catalog.pg_proc
  where pronamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema())
 )::pg_catalog.text end as v
union all select 'a', '', pg_catalog.count(*)::pg_catalog.text from pg_catalog.pg_locks
 where locktype operator(pg_catalog.=) 'advisory'
 and pid operator(pg_catalog.=) pg_catalog.pg_backend_pid()
union all select 'r', '', pg_catalog.current_setting('role')
union all select 'u', '', session_user::pg_catalog.text
union all select 'c', c, '' from pg_catalog.pg_listening_channels() as c
union all select 'h', name, '' from pg_catalog.pg_cursors where is_holdable
union all select 'p', name, statement from pg_catalog.pg_prepared_statements where from_sql
union all select 's', name, setting from pg_catalog.pg_settings
 where source operator(pg_catalog.=) 'session'
union all select 'g', n, pg_catalog.current_setting(n, true) from pg_catalog.unnest($1) as n"""

_TEXT_ARRAY = 1009

IDENTITY_SQL = b"""\
select pg_catalog.pg_backend_pid(),
 (select backend_start::pg_catalog.text from pg_catalog.pg_stat_activity
  where pid operator(pg_catalog.=) pg_catalog.pg_backend_pid()),
 case when pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute')
  then (select word from pg_catalog.ts_stat('select pg_catalog.array_to_tsvector(array[
   system_identifier::pg_catalog.text]) from pg_catalog.pg_control_system()')) end,
 (select stats_reset::pg_catalog.text from pg_catalog.pg_stat_bgwriter),
 pg_catalog.current_setting('server_version_num'),
 pg_catalog.pg_is_in_recovery()"""
"""Text of the identity query, for a simple Query. The system identifier is asked for in a detour
that only runs when it is permitted: the server checks permissions before it runs anything, and
ts_stat is the one function of every build that runs a text."""


_END_SQL = b"""\
select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
 where pid operator(pg_catalog.=) $1 and backend_start::pg_catalog.text operator(pg_catalog.=) $2
 and usename operator(pg_catalog.=) session_user and wait_event is distinct from 'SyncRep'"""

_INT4, _TEXT = 23, 25


@dataclass(frozen=True, slots=True)
class Expected:
    """What a fingerprint must show. Values known only from the client's text are not compared."""

    settings: dict[bytes, bytes] = field(repr=False)  # as pg_settings shows them
    names: frozenset[bytes]  # every setting of the session
    custom: dict[bytes, bytes] = field(repr=False)
    channels: frozenset[bytes]
    prepared: dict[bytes, bytes] = field(repr=False)
    role: bytes | None
    session_user: bytes | None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The state of a session as its server has it."""

    temp_objects: int = 0
    advisory_locks: int = 0
    role: bytes = b"none"
    session_user: bytes = b""
    channels: frozenset[bytes] = frozenset()
    cursors: frozenset[bytes] = frozenset()
    prepared: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    settings: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    custom: dict[bytes, bytes | None] = field(default_factory=dict, repr=False)
    """Settings asked for by name; None: the server does not know the name."""

    def difference(self, expected: Expected) -> str | None:
        """Name of the first thing that is not as expected, never a value; None: all is well."""
        simple = (
            ("temporary objects", self.temp_objects == 0),
            ("advisory locks", self.advisory_locks == 0),
            ("held cursors", not self.cursors),
            ("channels", self.channels == expected.channels),
            ("role", expected.role in (None, self.role)),
            ("session authorization", expected.session_user in (None, self.session_user)),
            ("prepared statements", self._same_prepared(expected.prepared)),
        )
        for name, same in simple:
            if not same:
                return name
        return self._setting_difference(expected)

    def _same_prepared(self, expected: dict[bytes, bytes]) -> bool:
        """The server keeps the whole Query a PREPARE was part of."""
        return self.prepared.keys() == expected.keys() and all(
            text in self.prepared[name] for name, text in expected.items()
        )

    def _setting_difference(self, expected: Expected) -> str | None:
        for name, value in expected.settings.items():
            if self.settings.get(name) != value:
                return _setting(name)
        for name, value in expected.custom.items():
            # A setting that pg_settings shows has another form there than its own name gives.
            if name not in self.settings and self.custom.get(name) != value:
                return _setting(name)
        for name in self.settings.keys() - expected.names:
            return _setting(name)
        return None


def _setting(name: bytes) -> str:
    return "setting " + name.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server, and which process of it, is behind a link. None: it would not say."""

    backend_pid: int
    backend_start: str | None
    system_identifier: str | None
    stats_reset: str | None
    server_version: int
    in_recovery: bool

    @property
    def incarnation(self) -> tuple[str | None, str | None]:
        """Changes when the server is another one, or lost what was not on disk (a crash)."""
        return self.system_identifier, self.stats_reset


def ask(custom_names: Sequence[bytes] = ()) -> bytes:
    """The question in one unit, ended by Sync, that leaves nothing behind. It carries its own
    Parse: DISCARD ALL and a transaction pooler would take a prepared one away.

    `custom_names`: settings that only answer to their name. Replies: 3 1 2 D* C 3 3 Z.
    """
    array = b"{" + b",".join(map(_array_item, custom_names)) + b"}"
    return b"".join(
        (
            messages.close(b"S", STATEMENT),
            messages.parse(STATEMENT, _SQL, (_TEXT_ARRAY,)),
            messages.bind(STATEMENT, STATEMENT, (array,)),
            messages.execute(STATEMENT),
            messages.close(b"P", STATEMENT),
            messages.close(b"S", STATEMENT),
            messages.sync(),
        )
    )


def _array_item(name: bytes) -> bytes:
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def identity() -> bytes:
    """The identity question, a simple Query. It destroys the unnamed statement of the link."""
    return messages.query(IDENTITY_SQL)


def end(pid: int, backend_start: str) -> bytes:
    """Have the server end the backend behind a dead link, one unit ended by Sync.

    Nobody else's: the process id may have been given to another since, but not with this start, nor
    on another server. To be asked as the link's own user, with the settings it was opened with (the
    start is compared as text). One that waits for its synchronous standby is left alone: it would
    commit without it (reference, section 5.4). Replies: 3 1 2 D* C 3 3 Z; one row if it was there.
    """
    return b"".join(
        (
            messages.close(b"S", STATEMENT),
            messages.parse(STATEMENT, _END_SQL, (_INT4, _TEXT)),
            messages.bind(STATEMENT, STATEMENT, (str(pid).encode(), backend_start.encode())),
            messages.execute(STATEMENT),
            messages.close(b"P", STATEMENT),
            messages.close(b"S", STATEMENT),
            messages.sync(),
        )
    )


def read(rows: Sequence[bytes]) -> Fingerprint:
    """The fingerprint from the bodies of its DataRow messages. Rows of one column are left out:
    they answer the set_config of a restoration sent in the same write. Raises PeerProtocolError
    when the others do not answer our question."""
    tables: dict[bytes, dict[bytes, bytes]] = {kind: {} for kind in _KINDS}
    custom: dict[bytes, bytes | None] = {}
    for body in rows:
        fields = messages.data_row(body)
        if len(fields) == 1:
            continue
        kind = fields[0] if len(fields) == 3 else None
        if kind is None or kind not in tables or fields[1] is None:
            raise _not_ours()
        name = fields[1].lower() if kind in (b"s", b"g") else fields[1]
        if kind == b"g":
            custom[name] = fields[2]
        elif fields[2] is not None and name not in OF_TRANSACTION:
            tables[kind][name] = fields[2]
    return Fingerprint(
        temp_objects=_count(tables[b"t"].get(b"")),
        advisory_locks=_count(tables[b"a"].get(b"")),
        role=tables[b"r"].get(b"", b"none"),
        session_user=tables[b"u"].get(b"", b""),
        channels=frozenset(tables[b"c"]),
        cursors=frozenset(tables[b"h"]),
        prepared=tables[b"p"],
        settings=tables[b"s"],
        custom=custom,
    )


_KINDS = (b"t", b"a", b"r", b"u", b"c", b"h", b"p", b"s", b"g")


def _not_ours() -> PeerProtocolError:
    return PeerProtocolError("not an answer to the proxy's question", Reason.UPSTREAM_PROTOCOL)


def _count(value: bytes | None) -> int:
    if value is None or not value.isdigit() or len(value) > 18:
        raise _not_ours()
    return int(value)


def read_identity(rows: Sequence[bytes]) -> Identity:
    """The identity from the bodies of its DataRow messages (one row).

    Raises PeerProtocolError when it is not the answer to our question.
    """
    fields = messages.data_row(rows[0]) if len(rows) == 1 else []
    if len(fields) != 6:
        raise _not_ours()
    pid, start, system, reset, version, recovery = fields
    return Identity(
        backend_pid=_count(pid),
        backend_start=_text(start),
        system_identifier=_text(system),
        stats_reset=_text(reset),
        server_version=_count(version),
        in_recovery=recovery == b"t",
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
