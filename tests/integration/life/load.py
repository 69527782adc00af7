"""Clients that work all the time, and count whatever goes wrong."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import psycopg
import redis

from proxy.core.reasons import Reason
from tests.fix_backstay import Backstay

JOIN_S_MAX = 20.0
IDLE_S = 0.002


class Load:
    """Threads that repeat one piece of work until the block ends. `errors`: what was raised."""

    def __init__(self, work: Callable[["Load"], None], threads: int = 4) -> None:
        self._work = work
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.done = 0
        self.reconnects = 0
        self.errors: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.progress()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN_S_MAX)
            assert not thread.is_alive(), "a client hangs"

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def _run(self) -> None:
        try:
            self._work(self)
        except Exception as error:
            with self._lock:
                self.errors[f"{type(error).__name__}: {error}"] += 1

    def count(self, reconnects: int = 0) -> None:
        """One piece of work is done."""
        with self._lock:
            self.done += 1
            self.reconnects += reconnects

    def progress(self, pieces: int = 50) -> None:
        """Returns when so many more pieces of work are done, or something has gone wrong."""
        wanted = self.done + pieces
        end_s = time.monotonic() + JOIN_S_MAX
        while self.done < wanted and not self.errors:
            assert time.monotonic() < end_s, "no progress"
            time.sleep(IDLE_S)

    def returned(self, reconnects: int) -> None:
        """Returns when clients have connected again so often, or something has gone wrong."""
        end_s = time.monotonic() + JOIN_S_MAX
        while self.reconnects < reconnects and not self.errors:
            assert time.monotonic() < end_s, f"{self.reconnects} of {reconnects} came back"
            time.sleep(IDLE_S)


def queries(dsn: str) -> Callable[[Load], None]:
    """Transactions and single statements on one session, which keeps a setting of its own."""

    def work(load: Load) -> None:
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute("set work_mem to '5MB'")
            while not load.over:
                with session.transaction():
                    session.execute("select 1")
                    session.execute("select 2")
                shown = session.execute("show work_mem").fetchone()
                assert shown == ("5MB",), shown
                load.count()
                time.sleep(IDLE_S)

    return work


def commands(port: int, **options: Any) -> Callable[[Load], None]:
    """Writes and reads of one client, each read sees its own last write."""

    def work(load: Load) -> None:
        with redis.Redis(port=port, retry=None, **options) as client:
            key = f"load:{threading.get_ident()}"
            number = 0
            while not load.over:
                number += 1
                client.set(key, number)
                for _ in range(3):
                    assert client.get(key) == b"%d" % number
                load.count()
                time.sleep(IDLE_S)

    return work


def returning(dsn: str) -> Callable[[Load], None]:
    """Sessions that connect again when they are told 57P01 between two transactions.

    Anything else is an error: a transaction or a statement cut off, a connection refused or reset.
    """

    def transaction(session: "psycopg.Connection[Any]") -> None:
        # The first statement alone may hear that the session has ended: nothing has begun yet.
        session.execute("begin")
        try:
            session.execute("select pg_sleep(0.002)")
            session.execute("commit")
        except psycopg.Error as error:
            raise AssertionError(f"inside a transaction: {error}") from error

    def work(load: Load) -> None:
        session = psycopg.connect(dsn, autocommit=True)
        try:
            while not load.over:
                try:
                    transaction(session)
                except psycopg.errors.AdminShutdown:
                    session.close()
                    session = psycopg.connect(dsn, autocommit=True)
                    load.count(reconnects=1)
                    continue
                load.count()
                time.sleep(IDLE_S)
        finally:
            session.close()

    return work


def logged(proxy: Backstay, event: str, count: int = 1) -> str:
    """The log, once it has so many events of that name."""
    end_s = time.monotonic() + JOIN_S_MAX
    while (text := proxy.log_text()).count(f'"event":"{event}"') < count:
        assert time.monotonic() < end_s, text[-3000:]
        assert proxy.running(), text[-3000:]
        time.sleep(0.02)
    return text


def nothing_lost(proxy: Backstay) -> None:
    """No session was ended by the proxy, no link lost, no bug met."""
    text = proxy.log_text()
    for event in ("session_ended", "link_lost", "redis_link_lost", "task_crashed", "bug"):
        assert f'"event":"{event}"' not in text, text[-3000:]
    assert Reason.BUG.value not in proxy.logged("session_ended", "reason")
