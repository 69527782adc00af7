"""Session state → messages: a new link made like the lost one, a used link made new again.

Owns the order of reference/postgres-replay.md, section 3. Settings go by set_config with bound
values, never by text built here; only what has no value form is repeated in the client's own words.
Prepared statements of the extended protocol are sent later, when they are first needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.lexer import quoted
from proxy.postgres.protocol.scope import IDENTITY, Need, Setting
from proxy.postgres.protocol.session_state import SessionState

STATEMENT = b"_backstay_set"
_SET_CONFIG = b"select pg_catalog.set_config($1, $2, false)"
_TEXT = 25

_FIRST = (b"client_encoding",)
_LAST = (b"transaction_timeout", b"statement_timeout", b"lock_timeout", b"idle_session_timeout")
"""Settings that could end the restoration itself."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """`messages` for one write; they are answered by `readies` ReadyForQuery. An ErrorResponse
    among the answers means that the state could not be rebuilt. `listens`: notifications may have
    been missed since the link was lost."""

    messages: bytes
    readies: int
    listens: bool

    def __repr__(self) -> str:
        return f"<Restoration of {len(self.messages)} bytes, {self.readies} readies>"


@dataclass(frozen=True, slots=True)
class Cleaning:
    """`messages` that return a link to how it was after login, answered by `readies`
    ReadyForQuery."""

    messages: bytes
    readies: int


def restoration(state: SessionState) -> Restoration:
    """What to send on a new link that was opened with the session's startup parameters."""
    assert not state.in_transaction, "a transaction is begun again or given up before"
    units = [messages.query(text) for text in state.libraries]
    units += _setting_units(state.settings)
    units += [messages.query(prepared.text) for prepared in state.sql_prepared.values()]
    if state.channels:
        listens = b"; ".join(b"LISTEN " + quoted(channel) for channel in state.channels)
        units.append(messages.query(listens))
    return Restoration(b"".join(units), len(units), bool(state.channels))


def _setting_units(settings: dict[bytes, Setting]) -> Iterator[bytes]:
    """One unit for each run of values, one for each text in between."""
    batch: list[bytes] = []
    for name in _ordered(settings):
        setting = settings[name]
        if setting.value is not None:
            batch.append(messages.bind(b"", STATEMENT, (name, setting.value)))
            batch.append(messages.execute(b""))
        elif setting.text:
            yield from _batch_unit(batch)
            batch = []
            yield messages.query(setting.text)
    yield from _batch_unit(batch)


def _batch_unit(batch: list[bytes]) -> Iterator[bytes]:
    if batch:
        opening = messages.parse(STATEMENT, _SET_CONFIG, (_TEXT, _TEXT))
        yield b"".join((opening, *batch, messages.close(b"S", STATEMENT), messages.sync()))


def _ordered(settings: dict[bytes, Setting]) -> list[bytes]:
    """Names in the order to restore: what was set under another role comes after the role."""

    def rank(name: bytes) -> int:
        if name in _FIRST:
            return 0
        if name in IDENTITY:
            return 2 + IDENTITY.index(name)
        return 5 if name in _LAST else 4 if settings[name].in_role else 1

    return sorted(settings, key=rank)


_ALL = (
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"RESET ROLE",
    b"RESET ALL",
    b"CLOSE ALL",
    b"DEALLOCATE ALL",
    b"UNLISTEN *",
    b"SELECT pg_catalog.pg_advisory_unlock_all()",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)
"""DISCARD ALL without DISCARD PLANS, which would slow down the next session for nothing; these may
also stand together in one Query. RESET ROLE goes back to a role given at startup."""


def cleaning(state: SessionState, status: int = messages.STATUS_IDLE) -> Cleaning | None:
    """What to send before the link serves another session, or None when there is nothing to do.

    `status` is the link's own word about a transaction. When `state.retire` is true the link must
    be closed instead. The answers may hold a row.
    """
    texts = [] if state.untouched else [*_cleaning_texts(state)]
    open_block = state.in_transaction or status != messages.STATUS_IDLE
    units = [messages.query(b"ROLLBACK")] if open_block else []
    if texts:
        units.append(messages.query(b"; ".join(texts)))
    return Cleaning(b"".join(units), len(units)) if units else None


def _cleaning_texts(state: SessionState) -> Iterator[bytes]:
    """Only what the session is known to have; all of it when something ran out of sight."""
    scope = state.committed
    identity = any(name in scope.settings for name in IDENTITY)
    needed = (
        identity,
        identity,
        len(scope.settings) > sum(name in scope.settings for name in IDENTITY),
        bool(scope.cursors),
        bool(state.sql_prepared) or any(state.statements) or state.prepared.too_many,
        bool(scope.channels),
        state.locks,
        scope.temp,
        state.sequences,
    )
    everything = state.opaque or state.need is not Need.NONE or bool(scope.pins)
    for text, wanted in zip(_ALL, needed, strict=True):
        if wanted or everything:
            yield text
