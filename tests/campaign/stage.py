"""One campaign: four servers, hops, the proxy as a child, workers, faults, and what came of it.

    workers ── Backstay ─┬─ hop ══TLS══ PostgreSQL, primary and standby
                         ├─ hop ─plain─ the same
                         ├─ hop ══TLS══ Redis, the primary of now
                         └─ hop ─plain─ the same

The faults and the workers' choices come from the seed; when threads meet a fault does not, so a
seed repeats the campaign, not each microsecond of it.
"""

import json
import random
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from proxy.demo.binaries import redis_has_tls, redis_server
from proxy.demo.certificates import TlsFiles, make_tls
from proxy.demo.cutter import Target
from proxy.demo.ledger import Balance
from proxy.demo.servers import ROLE_PASSWORDS, postgres_url
from tests.campaign import postgres_work, redis_work
from tests.campaign.faults import KEEPALIVE, Faults, Field, Way, deck, kinds
from tests.campaign.kit import Books, Crew, Phase
from tests.campaign.network import Network
from tests.campaign.pairs import PostgresPair, RedisPair, addresses
from tests.campaign.totals import Totals
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter

PAUSE_S = (0.05, 0.5)  # between two faults
LONGER = 2.0  # at most so many times its length: until it has met what it must
BUGS = ("task_crashed", "bug")
USERS = {True: "app_tls", False: "app_scram"}  # by whether the link has TLS


@dataclass
class Result:
    """What a campaign has seen, and the verdict on it."""

    seed: int
    seconds: float
    wanted: set[str]
    """The kinds of fault in its deck."""
    faults: dict[str, int]
    cuts: dict[str, int]
    books: Books
    crew: Crew
    balance: Balance
    totals: Totals
    slowest: dict[str, float]
    """The longest of each kind, seconds, until every idle session had looked at its state."""
    problems: list[str] = field(default_factory=list)

    def never(self) -> list[str]:
        """Interesting cases that a long campaign must reach, and this one did not."""
        counts, codes = self.totals.postgres, self.books.codes
        sometimes = {
            **{f"fault: {name}": self.faults.get(name, 0) for name in self.wanted},
            **{f"{name} {phase}": times for (name, phase), times in self.met().items()},
            "replayed by certificate RO": counts["replayed_read_only"],
            "sent again by certificate FT": counts["resent_fatal"],
            "sent again by certificate NS": counts["resent_unsent"],
            "sent again, harmless": counts["resent_harmless"],
            "08007": codes["08007"],
            "40001": codes["40001"],
            "UPSTREAMLOST": codes["UPSTREAMLOST"],
            "a session that waited for its link": self.totals.waited,
            "a session told that it waits": counts["holds_noticed"],
            "an outage of PostgreSQL": self.totals.outages["postgres"],
            "an outage of Redis": self.totals.outages["redis"],
            "a Redis command sent again": self.totals.redis["resent"],
            "a Redis command tried again after READONLY": self.totals.redis["retried"],
            "a read answered from the cache": self.totals.cache_hits,
            "a session restored": counts["restores"],
        }
        return [name for name, times in sometimes.items() if not times]

    def met(self) -> dict[tuple[str, Phase], int]:
        """How often each kind of fault in the deck met a session in each phase."""
        return self.crew.met(self.wanted)


