"""Message sequences for the tests of the session's core: short to write, easy to read.

Client side: `q(text)`, `p(text, name)`, `b(name, portal)`, `e(portal)`, … one message each, put
together with `+`. Server side: `z("T")`, `c("INSERT 0 1")`, … the same way.
"""

from collections.abc import Callable, Iterator

from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.classify import Classifier
from proxy.postgres.protocol.units import Gatherer, Piece, Unit

# ---- the client ----

q = m.query
SYNC, FLUSH, TERMINATE = m.sync(), m.flush(), m.terminate()
COPY_DONE = m.copy_done()


def p(text: str, name: str = "") -> bytes:
    """Parse."""
    return m.parse(name, text)


def b(name: str = "", portal: str = "", *values: bytes) -> bytes:
    """Bind."""
    return m.bind(portal, name, values)


def e(portal: str = "") -> bytes:
    """Execute."""
    return m.execute(portal)


def close(name: str, kind: bytes = b"S") -> bytes:
    """Close of a statement, or of a portal."""
    return m.close(kind, name)


def pbe(text: str, name: str = "") -> bytes:
    """Parse, Bind, Execute."""
    return p(text, name) + b(name) + e()


def call() -> bytes:
    """FunctionCall, more or less."""
    return m.message(b"F", b"\0\0\0\x01\0\0\0\0\0\0")


# ---- the server ----

c = m.command_complete
PARSED, BOUND, CLOSED = m.parse_complete(), m.bind_complete(), m.close_complete()
EMPTY, SUSPENDED, NO_DATA = m.empty_query(), m.portal_suspended(), m.no_data()
COPY_IN = m.message(b"G", b"\0\0\0")
ROW = m.row([b"1"])
TABLE = m.row_description(["a"])


def z(status: str = "I") -> bytes:
    """ReadyForQuery."""
    return m.ready_for_query(ord(status))


def error(sqlstate: str = "42601", severity: str = "ERROR") -> bytes:
    """ErrorResponse."""
    return m.error_response({"S": severity, "V": severity, "C": sqlstate, "M": "no"})


def notice(sqlstate: str = "00000", severity: str = "NOTICE") -> bytes:
    """NoticeResponse."""
    return m.notice_response({"S": severity, "V": severity, "C": sqlstate, "M": "note"})


def status(name: str, value: str) -> bytes:
    """ParameterStatus."""
    return m.parameter_status(name, value)


# ---- cutting ----


def gatherer() -> Gatherer:
    """One that reads SQL as the proxy does."""
    return Gatherer(Classifier())


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """The data in one piece, in two at every byte, and byte by byte."""
    yield [data]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def feed_all(feed: Callable[[bytes], list[Piece]], parts: list[bytes]) -> list[Piece]:
    """All pieces of these parts, in order."""
    return [piece for part in parts for piece in feed(part)]


def units_of(data: bytes, taker: Gatherer | None = None) -> list[Unit]:
    """The units in whole messages of a client, complete or not, each once."""
    taker = taker or gatherer()
    units: list[Unit] = []
    for unit, _, _ in taker.feed(data):
        if unit is not None and unit not in units:
            units.append(unit)
    return units
