"""W2: which keys have a write on its way through this proxy, dispatched and not yet answered.

One per route. A key counts in every database at once: that costs a spurious bypass at most, and a
partition that opens between dispatch and answer is barred from its first read on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Barriers:
    """Counts per key, and of commands that touch every key. Bounded by the writes in flight."""

    __slots__ = ("_flushes", "_writes")

    def __init__(self) -> None:
        self._writes: dict[bytes, int] = {}
        self._flushes = 0

    def __len__(self) -> int:
        return len(self._writes) + self._flushes

    def up(self, keys: Iterable[bytes]) -> None:
        """A write of these keys is dispatched."""
        writes = self._writes
        for key in keys:
            writes[key] = writes.get(key, 0) + 1

    def down(self, keys: Iterable[bytes]) -> None:
        """It was answered, or its link is lost: exactly once per `up`."""
        writes = self._writes
        for key in keys:
            left = writes[key] - 1
            if left:
                writes[key] = left
            else:
                del writes[key]

    def up_all(self) -> None:
        """A flush of everything is dispatched."""
        self._flushes += 1

    def down_all(self) -> None:
        """It was answered, or its link is lost."""
        self._flushes -= 1
        assert self._flushes >= 0

    def bar(self, keys: Iterable[bytes]) -> bool:
        """True while a read of any of these keys must go upstream by itself."""
        if self._flushes:
            return True
        writes = self._writes
        return bool(writes) and any(key in writes for key in keys)
