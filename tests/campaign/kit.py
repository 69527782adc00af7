"""What the workers of a campaign share: threads that stop together, and the books they keep."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.demo.ledger import Tally

JOIN_S_MAX = 60.0  # above hold_s: whoever waits for an answer gets one by then
BACK_S_MAX = 30.0  # after a kill the proxy takes connections again by then
PHASES_S_MAX = 1.0

PROXY_GONE = "connection lost with the proxy"
"""The client's own doubt: no proxy is there that could say something."""


class Phase(StrEnum):
    """What a session is in the middle of."""

    IDLE = "idle"
    IN_FLIGHT = "in flight"
    IN_TRANSACTION = "in a transaction"
    IN_COPY = "in COPY"
    IN_PIPELINE = "in a pipeline"


class Board:
    """What each session is doing now, and which fault met whom.

    Written by the workers' threads, read by whoever strikes; a dict's single operations are atomic.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = phases
        self.met: Counter[tuple[str, Phase]] = Counter()
        self._doing: dict[int, Phase] = {}
        self._all_there: threading.Event | None = None

    @contextmanager
    def doing(self, phase: Phase) -> Iterator[None]:
        """This thread's session is in `phase`; then it is again in what it was in before."""
        me = threading.get_ident()
        before = self._doing.get(me, Phase.IDLE)
        self._doing[me] = phase
        self._look()
        try:
            yield
        finally:
            self._doing[me] = before

    def strike(self, fault: str) -> None:
        """To be called as the fault strikes."""
        for phase in set(self._doing.copy().values()):
            self.met[fault, phase] += 1

    def wait_for_all(self) -> None:
        """Return when there is a session in every phase, or nearly so: it is no promise."""
        self._all_there = event = threading.Event()
        self._look()
        event.wait(PHASES_S_MAX)
        self._all_there = None

    def _look(self) -> None:
        event = self._all_there
        if event is not None and set(self.phases) <= set(self._doing.copy().values()):
            event.set()


@dataclass
class Books:
    """Everything the workers were told. `lock` guards what several of them write."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    lives: int = 1
    """Of the proxy: one more as each kill strikes."""
    back: threading.Event = field(default_factory=threading.Event)
    """Cleared while the proxy is dead."""
    writes: Tally = field(default_factory=Tally)
    """Unique ids, sent once each."""
    hits_known: Counter[str] = field(default_factory=Counter)
    """Acknowledged increments by counter, of PostgreSQL (`pg:…`) and Redis (`redis:…`)."""
    hits_open: Counter[str] = field(default_factory=Counter)
    """Increments whose outcome nobody knows."""
    statements: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    """Errors that a worker may get, by SQLSTATE or Redis code."""
    wrong: list[str] = field(default_factory=list)
    """Answers that came without an error and were not right."""
    broken: list[str] = field(default_factory=list)
    """Errors that nobody may get."""
    checks: int = 0
    """Of idle sessions: their state was looked at, after a fault, and was right."""

    def __post_init__(self) -> None:
        self.back.set()

    def served(self, what: str, number: int = 1) -> None:
        """Statements or commands were answered."""
        with self.lock:
            self.statements[what] += number

    def refused(self, code: str) -> None:
        """A worker got one of the errors it may get."""
        with self.lock:
            self.codes[code] += 1

    def not_right(self, text: str) -> None:
        """An answer was wrong."""
        with self.lock:
            self.wrong.append(text)


class Crew:
    """Threads that work until `stop`; whatever one of them raises is noted in the books.

    `pace`: by how much they pause longer than a campaign that has the machine for itself.
    """

    def __init__(self, books: Books, pace: float = 1.0) -> None:
        self.books = books
        self.pace = pace
        self.over = threading.Event()
        self.postgres = Board(tuple(Phase))
        self.redis = Board((Phase.IDLE, Phase.IN_FLIGHT, Phase.IN_TRANSACTION, Phase.IN_PIPELINE))
        self._threads: list[threading.Thread] = []

    def hire(self, name: str, work: Callable[[], None]) -> None:
        """Start one thread that runs `work`, which looks at `over`."""

        def run() -> None:
            try:
                work()
            except Exception as error:
                with self.books.lock:
                    self.books.broken.append(f"{name}: {type(error).__name__}: {error}")

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        self._threads[-1].start()

    def met(self, faults: Iterable[str]) -> dict[tuple[str, Phase], int]:
        """How often each of them met a session in each phase; a proxy's, one of either side."""
        boards = {"postgres": self.postgres, "redis": self.redis}
        found: Counter[tuple[str, Phase]] = Counter()
        for name in sorted(faults):
            side = name.partition(" ")[0]
            for board in [boards[side]] if side in boards else boards.values():
                found.update({(name, phase): board.met[name, phase] for phase in board.phases})
        return found

    def pause(self, seconds: float) -> bool:
        """Between two works, at this crew's pace; True if it is over."""
        return self.over.wait(seconds * self.pace)

    def stop(self) -> None:
        """Tell all, and wait; who does not come back hangs, and that is noted."""
        self.over.set()
        end_s = time.monotonic() + JOIN_S_MAX
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            if thread.is_alive():
                self.books.broken.append(f"{thread.name}: hangs")
