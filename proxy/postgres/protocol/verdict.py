"""What to do with each unit whose link died: the decision table (reference, section 2).

A unit is sent again only on a certificate that its first run did not and will not commit:

NS  not sent: its last byte never left, or never came to be (no Sync, no CopyDone)
FT  FATAL trailer: the backend itself said FATAL before the unit's commit marker
RO  read-only: the second run happens inside BEGIN READ ONLY, so only one run can have written
OT  open transaction: no COMMIT for it was ever sent, so what ran in it is rolled back

No certificate, no second run: the client is told that the outcome is unknown.

Owns: the table. Must not know: links, bytes on the wire, the words of the errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from proxy.postgres.protocol.statement import Class, Tx
from proxy.postgres.protocol.units import Kind, Unit

ATTEMPTS_MAX = 5  # sendings of one unit; a statement that kills its server must not kill it often

IDLE, IN_TRANSACTION, FAILED = b"ITE"


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

    `fatal`: the backend's own FATAL came first (certificate FT), and may be trusted: it is not a
    pooler's. `status`: the client's transaction status before the first unit owed. `begin_again`:
    the open transaction has run nothing but settings. `listening` voids FT for batches.
    """

    fatal: bool
    status: int
    begin_again: bool
    listening: bool = False
    replay: Replay = Replay.CERTIFIED


def judge(units: Sequence[Unit], loss: Loss) -> list[Decision]:
    """One decision for each unit owed, in order. The units are those that went out, oldest first.

    RESEND, READ_ONLY and FINISH keep the client unaware; after ROLLED, DOUBT or MID it has an
    error. A transaction that ends here without its COMMIT leaves status FAILED behind.
    """
    decisions: list[Decision] = []
    status = loss.status
    again = loss.begin_again
    lost = False  # the transaction the client is in is gone
    index = 0
    while index < len(units):
        unit = units[index]
        if status == FAILED or lost:
            decision = _in_lost_transaction(unit, units[index + 1 :], loss, status)
            lost = decision.status != IDLE
        elif status == IN_TRANSACTION:
            decision = _in_transaction(unit, units[index + 1 :], loss, again, index > 0)
            lost = decision.status == FAILED and decision.action is not Action.RESEND
        else:
            decision = _outside(unit, units[index + 1 :], loss, index > 0)
            again = decision.status == IN_TRANSACTION and decision.action is Action.RESEND
        decisions.append(decision)
        status = decision.status
        index += 1
    return decisions


# -- outside a transaction


def _outside(unit: Unit, later: Sequence[Unit], loss: Loss, queued: bool) -> Decision:
    """A unit that began at status I."""
    status = _after(unit, IDLE)
    if _marked(unit):
        return Decision(Action.FINISH, IDLE)
    if unit.copying:
        return _copy_in(unit, loss, queued)
    kind = unit.class_of()
    if unit.unsent or (not unit.complete and not (kind is Class.OTHER and unit.scripts())):
        return _unsent(unit, kind, status)
    if loss.fatal and _fatal_counts(unit, loss):
        return _rolled_back(unit, kind, status, loss, queued)
    if unit.tx() is Tx.BEGIN and _ends_in_flight(later):
        # The whole transaction is on its way: it may have committed.
        if all(other.class_of() in _HARMLESS for other in later[: _end(later) + 1]):
            return _again(unit, Action.RESEND, status, loss)
        return Decision(Action.FINISH, IN_TRANSACTION)
    return _unproven(unit, kind, status, loss)


_HARMLESS = (Class.READ, Class.BEGIN, Class.SETTING)


def _unproven(unit: Unit, kind: Class, status: int, loss: Loss) -> Decision:
    """It was sent, and nothing says how it ended."""
    match kind:
        case Class.READ:
            if unit.released:
                return Decision(Action.MID, IDLE)
            if not unit.scripts():
                return _again(unit, Action.RESEND, status, loss)
            bare = all(
                script is not None and all(not one.wrapper for one in script.statements)
                for script in unit.scripts()
            )
            return _again(unit, Action.RESEND if bare else Action.READ_ONLY, status, loss)
        case Class.BEGIN | Class.SETTING:
            if unit.released:
                return Decision(Action.DOUBT, IDLE, "its answer broke off")
            return _again(unit, Action.RESEND, status, loss)
        case Class.SEQUENCE | Class.WRITE:
            return Decision(Action.DOUBT, IDLE, "no transaction id")
        case Class.OTHER:
            return Decision(Action.DOUBT, IDLE, "not transactional")


def _rolled_back(unit: Unit, kind: Class, status: int, loss: Loss, queued: bool) -> Decision:
    """Certificate FT: the first unit was rolled back, those queued behind it were never read."""
    if kind is Class.OTHER and not queued:
        return Decision(Action.DOUBT, IDLE, "not transactional")
    if unit.released:
        if kind is Class.READ:
            return Decision(Action.MID, IDLE)
        return Decision(Action.ROLLED, IDLE, "when its answer had begun")
    if kind is Class.READ and not queued and loss.replay is not Replay.OFF:
        return _again(unit, Action.RESEND, status, loss)
    if loss.replay is Replay.CERTIFIED or queued or kind in (Class.BEGIN, Class.SETTING):
        return _again(unit, Action.RESEND, status, loss)
    return Decision(Action.ROLLED, IDLE, "and replay of writes is off")


