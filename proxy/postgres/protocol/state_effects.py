"""What each effect of a statement does to a session: the lower half of `session_state`.

Owns: the fields of a session's state, and their change by effects. Must not know: when an effect
counts, what a transaction's end undoes.
Source: reference/postgres-replay.md, section 3; PostgreSQL documentation, "SET", "DISCARD".
"""

from dataclasses import replace

from proxy.postgres.protocol.effects import (
    AdvisoryLock,
    AdvisoryUnlock,
    AdvisoryUnlockAll,
    CloseCursor,
    CreateTemp,
    Deallocate,
    DiscardAll,
    DiscardSequences,
    DiscardTemp,
    Drops,
    Effect,
    HoldCursor,
    Listen,
    LoadLibrary,
    PrepareSql,
    ResetAll,
    ResetVariable,
    SetConfig,
    SetVariable,
    UnknownSetConfig,
    Unlisten,
    Unrestorable,
    UsesSequence,
)
from proxy.postgres.protocol.parameters import Params, Unknown, bound, counts
from proxy.postgres.protocol.prepared import PreparedStatements
from proxy.postgres.protocol.scope import (
    IDENTITY,
    SETTINGS_BYTES_MAX,
    SURVIVES_DISCARD,
    Layers,
    Need,
    Scope,
    Setting,
)

UNKNOWN_SETTING = "a setting that code changed out of sight"
_NO_PINS: frozenset[str] = frozenset()  # one for all: an empty one takes 216 bytes


