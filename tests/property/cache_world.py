"""Clients, a driver that uses the cache exactly as the rules in `cache` ask of a runtime, and
faults.

The driver is small on purpose: everything that decides what is coherent is in the cache; here are
only the caller's six rules (order per client, W1 before sending, W3 before the reply, and so on).
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from proxy.redis.protocol.actions import Answer, Bypass, CacheOptions, Out, Server, Wait
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.cacheable import COMMANDS, request
from proxy.redis.protocol.partitions import Partitions
from tests.property.cache_redis import Clock, Link, Redis

PAIR = (b"left", b"right")
SERVER = Server((7, 0, 15), hash_field_ttls=False)
LOST = b"-UPSTREAMLOST outcome unknown: link lost\r\n"


@dataclass(eq=False)
class Op:
    """One command of one client, from its first byte to its reply."""

    client: int
    batch: int
    argv: list[bytes]
    raw: bytes = b""
    invoked_s: float = 0.0
    started_s: float = 0.0  # when the proxy looked at it
    completed_s: float = -1.0
    reply: bytes = b""
    source: str = ""  # hit, T, D
    place: str = ""  # T or D while unanswered

    @property
    def keys(self) -> list[bytes]:
        if self.argv[0] == b"MSET":
            return self.argv[1::2]
        return self.argv[1:] if self.argv[0] in (b"MGET", b"EXISTS") else self.argv[1:2]

    @property
    def is_read(self) -> bool:
        return self.argv[0] in COMMANDS


@dataclass(frozen=True)
class Weather:
    """What goes wrong, and how often. Rates are per second of virtual time."""

    delay_s: float = 0.004
    slow_tracking: float = 1.0  # what T says comes so much later than what D says
    stalls: float = 1.0
    stall_s: float = 0.3
    cuts: float = 0.5
    data_cuts: float = 0.5
    external_writes: float = 40.0
    clients: int = 5
    think_s: float = 0.006
    batch_max: int = 4
    seconds: float = 4.0
    lease_s: float = 0.05
    ttl_share: float = 0.3
    read_share: float = 0.8
    script_share: float = 0.1
    spread: float = 0.7  # of the keys: more is hotter


@dataclass
class World:
    """Everything of one run. `history` holds the finished operations."""

    seed: int
    weather: Weather = field(default_factory=Weather)
    make_cache: type[Cache] = Cache

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.clock = Clock()
        self.redis = Redis(self.clock)
        self.history: list[Op] = []
        self.values = 0
        options = CacheOptions(
            lease_s=self.weather.lease_s,
            flight_s=self.weather.lease_s,
            silent_s=0.6,
            max_bytes=16 << 10,
        )
        self.partitions = Partitions(options, self.rng.random)
        self.partitions.make_cache = self.make_cache
        self.cache = self.partitions.partition(b"default", 0)
        self.tracking: Link | None = None
        self.data: dict[int, DataLink] = {}
        self.external = Link(self.redis, 3, self.delay)
        self.barriers: list[tuple[Op, float, float]] = []  # write, dispatched, answered
        self.clients = [Client(self, i + 1, 2 + i % 2) for i in range(self.weather.clients)]
        self.quiet = False

    def delay(self) -> float:
        return self.rng.expovariate(1 / self.weather.delay_s)

    def tracking_delay(self) -> float:
        return self.delay() * self.weather.slow_tracking

    def run(self) -> None:
        """Work, then silence until nothing moves."""
        self.open_tracking()
        self._tick()
        for client in self.clients:
            self.clock.after(self.rng.random() * 0.01, client.begin)
        self._every(self.weather.external_writes, self._external_write)
        self._every(self.weather.stalls, self._stall)
        self._every(self.weather.cuts, self._cut_tracking)
        self._every(self.weather.data_cuts, self._cut_data)
        self.clock.run(self.weather.seconds)
        self.quiet = True
        self.clock.run(self.weather.seconds + 5)

    # ---- T ----

    def open_tracking(self) -> None:
        link = self.tracking = Link(self.redis, 3, self.delay, tracking=True)
        link.down.delay_s = self.tracking_delay
        link.on_frame = lambda frame: self.obey(self.cache.frames([frame], self.clock.now_s))
        self.cache.link_up(SERVER, self.clock.now_s)

    def to_tracking(self, data: bytes) -> None:
        if data:
            assert self.tracking is not None
            for argv in parsed(data):
                self.tracking.send(argv)

    def obey(self, out: Out) -> None:
        """Do what the cache says, in its order."""
        self.to_tracking(out.write)
        touched: dict[int, Client] = {}
        for waiter, reply in out.answers:
            assert isinstance(waiter, Op)
            waiter.place, waiter.reply, waiter.source = "", reply, "T"
            touched[waiter.client] = self.clients[waiter.client - 1]
        for waiter in out.direct:
            assert isinstance(waiter, Op)
            waiter.place = ""
        for waiter in out.direct:
            assert isinstance(waiter, Op)
            touched[waiter.client] = self.clients[waiter.client - 1]
            touched[waiter.client].forward(waiter)
        for client in touched.values():  # only now may they go on with what they read meanwhile
            client.process()
        if out.fault is not None:
            self._lose_tracking()

    def _lose_tracking(self) -> None:
        if self.tracking is not None:
            self.tracking.cut()
            self.tracking = None
            self.obey(self.cache.link_lost())
            self.clock.after(0.02 + self.rng.random() * 0.1, self.open_tracking)

    def _tick(self) -> None:
        self.obey(self.cache.tick(self.clock.now_s))
        self.clock.after(0.005, self._tick)

    # ---- D ----

    def data_link(self, resp: int) -> DataLink:
        if resp not in self.data:
            self.data[resp] = DataLink(self, resp)
        return self.data[resp]

    # ---- weather ----

    def _every(self, rate: float, act: object) -> None:
        if rate <= 0:
            return

        def again() -> None:
            if not self.quiet:
                act()  # type: ignore[operator]
                self.clock.after(self.rng.expovariate(rate), again)

        self.clock.after(self.rng.expovariate(rate), again)

    def _external_write(self) -> None:
        self.external.send(self.some_write(external=True))

    def _stall(self) -> None:
        if self.tracking is not None:
            self.tracking.stall(self.clock.now_s + self.rng.random() * self.weather.stall_s)

    def _cut_tracking(self) -> None:
        self._lose_tracking()

    def _cut_data(self) -> None:
        if self.data:
            self.rng.choice(list(self.data.values())).lose()

    def new_value(self) -> bytes:
        self.values += 1
        return b"v%d" % self.values

    def some_key(self) -> bytes:
        return b"k%d" % min(int(self.rng.expovariate(self.weather.spread)), 5)

    def some_keys(self, count_max: int) -> list[bytes]:
        """Distinct ones. In the order of their coming, not of a set: that one is another in each
        process, and a seed would not give the same world again."""
        return list(dict.fromkeys(self.some_key() for _ in range(count_max)))

    def some_write(self, external: bool) -> list[bytes]:
        key, value, dice = self.some_key(), self.new_value(), self.rng.random()
        if dice < 0.2:
            return [b"MSET", PAIR[0], value, PAIR[1], value]
        if dice < 0.3:
            return [b"DEL", key]
        if dice < 0.3 + self.weather.ttl_share:
            return [b"SET", key, value, b"PX", b"%d" % self.rng.randint(5, 120)]
        if dice > 0.985:
            return [b"FLUSHALL"]
        if not external and self.rng.random() < self.weather.script_share:
            return [b"SCRIPT", key, value]
        return [b"SET", key, value]

    def some_read(self) -> list[bytes]:
        dice = self.rng.random()
        if dice < 0.15:
            return [b"MGET", *PAIR]
        if dice < 0.25:
            return [b"MGET", *self.some_keys(3)]
        if dice < 0.32:
            return [b"EXISTS", *self.some_keys(2)]
        return [b"GET", self.some_key()]


def parsed(data: bytes) -> list[list[bytes]]:
    """The commands of a batch. Values hold no line ends here."""
    lines = data.split(b"\r\n")
    commands: list[list[bytes]] = []
    at = 0
    while at < len(lines) - 1:
        count = int(lines[at][1:])
        commands.append(lines[at + 2 : at + 2 + 2 * count : 2])
        at += 1 + 2 * count
    return commands


class DataLink:
    """The shared data link of one RESP version; after a loss reads are sent again, writes are
    not.
    """

    def __init__(self, world: World, resp: int) -> None:
        self.world = world
        self.resp = resp
        self.owed: deque[Op] = deque()
        self._connect()

    def _connect(self) -> None:
        self.link = link = Link(self.world.redis, self.resp, self.world.delay)
        link.on_frame = self._reply

    def send(self, op: Op) -> None:
        if not op.is_read:
            self._dispatch(op)
        self.owed.append(op)
        self.link.send(op.argv, token=op)

    def _dispatch(self, op: Op) -> None:
        partitions = self.world.partitions
        if op.argv[0] == b"FLUSHALL":
            partitions.flushing()
        elif op.argv[0] != b"SCRIPT":
            partitions.writing(0, op.keys)
            self.world.barriers.append((op, self.world.clock.now_s, float("inf")))

    def _settle(self, op: Op) -> None:
        """W3 and W4, before the reply reaches the client."""
        world = self.world
        if op.argv[0] == b"FLUSHALL":
            world.partitions.flushed()
        elif op.argv[0] == b"SCRIPT":
            for _, data in world.partitions.fence_all(world.clock.now_s):
                world.to_tracking(data)
        else:
            world.partitions.written(0, op.keys)
            for i, (write, since_s, _) in enumerate(world.barriers):
                if write is op:
                    world.barriers[i] = (write, since_s, world.clock.now_s)

    def _reply(self, frame: bytes) -> None:
        op = self.owed.popleft()
        client = self.world.clients[op.client - 1]
        if op.is_read:
            client.reader.direct(op.raw, op.argv, frame)
        else:
            self._settle(op)
        client.answered(op, frame, "D")

    def lose(self) -> None:
        self.link.cut()
        owed, self.owed = self.owed, deque()
        self._connect()
        for op in owed:
            if op.is_read:
                self.owed.append(op)
                self.link.send(op.argv, token=op)
        for op in owed:
            if not op.is_read:
                self._settle(op)
                self.world.clients[op.client - 1].answered(op, LOST, "lost")


class Client:
    """One client connection: pipelines of commands, replies in order (caller's rules 1 to 3, 6)."""

    def __init__(self, world: World, number: int, resp: int) -> None:
        self.world = world
        self.number = number
        self.resp = resp
        self.reader = world.partitions.reader(world.cache, resp)
        self.queue: deque[Op] = deque()  # read from the client's socket, not looked at yet
        self.slots: deque[Op] = deque()  # unanswered towards the client, in order
        self.batch = 0

    def begin(self) -> None:
        """A new pipeline, unless the run is over."""
        world = self.world
        if world.quiet:
            return
        self.batch += 1
        for _ in range(world.rng.randint(1, world.weather.batch_max)):
            read = world.rng.random() < world.weather.read_share
            argv = world.some_read() if read else world.some_write(external=False)
            op = Op(self.number, self.batch, argv, request(argv), world.clock.now_s)
            self.queue.append(op)
        self.process()

    def process(self) -> None:
        while self.queue:
            op = self.queue[0]
            op.started_s = self.world.clock.now_s
            if not (self._read(op) if op.is_read else self._write(op)):
                break
            self.queue.popleft()
        self._flush()

    def _unanswered(self, place: str) -> bool:
        return any(op.place == place for op in self.slots)

    def _read(self, op: Op) -> bool:
        now_s = self.world.clock.now_s
        if self._unanswered("D"):
            self.slots.append(op)
            self.forward(op)
            return True
        if not self._unanswered("T"):
            reply = self.reader.hit(op.raw, now_s)
            if reply is not None:
                self.slots.append(op)
                op.reply, op.source = reply, "hit"
                return True
        match self.reader.read(op.raw, op.argv, op, now_s):
            case Answer(reply):
                op.reply, op.source = reply, "hit"
            case Wait(data):
                op.place = "T"
                self.world.to_tracking(data)
            case Bypass():
                if self._unanswered("T"):
                    return False
                self.slots.append(op)
                self.forward(op)
                return True
        self.slots.append(op)
        return True

    def _write(self, op: Op) -> bool:
        if self._unanswered("T"):
            return False
        self.slots.append(op)
        self.forward(op)
        return True

    def forward(self, op: Op) -> None:
        assert not self._unanswered("T"), "nothing goes to D past a read on T"
        op.place = "D"
        self.world.data_link(self.resp).send(op)

    def answered(self, op: Op, reply: bytes, source: str) -> None:
        op.place, op.reply, op.source = "", reply, source
        self.process()

    def _flush(self) -> None:
        """Replies leave in order; an empty pipeline lets the client think, then go on."""
        sent = False
        while self.slots and self.slots[0].reply:
            op = self.slots.popleft()
            op.completed_s = self.world.clock.now_s
            self.world.history.append(op)
            sent = True
        if sent and not self.slots and not self.queue:
            world = self.world
            world.clock.after(world.rng.expovariate(1 / world.weather.think_s), self.begin)
