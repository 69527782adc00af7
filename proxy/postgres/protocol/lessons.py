"""What a unit's answers say about what it ran: the statement behind a CommandComplete, its values.

Owns nothing: functions over units. Must not know: bytes of the stream, the session's state.
"""

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.parameters import Params, text_params
from proxy.postgres.protocol.statement import Class, Opaque, Statement, Tx
from proxy.postgres.protocol.units import Kind, Unit

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


def bound(bind: bytes) -> Params:
    """The values of a Bind message as text, None if there are none or they are not text."""
    if not bind:
        return None
    portal_end = bind.index(b"\0", 5)
    at = bind.index(b"\0", portal_end + 1) + 1
    count = int.from_bytes(bind[at : at + 2])
    formats = [int.from_bytes(bind[i : i + 2]) for i in range(at + 2, at + 2 + 2 * count, 2)]
    return text_params(messages.bind_params(bind, 5), formats)


def only_settings(unit: Unit) -> bool:
    """True if all the unit ran begins a transaction or changes a setting: safe to run again."""
    for script in unit.scripts():
        if script is None or not script.statements:
            return False
        for statement in script.statements:
            if statement.kind is not Class.BEGIN and statement.kind is not Class.SETTING:
                return False
            if statement.tx not in (Tx.NONE, Tx.BEGIN, Tx.LOCAL):
                return False
    return True
