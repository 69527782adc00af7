"""What the workers of a campaign share: threads that stop together, and the books they keep."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.demo.ledger import Tally

JOIN_S_MAX = 60.0  # above hold_s: whoever waits for an answer gets one by then


@dataclass
class Books:
    """Everything the workers were told. `lock` guards what several of them write."""

    lock: threading.Lock = field(default_factory=threading.Lock)
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

    def served(self, what: str) -> None:
        """One statement or command was answered."""
        with self.lock:
            self.statements[what] += 1

    def refused(self, code: str) -> None:
        """A worker got one of the errors it may get."""
        with self.lock:
            self.codes[code] += 1

    def not_right(self, text: str) -> None:
        """An answer was wrong."""
        with self.lock:
            self.wrong.append(text)


class Crew:
    """Threads that work until `stop`; whatever one of them raises is noted in the books."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.over = threading.Event()
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

    def stop(self) -> None:
        """Tell all, and wait; who does not come back hangs, and that is noted."""
        self.over.set()
        end_s = time.monotonic() + JOIN_S_MAX
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            if thread.is_alive():
                self.books.broken.append(f"{thread.name}: hangs")
