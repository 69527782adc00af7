"""What each client was told, and whether a server could have said so: the judges.

The rules are those of the design's promises and of reference/redis.md: a read shows its key as it
was at an instant no older than the lease, nor older than a write acknowledged before; a write that
was acknowledged ran once, one of unknown outcome at most once, a refused one never.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.redis.data import Record, Span, Where
from tests.simulation.redis.resp import NIL_ARRAY, Err, Simple
from tests.simulation.redis.script import TAKES, Ask

if TYPE_CHECKING:
    from tests.simulation.redis.client import Client
    from tests.simulation.redis.world import World

RESENT_MAX = 2  # times a read is sent again (reference/redis.md, section 3)
EPSILON_S = 1e-5
OK = Simple(b"OK")


class Wrong(Exception):
    """An answer that breaks a promise."""


class Books:
    """Of one run."""

    def __init__(self, world: "World", record: Record) -> None:
        self.world, self.record = world, record
        self.acked: dict[Where, int] = {}  # the last command known by an acknowledgement
        self.seen: dict[tuple[bytes, Where], int] = {}  # by reads of one user
        self.told: dict[bytes, str] = {}  # what became of the write with this mark
        self.counted: dict[Where, int] = {}
        self.count_doubts: dict[Where, int] = {}
        self.received: dict[bytes, int] = {}
        self.take_doubts = 0
        self.whole_acked: dict[int, int] = {}

    # -- sending

    def floor(self, ask: Ask, key: bytes) -> int:
        """No read of this key from now on may show it as it was before this command."""
        where = ask.db, key
        acked = max(self.acked.get(where, 0), self.whole_acked.get(ask.db, 0))
        return max(acked, self.seen.get((ask.user, where), 0))

    def sent(self, ask: Ask) -> None:
        """Remember what was known when it was asked."""
        ask.floors = {key: self.floor(ask, key) for key in ask.keys}
        for one in (ask, *ask.parts):
            if one.mark and one.verb != "echo":
                self.told[one.mark] = "sent"

    # -- answers

    def judge(self, client: "Client", ask: Ask, value: Any) -> None:
        """One answer. Raises Wrong."""
        if ask.verb == "discard":
            self.settle(ask, "refused")
        if isinstance(value, Err):
            self._error(client, ask, value)
        elif ask.verb in _JUDGES:
            _JUDGES[ask.verb](self, client, ask, value)
        elif value != ask.expected or type(value) is not type(ask.expected):
            raise Wrong(f"{value!r} instead of {ask.expected!r}")

    def _error(self, client: "Client", ask: Ask, error: Err) -> None:
        world, code = self.world, error.code
        losses = world.losses - ask.losses
        waited_s = world.loop.time() - ask.sent_s
        if code == "UPSTREAMLOST":
            self.settle(ask, "lost")
            client.may_watch = client.may_watch or ask.verb == "watch"
            if not losses:
                raise Wrong(f"no link was lost: {error!r}")
            if ask.reads and not ask.later_write and losses <= RESENT_MAX:
                raise Wrong(f"a read, and {losses} links were lost: {error!r}")
        elif code == "UPSTREAMDOWN":
            self.settle(ask, "refused")
            if waited_s < world.hold_s * 0.99 and not world.stopping:
                raise Wrong(f"after {waited_s:.3f} s: {error!r}")
        elif code == "EXECABORT" and ask.verb in ("exec", "queued"):
            self.settle(ask, "refused")
            if not losses and not world.faults:
                raise Wrong(f"nothing has happened: {error!r}")
        elif (
            (world.stopping and error.endswith(b"max number of clients reached"))
            or (code == "LOADING" and world.has_loaded)
            or (code == "READONLY" and world.has_demoted)
        ):
            self.settle(ask, "refused")
        else:
            raise Wrong(f"unnamed: {error!r}")

    def settle(self, ask: Ask, what: str) -> None:
        """What became of it: ok, lost (or the client was cut off), refused."""
        doubt = what in ("lost", "cut")
        for one in (ask, *ask.parts):
            if one.mark in self.told:
                self.told[one.mark] = what
            where = one.db, one.keys[0] if one.keys else b""
            if one.verb == "incr":
                books = self.counted if what == "ok" else self.count_doubts
                books[where] = books.get(where, 0) + (what == "ok" or doubt)
            if one.verb in TAKES and doubt:
                self.take_doubts += 1

    def _known(self, ask: Ask, seq: int, keys: list[bytes] | None = None) -> None:
        for key in ask.keys if keys is None else keys:
            where = ask.db, key
            self.acked[where] = max(self.acked.get(where, 0), seq)

    # -- reads

    def read(self, client: "Client", ask: Ask, match: Callable[[list[Any]], bool]) -> None:
        """The answer must be one instant's. Raises Wrong."""
        now_s = self.world.loop.time()
        since_s = ask.sent_s - EPSILON_S - (0.0 if ask.exact else self.world.lease_s)
        spans: list[list[Span]] = []
        for key in ask.keys:
            own = client.own.get((ask.db, key), 0)
            floor = max(ask.floors.get(key, 0), own)
            history = self.record.history((ask.db, key))
            spans.append(history.spans(floor, since_s, ask.sent_s - EPSILON_S, now_s))
        found = _instant(spans, match)
        if found is None and self._swapped_outside(ask.db, since_s):
            found = _anyhow(spans, match)
        if found is None:
            self._explain(ask, spans, since_s)
        for key, span in zip(ask.keys, found or (), strict=True):
            where = ask.db, key
            client.own[where] = max(client.own.get(where, 0), span.seq)
            if not ask.exact:
                known = self.seen.get((ask.user, where), 0)
                self.seen[ask.user, where] = max(known, span.seq)

    def _swapped_outside(self, db: int, since_s: float) -> bool:
        """Others have run SWAPDB, of which no invalidation tells: within the lease what is cached
        and what is read may be from before and behind it."""
        return any(when_s >= since_s and db in dbs for when_s, dbs in self.world.outside_swaps)

    def _explain(self, ask: Ask, spans: list[list[Span]], since_s: float) -> None:
        told = []
        for key, some in zip(ask.keys, spans, strict=True):
            last = self.record.history((ask.db, key)).versions[-4:]
            past = [(v.seq, round(v.start_s - ask.sent_s, 4), v.value) for v in last]
            told.append(f"{key!r}: may be {[one.value for one in some][:4]}, was {past}")
        floors = {key: ask.floors.get(key) for key in ask.keys}
        raise Wrong(f"stale, torn or never true (floors {floors}): {'; '.join(told)}")

    def _get(self, client: "Client", ask: Ask, value: Any) -> None:
        if value is not None and type(value) is not bytes:
            raise Wrong(f"{value!r} to GET")
        self._from_future(client, ask, [value])
        self.read(client, ask, lambda values: values[0] == value)

    def _mget(self, client: "Client", ask: Ask, value: Any) -> None:
        if type(value) is not list or len(value) != len(ask.keys):
            raise Wrong(f"{value!r} to MGET")
        self._from_future(client, ask, value)
        self.read(client, ask, lambda values: values == value)

    def _exists(self, client: "Client", ask: Ask, value: Any) -> None:
        self.read(client, ask, lambda values: sum(one is not None for one in values) == value)

    def _lrange(self, client: "Client", ask: Ask, value: Any) -> None:
        if type(value) is not list:
            raise Wrong(f"{value!r} to LRANGE")
        self._from_future(client, ask, value)
        self.read(client, ask, lambda values: list(values[0] or ()) == value)

    def _llen(self, client: "Client", ask: Ask, value: Any) -> None:
        self.read(client, ask, lambda values: len(values[0] or ()) == value)

    def _pttl(self, client: "Client", ask: Ask, value: Any) -> None:
        if type(value) is not int or value < -2:
            raise Wrong(f"{value!r} to PTTL")

    def _from_future(self, client: "Client", ask: Ask, values: list[Any]) -> None:
        for value in values:
            name, _, number = (value or b"").partition(b"#")
            if name == client.name.encode() and int(number.split(b".")[0]) > ask.number:
                raise Wrong(f"sees {value!r}, which it wrote later")

    # -- writes

    def _marked(self, client: "Client", ask: Ask, value: Any) -> None:
        if ask.verb == "rpush":
            if type(value) is not int or value < 1:
                raise Wrong(f"{value!r} to RPUSH")
        elif ask.verb == "once":
            if value != 1:
                raise Wrong(f"{value!r}: counted more than once, or not at all")
        elif value != OK:
            raise Wrong(f"{value!r} to a write")
        self.settle(ask, "ok")
        ran = self.record.ran.get(ask.mark, [])
        if not ran:
            raise Wrong("acknowledged, and did not run")
        self._known(ask, ran[0])
        self._own(client, ask, ran[0])

    def _own(self, client: "Client", ask: Ask, seq: int) -> None:
        for key in ask.keys:
            client.own[ask.db, key] = max(client.own.get((ask.db, key), 0), seq)

    def _change(self, client: "Client", ask: Ask, is_it: Callable[[Any], bool]) -> None:
        """A write that has no mark: the first version it may have made."""
        history = self.record.history((ask.db, ask.keys[0]))
        for one in history.changes(ask.sent_s, self.world.loop.time()):
            if is_it(one):
                self._known(ask, one.seq)
                self._own(client, ask, one.seq)
                return
        raise Wrong("acknowledged, and did not run")

    def _incr(self, client: "Client", ask: Ask, value: Any) -> None:
        self.settle(ask, "ok")
        self._change(client, ask, lambda one: one.value == b"%d" % value)

    def _del(self, client: "Client", ask: Ask, value: Any) -> None:
        if value not in (0, 1) or type(value) is not int:
            raise Wrong(f"{value!r} to DEL")
        if value:
            self._change(client, ask, lambda one: one.value is None)

    def _pexpire(self, client: "Client", ask: Ask, value: Any) -> None:
        if value not in (0, 1):
            raise Wrong(f"{value!r} to PEXPIRE")
        if value:
            self._change(client, ask, lambda one: one.expires_s < 1e12)

    def _whole(self, client: "Client", ask: Ask, value: Any) -> None:
        if value != OK:
            raise Wrong(f"{value!r} to {ask.verb}")
        now_s = self.world.loop.time()
        dbs = (ask.db,) if ask.verb == "flushdb" else tuple(map(int, ask.args[1:]))
        for seq, when_s, where in self.record.wholes:
            if where == dbs and ask.sent_s <= when_s <= now_s:
                for db in dbs:
                    self.whole_acked[db] = max(self.whole_acked.get(db, 0), seq)
                return
        raise Wrong("acknowledged, and did not run")

    def _take(self, client: "Client", ask: Ask, value: Any) -> None:
        if value is None or value is NIL_ARRAY:
            if (value is NIL_ARRAY) != (ask.verb == "blpop" and client.resp == 2):
                raise Wrong(f"{value!r} to {ask.verb}")
            return
        element = value
        if ask.verb == "blpop":
            key, element = value
            if key not in ask.keys:
                raise Wrong(f"an element of {key!r}")
        self.received[element] = self.received.get(element, 0) + 1
        if element not in self.record.popped:
            raise Wrong(f"{element!r} was never taken")

    # -- transactions

    def _exec(self, client: "Client", ask: Ask, value: Any) -> None:
        if value is None or value is NIL_ARRAY:
            self.settle(ask, "refused")
            self._aborted(client, ask)
            return
        if type(value) is not list or len(value) != len(ask.parts):
            raise Wrong(f"{value!r} to EXEC")
        if any(one.refused for one in ask.before):
            raise Wrong("executed, and a command of it was refused")
        for part, result in zip(ask.parts, value, strict=True):
            part.sent_s, part.floors, part.exact = ask.sent_s, {}, True
            self.judge(client, part, result)
        for at, part in enumerate(ask.parts):
            if part.mark in self.record.ran:  # which tells when EXEC ran
                self._unwatched(ask, self.record.ran[part.mark][0] - at)
                break

    def _unwatched(self, ask: Ask, first_seq: int) -> None:
        """No watched key has changed before the first command of the transaction."""
        for watch in ask.watches:
            for key in watch.keys:
                history = self.record.history((watch.db, key))
                for one in history.changes(watch.answered_s, self.world.loop.time()):
                    if one.seq < first_seq:
                        raise Wrong(f"executed, and watched {key!r} had changed")

    def _aborted(self, client: "Client", ask: Ask) -> None:
        """EXEC said nil: there must be a reason."""
        if client.may_watch:
            return
        if not ask.watches:
            raise Wrong("nil, and nothing was watched")
        now_s = self.world.loop.time()
        for watch in ask.watches:
            if (
                watch.refused
                or self.world.losses > watch.losses
                or self.world.faults > watch.faults
            ):
                return
            for key in watch.keys:
                history = self.record.history((watch.db, key))
                if any(history.changes(watch.sent_s, now_s)):
                    return
        raise Wrong("nil, and no watched key has changed")

    def _publish(self, client: "Client", ask: Ask, value: Any) -> None:
        if type(value) is not int:
            raise Wrong(f"{value!r} to PUBLISH")

    # -- at the end

    def problems(self) -> list[str]:
        """What does not add up."""
        found = []
        for mark, told in self.told.items():
            ran = len(self.record.ran.get(mark, ()))
            least, most = {"ok": (1, 1), "refused": (0, 0)}.get(told, (0, 1))
            if not least <= ran <= most:
                found.append(f"{mark!r} was {told} and ran {ran} times")
        for where, ran in self.record.counted.items():
            outside = self.world.outside_counted.get(where, 0)
            sure = self.counted.get(where, 0) + outside
            if not sure <= ran <= sure + self.count_doubts.get(where, 0):
                found.append(f"{where}: {sure} INCRs acknowledged, {ran} ran")
        if self.world.lossy:
            return found
        found += [f"{one!r} received {n} times" for one, n in self.received.items() if n > 1]
        lost = sum(self.record.popped.values()) - sum(self.received.values())
        if lost > self.take_doubts:
            found.append(f"{lost} elements taken in nobody's name, {self.take_doubts} in doubt")
        return found


