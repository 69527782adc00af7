"""One campaign: both servers, hops, the proxy as a child, workers, faults, and what came of it.

    workers ── Backstay ── hop ══TLS══ PostgreSQL
            └─────────┴─── hop ══════ Redis

The faults and the workers' choices come from the seed; when threads meet a fault does not, so a
seed repeats the campaign, not each microsecond of it.
"""

import json
import random
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.demo.binaries import redis_has_tls, redis_server
from proxy.demo.certificates import make_tls
from proxy.demo.cutter import Target
from proxy.demo.ledger import Balance
from proxy.demo.servers import PostgresOptions, PostgresServer, RedisOptions, RedisServer
from tests.campaign import postgres_work, redis_work
from tests.campaign.faults import DECK, Faults, deck
from tests.campaign.kit import Books, Crew
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter

PAUSE_S = (0.05, 0.5)  # between two faults
BUGS = ("task_crashed", "bug")


@dataclass
class Result:
    """What a campaign has seen, and the verdict on it."""

    seed: int
    seconds: float
    faults: dict[str, int]
    cuts: dict[str, int]
    books: Books
    balance: Balance
    postgres: dict[str, Any]
    """The proxy's own report of the route, from /api/v1/status; so is `redis`."""
    redis: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    def never(self) -> list[str]:
        """Interesting cases that a long campaign must reach, and this one did not."""
        counts, codes = self.postgres["counts"], self.books.codes
        sometimes = {
            **{f"fault: {name}": self.faults.get(name, 0) for name in DECK},
            "replayed by certificate RO": counts["replayed_read_only"],
            "sent again by certificate FT": counts["resent_fatal"],
            "sent again by certificate NS": counts["resent_unsent"],
            "08007": codes["08007"],
            "40001": codes["40001"],
            "UPSTREAMLOST": codes["UPSTREAMLOST"],
            "an outage of PostgreSQL": self.postgres["latency"]["outage"]["count"],
            "a read answered from the cache": self.redis["cache"]["hits"],
            "a session restored": counts["restores"],
        }
        return [name for name, times in sometimes.items() if not times]


class Campaign:
    """Everything that runs. Use as a context; `run` may be called once."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.seed, self.seconds = seed, seconds
        self._rng = random.Random(seed)
        self._stack = ExitStack()
        self.books = Books()
        self._crew = Crew(self.books)

    def __enter__(self) -> "Campaign":
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bs-")))
        tls = make_tls(folder)
        # Durable: whatever kills the server, what was acknowledged stays.
        durable = {"fsync": "on", "full_page_writes": "on"}
        self._postgres = PostgresServer(PostgresOptions(settings=durable, tls=tls))
        self._stack.callback(self._postgres.close)
        self._postgres.create().start()
        postgres_work.prepare_server(self._postgres)
        redis_tls = tls if redis_has_tls(redis_server()) else None
        self._redis = RedisServer(RedisOptions(persistent=True, tls=redis_tls))
        self._stack.callback(self._redis.close)
        self._redis.start()
        ports = (self._postgres.port, self._redis.tls_port or self._redis.port)
        hops = [
            self._stack.enter_context(ThreadCutter(Target(address=("127.0.0.1", port)), seed=port))
            for port in ports
        ]
        self._faults = Faults((self._postgres, self._redis), (hops[0], hops[1]), self._rng)
        self._proxy = Backstay(_settings([hop.port for hop in hops], tls.ca, redis_tls), folder)
        self._proxy.start()
        self._stack.callback(self._proxy.kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> Result:
        """Strike until the time is over, let everybody finish, compare."""
        dsn = self._proxy.dsn(user="app_tls")
        idle = postgres_work.hire(dsn, self._crew)
        redis_work.hire(self._redis, self._proxy.port("redis"), self._crew)
        self._strike(idle)
        self._crew.over.set()
        idle.release()
        self._crew.stop()
        status = self._status()
        balance, hits = postgres_work.settle(self._postgres, self.books)
        hits |= redis_work.settle(self._redis)
        result = Result(
            seed=self.seed,
            seconds=self.seconds,
            faults=dict(self._faults.done),
            cuts=dict(self._faults.links_cut),
            books=self.books,
            balance=balance,
            postgres=status["postgres"][0],
            redis=status["redis"][0],
        )
        result.problems = self._problems(balance, hits)
        return result

    def _strike(self, idle: postgres_work.IdleSessions) -> None:
        end_s = time.monotonic() + self.seconds
        cards: list[str] = []
        while time.monotonic() < end_s and not self.books.broken:
            cards = cards or deck(self._rng)
            time.sleep(self._rng.uniform(*PAUSE_S))
            self._faults.strike(cards.pop())
            try:
                idle.check()
            except threading.BrokenBarrierError:
                self.books.broken.append(f"an idle session failed, after {dict(self._faults.done)}")
                return

    def _status(self) -> dict[str, Any]:
        address = f"http://{self._proxy.config['admin']['listen']}/api/v1/status"
        with urllib.request.urlopen(address, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _problems(self, balance: Balance, hits: dict[str, int]) -> list[str]:
        """What was not as promised; empty if all was."""
        books = self.books
        found = [f"not a named error: {text}" for text in books.broken]
        found += [f"wrong answer: {text}" for text in books.wrong[:5]]
        if not balance.right:
            found.append(f"the ledger: {balance}")
        for name, number in hits.items():
            known, unknown = books.hits_known[name], books.hits_open[name]
            if not known <= number <= known + unknown:
                found.append(f"counter {name}: {number}, acknowledged {known}, unknown {unknown}")
        if not self._proxy.running():
            found.append("the proxy ended by itself")
        log = self._proxy.log_text()
        found += [f"the proxy logged {name}" for name in BUGS if f'"event":"{name}"' in log]
        return found


def _settings(ports: list[int], ca: Path, redis_tls: object) -> dict[str, Any]:
    password = "tls-Pa55word"
    postgres = f"postgresql://app_tls:{password}@127.0.0.1:{ports[0]}/app"
    redis = f"://127.0.0.1:{ports[1]}/0"
    return {
        "postgres": [{"upstream": f"{postgres}?sslmode=verify-full&sslrootcert={ca}"}],
        "redis": [
            {"upstream": f"rediss{redis}?ssl_ca_certs={ca}" if redis_tls else f"redis{redis}"}
        ],
    }
