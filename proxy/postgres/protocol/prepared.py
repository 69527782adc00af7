"""Prepared statements of a session, of both protocols: one name space, two ways to make them.

Owns the texts a new link must be given: whole Parse messages, sent again when they are first
needed, and PREPARE texts, run again at once. No rollback undoes a prepared statement.
Source: reference/postgres-replay.md, section 3.
"""

from collections.abc import Mapping
from dataclasses import replace

from proxy.postgres.protocol import classify, messages
from proxy.postgres.protocol.effects import PrepareSql
from proxy.postgres.protocol.parameters import without_parameters
from proxy.postgres.protocol.statement import Class, Statement, Tx

_NONE: frozenset[bytes] = frozenset()  # one for all: an empty one takes 216 bytes


class PreparedStatements:
    """Bounded by `bytes_max` for each protocol: what does not fit is remembered as missing."""

    __slots__ = ("_before", "_bytes", "_bytes_max", "_missing", "by_name", "sql", "unclear")

    def __init__(self, bytes_max: int) -> None:
        self.by_name: dict[bytes, bytes] = {}
        self.sql: dict[bytes, PrepareSql] = {}
        self._bytes = 0
        self._bytes_max = bytes_max
        self._missing = _NONE
        self._before: tuple[dict[bytes, PrepareSql], dict[bytes, bytes]] | None = None
        """`sql` and `by_name` when last settled, if they have changed by more than Parse since."""
        self.unclear = False
        """Running some PREPARE text again might prepare something else."""

    @property
    def too_many(self) -> bool:
        """Some statement was not kept, so a new link cannot be given it."""
        return bool(self._missing) or sum(len(p.text) for p in self.sql.values()) > self._bytes_max

    def prepare(self, prepared: PrepareSql) -> None:
        """PREPARE ran."""
        self.note()
        self.sql[prepared.name] = prepared
        self.unclear = self.unclear or prepared.escapes

    def changed_setting(self, name: bytes) -> None:
        """With standard_conforming_strings, what backslashes mean in known texts changes."""
        if name == b"standard_conforming_strings" and any(
            b"\\" in prepared.text for prepared in self.sql.values()
        ):
            self.unclear = True

    def parsed(self, name: bytes, message: bytes) -> None:
        """Keeps a Parse message; an unnamed one replaces the last."""
        self.forget(name)
        if self._bytes + len(message) > self._bytes_max:
            self._missing |= {name}
            return
        self.by_name[name] = message
        self._bytes += len(message)

    def forget(self, name: bytes) -> None:
        """Drops a statement of the extended protocol, known or not."""
        message = self.by_name.pop(name, None)
        if message is not None:
            self._bytes -= len(message)
        if name in self._missing:
            self._missing -= {name}

    def deallocate(self, name: bytes | None) -> None:
        """DEALLOCATE name or, for None, ALL, which leaves the unnamed statement."""
        self.note()
        if name is not None:
            self.sql.pop(name, None)
            self.forget(name)
            return
        self.sql.clear()
        self.unclear = False
        for known in [*self.by_name, *self._missing]:
            if known:
                self.forget(known)

    def settle(self) -> None:
        """The answers so far are whole: what PREPARE, DEALLOCATE and Close did stays."""
        self._before = None

    def unsettle(self) -> None:
        """The last answer will not come whole: what PREPARE, DEALLOCATE, Close did is undone."""
        if self._before is None:
            return
        self.sql, by_name = self._before
        self._before = None
        for name, message in by_name.items():
            if name not in self.by_name:
                self.parsed(name, message)

    def note(self) -> None:
        """Something is about to go, or to come, that the answer's end must settle."""
        if self._before is None:
            self._before = dict(self.sql), dict(self.by_name)

    def correct(self, found: Mapping[bytes, bytes]) -> bool:
        """Takes the server's list of PREPAREd names and texts for the truth; True: it changed."""
        changed = self.sql.keys() != found.keys()
        for name in [n for n in self.sql if n not in found]:
            del self.sql[name]
        for name, text in found.items():
            if name in self.sql:
                continue
            effects = [e for s in classify.read(text).statements for e in s.effects]
            made = [e for e in effects if isinstance(e, PrepareSql) and e.name == name]
            if made:
                self.sql[name] = made[-1]
            else:
                self.unclear = True
        return changed

    def resolve(self, statement: Statement) -> Statement:
        """EXECUTE of a known name → what it runs; anything else as it is."""
        if statement.verb != "EXECUTE" or not statement.target:
            return statement
        inner = self._statement(statement.target)
        if inner is None or not inner.verb or inner.tx not in (Tx.NONE, Tx.LOCAL):
            return statement
        effects = tuple(without_parameters(e) for e in inner.effects)
        kind = inner.kind if effects == inner.effects else Class.OTHER
        return replace(inner, kind=kind, verb="EXECUTE", effects=effects, target=statement.target)

    def _statement(self, name: bytes) -> Statement | None:
        prepared = self.sql.get(name)
        if prepared is not None:
            return prepared.inner
        message = self.by_name.get(name)
        if message is None:
            return None
        _, text = messages.parse_name_and_text(message, 5)
        found = classify.read(text).statements
        return found[0] if len(found) == 1 else None
