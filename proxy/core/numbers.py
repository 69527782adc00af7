"""Numbers of sessions and of links: each is given once, whatever the route and whatever the worker,
so that an operator can name one of them (KILL_CLIENT, SHOW CLIENTS, the log).
"""

PER_WORKER = 10**9
"""How many numbers each worker has: with more than one, 2000000017 is the 17th of worker 2."""


class Numbers:
    """Counts from 1 on, or from where its worker's numbers begin."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def begin(self, worker: int) -> None:
        """Give the numbers of this worker. Call it before the first one is given."""
        assert self._last == 0, "numbers have been given"
        self._last = worker * PER_WORKER

    def __call__(self) -> int:
        self._last += 1
        return self._last


session_number = Numbers()
link_number = Numbers()
