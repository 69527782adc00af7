"""The bounded line: order, limit, leaving early."""

import random

import pytest

from proxy.core.bounded import BoundedFifo
from proxy.core.errors import LimitExceeded
from proxy.core.reasons import Reason


def line(items_max: int = 3) -> BoundedFifo[str]:
    return BoundedFifo(items_max, "the hold queue", Reason.HOLD_FULL)


def test_first_in_first_out() -> None:
    fifo = line()
    for item in "abc":
        fifo.push(item)
    assert [fifo.pop(), fifo.pop(), fifo.pop(), fifo.pop()] == ["a", "b", "c", None]


def test_full_line_refuses_with_its_name_and_reason() -> None:
    fifo = line(2)
    fifo.push("a")
    fifo.push("b")
    for push in (fifo.push, fifo.push_front):
        with pytest.raises(LimitExceeded, match=r"the hold queue is full \(2\)") as caught:
            push("c")
        assert caught.value.reason is Reason.HOLD_FULL
    assert list(fifo) == ["a", "b"]
    fifo.pop()
    fifo.push("c")
    assert len(fifo) == 2


def test_line_of_length_zero_takes_nobody() -> None:
    with pytest.raises(LimitExceeded):
        line(0).push("a")


def test_leaving_early() -> None:
    fifo = line()
    for item in "abc":
        fifo.push(item)
    assert fifo.discard("b")
    assert not fifo.discard("b")
    assert "b" not in fifo
    assert list(fifo) == ["a", "c"]


def test_returning_to_the_front() -> None:
    fifo = line()
    fifo.push("b")
    fifo.push_front("a")
    assert fifo.peek() == "a"
    assert list(fifo) == ["a", "b"]


def test_peek_leaves_it_there() -> None:
    fifo = line()
    assert fifo.peek() is None
    fifo.push("a")
    assert fifo.peek() == "a"
    assert len(fifo) == 1


def test_drain_removes_those_not_kept_in_order() -> None:
    fifo = line(10)
    for item in "abcdef":
        fifo.push(item)
    assert fifo.drain(lambda item: item in "bd") == ["a", "c", "e", "f"]
    assert list(fifo) == ["b", "d"]


@pytest.mark.parametrize("push", ["push", "push_front"])
def test_waiting_twice_is_a_bug(push: str) -> None:
    fifo = line()
    fifo.push("a")
    with pytest.raises(AssertionError):
        getattr(fifo, push)("a")


def test_against_a_plain_list() -> None:
    rng = random.Random(4)
    fifo, model = BoundedFifo[int](8, "line", Reason.LIMIT), list[int]()
    for step in range(5000):
        match rng.randrange(4):
            case 0 | 1 if len(model) < 8:
                fifo.push(step)
                model.append(step)
            case 2:
                assert fifo.pop() == (model.pop(0) if model else None)
            case _ if model:
                item = rng.choice(model)
                assert fifo.discard(item)
                model.remove(item)
        assert list(fifo) == model
