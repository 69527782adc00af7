"""Values on the wire: psycopg's own decoders read back what the console encodes."""

from decimal import Decimal
from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.numeric import NumericBinaryLoader

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.console_command import ConsoleError
from proxy.postgres.protocol.console_table import (
    BINARY_FORMAT,
    SLICE_ROWS,
    TEXT_FORMAT,
    Column,
    Kind,
    Lazy,
    Table,
    columns,
    data_rows,
    encoded,
    formats_for,
    row_description,
    slices,
)
from tests.unit.postgres.protocol.console_kit import split


def test_columns_from_text() -> None:
    assert columns("name size:i big:q exact:n flag:b") == (
        Column("name"),
        Column("size", Kind.INT4),
        Column("big", Kind.INT8),
        Column("exact", Kind.NUMERIC),
        Column("flag", Kind.BOOL),
    )


@pytest.mark.parametrize(
    ("value", "kind", "text", "binary"),
    [
        ("é\0!", Kind.TEXT, b"\xc3\xa9 !", b"\xc3\xa9 !"),
        (7, Kind.INT4, b"7", b"\0\0\0\7"),
        (-1, Kind.INT8, b"-1", b"\xff" * 8),
        (1 << 40, Kind.INT4, b"2147483647", b"\x7f\xff\xff\xff"),
        (-(1 << 40), Kind.INT4, b"-2147483648", b"\x80\0\0\0"),
        (True, Kind.BOOL, b"t", b"\1"),
        (False, Kind.BOOL, b"f", b"\0"),
        (None, Kind.INT4, None, None),
        (1.5, Kind.NUMERIC, b"1.500000", None),
    ],
)
def test_values(value: object, kind: Kind, text: bytes | None, binary: bytes | None) -> None:
    assert encoded(value, kind, TEXT_FORMAT) == text  # type: ignore[arg-type]
    if binary is not None:
        assert encoded(value, kind, BINARY_FORMAT) == binary  # type: ignore[arg-type]


@given(st.one_of(st.integers(-(10**30), 10**30), st.floats(-1e12, 1e12)))
def test_numeric_is_read_back(value: int | float) -> None:
    wire = encoded(value, Kind.NUMERIC, BINARY_FORMAT)
    text = encoded(value, Kind.NUMERIC, TEXT_FORMAT)
    assert wire is not None
    assert text is not None
    assert NumericBinaryLoader(1700).load(wire) == Decimal(text.decode())


def test_a_number_that_is_none_is_null() -> None:
    for odd in (float("nan"), float("inf")):
        assert encoded(odd, Kind.NUMERIC, TEXT_FORMAT) is None
        assert encoded(odd, Kind.NUMERIC, BINARY_FORMAT) is None


def test_formats() -> None:
    assert formats_for([], 3) == [0, 0, 0]
    assert formats_for([1], 3) == [1, 1, 1]
    assert formats_for([1, 0, 1], 3) == [1, 0, 1]
    assert formats_for([1], 0) == []
    for wrong in ([1, 0], [2], [0, 0, 7]):
        with pytest.raises(ConsoleError):
            formats_for(wrong, 3)


def test_description_and_rows() -> None:
    table = Table(columns("name count:i"), [["a", 1], ["b", None], ["c", 3]])
    description = row_description(table.columns, [0, 1])
    assert unpack(">H", description[5:7]) == (2,)
    assert description[7:] == b"name\0" + bytes.fromhex(
        "00000000 0000 00000019 ffff ffffffff 0000"
    ) + b"count\0" + bytes.fromhex("00000000 0000 00000017 0004 ffffffff 0001")
    rows = [messages.data_row(one[5:]) for one in split(data_rows(table, [0, 1]))]
    assert rows == [[b"a", b"\0\0\0\1"], [b"b", None], [b"c", b"\0\0\0\3"]]
    assert split(data_rows(table, [0, 1], 1, 1)) == split(data_rows(table, [0, 1]))[1:2]


def test_large_tables_are_made_piece_by_piece() -> None:
    made = []

    def make(item: int) -> list[int]:
        made.append(item)
        return [item]

    items = range(3 * SLICE_ROWS + 1)
    table = Table(columns("n:i"), Lazy(make, items))
    assert len(table.rows) == len(items)
    assert table.rows[-1] == [items[-1]]
    del made[:]
    pieces = slices(table, [0], 5)
    first = split(next(pieces))
    assert (len(first), made) == (SLICE_ROWS, list(range(5, 5 + SLICE_ROWS)))
    rest = [row for piece in pieces for row in split(piece)]
    assert first + rest == split(data_rows(table, [0]))[5:]
