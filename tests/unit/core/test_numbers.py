"""Numbers that no two sessions share, in whatever worker they are."""

import pytest

from proxy.core.numbers import PER_WORKER, Numbers


def test_each_worker_has_its_own() -> None:
    alone, second = Numbers(), Numbers()
    second.begin(2)
    assert [alone(), alone()] == [1, 2]
    assert [second(), second()] == [2 * PER_WORKER + 1, 2 * PER_WORKER + 2]
    with pytest.raises(AssertionError):
        alone.begin(1)