def _instant(spans: list[list[Span]], match: Callable[[list[Any]], bool]) -> list[Span] | None:
    """The earliest instant at which all was as the answer says."""
    for seq in sorted({one.seq for some in spans for one in some}):
        at = [next((one for one in some if one.seq <= seq < one.end_seq), None) for some in spans]
        there = [one for one in at if one is not None]
        if len(there) == len(spans) and match([one.value for one in there]):
            return there
    return None


def _anyhow(spans: list[list[Span]], match: Callable[[list[Any]], bool]) -> list[Span] | None:
    """Each key at an instant of its own."""
    pictures = map(list, itertools.product(*spans))
    return next((one for one in pictures if match([span.value for span in one])), None)


_JUDGES: dict[str, Callable[[Books, "Client", Ask, Any], None]] = {
    "get": Books._get,
    "mget": Books._mget,
    "exists": Books._exists,
    "lrange": Books._lrange,
    "llen": Books._llen,
    "pttl": Books._pttl,
    "set": Books._marked,
    "mset": Books._marked,
    "eval": Books._marked,
    "rpush": Books._marked,
    "once": Books._marked,
    "incr": Books._incr,
    "del": Books._del,
    "pexpire": Books._pexpire,
    "flushdb": Books._whole,
    "swapdb": Books._whole,
    "lpop": Books._take,
    "blpop": Books._take,
    "exec": Books._exec,
    "publish": Books._publish,
}
