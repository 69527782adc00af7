"""What is known of a statement from its text: class, transaction control, effects.

Owns the vocabulary that `classify` fills in and the verdict, the journal and the session state
read. Source: reference/postgres-replay.md, sections 2 and 4.
"""

from dataclasses import dataclass
from enum import Enum

from proxy.postgres.protocol.effects import Effect


class Class(Enum):
    """What may be done when the link is lost while the statement runs."""

    READ = "R"  # may run again inside BEGIN READ ONLY
    BEGIN = "B"  # transaction control that changes no data
    SETTING = "S"  # changes the session only, and the same way when it runs again
    SEQUENCE = "N"  # bare nextval: running again leaves a gap
    WRITE = "W"  # one transactional write
    OTHER = "X"  # anything else: never again


class Tx(Enum):
    """What a statement does to the transaction block."""

    NONE = 0
    BEGIN = 1
    COMMIT = 2
    ROLLBACK = 3
    COMMIT_CHAIN = 4
    ROLLBACK_CHAIN = 5
    SAVEPOINT = 6
    RELEASE = 7
    ROLLBACK_TO = 8
    PREPARE = 9
    COMMIT_PREPARED = 10
    ROLLBACK_PREPARED = 11
    LOCAL = 12  # SET LOCAL, SET TRANSACTION, SET CONSTRAINTS: gone with the transaction


class Copy(Enum):
    """Which way COPY data flows."""

    NONE = 0
    IN = 1
    OUT = 2


class Opaque(Enum):
    """How much the statement may have done to the session that its text does not show."""

    NONE = 0
    WEAK = 1  # calls functions we do not know
    STRONG = 2  # runs code we cannot read: DO, CALL, EXECUTE of an unknown name


OTHER_MODES = b"?"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `verb` is its first word in capitals; `savepoint` the name of SAVEPOINT,
    RELEASE and ROLLBACK TO; `target` the name EXECUTE, DEALLOCATE, FETCH and CLOSE speak of.
    `modes`: the transaction's kind (isolation level and so on) as BEGIN takes it; OTHER_MODES: it
    sets that in a way that was not read.
    `wrapper` False: this READ may run again without BEGIN READ ONLY, and must, because its answer
    would differ inside."""

    kind: Class
    verb: str
    tx: Tx = Tx.NONE
    effects: tuple[Effect, ...] = ()
    copy: Copy = Copy.NONE
    opaque: Opaque = Opaque.NONE
    savepoint: str = ""
    wrapper: bool = True
    target: bytes = b""
    modes: bytes = b""

    @property
    def plain(self) -> bool:
        """Nothing about it matters beyond its class."""
        return (
            self.tx is Tx.NONE
            and not self.effects
            and self.copy is Copy.NONE
            and self.opaque is Opaque.NONE
        )


@dataclass(frozen=True, slots=True)
class Script:
    """The statements of one text. `kind` is OTHER when there are several. `plain`: one statement
    (or none) that touches neither the session nor the transaction block: the hot path."""

    statements: tuple[Statement, ...]
    kind: Class
    plain: bool


def script_of(statements: tuple[Statement, ...]) -> Script:
    """The script of these statements, in order."""
    if not statements:
        return Script((), Class.READ, True)
    if len(statements) == 1:
        return Script(statements, statements[0].kind, statements[0].plain)
    return Script(statements, Class.OTHER, False)
