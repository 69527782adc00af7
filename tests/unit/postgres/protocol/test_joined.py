"""Units that share one answer: what a COPY reads of them, and what is answered with what."""

import pytest

from proxy.postgres.protocol.joined import ends_with_sync, is_broken_row, merge
from proxy.postgres.protocol.units import Kind, Unit
from tests.unit.postgres.protocol._sequences import FLUSH, SYNC, call, close, p, pbe, q, units_of

COPY = "COPY t FROM STDIN"


def one(data: bytes) -> Unit:
    (unit,) = units_of(data)
    return unit


@pytest.mark.parametrize(
    ("copy", "behind", "broken"),
    [
        (q(COPY), q("SELECT 1"), True),  # one message, and gone with that
        (q(COPY), call(), True),
        (q(COPY), pbe("SELECT 1") + SYNC, False),  # only its first message is eaten
        (q(COPY), SYNC, True),  # ignored by the COPY
        (q(COPY), FLUSH + SYNC, True),
        (pbe(COPY) + SYNC, q("SELECT 1"), True),
        (pbe(COPY) + SYNC, pbe("SELECT 1") + SYNC, True),  # skipped up to its Sync
        (pbe(COPY) + SYNC, SYNC, True),
    ],
)
def test_what_a_copy_takes_for_a_broken_row(copy: bytes, behind: bytes, broken: bool) -> None:
    assert is_broken_row(one(copy), one(behind)) is broken


@pytest.mark.parametrize("copy", [q(COPY), pbe(COPY) + SYNC])
def test_what_the_proxy_sends_is_no_row(copy: bytes) -> None:
    ours = one(q("SELECT 1"))
    ours.skip = True
    assert not is_broken_row(one(copy), ours)


@pytest.mark.parametrize(
    ("data", "yes"),
    [
        (SYNC, True),
        (pbe("SELECT 1") + SYNC, True),
        (pbe("SELECT 1") + q("SELECT 2"), False),  # a Query ends it
        (q("SELECT 1"), False),
        (call(), False),
    ],
)
def test_which_units_end_with_a_sync(data: bytes, yes: bool) -> None:
    assert ends_with_sync(one(data)) is yes


def test_a_batch_behind_adds_what_it_does_in_order() -> None:
    head = one(pbe(COPY, "a") + close("x") + SYNC)
    behind = one(pbe("SET a.b = 1", "b") + close("y") + SYNC)
    scripts = (*head.scripts(), *behind.scripts())
    merge(head, behind)
    assert head.scripts() == scripts
    assert [name for name, _ in head.parses or ()] == [b"a", b"b"]
    assert [name for _, name in head.closes or ()] == [b"x", b"y"]
    assert not head.mixed
    assert head.watch


def test_statements_used_by_both_are_used() -> None:
    head, behind = Unit(Kind.BATCH), Unit(Kind.BATCH)
    head.uses, behind.uses = [b"a"], [b"b"]
    merge(head, behind)
    assert head.uses == [b"a", b"b"]


def test_a_query_behind_is_one_more_execute_and_ends_the_batch() -> None:
    head, query = one(pbe("SELECT 1") + SYNC), one(q("SELECT 2"))
    merge(head, query)
    assert head.executes is not None
    assert head.executes[-1] == (query.script, b"")
    assert len(head.executes) == 2
    assert head.mixed


def test_a_function_call_behind_is_an_execute_of_nobody_knows_what() -> None:
    head = one(pbe("SELECT 1") + SYNC)
    merge(head, one(call()))
    assert head.scripts()[-1] is None
    assert head.mixed


def test_the_two_are_watched_if_one_is() -> None:
    plain, setting = pbe("SELECT 1") + SYNC, pbe("SET a.b = 1") + SYNC
    for first, second, watch in ((plain, plain, False), (plain, setting, True),
                                 (setting, plain, True)):  # fmt: skip
        head = one(first)
        merge(head, one(second))
        assert head.watch is watch


def test_the_one_that_is_merged_keeps_its_own_lists() -> None:
    head, behind = one(pbe("SELECT 1", "a") + SYNC), one(pbe("SELECT 2", "b") + SYNC)
    merge(head, behind)
    assert [name for name, _ in behind.parses or ()] == [b"b"]
    assert len(behind.scripts()) == 1


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        (None, 0, {0: b"s", 2: b"t"}),
        (None, 3, {3: b"s", 5: b"t"}),
        ({0: b"a"}, 1, {0: b"a", 1: b"s", 3: b"t"}),
    ],
)
def test_parses_at_the_front_of_the_second_are_counted_from_there(
    before: dict[int, bytes] | None, seen: int, after: dict[int, bytes]
) -> None:
    head, behind = one(p(COPY) + SYNC), one(p("SELECT 1") + SYNC)
    head.injected, head.parses_seen = before, seen
    behind.injected = {0: b"s", 2: b"t"}
    merge(head, behind)
    assert head.injected == after


def test_nothing_at_the_front_of_the_second_leaves_the_first_as_it_is() -> None:
    head = one(p(COPY) + SYNC)
    head.injected = {0: b"a"}
    merge(head, one(p("SELECT 1") + SYNC))
    assert head.injected == {0: b"a"}
