"""What a client may believe of its session and its writes, and what it may be told.

Each unit's answer is read against what the client knows. A contradiction is a `Wrong`. What was
acknowledged, denied or left open is written into the books, which are compared with the server's
ledger at the end of a run.

Owns: the oracle. Must not know: the proxy, the network.
"""

from dataclasses import dataclass, field

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.verdict import ATTEMPTS_MAX
from tests.simulation.script import Item, Unit

DOUBT, ROLLED, BROKEN, FAILED, CANCELLED = "08007", "40001", "08006", "25P02", "57014"
READ_ONLY = "25006"
OWN_ERRORS = {
    "duplicate": "23505",
    "syntax": "42601",
    "rollback to": "3B001",
    "copy fail": "57014",
    "copy bad": "22P02",
}
CONTROL = frozenset(
    ("begin", "commit", "rollback", "commit chain", "rollback chain", "savepoint", "rollback to")
)
ENDS = frozenset(("commit", "rollback", "commit chain", "rollback chain"))
BUILT_IN = {"TimeZone": "UTC", "extra_float_digits": "1", "search_path": '"$user", public'}
PINS = ("lock", "temp", "listen")


class Wrong(Exception):
    """The client was told what is not so, or what it must not be told."""


@dataclass
class Books:
    """Ids of writes by what was said of them."""

    acked: set[int] = field(default_factory=set)
    denied: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)

    def problems(self, ledger: list[tuple[int, int]]) -> list[str]:
        """Where the ledger is not as the clients were told."""
        stored = [number for number, _ in ledger]
        once = set(stored)
        out = []
        if len(once) != len(stored):
            twice = sorted(number for number in once if stored.count(number) > 1)
            out.append(f"written twice: {twice}")
        if self.acked - once:
            out.append(f"acknowledged and not stored: {sorted(self.acked - once)}")
        if self.denied & once:
            out.append(f"denied and stored: {sorted(self.denied & once)}")
        strangers = once - self.acked - self.denied - self.unsure
        if strangers:
            out.append(f"stored, and nobody was told anything: {sorted(strangers)}")
        return out


@dataclass
class Circumstances:
    """What may excuse an error: has anything broken yet, was this unit cancelled."""

    faults: int
    losses: int  # of links, in the whole run
    cancelled: bool
    turns: int  # of hosts that were reached all the while, to read-only
    number: int  # the last one given to anything
    pipelined_commit: bool  # a COMMIT was sent behind this unit before its answer came