class EffectsState:
    """The fields of a SessionState, and what changes them."""

    __slots__ = (
        "_errored",
        "_layers",
        "_opaque",
        "_pending",
        "_pins",
        "_reports",
        "_touched",
        "libraries",
        "locks",
        "need",
        "prepared",
        "sequences",
        "version",
        "wrote",
    )

    def __init__(self, max_statements_bytes: int = 4 << 20) -> None:
        self.prepared = PreparedStatements(max_statements_bytes)
        self.libraries: tuple[bytes, ...] = ()
        self.locks = False
        self.sequences = False
        """currval and lastval may have been promised to the client."""
        self.need = Need.NONE
        """Whether `learn` should be given a fingerprint when the session is next idle."""
        self.version = 0
        """Grows with each change of what a new link must be given."""
        self.wrote = False
        """A write ran: a trigger may have changed the session."""
        self._layers = Layers()
        self._errored = False
        self._pending = False
        self._opaque = False
        self._touched = False
        self._pins = _NO_PINS
        self._reports: dict[bytes, bytes] | None = None

    @property
    def _scope(self) -> Scope:
        return self._layers.current

    def _become(self, scope: Scope) -> None:
        if scope is not self._layers.current:
            self._layers.current = scope
            self._touch()

    # ---- effects ----

    def _touch(self) -> None:
        self._touched = self._pending = True
        self.version += 1

    def _suspect(self, need: Need) -> None:
        self._touched = self._opaque = self._pending = True
        self.need = max(self.need, need)
        if need is Need.NOW:
            self._layers.turn(None)  # it may have changed the transaction, too

    def _apply(self, effect: Effect, params: Params) -> None:
        match effect:
            case SetVariable(name, value, text):
                self._set(name, Setting(value, text))
            case SetConfig() | UnknownSetConfig():
                if counts(effect, params):
                    self._set_config(effect, params)
            case ResetVariable(name):
                self._reset(name)
            case ResetAll():
                self._reset_all()
            case Listen() | Unlisten():
                self._listen(effect)
            case PrepareSql():
                self.prepared.prepare(effect)
                self._touch()
            case Deallocate(name):
                self.prepared.deallocate(name)
                self._touch()
            case CreateTemp():
                self._change(temp=True)
            case HoldCursor(name):
                self._change(cursors=self._scope.cursors | {name})
            case CloseCursor(name):
                self._close_cursor(name)
            case DiscardAll():
                self._discard_all()
            case DiscardTemp():
                self._change(temp=False)
            case _:
                self._apply_rare(effect)

    def _apply_rare(self, effect: Effect) -> None:
        match effect:
            case AdvisoryLock():
                self.locks = True
                self._suspect(Need.SOON)  # a try may have failed
            case AdvisoryUnlock():
                if self.locks:
                    self._suspect(Need.SOON)
            case AdvisoryUnlockAll():
                self.locks = False
                self._touch()
            case Drops():
                if self._scope.temp:
                    self._suspect(Need.SOON)
            case UsesSequence():
                self.sequences = True
                self._touch()
            case DiscardSequences():
                self.sequences = False
            case LoadLibrary(text):
                if text not in self.libraries:
                    self.libraries += (text,)
                    self._touch()
            case Unrestorable(what):
                self._pin(what)
            case _:
                raise AssertionError(effect)

    def _change(self, **parts: object) -> None:
        self._become(replace(self._scope, **parts))  # type: ignore[arg-type]

    def _pin(self, what: str) -> None:
        self._pins |= {what}
        self._touch()

    def _set(self, name: bytes, setting: Setting) -> None:
        scope = self._scope
        if name == b"session_authorization":
            scope = scope.without(b"role")
        in_role = name not in IDENTITY and any(n in scope.settings for n in IDENTITY)
        scope = scope.with_setting(name, replace(setting, in_role=in_role))
        if scope.size > SETTINGS_BYTES_MAX:
            scope = replace(self._scope, pins=self._scope.pins | {"too many settings"})
        self._become(scope)
        self.prepared.changed_setting(name)

    def _reset(self, name: bytes) -> None:
        names = (name, b"role") if name == b"session_authorization" else (name,)
        self._become(self._scope.without(*names))
        self.prepared.changed_setting(name)

    def _reset_all(self) -> None:
        kept = {n: s for n, s in self._scope.settings.items() if n in IDENTITY}
        self._become(replace(self._scope, settings=kept, pins=frozenset()))
        self.prepared.changed_setting(b"standard_conforming_strings")

    def _set_config(self, effect: SetConfig | UnknownSetConfig, params: Params) -> None:
        name, value = bound(effect, params)
        if name is None:
            self._change(pins=self._scope.pins | {UNKNOWN_SETTING})
            self._suspect(Need.NOW)
        elif isinstance(value, Unknown):
            self._set(name, Setting(None))
            self._suspect(Need.NOW)
        elif value is None:
            self._reset(name)
        else:
            self._set(name, Setting(value))

    def _listen(self, effect: Listen | Unlisten) -> None:
        channels = self._scope.channels
        if isinstance(effect, Listen):
            if effect.channel not in channels:
                self._change(channels=(*channels, effect.channel))
        elif effect.channel is None:
            self._change(channels=())
        else:
            self._change(channels=tuple(c for c in channels if c != effect.channel))

    def _close_cursor(self, name: bytes | None) -> None:
        """A closed cursor stays closed whatever is rolled back."""

        def close(scope: Scope) -> Scope:
            left = frozenset() if name is None else scope.cursors - {name}
            return scope if left == scope.cursors else replace(scope, cursors=left)

        self._layers.everywhere(close)
        self.version += 1

    def _discard_all(self) -> None:
        """As new, but for libraries and what extensions keep."""
        self.prepared.deallocate(None)
        self._become(Scope())
        self.locks = self.sequences = self.wrote = False
        self._pins &= SURVIVES_DISCARD
        self.need = Need.NONE
        self._opaque = False
        self._touched = bool(self._pins or self.libraries)

    def _tag_only(self, tag: bytes) -> None:
        """A statement whose text was not read: its tag tells the kind."""
        if tag == b"DISCARD ALL":
            self._discard_all()
        elif tag in (b"SET", b"RESET"):
            self._change(pins=self._scope.pins | {UNKNOWN_SETTING})
        elif tag == b"DECLARE CURSOR" or tag.startswith(b"CREATE "):
            self._suspect(Need.NOW)
        elif tag == b"BEGIN":
            self._layers.begin(None)
        elif tag == b"COMMIT":
            self._layers.commit()
        elif tag == b"ROLLBACK":  # perhaps only to a savepoint: the fingerprint will tell
            self._suspect(Need.NOW)
