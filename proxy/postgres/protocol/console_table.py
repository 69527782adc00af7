"""Tables of the console and their shape on the wire: RowDescription, DataRow, text or binary.

Source: PostgreSQL documentation, "Message Formats" and "Formats and Format Codes"; the binary form
of numeric is that of numeric_send (utils/adt/numeric.c).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cache, partial
from struct import pack
from typing import Any, overload

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.console_command import ConsoleError

TEXT_FORMAT, BINARY_FORMAT = 0, 1

SLICE_ROWS = 128
"""DataRows made at once: a millisecond or two of work."""


class Kind(Enum):
    """The type of a column: (OID, size in bytes, -1 where it varies)."""

    TEXT = (25, -1)
    INT4 = (23, 4)
    INT8 = (20, 8)
    NUMERIC = (1700, -1)
    BOOL = (16, 1)


@dataclass(frozen=True, slots=True)
class Column:
    """A column. What its values may be: str, int, float or bool, by its kind; None: NULL."""

    name: str
    kind: Kind = Kind.TEXT


Value = str | int | float | None
Columns = tuple[Column, ...]


class Lazy(Sequence[Sequence[Value]]):
    """Rows that are made when they are looked at, out of one item each."""

    def __init__(self, make: Callable[[Any], Sequence[Value]], items: Sequence[Any]) -> None:
        self._make = make
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Sequence[Value]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[Value]]: ...

    def __getitem__(self, index: int | slice) -> Sequence[Value] | Sequence[Sequence[Value]]:
        if isinstance(index, slice):
            return [self._make(item) for item in self._items[index]]
        return self._make(self._items[index])


@dataclass(frozen=True, slots=True)
class Table:
    """A result: each row has one value for each column."""

    columns: Columns
    rows: Sequence[Sequence[Value]]


_LETTERS = {"i": Kind.INT4, "q": Kind.INT8, "n": Kind.NUMERIC, "b": Kind.BOOL}


def columns(text: str) -> Columns:
    """Columns from their names, each followed by `:i`, `:q`, `:n` or `:b` unless it is text."""
    made = []
    for word in text.split():
        name, _, letter = word.partition(":")
        made.append(Column(name, _LETTERS[letter] if letter else Kind.TEXT))
    return tuple(made)


def formats_for(asked: Sequence[int], count: int) -> list[int]:
    """The format of each of `count` columns, from the result formats of a Bind.

    Raises ConsoleError, as the server does, if these do not fit.
    """
    if len(asked) not in (0, 1, count):
        text = f"bind message has {len(asked)} result formats but query has {count} columns"
        raise ConsoleError("08P01", text)
    if any(code not in (TEXT_FORMAT, BINARY_FORMAT) for code in asked):
        raise ConsoleError("08P01", "unsupported format code")
    if len(asked) == count:
        return list(asked)
    return [asked[0] if asked else TEXT_FORMAT] * count


def row_description(described: Columns, formats: Sequence[int]) -> bytes:
    """RowDescription of computed columns."""
    assert len(described) == len(formats)
    parts = [pack(">H", len(described))]
    for column, code in zip(described, formats, strict=True):
        oid, size = column.kind.value
        parts.append(column.name.encode() + b"\0" + pack(">IHIhiH", 0, 0, oid, size, -1, code))
    return messages.message(b"T", b"".join(parts))


def data_rows(table: Table, formats: Sequence[int], start: int = 0, count: int = 0) -> bytes:
    """`count` DataRows from row `start` on; 0: all that are left."""
    rows = table.rows[start : start + count] if count else table.rows[start:]
    encoders = [
        _encoder(column.kind, code) for column, code in zip(table.columns, formats, strict=True)
    ]
    return b"".join([_row(row, encoders) for row in rows])


def slices(table: Table, formats: Sequence[int], start: int = 0) -> Iterator[bytes]:
    """The DataRows from `start` on in pieces: whoever sends them may do other things in between."""
    for at in range(start, len(table.rows), SLICE_ROWS):
        yield data_rows(table, formats, at, SLICE_ROWS)


_Encoder = Callable[[Value], bytes | None]


def _row(values: Sequence[Value], encoders: Sequence[_Encoder]) -> bytes:
    return messages.row([encode(one) for encode, one in zip(encoders, values, strict=True)])


@cache
def _encoder(kind: Kind, code: int) -> _Encoder:
    """What makes bytes of the values of a column: a table may have thousands of rows."""
    if kind is Kind.TEXT:
        return _text
    if kind in (Kind.INT4, Kind.INT8) and code == TEXT_FORMAT:
        return partial(_digits, 1 << (8 * kind.value[1] - 1))
    return partial(_any, kind, code == BINARY_FORMAT)


def encoded(value: Value, kind: Kind, code: int) -> bytes | None:
    """One value in text or binary format; numbers beyond their type end at its last value."""
    return _encoder(kind, code)(value)


def _text(value: Value) -> bytes | None:
    if value is None:
        return None
    raw = str(value).encode("utf-8", "replace")
    return raw.replace(b"\0", b" ") if b"\0" in raw else raw


def _digits(limit: int, value: Value) -> bytes | None:
    return None if value is None else b"%d" % max(-limit, min(int(value), limit - 1))


def _any(kind: Kind, binary: bool, value: Value) -> bytes | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind is Kind.BOOL:
        return (b"\1" if value else b"\0") if binary else (b"t" if value else b"f")
    if kind is Kind.NUMERIC:
        text = str(value) if isinstance(value, int | str) else f"{value:.6f}"
        return _numeric(text) if binary else text.encode()
    limit = 1 << (8 * kind.value[1] - 1)
    return pack(">i" if kind is Kind.INT4 else ">q", max(-limit, min(int(value), limit - 1)))


def _numeric(text: str) -> bytes:
    """The binary form: digits in base 10000, the weight of the first, sign, digits shown after
    the point."""
    whole, _, rest = format(Decimal(text).copy_abs(), "f").partition(".")
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    padded = whole + rest.ljust(-(-len(rest) // 4) * 4, "0")
    groups = [int(padded[at : at + 4]) for at in range(0, len(padded), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        del groups[0]
        weight -= 1
    while groups and groups[-1] == 0:
        del groups[-1]
    sign = 0x4000 if text.startswith("-") and groups else 0
    head = pack(">HhHH", len(groups), weight if groups else 0, sign, len(rest))
    return head + pack(f">{len(groups)}H", *groups)
