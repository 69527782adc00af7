"""The verdict: what counts as a fault on the proxy's side, and what does not."""

import pytest

from proxy.demo.play import faults
from tests.unit.demo.scenes import scene, settle


def test_no_fault() -> None:
    assert faults(scene()) == []


def test_an_error_is_a_fault() -> None:
    made = scene()
    made.through.tally.failed("something", "57P01")
    assert faults(made) == ["1 errors: something (1 times)"]


@pytest.mark.parametrize("code", ["40001", "08007", "08006"])
def test_an_honest_error_is_one_only_when_strikes_spare_work(code: str) -> None:
    made = scene()
    made.through.tally.failed("honest", code)
    assert faults(made) != []
    made = scene(anywhere=True)
    made.through.tally.failed("honest", code)
    assert faults(made) == []


@pytest.mark.parametrize("code", ["", "57P01", "26000"])
def test_any_other_error_is_a_fault_always(code: str) -> None:
    made = scene(anywhere=True)
    made.through.tally.failed("honest", "40001")
    made.through.tally.failed("other", code)
    assert faults(made) != []


def test_a_wrong_answer_is_a_fault() -> None:
    made = scene()
    made.through.tally.wrong.append("expected gym, got public")
    assert "expected gym, got public" in faults(made)[0]


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([(1, 1)], "not stored"),
        ([(1, 1), (2, 2)], "more than once"),
        ([(1, 1), (2, 1), (9, 1)], "nobody was told"),
    ],
)
def test_the_ledger_counts(rows: list[tuple[int, int]], word: str) -> None:
    made = scene()
    settle(made, *rows)
    assert len(faults(made)) == 1
    assert word in faults(made)[0]


def test_a_dead_proxy_is_a_fault_and_shows_its_log() -> None:
    made = scene()
    made.proxy_died = "Traceback of something"
    assert "Traceback of something" in faults(made)[0]


def test_a_run_without_strikes_has_shown_nothing() -> None:
    made = scene()
    made.striker.done.clear()
    made.striker.skipped.append("reset: TimeoutError")
    assert faults(made) == ["no strike came about: reset: TimeoutError"]


def test_a_run_without_work_has_shown_nothing() -> None:
    made = scene()
    made.through.tally.requests = 1
    assert faults(made) == ["hardly a request was served"]


def test_who_interrupts_early_is_not_told_so() -> None:
    made = scene(seconds=None)
    made.striker.done.clear()
    assert faults(made) == []


def test_errors_of_the_direct_side_are_no_fault() -> None:
    made = scene()
    made.direct.tally.wrong.append("anything")
    made.direct.tally.acknowledged.add(77)
    settle(made)
    assert made.balances["direct"].lost == 1
    assert faults(made) == []


def test_the_redis_half_counts() -> None:
    made = scene()
    made.cache.through.tally.errors = 1
    assert len(faults(made)) == 1
    made = scene()
    made.cache.through.tally.requests = 0
    assert faults(made) == ["not one request to Redis was served"]
