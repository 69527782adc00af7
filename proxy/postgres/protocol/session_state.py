"""What a client's session is made of, apart from its link: what a new link must be given.

Owns the bookkeeping of settings, role, channels and of what cannot be rebuilt: when each effect
counts. `state_effects` knows what each does, `scope` what a rollback undoes, `prepared` the
statements; `restore` turns this state into messages, `fingerprint` into a question. Sends nothing.
Source: reference/postgres-replay.md, section 3; PostgreSQL documentation, "SET", "LISTEN".
"""

from dataclasses import replace

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.effects import PrepareSql
from proxy.postgres.protocol.fingerprint import Expected, Fingerprint
from proxy.postgres.protocol.parameters import Params
from proxy.postgres.protocol.scope import (
    GUESSED,
    IDENTITY,
    Need,
    Scope,
    Setting,
    corrected,
    creates_in_temp,
)
from proxy.postgres.protocol.setting_text import canonical
from proxy.postgres.protocol.state_effects import UNKNOWN_SETTING, EffectsState
from proxy.postgres.protocol.statement import Class, Opaque, Statement, Tx

__all__ = ["Need", "SessionState"]


class SessionState(EffectsState):
    """The virtual session of one client.

    The owner reports what the server confirmed: `parsed` at ParseComplete, `ran` at CommandComplete
    (may be left out for plain scripts, except that `wrote` must become True for a plain write),
    `errored` at ErrorResponse, `ready` at ReadyForQuery, in the order of the replies.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<SessionState {len(self._scope.settings)} settings, version {self.version}>"

    # ---- what the state is ----

    @property
    def committed(self) -> Scope:
        """What is left of the session when the open transaction is rolled back."""
        return self._layers.base

    @property
    def settings(self) -> dict[bytes, Setting]:
        """Settings of the session as they are now, in the order they were last set."""
        return self._scope.settings

    @property
    def channels(self) -> tuple[bytes, ...]:
        """Channels the session listens to."""
        return self._scope.channels

    @property
    def in_transaction(self) -> bool:
        """A transaction block is open."""
        return self._layers.explicit

    @property
    def modes(self) -> bytes | None:
        """The kind of the last transaction, as BEGIN takes it; None: not known."""
        return self._layers.modes

    @property
    def opaque(self) -> bool:
        """Something ran whose effect on the session is not known from its text."""
        return self._opaque or self.wrote

    @property
    def untouched(self) -> bool:
        """The session never did anything that needs cleaning."""
        return not (self._touched or self.wrote)

    @property
    def retire(self) -> bool:
        """The link holds what no cleaning takes away: close it instead of using it again."""
        return bool(self._pins or self.libraries)

    @property
    def unrestorable(self) -> str | None:
        """What cannot be rebuilt on a new link, in words for the client, or None. In a transaction,
        call `lost_transaction` first."""
        scope = self._scope
        if scope.temp:
            return "temporary tables"
        if self.locks:
            return "advisory locks"
        if scope.cursors:
            return "WITH HOLD cursor"
        if self.prepared.too_many:
            return "too many prepared statements"
        if self.prepared.unclear:
            return "prepared statements of unclear text"
        for pin in (*self._pins, *scope.pins):
            return pin
        if self.need is Need.NOW or not all(s.known for s in scope.settings.values()):
            return UNKNOWN_SETTING
        return None

    @property
    def custom_names(self) -> tuple[bytes, ...]:
        """Settings that pg_settings may not show; the fingerprint asks for each by name."""
        return tuple(name for name in self._scope.settings if b"." in name)

    def expected(self) -> Expected:
        """What a fingerprint must show once this state has been restored."""
        settings = self._scope.settings
        role, user = settings.get(b"role"), settings.get(b"session_authorization")
        return Expected(
            settings={n: s.value for n, s in settings.items() if s.seen and s.value is not None},
            names=frozenset(settings),
            custom={n: s.value for n, s in settings.items() if b"." in n and s.value is not None},
            channels=frozenset(self._scope.channels),
            prepared={n: p.text for n, p in self.sql_prepared.items()},
            role=role.value if role else None,
            session_user=user.value if user else None,
        )

    @property
    def statements(self) -> dict[bytes, bytes]:
        """Statements of the extended protocol: name → whole Parse message."""
        return self.prepared.by_name

    @property
    def sql_prepared(self) -> dict[bytes, PrepareSql]:
        """Statements made by PREPARE."""
        return self.prepared.sql

    def resolve(self, statement: Statement) -> Statement:
        """EXECUTE of a name this session prepared → what it runs; anything else as it is."""
        return self.prepared.resolve(statement)

    # ---- prepared statements of the protocol ----

    def parsed(self, name: bytes, message: bytes) -> None:
        """ParseComplete came for this Parse message. Not undone by a rollback."""
        self.prepared.parsed(name, message)
        if name:
            self._touched = True

    def closed(self, name: bytes) -> None:
        """CloseComplete came for the statement (closing what does not exist is no error)."""
        self.prepared.forget(name)

    def simple_query_ran(self) -> None:
        """A simple Query destroys the unnamed statement."""
        self.prepared.forget(b"")

    # ---- what happened ----

    def ran(self, statement: Statement, tag: bytes, params: Params = None) -> None:
        """The statement's CommandComplete came. `params`: its bound values, in text format, or None
        when they are not known (see `text_params`)."""
        statement = self.resolve(statement)
        if statement.tx is not Tx.NONE:
            self._control(statement, tag)
        if statement.kind is not Class.READ and statement.kind is not Class.BEGIN:
            self.wrote = self.wrote or statement.kind is not Class.SETTING
        if statement.opaque is not Opaque.NONE:
            self._suspect(Need.SOON if statement.opaque is Opaque.WEAK else Need.NOW)
        for effect in statement.effects:
            self._apply(effect, params)
        if not statement.verb:
            self._tag_only(tag)
        elif statement.verb == "CREATE" and creates_in_temp(self._scope.settings):
            self._suspect(Need.SOON)

    def errored(self) -> None:
        """ErrorResponse came: an implicit transaction is undone."""
        self._errored = self._pending = True
        if not self._layers.explicit:
            self._undo()

    def ready(self, status: int) -> None:
        """ReadyForQuery came with this status byte."""
        self.prepared.settle()
        if not self._pending:
            return
        if status == messages.STATUS_IDLE:
            if self._layers.explicit:
                self._ended_out_of_sight()
            self._layers.commit()
            self._pending = False
            self._merge_reports()
        elif not self._layers.explicit:
            self._layers.begin(None)  # by a BEGIN that was not read
        self._errored = False

    def reported(self, name: bytes, value: bytes) -> None:
        """ParameterStatus came: the canonical value of a setting, once the status is idle."""
        self._pending = True
        self._reports = {**(self._reports or {}), canonical(name): value}

    def lost_transaction(self) -> None:
        """The link died: what its transaction had done to the session is undone, and what the
        unit did that had no ReadyForQuery yet."""
        self._undo()
        self.prepared.unsettle()
        self._pending = self._errored = False
        self._reports = None

    def learn(self, found: Fingerprint) -> None:
        """Corrects the state by what the server says about it. Only between transactions."""
        if self._layers.explicit:
            return
        self.need = Need.NONE
        self.locks = found.advisory_locks > 0
        if self.prepared.correct(found.prepared):
            self._touch()
        self._become(corrected(self._scope, found))
        self._layers.commit()
        self._pending = False

    # ---- transactions ----

    def _control(self, statement: Statement, tag: bytes) -> None:
        self._pending = True
        before, layers = self._layers.current, self._layers
        match statement.tx:
            case Tx.BEGIN:
                layers.begin(statement.modes)
            case Tx.COMMIT | Tx.COMMIT_CHAIN | Tx.PREPARE:
                self._errored = tag == b"ROLLBACK"
                end = layers.rollback if self._errored else layers.commit
                end(statement.tx is Tx.COMMIT_CHAIN)
            case Tx.ROLLBACK | Tx.ROLLBACK_CHAIN:
                self._errored = True  # what is reported now is how it was
                layers.rollback(chain=statement.tx is Tx.ROLLBACK_CHAIN)
            case Tx.SAVEPOINT:
                layers.savepoint(statement.savepoint)
            case Tx.RELEASE:
                layers.release(statement.savepoint)
            case Tx.ROLLBACK_TO:
                layers.rollback_to(statement.savepoint)
        if statement.modes and statement.tx is Tx.LOCAL:
            layers.turn(statement.modes)
        if layers.current is not before:
            self.version += 1

    def _ended_out_of_sight(self) -> None:
        """The block ended without a tag that says how: a failed COMMIT, or code we cannot read."""
        if self._errored:
            self._undo()
        else:
            self._suspect(Need.NOW)

    def _undo(self) -> None:
        self.version += self._layers.current is not self._layers.base
        self._layers.rollback()

    def _merge_reports(self) -> None:
        if self._reports is None:
            return
        settings = self._scope.settings
        changed = {
            name: replace(settings[name], value=value, seen=True)
            for name, value in self._reports.items()
            if name in settings and name not in IDENTITY and settings[name].value != value
        }
        if self.need is not Need.NONE and not self._errored:  # what nobody saw being set
            for name in GUESSED & self._reports.keys() - settings.keys():
                changed[name] = Setting(self._reports[name], seen=True)
        self._reports = None
        if changed:
            self._become(replace(self._scope, settings={**settings, **changed}))
            self._layers.commit()