class Belief:
    """One session, as its client sees it."""

    def __init__(self, books: Books, startup: dict[str, str]) -> None:
        self.books = books
        self.defaults = {**BUILT_IN, "application_name": startup.get("application_name", "")}
        self.status = "I"
        self.base: dict[str, str] = {}  # settings outside of the open transaction
        self.now: dict[str, str] = {}
        self.local: dict[str, str] = {}
        self.unknown: set[str] = set()  # settings
        self.sql_prepared: dict[str, str] = {}
        self.named: dict[str, Item] = {}
        self.open_ids: list[int] = []  # written in the open transaction
        self.doubted = False  # a COMMIT of the open transaction may have run
        self.pins: set[str] = set()
        self.functions = False
        self._point: tuple[int, dict[str, str], dict[str, str]] | None = None
        self._met = (0, 0)  # turns of hosts when it met a read-only one at rest, and which number
        self._mine: list[int] = []  # of the unit that is read, outside of a transaction

    def settings_known(self) -> list[str]:
        """Names whose value the client knows."""
        return [name for name in (*self.defaults, *self.now) if name not in self.unknown]

    # -- reading an answer

    def read(self, unit: Unit, status: str, about: Circumstances) -> None:
        """The unit's answer is whole. Raises Wrong."""
        before, pins = self.status, set(self.pins)
        self._mine = []
        at, error = self._results(unit)
        if error is None and at < len(unit.items):
            raise Wrong(f"{unit.text}: only {at} of {len(unit.items)} answers")
        if error is not None:
            self._refused(unit, at, error, about)
            self.pins |= pins  # an UNLISTEN is undone, or may be
        self._ends(unit, before, status, error)
        self.status = status

    def _results(self, unit: Unit) -> tuple[int, str | None]:
        """Takes in what ran; returns how many statements did, and the SQLSTATE of an error."""
        at, rows = 0, []
        for kind, body in unit.got:
            if kind == "E":
                return at, messages.error_fields(body)["C"]
            if kind in "Dd":
                rows.append(body if kind == "d" else messages.data_row(body)[0] or b"")
                self._row(unit, at, rows)
            elif kind == "1":
                self._parsed(unit, at)
            elif kind == "C":
                if at >= len(unit.items):
                    raise Wrong(f"{unit.text}: more answers than statements")
                self._ran(unit, unit.items[at], body[:-1].decode(), rows)
                at, rows = at + 1, []
            elif kind not in "2tTnIGHc":
                raise Wrong(f"{unit.text}: unexpected message {kind}")
        return at, None

    def _row(self, unit: Unit, at: int, rows: list[bytes]) -> None:
        expected = unit.items[at].rows if at < len(unit.items) else []
        if expected is not None and rows[-1:] != expected[len(rows) - 1 : len(rows)]:
            raise Wrong(f"{unit.text}: row {rows[-1][:60]!r} is not of this answer")

    def _parsed(self, unit: Unit, at: int) -> None:
        if unit.query or at >= len(unit.items) or not unit.items[at].parse:
            raise Wrong(f"{unit.text}: a ParseComplete that nobody asked for")
        item = unit.items[at]
        if item.name:
            self.named[item.name] = item

    def _ran(self, unit: Unit, item: Item, tag: str, rows: list[bytes]) -> None:
        if self.status == "E" and item.verb not in ENDS and item.verb != "rollback to":
            raise Wrong(f"{unit.text}: ran in a failed transaction")
        if item.rows is not None and rows != item.rows:
            raise Wrong(f"{unit.text}: {len(rows)} of {len(item.rows)} rows")
        match item.verb:
            case "copy fail" | "copy bad":
                raise Wrong(f"{unit.text}: went well")
            case "insert" | "note" | "copy in" | "notify":
                self.functions = self.functions or item.verb == "note"
                ids = self.open_ids if self.status == "T" else self._mine
                ids += item.ids
            case "show":
                self._shown(unit, item, rows)
            case "set" | "set local":
                self._set(item)
            case verb if verb in CONTROL:
                self._control(item.verb, tag)
            case _:
                self._session(item)

    def _shown(self, unit: Unit, item: Item, rows: list[bytes]) -> None:
        if item.arg in self.unknown:
            return
        value = self.local.get(item.arg, self.now.get(item.arg, self.defaults.get(item.arg)))
        if [row.decode() for row in rows] != [value]:
            raise Wrong(f"{unit.text}: {rows[0].decode()!r} instead of {value!r}")

    def _set(self, item: Item) -> None:
        if item.verb == "set local":
            if self.status == "T":
                self.local[item.arg] = item.value
            return
        self.local.pop(item.arg, None)
        self.now[item.arg] = item.value
        self.unknown.discard(item.arg)

    def _session(self, item: Item) -> None:
        match item.verb:
            case "prepare":
                self.sql_prepared[item.arg] = item.value
            case "deallocate":
                self.sql_prepared.pop(item.arg, None)
            case "deallocate all":
                self.sql_prepared.clear()
                self.named.clear()
            case "reset all":
                self.now, self.local = {}, {}
                self.unknown.clear()
            case "discard all":
                self.sql_prepared.clear()
                self.named.clear()
                self.now, self.local = {}, {}
                self.unknown.clear()
                self.pins.clear()
            case "unlisten":
                self.pins.discard("listen")
            case verb if verb in PINS:
                self.pins.add(verb)

    # -- transactions

    def _control(self, verb: str, tag: str) -> None:
        if verb == "begin":
            if self.status == "I":
                self.base = dict(self.now)
                self.open_ids, self._mine = self._mine, []
                self.doubted, self._point = False, None
            self.status = "T"
        elif verb == "savepoint":
            self._point = (len(self.open_ids), dict(self.now), dict(self.local))
        elif verb == "rollback to":
            assert self._point is not None
            count, now, local = self._point
            self.books.denied.update(self.open_ids[count:])
            del self.open_ids[count:]
            self.now, self.local, self.status = dict(now), dict(local), "T"
        elif self.status != "I" or "chain" in verb:
            saved = tag == "COMMIT"
            if saved and (verb.startswith("rollback") or self.status == "E"):
                raise Wrong(f"{verb} answered {tag} in status {self.status}")
            self._over(self.books.acked if saved else self.books.denied, saved)
            self.status = "T" if "chain" in verb else "I"

    def _over(self, ids: set[int], saved: bool) -> None:
        """The open transaction has ended."""
        target = self.books.unsure if self.doubted and not saved else ids
        target.update(self.open_ids)
        if not saved:
            if self.doubted:
                changed = {n for n in {**self.now, **self.base} if self._differs(n)}
                self.unknown |= changed
            self.now = dict(self.base)
        self.open_ids, self.local = [], {}
        self.base = dict(self.now)
        self.doubted, self._point = False, None

    def _differs(self, name: str) -> bool:
        return self.now.get(name) != self.base.get(name)

    # -- errors

    def _refused(self, unit: Unit, at: int, code: str, about: Circumstances) -> None:
        rest = unit.items[at:]
        if not self._may(unit, rest, code, about):
            raise Wrong(f"{unit.text}: {code} in status {self.status} (faults: {about.faults})")
        doubt = code == DOUBT
        ids = [number for item in rest for number in item.ids] + self._mine
        (self.books.unsure if doubt else self.books.denied).update(ids)
        self._mine = []
        if doubt:
            self.doubted = True
            self.unknown.update(item.arg for item in unit.items if item.verb == "set")
            if any(item.verb in ("reset all", "discard all") for item in unit.items):
                self.unknown.update((*self.defaults, *self.now))
        for item in unit.items if doubt else rest:
            self._forget(item)
        if self.status == "I":
            self.now = dict(self.base)

    def _forget(self, item: Item) -> None:
        """It failed: what it may have left behind is not used again."""
        if item.verb in ("prepare", "deallocate"):
            self.sql_prepared.pop(item.arg, None)
        elif item.verb in ("deallocate all", "discard all"):
            self.sql_prepared.clear()
            self.named.clear()
        elif item.verb in PINS:
            self.pins.add(item.verb)

    def _may(self, unit: Unit, rest: list[Item], code: str, about: Circumstances) -> bool:
        """The table: may this unit be answered with this error?"""
        if code == FAILED:
            return self.status == "E"
        if rest and code == OWN_ERRORS.get(rest[0].verb):
            return True
        if code in ("25P01",):
            return self.status == "I" and bool(rest) and rest[0].verb in CONTROL
        if code == READ_ONLY:
            return self._met_read_only(unit, rest, about)
        if code == CANCELLED:
            return about.cancelled
        if not about.faults:
            return False
        if code == DOUBT and not unit.ended and self.status == "I":
            return False  # it cannot have been saved: its end has not been sent
        alone = self.status == "I" and len(unit.items) == 1
        verb = unit.items[0].verb
        if about.losses >= ATTEMPTS_MAX and code in (ROLLED, BROKEN):
            return True  # it may have been sent as often as it may be
        if code == ROLLED:
            return (
                not alone
                or unit.items[0].writes
                or verb in ("duplicate", "execute")
                or verb in CONTROL
            )
        if code == DOUBT:
            commits = any(item.verb in ENDS for item in unit.items)
            if self.status != "I" or commits:
                unread = verb == "syntax"  # the proxy cannot know what it would have done
                return commits or unread or about.pipelined_commit or len(unit.items) > 1
            begun = bool(unit.got)  # its answer broke off
            return begun or not alone or unit.items[0].writes or verb in _DOUBTFUL
        if code == BROKEN:
            return any(kind in "DTC12tnHd" for kind, _ in unit.got)
        return False

    def _met_read_only(self, unit: Unit, rest: list[Item], about: Circumstances) -> bool:
        """A host that has turned read-only says so once; then it is left, if it can be."""
        turns, number = self._met
        again = turns == about.turns and unit.number > number
        again = again and not (self.pins or self.functions)
        if self.status == "I":
            self._met = about.turns, about.number
        return bool(about.turns and rest and rest[0].writes) and not again

    def _ends(self, unit: Unit, before: str, status: str, error: str | None) -> None:
        """ReadyForQuery: is its status possible, and what does it mean."""
        if error is None:
            if status != self.status:
                raise Wrong(f"{unit.text}: ends in {status}, not in {self.status}")
            if status == "I":
                self.books.acked.update(self._mine)
                self.base = dict(self.now)
                self.local = {}
            return
        allowed = {"I": "I", "T": "E", "E": "E"}[self.status]
        if any(item.verb in CONTROL for item in unit.items):
            allowed = "IE"
        if status not in allowed:
            raise Wrong(f"{unit.text}: {error} leaves {status} behind {before}")
        if status == "I":
            self._over(self.books.denied, False)

    # -- the end of the session

    def abandon(self, owed: list[Unit], unrun: bool) -> None:
        """The session has ended; these had no answer. `unrun`: it was told that none has run."""
        commits = not unrun and any(item.verb in ENDS for unit in owed for item in unit.items)
        for unit in owed:
            ids = self.books.unsure if unit.ended and not unrun else self.books.denied
            ids.update(number for item in unit.items for number in item.ids)
        doubtful = commits or self.doubted
        (self.books.unsure if doubtful else self.books.denied).update(self.open_ids)
        self.open_ids = []


_DOUBTFUL = (
    "execute",
    "syntax",
    "discard all",
    "lock",
    "temp",
    "listen",
    "duplicate",
    "deallocate all",
)
