"""Numbers of workers that live at a time never meet."""

from collections.abc import Iterator

import pytest

from proxy.core import numbers


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    numbers.number_every(1, 1)


def test_each_is_given_once() -> None:
    seen: set[int] = set()
    for first in (1, 2, 3):
        numbers.number_every(3, first)
        given = {numbers.session_number() for _ in range(100)}
        assert {number % 3 for number in given} == {first % 3}
        assert not given & seen
        seen |= given
    assert numbers.link_number() == 3
