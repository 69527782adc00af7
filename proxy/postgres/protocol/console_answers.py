"""What drivers, pools and tools ask any server, answered in the console's name.

Not SQL: a SELECT without FROM, of functions and literals from a short list, and SHOW of what a
session's settings would be. Look-ups in the system catalog find nothing, as nothing is there.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.postgres.protocol.console_command import DRIVER_SETTINGS, ConsoleError
from proxy.postgres.protocol.console_table import Column, Kind, Table, Value

SERVER_VERSION = "1.25.0/backstay"
"""As PgBouncer 1.25 reports its own: what tools choose the console's columns by."""


@dataclass(frozen=True, slots=True)
class Myself:
    """The console's session, as its client may ask about it."""

    user: str
    database: str
    pid: int
    version: str  # Backstay's
    application: str = ""


def session_settings(me: Myself) -> dict[str, str]:
    """Name → value of everything a session can be asked for with SHOW."""
    return {
        "server_version": SERVER_VERSION,
        "server_encoding": "UTF8",
        "client_encoding": "UTF8",
        "datestyle": "ISO, MDY",
        "intervalstyle": "postgres",
        "timezone": "Etc/UTC",
        "time zone": "Etc/UTC",
        "integer_datetimes": "on",
        "standard_conforming_strings": "on",
        "is_superuser": "off",
        "session_authorization": me.user,
        "application_name": me.application,
        "search_path": "",
        "transaction isolation level": "read committed",
        "transaction_isolation": "read committed",
        "default_transaction_isolation": "read committed",
        "transaction_read_only": "off",
        "default_transaction_read_only": "off",
        "in_hot_standby": "off",
        "max_identifier_length": "63",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "jit": "off",
    }


REPORTED = {
    "server_version": "server_version",
    "server_encoding": "server_encoding",
    "client_encoding": "client_encoding",
    "DateStyle": "datestyle",
    "IntervalStyle": "intervalstyle",
    "TimeZone": "timezone",
    "integer_datetimes": "integer_datetimes",
    "standard_conforming_strings": "standard_conforming_strings",
    "is_superuser": "is_superuser",
    "session_authorization": "session_authorization",
    "application_name": "application_name",
}
"""ParameterStatus at the login → the setting it tells."""


def show(name: str, me: Myself) -> Table | None:
    """SHOW of a session's setting; None if there is none of that name."""
    value = session_settings(me).get(name)
    if value is None:
        return None
    return Table((Column(name.replace(" ", "_")),), [[value]])


_Item = tuple[Column, Value]
_CATALOG = re.compile(r'\bfrom (?:"?pg_catalog"? \. |"?information_schema"? \. |"?pg_)')
_ALIAS = re.compile(r'^(.*?)(?: as)? ("?)([a-z_][a-z0-9_]*)\2$', re.DOTALL)
_CALL = re.compile(r"^(?:pg_catalog \. )?([a-z_]+) \( ?(.*?) ?\)$", re.DOTALL)
_NUMBER = re.compile(r"^-? ?([0-9]{1,9})$")
_STRING = re.compile(r"^'((?:[^']|'')*)'$")


def select(text: str, me: Myself, parameters: Sequence[str | None] = ()) -> Table:
    """The answer to a SELECT, given as its tokens joined by blanks. Raises ConsoleError."""
    if _CATALOG.search(text):
        return Table((), [])
    head, _, rest = text.partition(" ")
    if head != "select" or not rest or re.search(r"\bfrom\b", text):
        raise _unknown()
    items = [_item(one.strip(), me, parameters) for one in _split(rest)]
    return Table(tuple(column for column, _ in items), [[value for _, value in items]])


def _unknown() -> ConsoleError:
    return ConsoleError(
        "0A000",
        "this SELECT cannot be answered",
        "This is Backstay's admin console, not a database. SHOW HELP lists the commands.",
    )


def _split(text: str) -> list[str]:
    """`text` at its commas outside parentheses; commas inside of literals stay."""
    parts, depth, start, quoted = [], 0, 0, False
    for at, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _item(text: str, me: Myself, parameters: Sequence[str | None]) -> _Item:
    found = _expression(text, me, parameters)
    if found is not None:
        return found
    alias = _ALIAS.match(text)
    found = _expression(alias[1].strip(), me, parameters) if alias is not None else None
    if alias is None or found is None:
        raise _unknown()
    return Column(alias[3], found[0].kind), found[1]


def _expression(text: str, me: Myself, parameters: Sequence[str | None]) -> _Item | None:
    if number := _NUMBER.match(text):
        sign = -1 if text.startswith("-") else 1
        return Column("?column?", Kind.INT4), sign * int(number[1])
    if string := _STRING.match(text):
        return Column("?column?"), string[1].replace("''", "'")
    if text in _WORDS:
        return Column(_WORDS[text][0]), _WORDS[text][1](me)
    call = _CALL.match(text)
    if call is None:
        return None
    if call[1] == "set_config":
        return Column("set_config"), _set_config(_arguments(call[2], parameters))
    if call[1] == "current_setting":
        return Column("current_setting"), _current_setting(_arguments(call[2], parameters), me)
    if call[2] or call[1] not in _CALLS:
        return None
    kind, value = _CALLS[call[1]]
    return Column(call[1], kind), value(me)


_WORDS: dict[str, tuple[str, Callable[[Myself], str]]] = {
    "current_user": ("current_user", lambda me: me.user),
    "session_user": ("session_user", lambda me: me.user),
    "user": ("user", lambda me: me.user),
    "current_catalog": ("current_catalog", lambda me: me.database),
    "current_schema": ("current_schema", lambda me: "public"),
}

_CALLS: dict[str, tuple[Kind, Callable[[Myself], Value]]] = {
    # SQLAlchemy and others insist on a PostgreSQL's number here.
    "version": (Kind.TEXT, lambda me: f"PostgreSQL 15.0 (Backstay {me.version} admin console)"),
    "current_database": (Kind.TEXT, lambda me: me.database),
    "current_schema": (Kind.TEXT, lambda me: "public"),
    "pg_backend_pid": (Kind.INT4, lambda me: me.pid),
    "pg_is_in_recovery": (Kind.BOOL, lambda me: False),
    "pg_advisory_unlock_all": (Kind.TEXT, lambda me: ""),  # asyncpg, when a pool takes it back
}


def _arguments(text: str, parameters: Sequence[str | None]) -> list[str | None]:
    values: list[str | None] = []
    for part in (one.strip() for one in _split(text)):
        if string := _STRING.match(part):
            values.append(string[1].replace("''", "'"))
        elif part.startswith("$") and part[1:].isdigit():
            number = int(part[1:])
            values.append(parameters[number - 1] if 0 < number <= len(parameters) else None)
        else:
            values.append(part)
    return values


def _set_config(arguments: list[str | None]) -> Value:
    name = (arguments[0] or "").lower() if arguments else ""
    if len(arguments) != 3 or (name and name not in DRIVER_SETTINGS):
        raise _unknown()
    return arguments[1]


def _current_setting(arguments: list[str | None], me: Myself) -> Value:
    name = (arguments[0] or "").lower() if arguments else ""
    value = session_settings(me).get(name)
    if value is None and name and len(arguments) == 1:
        raise ConsoleError("42704", "unrecognized configuration parameter")
    return value
