"""What a unit's answers teach: the statement behind a CommandComplete, the names that came to be.

Owns nothing: functions over units and their owner, `Expected`. Must not know: the stream's bytes.
"""

from typing import TYPE_CHECKING

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.framing import EVERY_REPLY, Mark, scan
from proxy.postgres.protocol.parameters import Params, text_params
from proxy.postgres.protocol.statement import Class, Opaque, Statement, Tx
from proxy.postgres.protocol.units import Kind, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.postgres.protocol.expected import Expected

REPLIES = frozenset(b"123nTCIs")  # each ends the answer to one extended-protocol message
_CONFORMING = b"standard_conforming_strings"
_OTHER_TYPE = 2278  # void: a type no parameter has
PROLOGUE_BYTES_MAX = 64 << 10
UNKNOWN = Statement(Class.OTHER, "", opaque=Opaque.STRONG)


def executed(unit: Unit, index: int) -> tuple[Statement, bytes]:
    """The statement whose completion is the unit's number `index`, and its Bind message if kept."""
    if unit.kind is not Kind.BATCH:
        statements = unit.script.statements if unit.script is not None else ()
        return (statements[index], b"") if index < len(statements) else (UNKNOWN, b"")
    if unit.executes is None or index >= len(unit.executes):
        return UNKNOWN, b""
    script, bind = unit.executes[index]
    if script is None or len(script.statements) != 1:
        return UNKNOWN, bind
    return script.statements[0], bind


def bound(bind: bytes, statements: "Mapping[bytes, bytes]") -> Params:
    """The values of a Bind message as text, as far as they are text; None if there are none.

    `statements`: the Parse messages by name, which may hold the types of the parameters.
    """
    if not bind:
        return None
    _, name = messages.bind_names(bind, 5)
    at = bind.index(b"\0", bind.index(b"\0", 5) + 1) + 1
    count = int.from_bytes(bind[at : at + 2])
    formats = [int.from_bytes(bind[i : i + 2]) for i in range(at + 2, at + 2 + 2 * count, 2)]
    values, parse = messages.bind_params(bind, 5), statements.get(name)
    if parse is None:  # it was closed, or is too long to be kept
        return text_params(values, formats, [_OTHER_TYPE] * len(values))
    return text_params(values, formats, messages.parse_oids(parse, 5))


def only_prepares(unit: Unit) -> bool:
    """True if all the unit did is to make or drop prepared statements, in either protocol."""
    return all(
        script is not None and script.statements and all(map(_prepares, script.statements))
        for script in unit.scripts()
    )


def _prepares(statement: Statement) -> bool:
    return statement.verb in ("PREPARE", "DEALLOCATE") and statement.tx is Tx.NONE


def only_settings(unit: Unit) -> bool:
    """True if all the unit ran begins a transaction or changes a setting: safe to run again."""
    for script in unit.scripts():
        if script is None or not script.statements:
            return False
        for statement in script.statements:
            if statement.kind is not Class.BEGIN and statement.kind is not Class.SETTING:
                return False
            if _prepares(statement):
                return False  # the session's already: it cannot be prepared twice
            if statement.tx not in (Tx.NONE, Tx.BEGIN, Tx.LOCAL):
                return False
    return True


def extend_prologue(owner: "Expected", unit: Unit) -> None:
    """The transaction can be begun again while it has run nothing but settings."""
    owner.prologue = [] if owner.status == messages.STATUS_IDLE else owner.prologue
    assert owner.prologue is not None
    if only_prepares(unit):
        return  # which is not the transaction's
    kept = sum(before.size for before in owner.prologue) + unit.size <= PROLOGUE_BYTES_MAX
    if unit.errored or unit.pieces is None or not kept or not only_settings(unit):
        owner.prologue = None
    else:
        owner.prologue.append(unit)


def at_its_query(unit: Unit) -> bool:
    """True if what runs now of a batch is the Query that ends it."""
    return unit.mixed and unit.next_execute + 1 >= len(unit.executes or ())


