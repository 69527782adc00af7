"""What a statement does to its session, as data: applied when the statement's tag arrives.

Owns no behaviour: `session_state` applies them, `classify` makes them. Values may be secrets (a
tenant's key in a custom setting), so their repr shows names only.
Source: reference/postgres-replay.md, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.postgres.protocol.statement import Statement


@dataclass(frozen=True, slots=True)
class Parameter:
    """The value of `$number`, known when the statement is bound. `cast`: to text or bool by the
    statement itself, so that the parameter may be of another type."""

    number: int
    cast: bool = False


Argument = bytes | Parameter | None
"""An argument of set_config: the literal's value, the parameter that holds it, or None for NULL."""

Flag = bool | Parameter
"""The third argument of set_config: local to the transaction?"""


@dataclass(frozen=True, slots=True)
class SetVariable:
    """SET name. `value` as set_config takes it; None: only the client's own text can repeat it."""

    name: bytes
    value: bytes | None = field(repr=False)
    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResetVariable:
    """RESET name, SET name TO DEFAULT."""

    name: bytes


@dataclass(frozen=True, slots=True)
class ResetAll:
    """RESET ALL: every setting but role and session authorization."""


@dataclass(frozen=True, slots=True)
class SetConfig:
    """set_config(name, value, is_local) that certainly runs, all arguments known when bound."""

    name: Argument
    value: Argument = field(repr=False)
    is_local: Flag


@dataclass(frozen=True, slots=True)
class UnknownSetConfig:
    """set_config whose arguments or execution cannot be told. `name` None: any setting."""

    name: Argument
    is_local: Flag


@dataclass(frozen=True, slots=True)
class DiscardAll:
    """DISCARD ALL: the session is as new."""


@dataclass(frozen=True, slots=True)
class DiscardTemp:
    """DISCARD TEMP: the temporary objects are gone."""


@dataclass(frozen=True, slots=True)
class DiscardSequences:
    """DISCARD SEQUENCES: currval and lastval are gone."""


@dataclass(frozen=True, slots=True)
class Listen:
    """LISTEN channel."""

    channel: bytes


@dataclass(frozen=True, slots=True)
class Unlisten:
    """UNLISTEN channel; None: all."""

    channel: bytes | None


@dataclass(frozen=True, slots=True)
class PrepareSql:
    """PREPARE name; `text` is the whole statement, `inner` what EXECUTE will run. `escapes`: a
    backslash in it means what it means only under the standard_conforming_strings of now."""

    name: bytes
    text: bytes = field(repr=False)
    escapes: bool = False
    inner: Statement | None = None


@dataclass(frozen=True, slots=True)
class Deallocate:
    """DEALLOCATE name; None: all. Statements of the extended protocol share the name space."""

    name: bytes | None


@dataclass(frozen=True, slots=True)
class CreateTemp:
    """A temporary table, view, sequence, function or type was made."""


@dataclass(frozen=True, slots=True)
class HoldCursor:
    """DECLARE name CURSOR WITH HOLD."""

    name: bytes


@dataclass(frozen=True, slots=True)
class CloseCursor:
    """CLOSE name; None: all."""

    name: bytes | None


@dataclass(frozen=True, slots=True)
class AdvisoryLock:
    """A session-level advisory lock may have been taken."""


@dataclass(frozen=True, slots=True)
class AdvisoryUnlock:
    """A session-level advisory lock may have been given back."""


@dataclass(frozen=True, slots=True)
class AdvisoryUnlockAll:
    """All session-level advisory locks were given back."""


@dataclass(frozen=True, slots=True)
class UsesSequence:
    """nextval, currval, lastval or setval: what they answer later depends on this session."""


@dataclass(frozen=True, slots=True)
class LoadLibrary:
    """LOAD: repeated by its own text."""

    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Drops:
    """DROP, DEALLOCATE in disguise and the like: pinned objects may be gone, a look may tell."""


@dataclass(frozen=True, slots=True)
class Unrestorable:
    """State that cannot be rebuilt. `what` is shown to the client."""

    what: str


Effect = (
    SetVariable
    | ResetVariable
    | ResetAll
    | SetConfig
    | UnknownSetConfig
    | DiscardAll
    | DiscardTemp
    | DiscardSequences
    | Listen
    | Unlisten
    | PrepareSql
    | Deallocate
    | CreateTemp
    | HoldCursor
    | CloseCursor
    | AdvisoryLock
    | AdvisoryUnlock
    | AdvisoryUnlockAll
    | UsesSequence
    | LoadLibrary
    | Drops
    | Unrestorable
)
