"""The ledger finds what is lost, doubled or stored against what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.ledger import Balance, Tally, balance

RIGHT = Balance(acknowledged=2, lost=0, doubled=0, invented=0, unknown=0, unknown_stored=0)


def tally(
    acknowledged: set[int], unsure: set[int] | None = None, refused: set[int] | None = None
) -> Tally:
    return Tally(acknowledged=acknowledged, unsure=unsure or set(), refused=refused or set())


def test_all_right() -> None:
    books = balance(tally({1, 2}), [(1, 1), (2, 1)])
    assert books == RIGHT
    assert books.right


@pytest.mark.parametrize(
    ("seen", "rows", "field"),
    [
        (tally({1, 2}), [(1, 1)], "lost"),
        (tally({1, 2}), [(1, 1), (2, 2)], "doubled"),
        (tally({1}, unsure={2}), [(1, 1), (2, 2)], "doubled"),
        (tally({1, 2}), [(1, 1), (2, 1), (3, 1)], "invented"),
        (tally({1}, unsure={2}, refused={2}), [(1, 1), (2, 1)], "invented"),
    ],
)
def test_each_fault(seen: Tally, rows: list[tuple[int, int]], field: str) -> None:
    books = balance(seen, rows)
    assert not books.right
    assert getattr(books, field) == 1


@pytest.mark.parametrize(("rows", "stored"), [([(1, 1)], 0), ([(1, 1), (2, 1)], 1)])
def test_an_error_leaves_it_open(rows: list[tuple[int, int]], stored: int) -> None:
    books = balance(tally({1}, unsure={2}), rows)
    assert books.right
    assert (books.unknown, books.unknown_stored) == (1, stored)


def test_refused_and_not_stored_is_known() -> None:
    books = balance(tally({1}, unsure={2}, refused={2}), [(1, 1)])
    assert books.right
    assert books.unknown == 0


@given(
    st.sets(st.integers(1, 30)),
    st.sets(st.integers(1, 30)),
    st.dictionaries(st.integers(1, 30), st.integers(1, 3)),
)
def test_right_means_right(acknowledged: set[int], unsure: set[int], rows: dict[int, int]) -> None:
    books = balance(tally(acknowledged, unsure - acknowledged), rows.items())
    stored = set(rows)
    truth = acknowledged <= stored <= acknowledged | unsure and set(rows.values()) <= {1}
    assert books.right is truth


def test_failed_counts_text_and_code() -> None:
    seen = Tally()
    seen.failed("server closed the connection unexpectedly", "")
    seen.failed("transaction rolled back", "40001")
    seen.failed("transaction rolled back", "40001")
    assert seen.errors.total() == 3
    assert seen.codes == {"": 1, "40001": 2}
    assert seen.last_error == "transaction rolled back"