def only_parses(unit: Unit) -> bool:
    """True if the unit's answer teaches nothing but that its statements exist now."""
    odd = unit.watch or unit.closes or unit.injected or unit.next_parse
    return not odd and unit.parses is not None


def parsed(owner: "Expected", unit: Unit) -> None:
    """ParseComplete came: the next statement of the unit exists."""
    if unit.next_parse >= len(unit.parses or ()):
        raise PeerProtocolError("ParseComplete without a Parse", Reason.UPSTREAM_PROTOCOL)
    assert unit.parses is not None
    name, message = unit.parses[unit.next_parse]
    unit.next_parse += 1
    if message:
        owner.state.parsed(name, message)
    else:
        owner.state.closed(name)  # too long to keep: what had the name is gone all the same
    owner.missing.discard(name)
    if owner.unsure:
        owner.unsure -= {name}


def closed(owner: "Expected", unit: Unit) -> None:
    """CloseComplete came: the next statement or portal that the unit closes is no more."""
    if unit.next_close >= len(unit.closes or ()):
        raise PeerProtocolError("CloseComplete without a Close", Reason.UPSTREAM_PROTOCOL)
    assert unit.closes is not None
    what, name = unit.closes[unit.next_close]
    unit.next_close += 1
    if what == ord("S"):
        unit.watch = True  # its end settles it
        owner.state.prepared.note()
        owner.state.closed(name)
        owner.missing.discard(name)


def unlearn(owner: "Expected", unit: Unit) -> None:
    """An error came: statements that the unit announced did not come to be."""
    names = owner.gatherer.names
    for name, _ in (unit.parses or ())[unit.next_parse :]:
        known = owner.state.statements.get(name)
        if known is None:
            names.pop(name, None)
        else:
            names[name] = owner.gatherer.script_of(known)
    for index, name in (unit.injected or {}).items():
        if index >= unit.parses_seen and name in owner.state.statements:
            owner.missing.add(name)


def adopt(owner: "Expected", unit: Unit) -> None:
    """Statements of a unit that the client was told has failed with its link.

    A Parse outlives a failed unit, and drivers know it (psycopg's pipelines count on it): the
    statement exists for a client that uses it, and does not for one that prepares it again. The
    unnamed one can be made again at any time.
    """
    if unit.released or unit.errored:
        return  # its answers have taught what there is
    for name, message in unit.parses or ():
        if not message:
            continue
        if not name or name not in owner.state.statements:
            owner.state.parsed(name, message)
            owner.gatherer.names.setdefault(name, owner.gatherer.script_of(message))
        owner.missing.add(name)
        if name:
            owner.unsure |= {name}


def farewell(body: bytes) -> dict[str, str] | None:
    """The fields of a notice that is the server's warning that it is about to end the connection.

    It may strike behind a commit, so that it is no certificate (reference, section 0).
    """
    fields = messages.error_fields(body)
    if fields.get("C") not in ("57P01", "57P02", "57P03"):
        return None
    return fields if fields.get("V", fields.get("S")) == "WARNING" else None


def told(owner: "Expected", name: bytes, value: bytes) -> None:
    """The client sees this ParameterStatus."""
    owner.client_params[name] = value
    if name == _CONFORMING:
        owner.gatherer.conforming = value != b"off"


def replies_in(parts: "Iterable[bytes]") -> int:
    """How many messages of a batch these parts of its answer answer for good."""
    marks: list[Mark] = []
    for part in parts:
        scan(part, 0, EVERY_REPLY, marks)
    return sum(kind in REPLIES for kind, _, _ in marks)


def flush_is_over(unit: Unit) -> bool:
    """True if a client that waits behind its Flush is owed nothing more: hold back no longer."""
    if unit.complete:
        return False  # its Sync has come: ReadyForQuery will
    return unit.errored or unit.replies + replies_in(unit.held or ()) >= unit.owed
