"""The part of a session that a rollback undoes, and the layers a transaction puts over it.

A scope is an immutable value: a savepoint is a reference to one, a rollback an assignment. SET,
ROLE, LISTEN, temporary objects and held cursors belong to it; prepared statements and advisory
locks do not.
Source: reference/postgres-replay.md, section 3; PostgreSQL documentation, "SAVEPOINT".
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from proxy.postgres.protocol.fingerprint import Fingerprint
from proxy.postgres.protocol.setting_text import date_style
from proxy.postgres.protocol.statement import OTHER_MODES

SETTINGS_BYTES_MAX = 256 << 10
"""Names, values and texts of one session's settings; beyond it the session is not restorable."""

IDENTITY = (b"session_authorization", b"role")
"""Settings that RESET ALL leaves alone, restored last and in this order."""


MODES_BYTES_MAX = 1000

SAVEPOINTS_MAX = 4096
"""More savepoints at once are not told apart."""


class Need(IntEnum):
    """How urgent a look at the server's truth is."""

    NONE = 0
    SOON = 1  # functions ran that we do not know
    NOW = 2  # before the link is lost, or the session cannot be restored


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the session. `value` as set_config takes it; None: only `text` can repeat it,
    and without a text nobody knows it. `seen`: pg_settings shows it with this value. `in_role`: it
    was set while another role was active, whose rights it may need."""

    value: bytes | None = field(repr=False)
    text: bytes = field(default=b"", repr=False)
    seen: bool = False
    in_role: bool = False

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.value or b"") + len(self.text)

    @property
    def known(self) -> bool:
        """It can be repeated."""
        return self.value is not None or bool(self.text)


@dataclass(frozen=True, slots=True)
class Scope:
    """Settings in the order they were last set, channels, and what cannot be rebuilt."""

    settings: dict[bytes, Setting] = field(default_factory=dict)
    channels: tuple[bytes, ...] = ()
    temp: bool = False
    cursors: frozenset[bytes] = frozenset()
    pins: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Bytes of the settings, names included."""
        return sum(len(name) + setting.size for name, setting in self.settings.items())

    def with_setting(self, name: bytes, setting: Setting) -> "Scope":
        """This scope after a SET; the same object when the value is the same."""
        old = self.settings.get(name)
        if name == b"datestyle" and old and old.value and setting.value:
            setting = replace(setting, value=date_style(old.value, setting.value))
        if old and old.value is not None and old.value == setting.value:
            return self
        settings = {n: s for n, s in self.settings.items() if n != name}
        settings[name] = setting
        return replace(self, settings=settings)

    def without(self, *names: bytes) -> "Scope":
        """This scope after a RESET of `names`."""
        if not any(name in self.settings for name in names):
            return self
        return replace(self, settings={n: s for n, s in self.settings.items() if n not in names})


EMPTY = Scope()


def corrected(scope: Scope, found: Fingerprint) -> Scope:
    """`scope` as the server has it; the same object when nothing differs."""
    channels = tuple(c for c in scope.channels if c in found.channels)
    new = tuple(sorted(found.channels.difference(channels)))
    settings = _corrected_settings(scope.settings, found)
    learnt = Scope(settings, channels + new, found.temp_objects > 0, found.cursors, scope.pins)
    return scope if learnt == scope else learnt


def _corrected_settings(known: dict[bytes, Setting], found: Fingerprint) -> dict[bytes, Setting]:
    """Settings by the server's truth: those it shows, and those it may hide from this role."""
    settings = {
        name: setting
        for name, setting in known.items()
        if name in found.settings or (not setting.seen and (setting.known or b"." in name))
    }
    for name, value in (*found.custom.items(), *found.settings.items()):
        seen = name in found.settings
        if value is None:
            if not seen:
                settings.pop(name, None)
            continue
        old = settings.get(name, Setting(None))
        if old.value != value or old.seen != seen:
            settings[name] = replace(old, value=value, seen=seen)
    if found.role == b"none":
        settings.pop(b"role", None)
    elif b"role" not in settings or settings[b"role"].value != found.role:
        settings[b"role"] = Setting(found.role)
    if b"session_authorization" in settings:
        settings[b"session_authorization"] = Setting(found.session_user)
    return settings


class Layers:
    """The current scope, the committed one below, and the savepoints between.

    An implicit transaction (the statements of one Query, or up to one Sync) has a layer too: its
    effects are committed by `commit` at ReadyForQuery or undone by `rollback` at an error. BEGIN
    inside one takes what ran before into the block, as the server does.
    """

    __slots__ = ("_savepoints", "base", "current", "explicit", "modes")

    def __init__(self) -> None:
        self.current = self.base = EMPTY
        self.explicit = False
        self.modes: bytes | None = b""
        """Kind of the last transaction, as BEGIN takes it; None: not known."""
        self._savepoints: tuple[tuple[str, Scope], ...] = ()

    def begin(self, modes: bytes | None) -> None:
        """A block is open. A second BEGIN changes its kind only."""
        if self.explicit:
            self.turn(modes)
        else:
            self.explicit, self.modes = True, modes

    def turn(self, modes: bytes | None) -> None:
        """The open transaction is of another kind."""
        if modes is None or modes == OTHER_MODES or self.modes is None:
            self.modes = None
        else:
            self.modes = b", ".join(filter(None, (self.modes, modes)))
            if len(self.modes) > MODES_BYTES_MAX:
                self.modes = None

    def commit(self, chain: bool = False) -> None:
        """The current scope is the session's now."""
        self.base = self.current
        self._savepoints = ()
        self.explicit = chain

    def rollback(self, chain: bool = False) -> None:
        """Back to the committed scope."""
        self.current = self.base
        self._savepoints = ()
        self.explicit = chain

    def savepoint(self, name: str) -> None:
        """Remembers the current scope."""
        if len(self._savepoints) < SAVEPOINTS_MAX:
            self._savepoints += ((name, self.current),)

    def release(self, name: str) -> None:
        """Forgets the savepoint and those above it."""
        self._savepoints = self._savepoints[: self._index(name)]

    def rollback_to(self, name: str) -> None:
        """Back to the scope at the savepoint, which stays."""
        at = self._index(name)
        if at < len(self._savepoints):
            self.current = self._savepoints[at][1]
        self._savepoints = self._savepoints[: at + 1]

    def everywhere(self, change: Callable[[Scope], Scope]) -> None:
        """Applies what no rollback undoes to every layer."""
        self.current = change(self.current)
        self.base = change(self.base)
        self._savepoints = tuple((name, change(scope)) for name, scope in self._savepoints)

    def _index(self, name: str) -> int:
        """Index of the innermost savepoint of this name; one past the end when unknown."""
        for at in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[at][0] == name:
                return at
        return len(self._savepoints)


REPORTED = frozenset(
    (
        b"application_name",
        b"client_encoding",
        b"datestyle",
        b"default_transaction_read_only",
        b"intervalstyle",
        b"search_path",
        b"standard_conforming_strings",
        b"timezone",
    )
)
"""Settings a session may change whose new value every server, or a newer one, reports."""
GUESSED = REPORTED - {b"default_transaction_read_only"}
"""Those whose report, while something unseen may have run, is taken for the session's own. A
reload of the other fences a host: a session that kept it would stay read-only wherever it goes."""
SURVIVES_DISCARD = frozenset(("dblink connections",))


def creates_in_temp(settings: dict[bytes, Setting]) -> bool:
    """True if the search_path may send new objects to the temporary schema."""
    path = settings.get(b"search_path")
    return path is not None and b"pg_temp" in (path.value or b"") + path.text
