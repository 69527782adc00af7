"""What to do with each unit whose link died: the decision table (reference, section 2).

A unit is sent again only on a certificate that its first run did not and will not commit:

NS  not sent: its last byte never left, or never came to be (no Sync, no CopyDone)
FT  FATAL trailer: the backend itself said FATAL before the unit's commit marker
RO  read-only: the second run happens inside BEGIN READ ONLY, so only one run can have written
OT  open transaction: no COMMIT for it can have run, so what ran in it is rolled back

No certificate, no second run: the client is told that the outcome is unknown. The units of one
transaction are judged together (`together`): all of them go out again, or none, for a new link must
never be left in half a transaction that the client believes to be over.

Owns: the table. Must not know: links, bytes on the wire, the words of the errors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from proxy.postgres.protocol.statement import Class, Copy, Opaque, Statement, Tx
from proxy.postgres.protocol.units import Kind, Unit

ATTEMPTS_MAX = 5  # sendings of one unit; a statement that kills its server must not kill it often

IDLE, IN_TRANSACTION, FAILED = b"ITE"

_UNPROVEN = "nothing proves that it was rolled back"
_IN_PARTS = "it is not one transaction, and may have been done in part"


class Replay(Enum):
    """The setting `resilience.replay`."""

    OFF = "off"
    READS = "reads"
    CERTIFIED = "certified"


class Action(Enum):
    """What happens to one unit."""

    RESEND = auto()  # as it is
    READ_ONLY = auto()  # inside BEGIN READ ONLY
    FINISH = auto()  # it is done: the rest of its answer is made here
    ROLLED = auto()  # 40001: nothing of it was saved
    DOUBT = auto()  # 08007: nobody can know
    MID = auto()  # 08006: a result broke off; it was a read
    FAILED = auto()  # 25P02: it stands in a transaction that is lost


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, the status the client is left in, and a clause for the error's detail.

    `why` ends "The link was lost …" for ROLLED; for DOUBT it says what makes it unknowable.
    """

    action: Action
    status: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is known about a link that died.

    `fatal`: the backend's own FATAL came first (certificate FT): severity FATAL, as a PANIC may
    strike after the commit, and not a pooler's. `status`: the client's transaction status before
    the first unit owed. `begin_again`: the open transaction has run nothing but settings.
    `listening` voids FT for batches.
    """

    fatal: bool
    status: int
    begin_again: bool
    listening: bool = False
    replay: Replay = Replay.CERTIFIED


def judge(units: Sequence[Unit], loss: Loss) -> list[Decision]:
    """One decision for each unit owed, in order. The units are those that went out, oldest first.

    RESEND, READ_ONLY and FINISH keep the client unaware; after ROLLED, DOUBT or MID it has an
    error. A transaction that ends here without its COMMIT leaves status FAILED behind. If the first
    decision is RESEND at loss.status T, the transaction is to be begun again before it.
    """
    decisions: list[Decision] = []
    status = loss.status
    while len(decisions) < len(units):
        rest = units[len(decisions) :]
        queued = bool(decisions)
        if status == IDLE and _after(rest[0], IDLE) == IDLE:
            decision = _outside(rest[0], loss, queued)
            if len(rest) > 1 and decision.action in _ERRORS and _statements(rest[0]) is None:
                # It may be meant to begin a transaction, and those behind it are meant for that.
                decision = replace(decision, status=FAILED)
            decisions.append(decision)
        else:
            decisions += _together(rest, status, loss, queued)
        status = decisions[-1].status
    return decisions


def holds_locks(units: Sequence[Unit], loss: Loss) -> bool:
    """True if the backend may live on in a transaction that nothing owed can have committed.

    Its locks would stand in the way of whoever tries again. It may be ended: it would roll back.
    """
    opened = loss.status != IDLE or (bool(units) and _begins(units[0]))
    return opened and not loss.fatal and not any(_commits(unit) for unit in units)


def mark_unsent(units: Iterable[Unit], left_bytes: int) -> None:
    """Certificate NS for what never left this machine.

    `left_bytes`: the part of the link's stream that may have left; `begins_at` and `ends_at` of the
    units count in the same stream.
    """
    for unit in units:
        unit.unsent = unit.ends_at > left_bytes
        unit.untouched = unit.begins_at >= left_bytes and unit.unsent


# -- outside a transaction


def _outside(unit: Unit, loss: Loss, queued: bool) -> Decision:
    """A unit that began at status I, and leaves it there."""
    kind = unit.class_of()
    if _delivered(unit, kind):
        return Decision(Action.FINISH, IDLE)
    if _failed(unit):
        return Decision(Action.FINISH, IDLE)
    if _marked(unit):
        if kind is Class.SETTING and not unit.released and _may_repeat(unit, loss):
            return Decision(Action.RESEND, IDLE)  # so that the new link has the setting too
        return Decision(Action.FINISH, IDLE)
    if _not_sent(unit):
        return _unsent(unit, kind)
    if unit.copying:
        return _copy_in(unit, kind, loss)
    if loss.fatal and (queued or _fatal_counts(unit, loss)):
        return _rolled_back(unit, kind, loss, queued)
    if unit.errored and kind in (Class.WRITE, Class.SEQUENCE):
        return Decision(Action.ROLLED, IDLE, "when the statement had failed")
    return _unproven(unit, kind, loss)


def _unproven(unit: Unit, kind: Class, loss: Loss) -> Decision:
    """It was sent, and nothing says how it ended."""
    if kind is Class.READ:
        statements = _statements(unit) or ()
        bare = not any(one.wrapper for one in statements)
        decision = _again(unit, kind, loss, Action.RESEND if bare else Action.READ_ONLY)
        if decision.action is Action.MID and any(
            one.opaque is not Opaque.NONE for one in statements
        ):
            return Decision(Action.DOUBT, IDLE, "it calls functions that may write")
        return decision
    if kind is Class.BEGIN or kind is Class.SETTING:
        if unit.released:
            return Decision(Action.DOUBT, IDLE, "its answer broke off")
        return _again(unit, kind, loss, Action.RESEND)
    return Decision(Action.DOUBT, IDLE, _IN_PARTS if kind is Class.OTHER else _UNPROVEN)


def _rolled_back(unit: Unit, kind: Class, loss: Loss, queued: bool) -> Decision:
    """Certificate FT: the first unit was rolled back, those queued behind it were never read."""
    if kind is Class.OTHER and not queued:
        return Decision(Action.DOUBT, IDLE, _IN_PARTS)
    if unit.released and kind is not Class.READ:
        return Decision(Action.ROLLED, IDLE, "when its answer had begun")
    if loss.replay is Replay.READS and not queued and kind in (Class.WRITE, Class.SEQUENCE):
        return Decision(Action.ROLLED, IDLE, "and replay of writes is off")
    return _again(unit, kind, loss, Action.RESEND)


def _unsent(unit: Unit, kind: Class) -> Decision:
    """Certificate NS: its last byte never went out."""
    if not unit.released and unit.pieces is not None and unit.attempts < ATTEMPTS_MAX:
        return Decision(_as_before(unit, Action.RESEND), IDLE)
    if kind is Class.READ:
        return Decision(Action.MID, IDLE)
    if unit.copying:
        return Decision(Action.ROLLED, IDLE, "during COPY")
    return Decision(Action.ROLLED, IDLE, "before the statement had been sent whole")


def _copy_in(unit: Unit, kind: Class, loss: Loss) -> Decision:
    """COPY FROM STDIN, and its CopyDone went out: it may have committed."""
    if kind is not Class.OTHER and unit.given_up:
        return Decision(Action.ROLLED, IDLE, "when the client had given up the COPY")
    if kind is not Class.OTHER and loss.fatal and _fatal_counts(unit, loss):
        return Decision(Action.ROLLED, IDLE, "at the end of COPY")
    return Decision(Action.DOUBT, IDLE, _UNPROVEN)


def _again(unit: Unit, kind: Class, loss: Loss, action: Action) -> Decision:
    """Send it again, unless that is switched off, impossible, or was tried often enough.

    Only for units whose first run left nothing behind, or harmless ones.
    """
    if not unit.released and _may_repeat(unit, loss):
        return Decision(_as_before(unit, action), IDLE)
    if kind is Class.READ:
        return Decision(Action.MID, IDLE)
    return Decision(Action.ROLLED, IDLE, "and the statement was not sent again")


def _as_before(unit: Unit, action: Action) -> Action:
    """Once sent in doubt, a read stays read-only: a certificate speaks of its last run alone."""
    return Action.READ_ONLY if unit.read_only else action


def _may_repeat(unit: Unit, loss: Loss) -> bool:
    possible = unit.pieces is not None and unit.attempts < ATTEMPTS_MAX
    return possible and loss.replay is not Replay.OFF


# -- in a transaction, or at the beginning of one


def _together(rest: Sequence[Unit], status: int, loss: Loss, queued: bool) -> list[Decision]:
    """Decisions for the units of one transaction, and more if it leaves FAILED behind."""
    group = rest[: _end(rest, 0)]
    begun = status == IDLE or (status == IN_TRANSACTION and loss.begin_again and not queued)
    over = group[0].tx() is Tx.ROLLBACK and _fakeable(group[0])  # no link is needed for it
    if begun and not over and _all_again(group, status, loss, queued):
        decisions = []
        for unit in group:
            status = _after(unit, status)
            decisions.append(Decision(Action.RESEND, status))
        return decisions
    return _lost(rest, status, loss, queued)


def _all_again(group: Sequence[Unit], status: int, loss: Loss, queued: bool) -> bool:
    """True if every unit of the transaction may run a second time, on certificate NS, FT or OT."""
    saved = _may_be_saved(group, False, loss, queued)
    for index, unit in enumerate(group):
        if unit.pieces is None or unit.released or unit.copying or unit.read_only:
            return False
        if unit.attempts >= ATTEMPTS_MAX:
            return False
        if _not_sent(unit):
            continue
        if loss.replay is Replay.OFF:
            return False
        if loss.fatal and (queued or index > 0):
            continue  # it was never read, whatever it is
        if not _repeatable(unit, saved, loss):
            return False
        if index == 0 and status == IDLE and not _begins(unit):
            return False  # something ran before the transaction began
    return True


def _repeatable(unit: Unit, saved: bool, loss: Loss) -> bool:
    """True if what has run may run again. `saved`: its transaction may have committed."""
    statements = _statements(unit)
    if statements is None or unit.kind is Kind.CALL:
        return False
    allowed = {Class.READ, Class.BEGIN, Class.SETTING}
    if not saved and loss.replay is Replay.CERTIFIED:
        allowed |= {Class.WRITE, Class.SEQUENCE}
    if any(one.kind not in allowed for one in statements):
        return False
    # A read inside a transaction cannot get its own BEGIN READ ONLY.
    return not saved or not any(one.kind is Class.READ and one.wrapper for one in statements)


def _lost(rest: Sequence[Unit], status: int, loss: Loss, queued: bool) -> list[Decision]:
    """The transaction is gone: decisions up to where the client is outside of it."""
    decisions: list[Decision] = []
    opens = status == IDLE
    told = status == FAILED
    failed = told and not queued
    doubtful = not failed and _may_stand_alone(rest[0], status, loss, queued)
    end = 0
    for index, unit in enumerate(rest):
        if index == end:
            end = _end(rest, index)
            part = rest[index:end]
            doubtful = doubtful or _may_be_saved(part, failed, loss, queued or index > 0)
        if opens and index == 0 and end > 1 and unit.tx() is Tx.BEGIN and _fakeable(unit):
            decision = Decision(Action.FINISH, IN_TRANSACTION)
        elif _marked(unit) and unit.tx() in _LASTS:
            # A chained transaction that the client has not heard is lost: it goes on as if open.
            chained = _last(unit) == FAILED
            decision = Decision(Action.FINISH, IN_TRANSACTION if chained else IDLE)
        else:
            decision = _one_lost(unit, doubtful, told)
            told = True
        decisions.append(decision)
        if decision.status == IDLE:
            break
    return decisions


def _may_stand_alone(unit: Unit, status: int, loss: Loss, queued: bool) -> bool:
    """True if the first unit may have run, or begun to run, outside of the transaction.

    It stands behind one that may have begun a transaction or not (status E), or does things before
    it begins one (status I).
    """
    if status == IN_TRANSACTION or _begins(unit) or _not_sent(unit) or (loss.fatal and queued):
        return False
    return status == FAILED or unit.class_of() is Class.OTHER


def _one_lost(unit: Unit, doubtful: bool, told: bool) -> Decision:
    """One unit of a transaction that is gone. `told`: the client has an error for it already."""
    if _failed(unit):
        return Decision(Action.FINISH, FAILED)
    verb = unit.tx()
    if verb in _ROLLBACKS:
        if verb is Tx.ROLLBACK and _fakeable(unit):
            return Decision(Action.FINISH, IDLE)
        return Decision(Action.ROLLED, _last(unit), "at ROLLBACK")
    if doubtful:
        ended = _after(unit, IN_TRANSACTION) == IDLE
        return Decision(Action.DOUBT, IDLE if ended else FAILED, "its COMMIT may have run")
    if verb in _COMMITS:
        if told and verb is not Tx.COMMIT_CHAIN and _fakeable(unit):
            return Decision(Action.FINISH, IDLE)  # COMMIT of a failed transaction: tag ROLLBACK
        return Decision(Action.ROLLED, _last(unit), "before COMMIT")
    if told and verb is not Tx.ROLLBACK_TO:  # which must not look as if there were a way back
        return Decision(Action.FAILED, FAILED)
    return Decision(Action.ROLLED, FAILED, "in the transaction")


def _may_be_saved(group: Sequence[Unit], failed: bool, loss: Loss, queued: bool) -> bool:
    """True if a COMMIT may have run and saved what the group did.

    `failed`: the server's transaction had failed before the first unit.
    """
    if loss.fatal and (queued or not _commits(group[0])):
        return False  # whoever read the FATAL had not come to the COMMIT
    for unit in group:
        if _not_sent(unit):
            return False  # nor was anything behind it
        alone = unit.tx() in _COMMITS
        if _commits(unit) and not (alone and (failed or unit.errored)):
            return not (alone and _fatal_before_commit(unit, loss))
        failed = failed or unit.errored
        if any(one.tx in _RECOVERS for one in _statements(unit) or ()):
            failed = False
    return False


def _fatal_before_commit(unit: Unit, loss: Loss) -> bool:
    """Certificate FT for a COMMIT alone in its unit. In a batch it runs before its Sync, so that
    its CommandComplete is the marker (which a Query's caller has looked for)."""
    if not loss.fatal or unit.tx() is Tx.PREPARE:
        return False
    return unit.kind is Kind.QUERY or (_fatal_counts(unit, loss) and not unit.answered)


# -- facts about units

_ERRORS = (Action.ROLLED, Action.DOUBT, Action.MID)
_COMMITS = (Tx.COMMIT, Tx.COMMIT_CHAIN, Tx.PREPARE)
_ROLLBACKS = (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN)
_LASTS = (*_COMMITS, *_ROLLBACKS)
_PREPARED = (Tx.COMMIT_PREPARED, Tx.ROLLBACK_PREPARED)
_RECOVERS = (*_LASTS, Tx.ROLLBACK_TO)  # a failed transaction works again, or a new one has begun


def _statements(unit: Unit) -> tuple[Statement, ...] | None:
    """All it runs, in order; None if that is not known. A FunctionCall runs no statement."""
    if unit.kind is Kind.CALL:
        return ()
    found: list[Statement] = []
    for script in unit.scripts():
        if script is None or any(not one.verb for one in script.statements):
            return None
        found += script.statements
    return tuple(found)


def _begins(unit: Unit) -> bool:
    """True if the first thing it runs is BEGIN."""
    statements = _statements(unit)
    return bool(statements and statements[0].tx is Tx.BEGIN)


def _commits(unit: Unit) -> bool:
    """True if it may commit: a transaction, or what it runs behind its ROLLBACK."""
    statements = _statements(unit)
    if statements is None:
        return True
    if len(statements) > 1 and any(one.tx in _ROLLBACKS for one in statements):
        return True
    return any(one.tx in _COMMITS or one.tx in _PREPARED for one in statements)


def _end(units: Sequence[Unit], start: int) -> int:
    """Index behind the unit that surely ends the transaction and begins no other."""
    for index in range(start, len(units)):
        if _after(units[index], IN_TRANSACTION) == IDLE:
            return index + 1
    return len(units)


def _after(unit: Unit, status: int) -> int:
    """The status a client is in when the unit has run well; that before it if not known."""
    for one in _statements(unit) or ():
        if one.tx is Tx.BEGIN:
            status = IN_TRANSACTION
        elif one.tx in (Tx.COMMIT, Tx.ROLLBACK, Tx.PREPARE):
            status = IDLE  # AND CHAIN leaves it as it is: outside of a transaction it fails
    return status


def _last(unit: Unit) -> int:
    """The status behind the end of a lost transaction: a chained one is lost with it."""
    return FAILED if unit.tx() in (Tx.COMMIT_CHAIN, Tx.ROLLBACK_CHAIN) else IDLE


def _delivered(unit: Unit, kind: Class) -> bool:
    """True for a batch of reads whose client has every answer, all but the ReadyForQuery.

    Not if a function that we do not know was called: what it may have written is not saved.
    """
    if kind is not Class.READ or not unit.released or unit.errored or unit.held:
        return False
    known = all(one.opaque is Opaque.NONE for one in _statements(unit) or ())
    return known and 0 < unit.owed <= unit.replies


def _marked(unit: Unit) -> bool:
    """The commit marker was seen (a Query's last CommandComplete; a batch has only its Ready)."""
    if unit.kind is not Kind.QUERY or unit.errored or unit.script is None:
        return False
    statements = unit.script.statements
    return unit.answered and len(statements) == 1 and bool(statements[0].verb)


def _failed(unit: Unit) -> bool:
    """The server's own error has come, and nothing but ReadyForQuery can follow it."""
    if not unit.errored or not unit.complete or unit.needs_sync or unit.mixed or unit.skip:
        return False
    if unit.read_only and not unit.released:
        return False  # its first run may have ended otherwise
    statements = _statements(unit)
    return statements is not None and all(one.tx in (Tx.NONE, Tx.LOCAL) for one in statements)


def _not_sent(unit: Unit) -> bool:
    """Certificate NS. What acts without waiting for its Sync must not have left in part either."""
    if unit.untouched:
        return True
    statements = _statements(unit)
    waits = statements is not None and not any(
        one.kind is Class.OTHER or one.tx in _COMMITS for one in statements
    )
    if unit.unsent or not unit.complete:
        return waits or unit.kind is not Kind.BATCH
    copies = waits and any(one.copy is Copy.IN for one in statements or ())
    return copies and not unit.copied  # it cannot end without CopyDone


def _fatal_counts(unit: Unit, loss: Loss) -> bool:
    """FT is void for batches of a session that listens (reference, section 0)."""
    return not (loss.listening and unit.kind is Kind.BATCH)


def _fakeable(unit: Unit) -> bool:
    """The proxy can make the rest of the answer to this verb of transaction control."""
    if _marked(unit):
        return True
    return unit.complete and unit.pieces is not None and not unit.released
