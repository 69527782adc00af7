"""A transaction that died with its link: what the client's next units are told, for the server.

The client believes to be in a transaction, so it is in a failed one until it ends it. What the
server would say is said here, message by message, and needs no link: an application can roll back
during an outage. The first refusal is 40001, so that the client knows what happened; those behind
it are the server's own 25P02.

What the server alone can say (a unit that goes on behind its ROLLBACK, a name that may be taken) is
ELSEWHERE: on a new link, put into a failed transaction of the same kind.

Owns: those answers. Must not know: links, queues.
Source: PostgreSQL, exec_simple_query, exec_parse_message, exec_bind_message, exec_execute_message,
exec_describe_… of postgres.c; UserAbortTransactionBlock, EndTransactionBlock of xact.c.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from proxy.postgres.protocol import messages, say
from proxy.postgres.protocol.messages import (
    STATUS_FAILED,
    STATUS_IDLE,
    STATUS_IN_TRANSACTION,
)
from proxy.postgres.protocol.statement import Script, Statement, Tx
from proxy.postgres.protocol.units import Kind, Unit


class After(Enum):
    """Where the client is when it has its answer."""

    FAILED = STATUS_FAILED
    OVER = STATUS_IDLE
    CHAINED = STATUS_IN_TRANSACTION  # in a new transaction of the same kind, not begun anywhere yet


class Elsewhere(Enum):
    """No answer can be made here."""

    LATER = auto()  # the client has not finished the unit, nor waits for an answer
    SERVER = auto()  # a server in a failed transaction knows


@dataclass(frozen=True, slots=True)
class Failed:
    """The transaction. `untold`: the client does not know yet that it is lost. `chains`: its kind
    (isolation level and so on) is known, so that another one like it can be begun. `last`: the
    server's last words. `script`: what a Parse message says; `known`: the statement of that name.
    """

    untold: bool
    chains: bool
    last: dict[str, str] | None
    script: Callable[[bytes], Script | None]
    known: Callable[[bytes], Script | None]


@dataclass(slots=True)
class Answer:
    """What the client is told, and what that did: statements it made (name, Parse message) and
    closed (name)."""

    words: bytes
    after: After
    parsed: list[tuple[bytes, bytes]] = field(default_factory=list)
    closed: list[bytes] = field(default_factory=list)
    error: say.Said | None = None  # the last of it

    @property
    def refused(self) -> bool:
        """It ends in an error."""
        return self.error is not None


_ROLLBACKS = (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN)
_COMMITS = (Tx.COMMIT, Tx.COMMIT_CHAIN, Tx.PREPARE)
_CHAINS = (Tx.COMMIT_CHAIN, Tx.ROLLBACK_CHAIN)
_EXITS = (*_ROLLBACKS, *_COMMITS, Tx.ROLLBACK_TO)  # all that a failed transaction lets through


def answer(unit: Unit, failed: Failed) -> Answer | Elsewhere:
    """The answer to a unit of a client whose transaction is lost."""
    whole = unit.complete and unit.pieces is not None
    if not whole and not unit.flushed and unit.pieces is not None:
        return Elsewhere.LATER
    if unit.pieces is None or unit.kind is Kind.CALL:
        return _refusal(failed, After.FAILED, STATUS_FAILED if whole else None)
    if unit.kind is Kind.QUERY:
        return _query(unit, failed)
    return _Batch(unit, failed).answer()


def _refusal(failed: Failed, after: After, status: int | None, again: bool = False) -> Answer:
    """An error: the first time, and `again` where it must be said again, that all is lost."""
    if failed.untold or again:
        where = "before COMMIT" if after is After.OVER else "in the transaction"
        words = say.rolled_back(f"The link was lost {where}.", status, failed.last)
    else:
        words = say.in_failed_transaction(status)
    return Answer(words, after, error=words)


class _Unknown(Exception):
    """Only the server knows the answer."""


def _exit(one: Statement, failed: Failed) -> tuple[After, bool]:
    """Where a statement of _EXITS leaves the client, and whether that is told as an error."""
    if one.tx is Tx.ROLLBACK_TO:
        return After.FAILED, True  # the savepoint is lost, and must not look as if it were there
    if one.tx in _COMMITS and failed.untold:
        return (After.FAILED if one.tx in _CHAINS else After.OVER), True
    if one.tx not in _CHAINS:
        return After.OVER, False
    if not failed.chains:
        return After.FAILED, True
    if not failed.untold:
        raise _Unknown  # what is chained to a failed transaction has not always its kind
    return After.CHAINED, False


# ---- one Query ----


def _query(unit: Unit, failed: Failed) -> Answer | Elsewhere:
    statements = unit.script.statements if unit.script is not None else None
    if statements == () and not failed.untold:
        return Answer(
            messages.empty_query() + messages.ready_for_query(STATUS_FAILED), After.FAILED
        )
    if not statements or statements[0].tx not in _EXITS:
        return _refusal(failed, After.FAILED, STATUS_FAILED)
    try:
        after, refused = _exit(statements[0], failed)
    except _Unknown:
        return Elsewhere.SERVER
    if refused:
        return _refusal(failed, after, after.value, again=True)
    if len(statements) == 1:
        tag = messages.command_complete(b"ROLLBACK")
        return Answer(tag + messages.ready_for_query(after.value), after)
    if not failed.chains and any(one.tx in _CHAINS for one in statements):
        return _refusal(failed, After.FAILED, STATUS_FAILED, again=True)
    return Elsewhere.SERVER


# ---- an extended batch ----


class _Refused(Exception):
    """The message gets an error, and all behind it up to the Sync nothing."""

    def __init__(self, after: After = After.FAILED, again: bool = False) -> None:
        super().__init__()
        self.after = after
        self.again = again


class _Batch:
    """The walk through the messages of one batch."""

    def __init__(self, unit: Unit, failed: Failed) -> None:
        self._unit = unit
        self._failed = failed
        self._replies: list[bytes] = []
        self._made: dict[bytes, Script] = {}
        self._portals: dict[bytes, Script] = {}
        self._result = Answer(b"", After.FAILED)

    def answer(self) -> Answer | Elsewhere:
        """See the module."""
        unit, result = self._unit, self._result
        try:
            self._walk(unit.data)
        except _Refused as refused:
            return self._refused(refused)
        except _Unknown:
            if self._failed.untold and result.after is After.FAILED:
                return self._refused(_Refused())
            return Elsewhere.SERVER
        if not unit.complete:  # it waits at a Flush
            return self._refused(_Refused()) if self._failed.untold else Elsewhere.SERVER
        self._replies.append(messages.ready_for_query(result.after.value))
        result.words = b"".join(self._replies)
        return result

    def _refused(self, refused: _Refused) -> Answer:
        result = self._result
        status = refused.after.value if self._unit.complete else None
        words = _refusal(self._failed, refused.after, status, refused.again)
        result.words = b"".join(self._replies) + words.words
        result.after, result.error = refused.after, words.error
        return result

    def _walk(self, data: bytes) -> None:
        pos = 0
        while pos < len(data):
            stop = pos + 1 + int.from_bytes(data[pos + 1 : pos + 5])
            self._message(data[pos], data[pos:stop])
            pos = stop

    def _message(self, kind: int, message: bytes) -> None:
        over = self._result.after is not After.FAILED
        match chr(kind):
            case "H" | "S":
                return
            case "C":
                self._close(message)
            case "P" | "B" | "D" | "E" if not over:
                self._steps[kind](self, message)
            case _:
                raise _Unknown  # it goes on outside of the transaction, or in the next one

    def _parse(self, message: bytes) -> None:
        name, _ = messages.parse_name_and_text(message, 5)
        result = self._result
        if not name:
            result.closed.append(name)  # dropped before the new text is looked at
        script = self._failed.script(message)
        if script is None or len(script.statements) > 1 or not _passes(script):
            raise _Refused
        taken = name in self._made or self._failed.known(name) is not None
        if name and taken and name not in result.closed:
            raise _Unknown
        self._made[name] = script
        result.parsed.append((name, message))
        self._replies.append(messages.parse_complete())

    def _statement(self, name: bytes) -> Script:
        script = self._made.get(name)
        if script is None and name not in self._result.closed:
            script = self._failed.known(name)
        if script is None:
            raise _Unknown
        return script

    def _bind(self, message: bytes) -> None:
        portal, name = messages.bind_names(message, 5)
        script = self._statement(name)
        if messages.bind_params(message, 5):
            raise _Unknown
        if not script.statements or not _passes(script):
            raise _Refused
        self._portals[portal] = script
        self._replies.append(messages.bind_complete())

    def _describe(self, message: bytes) -> None:
        kind, name = messages.kind_and_name(message, 5)
        if kind == b"P":
            if name not in self._portals:
                raise _Unknown
            self._replies.append(messages.no_data())
        elif _passes(self._statement(name)):
            self._replies.append(messages.parameter_description() + messages.no_data())
        else:
            raise _Unknown  # parameters and rows of a statement that is not ours

    def _execute(self, message: bytes) -> None:
        portal, _ = messages.execute_portal(message, 5)
        script = self._portals.get(portal)
        if script is None:
            raise _Unknown
        after, refused = _exit(script.statements[0], self._failed)
        if refused:
            raise _Refused(after, again=True)
        self._result.after = after
        self._replies.append(messages.command_complete(b"ROLLBACK"))

    def _close(self, message: bytes) -> None:
        kind, name = messages.kind_and_name(message, 5)
        if kind == b"S":
            self._made.pop(name, None)
            self._result.parsed = [made for made in self._result.parsed if made[0] != name]
            self._result.closed.append(name)
        else:
            self._portals.pop(name, None)
        self._replies.append(messages.close_complete())

    _steps = {ord("P"): _parse, ord("B"): _bind, ord("D"): _describe, ord("E"): _execute}  # noqa: RUF012


def _passes(script: Script) -> bool:
    """A failed transaction lets it be prepared: it ends the transaction, or is empty."""
    return all(one.tx in _EXITS for one in script.statements)
