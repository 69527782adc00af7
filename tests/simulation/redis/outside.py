"""Others who use the same server without the proxy: at one instant, with nothing in between."""

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation.redis.data import NEVER_S
from tests.simulation.redis.script import CHANNELS, COUNTERS, HIDDEN, LIST, PAIR, QUEUE, STRINGS

if TYPE_CHECKING:
    from tests.simulation.redis.world import World
_FOCUSED = {"pair": 1, "stalled": 14}  # half of what is done
BUSY_S = 0.3  # after a client has sent something; then there is little that others could spoil


class Outsider:
    """Writes straight to the server's data, until it is cancelled."""

    def __init__(self, world: "World", rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self._pause_s = rng.choice((0.01, 0.05, 0.3, 1.0))

    async def live(self) -> None:
        while True:
            idle = self.world.loop.time() > self.world.asked_s + BUSY_S
            pause_s = self._pause_s * 2 * self.rng.random() + 0.001
            await asyncio.sleep(pause_s + 0.5 * idle)
            if self.world.network.accept is None:
                continue
            self.world.record.seq += 1
            self._act()
            self.world.server.serve_blocked()

    def _act(self) -> None:
        rng, data, world = self.rng, self.world.data, self.world
        db = rng.choice((0, 0, 1, 2))
        mark = b"out#%d" % world.numbers.next()
        world.trace("outsider", f"at {world.record.seq} in db {db}: {mark!r}")
        focused = _FOCUSED.get(world.focus) if rng.random() < 0.5 else None
        match rng.randrange(14) if focused is None else focused:
            case 0:
                data.put(db, rng.choice((*STRINGS, LIST)), None)
            case 1:
                for key in PAIR:
                    data.put(db, key, mark)
            case 2:
                self._count(db, rng.choice(COUNTERS))
            case 3:
                key = rng.choice((LIST, QUEUE))
                data.put(db, key, [*(data.get(db, key) or ()), mark])
                data.pushed.append((db, key))
            case 4:
                world.server.publish(rng.choice(CHANNELS), mark)
            case 5 if rng.random() < 0.3:
                data.flush(db)
            case 5 if rng.random() < 0.4:
                data.swap(db, (db + 1) % 3)
                world.outside_swaps.append((world.loop.time(), (db, (db + 1) % 3)))
                world.server.swapped()
            case 6:
                data.put(db, HIDDEN, mark)
            case 7:
                key = rng.choice(STRINGS)
                if data.get(db, key) is not None:
                    later_s = world.loop.time() + rng.choice((0.004, 0.1, 1.0))
                    data.put(db, key, data.get(db, key), later_s)
            case 8 | 9:
                data.expire_some()
            case 14:
                data.put(0, STRINGS[0], mark)
            case _:
                expires_s = world.loop.time() + 0.2 if rng.random() < 0.2 else NEVER_S
                data.put(db, rng.choice(STRINGS), mark, expires_s)

    def _count(self, db: int, key: bytes) -> None:
        data, world = self.world.data, self.world
        data.put(db, key, b"%d" % (int(data.get(db, key) or b"0") + 1))
        where = db, key
        for books in (data.record.counted, world.outside_counted):
            books[where] = books.get(where, 0) + 1
