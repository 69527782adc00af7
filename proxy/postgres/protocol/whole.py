"""The unit of a chunk that is exactly one unit, in the forms in which drivers send most of them.

    Query
    Bind, [Describe,] Execute, Sync           of the unnamed portal: a prepared statement
    Parse, Bind, [Describe,] Execute, Sync    all unnamed: a statement with parameters
    several of these, and one Sync            a pipeline, the portal unnamed

What is not one of these, or not plain, is for Gatherer.feed, which says the same of those that are
(tests/property/test_postgres_stream.py); this is only cheaper.
"""

from typing import TYPE_CHECKING, Final

from proxy.postgres.protocol.framing import HEADER_BYTES, size_at
from proxy.postgres.protocol.units import BATCH, QUERY, UNIT_BYTES_MAX, Gatherer, Unit

if TYPE_CHECKING:
    from proxy.postgres.protocol.statement import Script

_BYTES_MAX: Final = UNIT_BYTES_MAX  # compiled, the other one is a look-up
_QUERY: Final = 0x51
_PARSE: Final = 0x50
_BIND: Final = 0x42
_EXECUTED: Final = 0x45
_SYNCED: Final = 0x53
_DESCRIBE: Final = b"D\0\0\0\x06P\0"
_EXECUTE: Final = b"E\0\0\0\x09\0\0\0\0\0"
_SYNC: Final = b"S\0\0\0\x04"
_TAILS: Final = {
    _EXECUTE + _SYNC: 1,
    _DESCRIBE + _EXECUTE + _SYNC: 2,
}  # → messages but for the Sync


def whole_unit(gatherer: Gatherer, data: bytes) -> Unit | None:
    """The unit that `data` is, complete; None if feed() has to look at it."""
    if not gatherer.between_units or len(data) > _BYTES_MAX:
        return None
    kind = data[0]
    if kind == _QUERY:
        return _query(gatherer, data)
    if kind == _BIND:
        return _bound(gatherer, data, 0) or _pipeline(gatherer, data)
    if kind == _PARSE:
        return _parsed(gatherer, data) or _pipeline(gatherer, data)
    return None


def _query(gatherer: Gatherer, data: bytes) -> Unit | None:
    if len(data) <= HEADER_BYTES or size_at(data, 1) + 1 != len(data):
        return None
    unit = Unit(QUERY, data)
    unit.complete = True
    unit.script = script = gatherer.script(data[5:-1])
    if not script.plain:
        unit.watch = True
    if b"" in gatherer.names:
        del gatherer.names[b""]
    if b"" in gatherer.portals:
        del gatherer.portals[b""]
    return unit


def _bound(gatherer: Gatherer, data: bytes, start: int) -> Unit | None:
    """A Bind of the unnamed portal at start, its Execute and its Sync."""
    if len(data) <= start + HEADER_BYTES:
        return None
    stop = start + 1 + size_at(data, start + 1)
    owed = _TAILS.get(data[stop:])
    if owed is None or data[start + 5]:
        return None
    end = begin = start + 6  # a name is short: cheaper than to call find
    while end < stop and data[end]:
        end += 1
    if end >= stop:
        return None
    name = data[begin:end]
    script = gatherer.names.get(name)
    if script is None or not script.plain:
        return None
    unit = Unit(BATCH, data)
    unit.complete = True
    unit.bare = False
    unit.owed = owed + 1
    unit.uses = [name]
    unit.executes = [(script, b"")]
    gatherer.portals[b""] = unit.executes[0]
    return unit


def _parsed(gatherer: Gatherer, data: bytes) -> Unit | None:
    """An unnamed statement, and what _bound takes of it."""
    if len(data) <= HEADER_BYTES:
        return None
    stop = 1 + size_at(data, 1)
    if stop + HEADER_BYTES + 2 > len(data) or data[5] or data[stop] != _BIND:
        return None
    text_end = data.find(b"\0", 6, stop)
    if text_end < 0 or data[stop + 6]:
        return None
    script = gatherer.script(data[6:text_end])
    if not script.plain:
        return None
    before = gatherer.names.get(b"")
    gatherer.names[b""] = script
    unit = _bound(gatherer, data, stop)
    if unit is None:
        if before is None:
            del gatherer.names[b""]
        else:
            gatherer.names[b""] = before
        return None
    unit.owed += 1
    unit.uses = None  # what it uses is its own
    unit.parses = [(b"", data[:stop])]
    return unit


def _pipeline(gatherer: Gatherer, data: bytes) -> Unit | None:
    """Any number of Parse, Bind, Describe and Execute, and the one Sync at the end of the chunk."""
    made: dict[bytes, Script] = {}  # what it prepares: nothing is noted before all of it was seen
    parses: list[tuple[bytes, bytes]] = []
    uses: list[bytes] = []
    executes: list[tuple[Script | None, bytes]] = []
    bound: tuple[Script | None, bytes] | None = None
    owed = pos = 0
    end = len(data)
    while pos + HEADER_BYTES <= end:
        kind = data[pos]
        stop = pos + 1 + size_at(data, pos + 1)
        if stop > end or stop < pos + HEADER_BYTES:
            return None
        if kind == _EXECUTED:
            if bound is None or data[pos:stop] != _EXECUTE:
                return None
            executes.append(bound)
        elif kind == _BIND:
            name_end = data.find(b"\0", pos + 6, stop)
            if name_end < 0 or data[pos + 5]:
                return None
            name = data[pos + 6 : name_end]
            script = made.get(name)
            if script is None:
                script = gatherer.names.get(name)
                uses.append(name)
            if script is None or not script.plain:
                return None
            bound = (script, b"")
        elif kind == _PARSE:
            name_end = data.find(b"\0", pos + 5, stop)
            text_end = data.find(b"\0", name_end + 1, stop)
            if name_end < 0 or text_end < 0:
                return None
            name = data[pos + 5 : name_end]
            made[name] = script = gatherer.script(data[name_end + 1 : text_end])
            if not script.plain:
                return None
            parses.append((name, data[pos:stop]))
        elif kind == _SYNCED:
            break
        elif data[pos:stop] != _DESCRIBE:
            return None
        owed += 1
        pos = stop
    if not executes or bound is None or data[pos:] != _SYNC:
        return None
    unit = Unit(BATCH, data)
    unit.complete = True
    unit.bare = False
    unit.owed = owed
    unit.uses = uses or None
    unit.executes = executes
    unit.parses = parses or None
    gatherer.names.update(made)
    gatherer.portals[b""] = bound
    return unit
