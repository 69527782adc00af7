"""The faults of a campaign. All choices come from one generator, so a seed gives the same list."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.demo.cutter import Cut, Cutter, Direction, Hop
from proxy.demo.servers import Stop
from tests.campaign.kit import Board, Crew
from tests.campaign.network import Network
from tests.campaign.pairs import PostgresPair, RedisPair
from tests.fix_cutter import ThreadCutter

CUTS = (Cut.FIN, Cut.RST, Cut.TLS_ABORT)
PLAIN_CUTS = (Cut.FIN, Cut.RST)  # the rest of a broken TLS record would be garbage without TLS
REFUSE_S = 1.0
AWAY_S = 6.0  # long enough for sessions to be told that they wait
BLIP_S = 0.4
ARMED_S = 0.3
NEVER_BYTES = 1 << 50

# The proxy's keepalive in the campaign: silent links are given up after 2.5 s.
KEEPALIVE = {"idle_s": 1, "interval_s": 1, "count": 2}
GIVEN_UP_S = 3.2

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
    "postgres refuses for 6 s": 1,
    "postgres failover, planned": 1,
    "postgres failover, kill -9": 1,
    "postgres failover, frozen": 1,
    "redis FIN": 3,
    "redis RST": 3,
    "redis TLS abort": 2,
    "redis silence, then RST": 1,
    "redis cut after byte n": 4,
    "redis restart": 1,
    "redis kill -9": 1,
    "redis refuses for 1 s": 1,
    "redis failover": 3,
    "proxy kill -9": 2,
}
# Only in a network namespace of the campaign's own.
NETWORK_DECK = {
    "postgres network blip": 1,
    "postgres network drops, link given up": 1,
    "postgres sockets killed": 2,
    "redis network blip": 1,
    "redis network drops, link given up": 1,
    "redis sockets killed": 2,
}


def kinds(network: bool) -> dict[str, int]:
    """Every kind of fault that there is, and how often in a deck."""
    return DECK | NETWORK_DECK if network else DECK


def deck(rng: random.Random, network: bool = True) -> list[str]:
    """Every fault as often as DECK says, shuffled."""
    cards = [name for name, times in kinds(network).items() for _ in range(times)]
    rng.shuffle(cards)
    return cards


@dataclass(frozen=True)
class Way:
    """A hop on the way of one route to one server."""

    hop: ThreadCutter
    tls: bool

    @property
    def cuts(self) -> tuple[Cut, ...]:
        return CUTS if self.tls else PLAIN_CUTS


@dataclass(frozen=True)
class Field:
    """What is struck. `network` is None where the machine does not let us."""

    postgres: PostgresPair
    redis: RedisPair
    ways: dict[str, Sequence[Way]]
    network: dict[str, Network] | None
    kill_proxy: Callable[[], None]


class Faults:
    """Strikes at the servers, at the hops in front of them, at the network, at the proxy."""

    def __init__(self, field: Field, crew: Crew, rng: random.Random) -> None:
        self._field = field
        self._crew = crew
        self._rng = rng
        self.done: Counter[str] = Counter()
        self.sockets_killed = 0
        self.backends_terminated = 0
        self._name = ""
        for side, ways in field.ways.items():
            for way in ways:
                way.hop.cutter.on_cut = lambda _hop, _cut, side=side: self._met(side)

    @property
    def links_cut(self) -> Counter[str]:
        """Connections broken, by what broke them."""
        cutters = [way.hop.cutter for ways in self._field.ways.values() for way in ways]
        found = Counter(stroke.cut.name for cutter in cutters for stroke in cutter.history)
        found["socket killed"] = self.sockets_killed
        found["backend terminated"] = self.backends_terminated
        return +found

    def strike(self, name: str) -> None:
        """One fault from begin to end: when it returns, the server can be reached."""
        side, _, kind = name.partition(" ")
        self._name = name
        if side in ("postgres", "redis"):
            self._board(side).wait_for_all()
        getattr(self, f"_{side}")(kind)
        self.done[name] += 1

    def _postgres(self, kind: str) -> None:
        servers = self._field.postgres
        acts: dict[str, Callable[[], object]] = {
            "backends terminated": self._terminate,
            "restart fast": lambda: servers.restart(Stop.FAST),
            "restart immediate": lambda: servers.restart(Stop.IMMEDIATE),
            "kill -9": lambda: servers.restart(Stop.KILL),
            "failover, planned": lambda: servers.fail_over(Stop.FAST),
            "failover, kill -9": lambda: servers.fail_over(Stop.KILL),
            "failover, frozen": lambda: servers.fail_over(None),
        }
        self._either("postgres", kind, acts)

    def _redis(self, kind: str) -> None:
        servers = self._field.redis
        acts: dict[str, Callable[[], object]] = {
            "restart": lambda: servers.restart(kill=False),
            "kill -9": lambda: servers.restart(kill=True),
            "failover": servers.fail_over,
        }
        self._either("redis", kind, acts)

    def _proxy(self, _: str) -> None:
        self._met("postgres")
        self._met("redis")
        self._field.kill_proxy()

    def _either(self, side: str, kind: str, acts: dict[str, Callable[[], object]]) -> None:
        if kind in acts:
            self._met(side)
            acts[kind]()
        elif "network" in kind or "sockets" in kind:
            self._break_network(side, kind)
        else:
            self._break_hops(side, kind)

    def _break_hops(self, side: str, kind: str) -> None:
        acts: dict[str, Callable[[list[Way]], None]] = {
            "FIN": lambda ways: self._cut(ways, Cut.FIN),
            "RST": lambda ways: self._cut(ways, Cut.RST),
            "TLS abort": lambda ways: self._cut([w for w in ways if w.tls], Cut.TLS_ABORT),
            "silence, then RST": self._silence,
            "cut after byte n": self._cut_after,
            "refuses for 1 s": lambda ways: self._refuse(ways, REFUSE_S),
            "refuses for 6 s": lambda ways: self._refuse(ways, AWAY_S),
        }
        tls = self._rng.choice((True, False, None))  # None: with and without
        if kind == "TLS abort":
            tls = True
        acts[kind]([way for way in self._field.ways[side] if tls in (None, way.tls)])

    def _cut(self, ways: list[Way], cut: Cut) -> None:
        share = self._rng.choice((0.5, 1.0))
        for way in ways:
            way.hop.call(lambda cutter: cutter.cut_some((cut,), share))

    def _silence(self, ways: list[Way]) -> None:
        for way in ways:
            way.hop.call(lambda cutter: cutter.cut_all(Cut.SILENCE))
        time.sleep(self._rng.uniform(0.1, 0.6))
        for way in ways:
            way.hop.call(lambda cutter: cutter.cut_all(Cut.RST))

    def _cut_after(self, ways: list[Way]) -> None:
        """Each live connection breaks at some byte to come, one way or the other, if it comes soon.

        Not later: a session that is idle now would otherwise be struck in its check.
        """
        for way in ways:
            seed = self._rng.random()

            def arm(cutter: Cutter, way: Way = way, seed: float = seed) -> list[Hop]:
                rng, hops = random.Random(seed), list(cutter.hops.values())
                for one in hops:
                    direction = rng.choice((Direction.TO_CLIENT, Direction.TO_SERVER))
                    one.cut_after(direction, rng.randrange(1, 3000), rng.choice(way.cuts))
                return hops

            armed = way.hop.call(arm)
            end_s = time.monotonic() + ARMED_S
            while any(hop.alive for hop in armed) and time.monotonic() < end_s:
                time.sleep(0.005)

            def disarm(_: Cutter, armed: list[Hop] = armed) -> None:
                for one, direction in itertools.product(armed, Direction):
                    one.cut_after(direction, NEVER_BYTES, Cut.RST)

            way.hop.call(disarm)

    def _refuse(self, ways: list[Way], seconds: float) -> None:
        for way in ways:
            way.hop.call(lambda cutter: cutter.refuse())
            way.hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        time.sleep(seconds)
        for way in ways:
            way.hop.call(lambda cutter: cutter.accept())

    def _terminate(self) -> None:
        query: Any = (
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where usename in ('app_tls', 'app_scram')"
        )
        self.backends_terminated += self._field.postgres.primary.sql(query)[0][0]

    def _break_network(self, side: str, kind: str) -> None:
        assert self._field.network is not None, "not in the deck then"
        network = self._field.network[side]
        self._met(side)
        if kind == "sockets killed":
            self.sockets_killed += network.kill_sockets()
            return
        with network.dropping():
            time.sleep(BLIP_S if kind == "network blip" else GIVEN_UP_S)

    def _board(self, side: str) -> Board:
        return self._crew.postgres if side == "postgres" else self._crew.redis

    def _met(self, side: str) -> None:
        self._board(side).strike(self._name)
