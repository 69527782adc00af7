"""Prepared statements and portals of the console, and the Bind between them."""

from dataclasses import dataclass, field
from struct import unpack_from

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.console_command import Command, ConsoleError
from proxy.postgres.protocol.console_table import BINARY_FORMAT, Table, formats_for

TEXT_OID = 25
_INTEGERS = (20, 21, 23)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A parsed command; None: an empty text. `oids`: the parameter types the client declared."""

    command: Command | None
    oids: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many parameters Bind has to bring."""
        used = self.command.parameters if self.command is not None else 0
        return max(used, len(self.oids))

    def parameter_oids(self) -> list[int]:
        """The type of each parameter: as declared, else text."""
        declared = [*self.oids, *[0] * (self.count - len(self.oids))]
        return [oid or TEXT_OID for oid in declared]


@dataclass(slots=True)
class Portal:
    """A command on its way: `table` and `tag` are there once it `ran`."""

    command: Command | None
    parameters: list[str | None] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)
    table: Table | None = None
    tag: str = ""
    ran: bool = False
    position: int = 0  # rows sent


@dataclass(frozen=True, slots=True)
class Bound:
    """A Bind message, read."""

    portal: bytes
    statement: bytes
    parameter_formats: tuple[int, ...]
    values: list[bytes | None] = field(repr=False)
    result_formats: tuple[int, ...] = ()


def read(body: bytes) -> Bound:
    """The parts of a Bind body. Raises PeerProtocolError."""
    values = messages.bind_params(body)  # checks the whole shape
    portal, pos = messages.cstring(body)
    statement, pos = messages.cstring(body, pos)
    given = _numbers(body, pos)
    end = pos + 2 + 2 * len(given) + 2
    end += sum(4 + len(value or b"") for value in values)
    return Bound(portal, statement, given, values, _numbers(body, end))


def _numbers(body: bytes, pos: int) -> tuple[int, ...]:
    count = unpack_from(">H", body, pos)[0]
    return unpack_from(f">{count}H", body, pos + 2)


def portal(prepared: Prepared, bound: Bound, columns: int) -> Portal:
    """The portal that a Bind makes. Raises ConsoleError where the message does not fit."""
    values = bound.values
    if len(values) != prepared.count:
        text = f"bind message supplies {len(values)} parameters, but prepared statement requires"
        raise ConsoleError("08P01", f"{text} {prepared.count}")
    formats = formats_for(bound.parameter_formats, len(values))
    oids = prepared.parameter_oids()
    read_values = [
        _value(value, code, oid) for value, code, oid in zip(values, formats, oids, strict=True)
    ]
    return Portal(prepared.command, read_values, formats_for(bound.result_formats, columns))


def _value(value: bytes | None, code: int, oid: int) -> str | None:
    if value is None:
        return None
    if code == BINARY_FORMAT and oid in _INTEGERS:
        return str(int.from_bytes(value, signed=True))
    return value.decode("utf-8", "replace")