class Campaign:
    """Everything that runs. Use as a context; `run` may be called once.

    `no_network`: why the network's own faults are not in the deck, or "". `pace`: of the crew.
    """

    def __init__(
        self, seed: int, seconds: float, no_network: str = "", *, pace: float = 1.0
    ) -> None:
        self.seed, self.seconds = seed, seconds
        self._network = not no_network
        self._rng = random.Random(seed)
        self._stack = ExitStack()
        self.books = Books()
        self.totals = Totals()
        self.slowest: dict[str, float] = {}
        self._crew = Crew(self.books, pace)

    def __enter__(self) -> "Campaign":
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bs-")))
        tls = make_tls(self._folder)
        self._postgres = PostgresPair(tls)
        self._stack.callback(self._postgres.close)
        self._postgres.start(postgres_work.prepare_server)
        redis_tls = tls if redis_has_tls(redis_server()) else None
        self._redis = RedisPair(redis_tls)
        self._stack.callback(self._redis.close)
        self._redis.start()
        self._redis.moved = self._move_redis
        ways = {
            "postgres": [
                Way(self._hop(server.port), with_tls)
                for with_tls in (True, False)
                for server in self._postgres.servers
            ],
            "redis": [
                Way(self._hop(port), with_tls)
                for with_tls in (True, False)
                if (port := self._redis_port(with_tls))
            ],
        }
        self._ways = ways
        self._proxy = Backstay(self._settings(tls), self._folder)
        self._proxy.start()
        self._stack.callback(self._proxy.kill)
        network = {
            side: Network([way.hop.port for way in of_side]) for side, of_side in ways.items()
        }
        field = Field(
            self._postgres,
            self._redis,
            dict(ways),
            network if self._network else None,
            self._kill_proxy,
        )
        self._faults = Faults(field, self._crew, self._rng)

    def _hop(self, port: int) -> ThreadCutter:
        target = Target(address=("127.0.0.1", port))
        return self._stack.enter_context(ThreadCutter(target, seed=self.seed))

    def _redis_port(self, with_tls: bool) -> int:
        server = self._redis.primary
        return server.tls_port if with_tls else server.port

    def _move_redis(self) -> None:
        """The service's address now leads to the new primary; links stay where they are."""
        for way in self._ways["redis"]:
            target = Target(address=("127.0.0.1", self._redis_port(way.tls)))
            way.hop.call(lambda cutter, target=target: setattr(cutter, "target", target))

    def _kill_proxy(self) -> None:
        """kill -9, and the same proxy again on the same ports."""
        self.totals.add(self._status())
        self.books.back.clear()
        self.books.lives += 1
        self._proxy.kill()
        self._proxy.start()
        self.books.back.set()

    def run(self) -> Result:
        """Strike until the time is over, let everybody finish, compare."""
        dsns = [
            postgres_url(("127.0.0.1", self._proxy.port("postgres", route)), USERS[tls], "app")
            for route, tls in enumerate((True, False))
        ]
        idle = postgres_work.hire(dsns, self._crew)
        ports = [self._proxy.port("redis", route) for route in range(len(self._ways["redis"]))]
        redis_work.hire(lambda: self._redis.primary, ports, self._crew)
        wanted = set(kinds(self._network))
        self._strike(idle, wanted)
        self._crew.over.set()
        idle.release()
        self._crew.stop()
        self.totals.add(self._status())
        balance, hits = postgres_work.settle(self._postgres.primary, self.books)
        hits |= redis_work.settle(self._redis.primary)
        result = Result(
            seed=self.seed,
            seconds=self.seconds,
            wanted=wanted,
            faults=dict(self._faults.done),
            cuts=dict(self._faults.links_cut),
            books=self.books,
            crew=self._crew,
            balance=balance,
            totals=self.totals,
            slowest=self.slowest,
        )
        result.problems = self._problems(balance, hits)
        return result

    def _strike(self, idle: postgres_work.IdleSessions, wanted: set[str]) -> None:
        """One fault after the other, each with a look at the idle sessions, until one is amiss."""
        for name in self._cards(wanted):
            time.sleep(self._rng.uniform(*PAUSE_S))
            begun_s = time.monotonic()
            self._faults.strike(name)
            try:
                idle.check()
            except threading.BrokenBarrierError:
                self.books.broken.append(f"an idle session failed, after {dict(self._faults.done)}")
            if self.books.broken:
                return
            took_s = time.monotonic() - begun_s
            self.slowest[name] = max(self.slowest.get(name, 0.0), round(took_s, 2))

    def _cards(self, wanted: set[str]) -> Iterator[str]:
        """The deck again and again, between two what is owed: which has not met every phase yet.

        When the time is over, what is owed alone: a slow machine has up to LONGER times as long.
        """
        begun_s, left = time.monotonic(), deck(self._rng, self._network)
        while (spent := (time.monotonic() - begun_s) / self.seconds) < LONGER:
            owed = sorted(
                {name for (name, _), times in self._crew.met(wanted).items() if not times}
            )
            if not left:
                left = [*deck(self._rng, self._network), *owed]
            if spent < 1:
                yield left.pop()
            elif owed:
                yield self._rng.choice(owed)
            else:
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

    def keep_logs(self, folder: Path) -> list[Path]:
        """Copy what the proxy and the servers have logged; the copies."""
        sources = {"backstay": self._folder / "backstay.log"}
        for number, server in enumerate(self._postgres.servers):
            sources[f"postgres-{number}"] = server.folder.with_name(f"{server.folder.name}.log")
        for number, other in enumerate(self._redis.servers):
            sources[f"redis-{number}"] = other.folder / "redis.log"
        copies = []
        for name, source in sources.items():
            copies.append(folder / f"campaign-{self.seed}-{name}.log")
            shutil.copyfile(source, copies[-1])
        return copies

    def _settings(self, tls: TlsFiles) -> dict[str, Any]:
        def port(side: str, with_tls: bool) -> list[int]:
            return [way.hop.port for way in self._ways[side] if way.tls == with_tls]

        def postgres(with_tls: bool) -> str:
            user = USERS[with_tls]
            login = f"{user}:{quote(ROLE_PASSWORDS[user], safe='')}"
            verify = f"sslmode=verify-full&sslrootcert={tls.ca}"
            query = verify if with_tls else "sslmode=disable"
            hosts = addresses(port("postgres", with_tls))
            return f"postgresql://{login}@{hosts}/app?{query}&target_session_attrs=read-write"

        def redis(with_tls: bool) -> str:
            host = f"127.0.0.1:{port('redis', with_tls)[0]}/0"
            return f"rediss://{host}?ssl_ca_certs={tls.ca}" if with_tls else f"redis://{host}"

        return {
            "postgres": [
                {"name": name, "upstream": postgres(with_tls), "keepalive": KEEPALIVE}
                for name, with_tls in (("tls", True), ("plain", False))
            ],
            "redis": [
                {"name": f"redis-{name}", "upstream": redis(with_tls), "keepalive": KEEPALIVE}
                for name, with_tls in (("tls", True), ("plain", False))
                if port("redis", with_tls)
            ],
        }
