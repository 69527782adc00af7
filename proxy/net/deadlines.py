"""Deadlines by the thousand with one timer: swept a few times a second, not scheduled one by one.

A deadline is late by at most one period, never early. Setting and clearing cost an assignment:
the wheel is only touched when a deadline is not in it yet or moves to an earlier sweep, and a sweep
looks at what each of its deadlines wants by then (the lazy timer of TCP stacks). A deadline has one
valid entry, that of `queued_tick`; those left behind by moves are dropped when they come up.

Must not know: what the deadlines are for. Clock: the loop's.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from proxy.core.events import Events
from proxy.core.reasons import Reason

_NEVER_S = math.inf
_SLOTS = 256  # 64 s at 4 sweeps a second; a later deadline is looked at once per turn of the wheel
_BATCH = 512  # deadlines looked at before the loop gets its turn


class Deadline:
    """One thing that must not take for ever. Made by `Sweeper.deadline`; set again and again."""

    __slots__ = ("_action", "_sweeper", "at_s", "queued_tick")

    def __init__(self, sweeper: "Sweeper", action: Callable[[], None]) -> None:
        self._sweeper = sweeper
        self._action = action
        self.at_s = _NEVER_S
        self.queued_tick = -1  # the sweep that will look at it next; -1: none

    def set(self, at_s: float) -> None:
        """The action is due at `at_s` (loop clock) in place of what was set before."""
        self.at_s = at_s
        self._sweeper.queue(self)

    def clear(self) -> None:
        """Nothing is due. The deadline can be set again."""
        self.at_s = _NEVER_S

    def fire(self) -> None:
        """Runs the action. For the sweeper."""
        self.at_s = _NEVER_S
        self._action()


class Sweeper:
    """Sweeps `per_second` times a second while any deadline is queued; costs nothing else.

    An action that raises is our bug: reported as `deadline_crashed`, the others still run.
    """

    def __init__(self, events: Events, per_second: float = 4.0) -> None:
        self._events = events
        self._period_s = 1.0 / per_second
        self._slots: list[list[Deadline]] = [[] for _ in range(_SLOTS)]
        self._due: deque[Deadline] = deque()  # slots that came up, not yet looked at
        self._queued = 0  # entries in the slots
        self._swept_tick = -1  # the last tick whose slot was taken
        self._timer: asyncio.Handle | None = None
        self._stopped = False

    def __len__(self) -> int:
        """Entries waiting, among them those of deadlines that were cleared or moved."""
        return self._queued + len(self._due)

    def deadline(self, action: Callable[[], None]) -> Deadline:
        """A deadline, not set, that runs `action` in the loop when it is due."""
        return Deadline(self, action)

    def stop(self) -> None:
        """No action runs any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for slot in self._slots:
            slot.clear()
        self._due.clear()
        self._queued = 0

    def queue(self, deadline: Deadline) -> None:
        """Makes sure that a sweep looks at `deadline` in time. For `Deadline.set`."""
        tick = math.ceil(deadline.at_s / self._period_s)
        if -1 < deadline.queued_tick <= tick or self._stopped:
            return
        if self._timer is None:
            now_s = asyncio.get_running_loop().time()
            self._swept_tick = math.floor(now_s / self._period_s)
            self._sleep(now_s)
        tick = min(max(tick, self._swept_tick + 1), self._swept_tick + _SLOTS)
        deadline.queued_tick = tick
        self._slots[tick % _SLOTS].append(deadline)
        self._queued += 1

    def _sleep(self, now_s: float) -> None:
        next_s = (self._swept_tick + 1) * self._period_s
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, next_s - now_s), self._sweep)

    def _sweep(self) -> None:
        now_s = asyncio.get_running_loop().time()
        tick = math.floor(now_s / self._period_s)
        # After a long stall every slot has come up once: more turns would find nothing.
        first = max(self._swept_tick + 1, tick - _SLOTS + 1)
        for passed in range(first, tick + 1):
            slot = self._slots[passed % _SLOTS]
            for deadline in slot:
                if -1 < deadline.queued_tick <= passed:
                    deadline.queued_tick = -1
                    self._due.append(deadline)
            self._queued -= len(slot)
            slot.clear()
        self._swept_tick = max(tick, self._swept_tick)
        self._look(now_s)

    def _look(self, now_s: float) -> None:
        """Looks at up to `_BATCH` of the due ones, then lets the loop run."""
        for _ in range(min(_BATCH, len(self._due))):
            deadline = self._due.popleft()
            if deadline.at_s <= now_s:
                self._fire(deadline)
            elif deadline.at_s != _NEVER_S:
                self.queue(deadline)
            if self._stopped:
                return
        if self._due:
            self._timer = asyncio.get_running_loop().call_soon(self._sweep)
        elif self._queued:
            self._sleep(asyncio.get_running_loop().time())
        else:
            self._timer = None

    def _fire(self, deadline: Deadline) -> None:
        try:
            deadline.fire()
        except Exception as error:
            name = type(error).__name__
            self._events("deadline_crashed", level="error", reason=Reason.BUG, error=name)
