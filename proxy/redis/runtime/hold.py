"""Batches that wait for their lane's link: in order, bounded in number, bytes and time."""

from collections import deque
from collections.abc import Iterable, Iterator

from proxy.redis.protocol import say
from proxy.redis.runtime.batch import Batch


class HoldQueue:
    """A lane's queue of unsent batches. Bytes and commands are counted; `due_s` rises along it."""

    def __init__(self, commands_max: int, bytes_max: int) -> None:
        self._commands_max = commands_max
        self._bytes_max = bytes_max
        self._batches: deque[Batch] = deque()
        self.commands = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """From the oldest on. The queue must not change meanwhile."""
        return iter(self._batches)

    @property
    def is_full(self) -> bool:
        return self.commands >= self._commands_max or self.bytes >= self._bytes_max

    def append(self, batch: Batch) -> None:
        """Queues behind all others. The caller has asked `is_full`, if the link is away."""
        self.commands += batch.left
        self.bytes += len(batch.data)
        self._batches.append(batch)

    def put_back(self, batches: Iterable[Batch]) -> None:
        """Queues before all others, in the order given: they were there first."""
        for batch in reversed(list(batches)):
            self.commands += batch.left
            self.bytes += len(batch.data)
            self._batches.appendleft(batch)

    def take(self, commands_max: int, bytes_max: int) -> list[Batch]:
        """The first batches, within the bounds (but at least one). Those of gone clients go."""
        taken: list[Batch] = []
        batches = self._batches
        while batches:
            batch = batches[0]
            if taken and (commands_max < batch.left or bytes_max < len(batch.data)):
                break
            batches.popleft()
            self.commands -= batch.left
            self.bytes -= len(batch.data)
            if batch.taker.closed:
                batch.let_go()
                continue
            commands_max -= batch.left
            bytes_max -= len(batch.data)
            taken.append(batch)
        return taken

    def set_due(self, due_s: float) -> None:
        """The link went away: from now on all of them are on the clock."""
        for batch in self._batches:
            batch.due_s = due_s

    def expired(self, now_s: float) -> list[Batch]:
        """Those whose time is over, removed."""
        gone: list[Batch] = []
        while self._batches and self._batches[0].due_s <= now_s:
            batch = self._batches.popleft()
            self.commands -= batch.left
            self.bytes -= len(batch.data)
            gone.append(batch)
        return gone

    def speakable(self) -> list[Batch]:
        """Canned replies that no earlier command of the same client has to precede, removed."""
        kept: deque[Batch] = deque()
        spoken: list[Batch] = []
        waiting: set[int] = set()
        for batch in self._batches:
            if batch.canned is not None and batch.taker.whose not in waiting:
                self.commands -= batch.left
                self.bytes -= len(batch.data)
                spoken.append(batch)
            else:
                waiting.add(batch.taker.whose)
                kept.append(batch)
        self._batches = kept
        return spoken


def answer_down(batch: Batch, why: str) -> None:
    """Tells the client that the batch was not executed, one error for each command.

    The caller counts; what is canned was counted when it was canned.
    """
    line = batch.canned if batch.canned is not None else say.upstream_down(why) * batch.left
    batch.let_go()
    batch.taker.deliver(line)
    batch.taker.finished(batch)
    batch.taker.flush()
