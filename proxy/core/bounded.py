"""A bounded first-in, first-out line that its members may leave early. Pure.

Used where somebody waits: for an upstream that is away, for a free link.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from proxy.core.errors import LimitExceeded
from proxy.core.reasons import Reason

ItemT = TypeVar("ItemT")


class BoundedFifo(Generic[ItemT]):
    """At most `items_max` items in order of arrival. All operations are O(1).

    Items are told apart by hash and equality; the same item cannot wait twice.
    """

    __slots__ = ("_items", "_name", "_reason", "items_max")

    def __init__(self, items_max: int, name: str, reason: Reason) -> None:
        """`name` and `reason` go into the LimitExceeded of a full line: "hold queue is full"."""
        assert items_max >= 0
        self.items_max = items_max
        self._name = name
        self._reason = reason
        self._items: OrderedDict[ItemT, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: ItemT) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[ItemT]:
        """From the oldest on. The line must not change meanwhile."""
        return iter(self._items)

    def push(self, item: ItemT) -> None:
        """Queues at the end. Raises LimitExceeded if `items_max` wait already."""
        assert item not in self._items, "waits already"
        self._refuse_if_full()
        self._items[item] = None

    def push_front(self, item: ItemT) -> None:
        """Queues before all others: for one that was served and must wait again. As `push`."""
        assert item not in self._items, "waits already"
        self._refuse_if_full()
        self._items[item] = None
        self._items.move_to_end(item, last=False)

    def pop(self) -> ItemT | None:
        """The oldest item, removed; None if nobody waits."""
        if not self._items:
            return None
        return self._items.popitem(last=False)[0]

    def peek(self) -> ItemT | None:
        """The oldest item, left in place; None if nobody waits."""
        return next(iter(self._items), None)

    def discard(self, item: ItemT) -> bool:
        """Takes an item out of the line. Whether it was there."""
        if item not in self._items:
            return False
        del self._items[item]
        return True

    def drain(self, keep: Callable[[ItemT], bool]) -> list[ItemT]:
        """Removes, and returns in order, the items for which `keep` is false. O(n)."""
        leaving = [item for item in self._items if not keep(item)]
        for item in leaving:
            del self._items[item]
        return leaving

    def _refuse_if_full(self) -> None:
        if len(self._items) >= self.items_max:
            raise LimitExceeded(f"{self._name} is full ({self.items_max})", self._reason)
