"""The faults of a campaign. All choices come from one generator, so a seed gives the same list."""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from proxy.demo.cutter import Cut, Cutter, Direction
from proxy.demo.servers import PostgresServer, RedisServer, Stop
from tests.fix_cutter import ThreadCutter

CUTS = (Cut.FIN, Cut.RST, Cut.TLS_ABORT)
PLAIN_CUTS = (Cut.FIN, Cut.RST)  # the rest of a broken TLS record would be garbage without TLS
REFUSE_S = 1.0

# How often each kind lies in the deck: cuts are common, restarts rarer.
DECK = {
    "postgres FIN": 4,
    "postgres RST": 4,
    "postgres TLS abort": 4,
    "postgres silence, then RST": 2,
    "postgres cut after byte n": 6,
    "postgres backends terminated": 2,
    "postgres restart fast": 1,
    "postgres restart immediate": 1,
    "postgres kill -9": 1,
    "postgres refuses for 1 s": 1,
    "redis FIN": 3,
    "redis RST": 3,
    "redis silence, then RST": 1,
    "redis cut after byte n": 4,
    "redis restart": 1,
    "redis kill -9": 1,
    "redis refuses for 1 s": 1,
}


def deck(rng: random.Random) -> list[str]:
    """Every fault as often as DECK says, shuffled."""
    cards = [name for name, times in DECK.items() for _ in range(times)]
    rng.shuffle(cards)
    return cards


class Faults:
    """Strikes at both servers and at the hops in front of them."""

    def __init__(
        self,
        servers: tuple[PostgresServer, RedisServer],
        hops: tuple[ThreadCutter, ThreadCutter],
        rng: random.Random,
    ) -> None:
        self._postgres, self._redis = servers
        self._hops = dict(zip(("postgres", "redis"), hops, strict=True))
        self._rng = rng
        self._redis_cuts = CUTS if servers[1].tls_port else PLAIN_CUTS
        self.done: Counter[str] = Counter()

    @property
    def links_cut(self) -> Counter[str]:
        """Connections broken by the hops, by kind of cut."""
        cutters = [hop.cutter for hop in self._hops.values()]
        return Counter(stroke.cut.name for cutter in cutters for stroke in cutter.history)

    def strike(self, name: str) -> None:
        """One fault from begin to end: when it returns, the server can be reached."""
        side, _, kind = name.partition(" ")
        acts: dict[str, Callable[[ThreadCutter], None]] = {
            "FIN": lambda hop: self._cut(hop, Cut.FIN),
            "RST": lambda hop: self._cut(hop, Cut.RST),
            "TLS abort": lambda hop: self._cut(hop, Cut.TLS_ABORT),
            "silence, then RST": self._silence,
            "cut after byte n": self._cut_after,
            "refuses for 1 s": self._refuse,
            "backends terminated": lambda _: self._terminate(),
            "restart fast": lambda _: self._postgres.restart(Stop.FAST),
            "restart immediate": lambda _: self._postgres.restart(Stop.IMMEDIATE),
            "restart": lambda _: self._redis.restart(),
            "kill -9": lambda _: self._kill(side),
        }
        acts[kind](self._hops[side])
        self.done[name] += 1

    def _cut(self, hop: ThreadCutter, cut: Cut) -> None:
        share = self._rng.choice((0.5, 1.0))
        hop.call(lambda cutter: cutter.cut_some((cut,), share))

    def _silence(self, hop: ThreadCutter) -> None:
        hop.call(lambda cutter: cutter.cut_all(Cut.SILENCE))
        time.sleep(self._rng.uniform(0.1, 0.6))
        hop.call(lambda cutter: cutter.cut_all(Cut.RST))

    def _cut_after(self, hop: ThreadCutter) -> None:
        """Each live connection breaks at some byte to come, one way or the other."""
        seed = self._rng.random()
        cuts = self._redis_cuts if hop is self._hops["redis"] else CUTS

        def arm(cutter: Cutter) -> None:
            rng = random.Random(seed)
            for one in list(cutter.hops.values()):
                direction = rng.choice((Direction.TO_CLIENT, Direction.TO_SERVER))
                one.cut_after(direction, rng.randrange(1, 3000), rng.choice(cuts))

        hop.call(arm)

    def _refuse(self, hop: ThreadCutter) -> None:
        hop.call(lambda cutter: cutter.refuse())
        hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        time.sleep(REFUSE_S)
        hop.call(lambda cutter: cutter.accept())

    def _terminate(self) -> None:
        query: Any = (
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where usename = 'app_tls'"
        )
        self._postgres.sql(query)

    def _kill(self, side: str) -> None:
        if side == "postgres":
            self._postgres.restart(Stop.KILL)
        else:
            self._redis.restart(kill=True)