def _unsent(unit: Unit, kind: Class, status: int) -> Decision:
    """Certificate NS: its last byte never went out."""
    if unit.pieces is not None and not unit.released:
        return Decision(Action.RESEND, status)
    if kind is Class.READ:
        return Decision(Action.MID, IDLE)
    return Decision(Action.ROLLED, IDLE, "before the statement had been sent whole")


def _copy_in(unit: Unit, loss: Loss, queued: bool) -> Decision:
    """COPY FROM STDIN: without its CopyDone it cannot have committed."""
    if not unit.copied:
        return Decision(Action.ROLLED, IDLE, "during COPY")
    if loss.fatal and _fatal_counts(unit, loss) and unit.class_of() is not Class.OTHER:
        return Decision(Action.ROLLED, IDLE, "at the end of COPY")
    return Decision(Action.DOUBT, IDLE, "no transaction id")


def _again(unit: Unit, action: Action, status: int, loss: Loss) -> Decision:
    """Send it again, unless that is switched off, impossible, or was tried often enough."""
    kind = unit.class_of()
    if loss.replay is not Replay.OFF and unit.pieces is not None and unit.attempts < ATTEMPTS_MAX:
        return Decision(action, status)
    if kind is Class.READ:
        return Decision(Action.MID, IDLE)
    if kind in (Class.BEGIN, Class.SETTING) or (loss.fatal and _fatal_counts(unit, loss)):
        return Decision(Action.ROLLED, IDLE, "and it was not sent again")
    return Decision(Action.DOUBT, IDLE, "not sent again")


# -- inside a transaction


def _in_transaction(
    unit: Unit, later: Sequence[Unit], loss: Loss, again: bool, queued: bool
) -> Decision:
    """A unit that began at status T. The transaction died with the link, if it did not commit."""
    verb = unit.tx()
    if verb in (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN):
        return Decision(Action.FINISH, IDLE)
    commits = verb in _COMMITS or (unit.class_of() is Class.OTHER and unit.steers())
    kind = unit.class_of()
    fatal = loss.fatal and _fatal_counts(unit, loss)
    if again and _may_run_in_new_transaction(unit, later, kind, fatal, loss):
        return Decision(Action.RESEND, _after(unit, IN_TRANSACTION))
    if commits:
        if fatal and kind is not Class.OTHER:
            return Decision(Action.ROLLED, IDLE, "at COMMIT")
        if unit.unsent or not unit.complete:
            return Decision(Action.ROLLED, IDLE, "before COMMIT")
        return Decision(Action.DOUBT, IDLE, "no transaction id")
    if _ends_in_flight(later) and not fatal:
        return Decision(Action.DOUBT, FAILED, "its COMMIT was on the way")
    return Decision(Action.ROLLED, FAILED, "in the transaction")


def _may_run_in_new_transaction(
    unit: Unit, later: Sequence[Unit], kind: Class, fatal: bool, loss: Loss
) -> bool:
    """Certificate OT: nothing but settings ran, and no COMMIT can have saved this unit's first run."""
    if loss.replay is Replay.OFF or unit.attempts >= ATTEMPTS_MAX:
        return False
    if unit.released or unit.copying or unit.pieces is None or kind is Class.OTHER:
        return False
    if loss.replay is Replay.READS and kind not in _HARMLESS:
        return False
    if fatal:
        return True
    if unit.tx() in _COMMITS:
        return True  # it commits nothing but what is begun again
    if not _ends_in_flight(later):
        return True
    return all(other.class_of() in _HARMLESS for other in (unit, *later[: _end(later) + 1]))


def _in_lost_transaction(unit: Unit, later: Sequence[Unit], loss: Loss, status: int) -> Decision:
    """A unit behind one that was told the transaction is gone (or that it had failed before)."""
    verb = unit.tx()
    if verb in (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN):
        return Decision(Action.FINISH, IDLE)
    if verb in _COMMITS:
        if loss.fatal or loss.status == FAILED:
            return Decision(Action.FINISH, IDLE)  # COMMIT of a failed transaction: tag ROLLBACK
        return Decision(Action.DOUBT, IDLE, "no transaction id")
    return Decision(Action.FAILED, FAILED)


_COMMITS = (Tx.COMMIT, Tx.COMMIT_CHAIN, Tx.PREPARE)


# -- facts about units


def _marked(unit: Unit) -> bool:
    """The commit marker was seen (a Query's last CommandComplete; a batch has only its Ready)."""
    if unit.kind is not Kind.QUERY or unit.errored or unit.script is None:
        return False
    return unit.answered and len(unit.script.statements) == 1


def _fatal_counts(unit: Unit, loss: Loss) -> bool:
    """FT is void for batches of a session that listens (reference, section 0)."""
    return not (loss.listening and unit.kind is Kind.BATCH)


def _after(unit: Unit, status: int) -> int:
    """The status a client is in when the unit has run well."""
    verb = unit.tx()
    if verb is Tx.BEGIN:
        return IN_TRANSACTION
    if verb in (Tx.COMMIT, Tx.ROLLBACK, Tx.PREPARE):
        return IDLE
    return status


def _end(later: Sequence[Unit]) -> int:
    """Index of the first unit that may end a transaction, -1 if none does."""
    for index, unit in enumerate(later):
        verb = unit.tx()
        if verb in _COMMITS or verb in (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN):
            return index
        if unit.class_of() is Class.OTHER and unit.steers():
            return index
    return -1


def _ends_in_flight(later: Sequence[Unit]) -> bool:
    end = _end(later)
    return end >= 0 and later[end].tx() not in (Tx.ROLLBACK, Tx.ROLLBACK_CHAIN)
