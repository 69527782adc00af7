"""What an exchange is, how it is played, and what must be masked before two plays are compared."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests import wire
from tests.wire import PgWire

FIRST_USER_OID = 16384


@dataclass(frozen=True, slots=True)
class Send:
    """Frontend bytes, written at once (or chopped, as the client is set)."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ready:
    """Read up to the count-th ReadyForQuery."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class Until:
    """Read up to the count-th message of this kind (after a Flush no ReadyForQuery comes)."""

    kind: bytes
    count: int = 1


@dataclass(frozen=True, slots=True)
class Closed:
    """Read until the server closes."""


Step = Send | Ready | Until | Closed


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One conversation on a fresh session: self-contained, repeatable, the same answer each time.

    Everything lasting that it does is in the ledger: `effects` says how often each key is there
    after one complete run. After a broken run no key may be there more often than that.
    """

    name: str
    steps: tuple[Step, ...]
    effects: Mapping[str, int] = field(default_factory=dict)
    changes: bool = False
    """It changes lasting things that the ledger does not count (DDL)."""
    before: tuple[str, ...] = ()
    """Run as superuser on a connection of its own before each play."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Startup parameters beside user and database."""
    session_state: bool = False
    """It leaves state in the session that no proxy can rebuild (temporary tables, locks …)."""

    own_words: bool = False
    """A proxy refuses it by itself: same severity and SQLSTATE, in its own words."""

    @property
    def writes(self) -> bool:
        """Whether running it twice differs from running it once."""
        return bool(self.effects) or self.changes

    @property
    def ends(self) -> bool:
        """Whether the session is over afterwards."""
        return any(isinstance(step, Closed) for step in self.steps)

    @property
    def sent_bytes(self) -> int:
        """Size of everything the client sends after the login."""
        return sum(len(step.data) for step in self.steps if isinstance(step, Send))


def exchange(name: str, *steps: Step | bytes | Sequence[Step], **options: Any) -> Exchange:
    """An exchange; bare bytes mean "send and read up to ReadyForQuery"."""
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, bytes):
            flat += [Send(step), Ready()]
        elif isinstance(step, Sequence):
            flat += step
        else:
            flat.append(step)
    return Exchange(name=name, steps=tuple(flat), **options)


def simple(name: str, *queries: str, **options: Any) -> Exchange:
    """Simple queries, each answered before the next."""
    return exchange(name, *(wire.query(text) for text in queries), **options)


def extended(name: str, *statements: str, **options: Any) -> Exchange:
    """Parse, Bind, Describe, Execute, Sync for each, without parameters."""
    return exchange(name, *(wire.run(text) + wire.SYNC for text in statements), **options)


def syncs(count: int, *parts: bytes) -> list[Step]:
    """One write, answered by that many ReadyForQuery."""
    return [Send(b"".join(parts)), Ready(count)]


def note(name: str, key: str) -> str:
    """The statement that enters `key` in the ledger."""
    return f"INSERT INTO corpus_ledger (exchange, key) VALUES ('{name}', '{key}')"


def play(client: PgWire, subject: Exchange) -> list[bytes]:
    """Run it on a logged-in session; every message that came. WireClosed and TimeoutError pass."""
    found: list[bytes] = []
    for step in subject.steps:
        match step:
            case Send(data):
                client.send(data)
            case Ready(count):
                found += client.until_ready(count)
            case Until(kind, count):
                for _ in range(count):
                    found += client.until(kind)
            case Closed():
                found += client.until_closed()
    return found


def masked(messages: Sequence[bytes], subject: Exchange) -> list[bytes]:
    """The messages without what differs between any two runs: keys, pids, OIDs of own objects.

    Also without an error's words, where the exchange leaves those to a proxy.
    """
    masks = {**_MASKS, b"E": _mask_words} if subject.own_words else _MASKS
    return [masks.get(raw[:1], bytes)(raw) for raw in messages]


def _mask_words(raw: bytes) -> bytes:
    fields = wire.error_fields(raw)
    return f"E {fields['V']} {fields['C']}".encode()


def _mask_key(raw: bytes) -> bytes:
    return raw[:5]


def _mask_notification(raw: bytes) -> bytes:
    return raw[:5] + b"\0\0\0\0" + raw[9:]


def _mask_row_description(raw: bytes) -> bytes:
    masked_raw = bytearray(raw)
    (count,) = struct.unpack_from("!H", raw, 5)
    at = 7
    for _ in range(count):
        at = raw.index(b"\0", at) + 1
        for offset in (at, at + 6):  # table, type
            if struct.unpack_from("!I", raw, offset)[0] >= FIRST_USER_OID:
                struct.pack_into("!I", masked_raw, offset, FIRST_USER_OID)
        at += 18
    return bytes(masked_raw)


def _mask_parameter_description(raw: bytes) -> bytes:
    (count,) = struct.unpack_from("!H", raw, 5)
    oids = struct.unpack_from(f"!{count}I", raw, 7)
    return raw[:7] + struct.pack(f"!{count}I", *(min(oid, FIRST_USER_OID) for oid in oids))


_MASKS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"K": _mask_key,
    b"A": _mask_notification,
    b"T": _mask_row_description,
    b"t": _mask_parameter_description,
}
