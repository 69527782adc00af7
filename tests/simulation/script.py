"""What model clients send: statements with unique marks, in every form of the protocol.

Owns: texts, bytes, chance. Must not know: answers (`belief`), connections (`client`).
"""

import random
from dataclasses import dataclass, field

from proxy.postgres.protocol import messages

WRITES = ("insert", "note", "notify", "copy in", "copy fail", "copy bad")
SETTINGS = ("application_name", "TimeZone", "extra_float_digits", "search_path", "app.tenant")


@dataclass
class Item:
    """One statement. `rows`: what a SELECT must give, None: not known beforehand."""

    verb: str
    sql: str
    arg: str = ""
    value: str = ""
    rows: list[bytes] | None = None
    bind: bytes | None = None  # the parameter of $1
    name: str = ""  # of the protocol's prepared statement
    parse: bool = True

    @property
    def writes(self) -> bool:
        return self.verb in WRITES

    @property
    def ids(self) -> list[int]:
        """What it writes."""
        return [int(number) for number in self.arg.split(",") if number] if self.writes else []


@dataclass
class Step:
    """A part of a unit that is sent when so many messages of these kinds have come."""

    wire: bytes
    kinds: str
    count: int


@dataclass
class Unit:
    """What is answered by one ReadyForQuery.

    `wire` is sent at once, `steps` as the answers come, `last` behind them, also if they end in an
    error; `last_if_copying`: only if CopyInResponse has come.
    """

    number: int
    query: bool
    items: list[Item]
    wire: bytes = b""
    sent_s: float = 0.0  # by the clock that a PAUSE stops
    at_s: float = 0.0  # by the loop's
    got: list[tuple[str, bytes]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    last: bytes = b""
    last_if_copying: bool = False
    ended: bool = True  # its last byte has been sent, and it is not one that undoes all
    done: bool = False  # its answer is whole

    @property
    def may_last(self) -> bool:
        """False if what it writes is not for good even where it has been sent whole."""
        return self.items[0].verb != "copy fail"

    def count(self, kinds: str) -> int:
        """How many messages of these kinds have come."""
        return sum(kind in kinds for kind, _ in self.got)

    @property
    def text(self) -> str:
        """For people."""
        form = "Query" if self.query else "batch"
        return f"#{self.number} {form} " + "; ".join(item.sql for item in self.items)


class Author:
    """Makes the units of one client, from what the client believes of its session."""

    def __init__(self, rng: random.Random, client: str, numbers: "Numbers") -> None:
        self.rng, self.client, self.numbers = rng, client, numbers
        self.taste = rng.choice(("simple", "extended", "both"))
        self.special = rng.random() < 0.15  # pins its session now and then

    def mark(self) -> str:
        """A text that nobody else has."""
        return f"{self.client}-{self.numbers.next()}"

    # -- statements

    def echo(self) -> Item:
        mark = self.mark()
        return Item("echo", f"SELECT '{mark}'", mark, rows=[mark.encode()])

    def insert(self) -> Item:
        number = str(self.numbers.next())
        return Item("insert", f"INSERT INTO ledger VALUES ({number})", number)

    def note(self) -> Item:
        number = str(self.numbers.next())
        return Item("note", f"SELECT note({number})", number, rows=[number.encode()])

    def notify(self) -> Item:
        number = str(self.numbers.next())
        if self.rng.random() < 0.3:
            return Item("notify", f"SELECT pg_notify('news', '{number}')", number, rows=[b""])
        return Item("notify", f"NOTIFY news, '{number}'", number)

    def series(self) -> Item:
        mark = self.mark()
        count = self.rng.choice((0, 3, 20, 200, 600))
        rows = [b"%s:%d" % (mark.encode(), n) + b"." * 150 for n in range(count)]
        sql = f"SELECT n FROM series WHERE run = '{mark}' LIMIT {count}"
        return Item("series", sql, mark, rows=rows)

    def set(self, local: bool = False) -> Item:
        name = self.rng.choice(SETTINGS)
        value = str(self.rng.randrange(3)) if "digits" in name else f"v{self.rng.randrange(50)}"
        verb = "set local" if local else "set"
        return Item(verb, f"{verb.upper()} {name} = '{value}'", name, value)

    def show(self, names: list[str]) -> Item:
        name = self.rng.choice(names)
        return Item("show", f"SHOW {name}", name)

    def plain(self, verb: str) -> Item:
        """A statement without anything of its own."""
        return Item(verb, _PLAIN[verb])

    # -- units in parts

    def copy_in(self) -> Unit:
        """COPY FROM STDIN: its rows are sent when the server wants them, or blindly."""
        rng = self.rng
        count = rng.choice((0, 1, 3, 30))
        ids = [str(self.numbers.next()) for _ in range(count)]
        verb = rng.choice(("copy in", "copy in", "copy in", "copy fail", "copy bad"))
        unit = self._copying(Item(verb, "COPY ledger FROM STDIN", ",".join(ids)))
        text = "".join(f"{one}\n" for one in ids).encode()
        if verb == "copy bad":
            text += b"bad\n"
        end = messages.copy_fail("no more") if verb == "copy fail" else messages.copy_done()
        rows = [messages.copy_data(part) for part in self._cut(text)]
        if rng.random() < 0.25 and (unit.query or unit.steps):  # blindly
            unit.wire = unit.wire.removesuffix(messages.flush()) + b"".join(rows) + end + unit.last
            unit.steps, unit.last = [], b""
            return unit
        unit.steps = [Step(part, "G", 1) for part in (*rows, end)]
        unit.ended = False
        return unit

    def _copying(self, item: Item) -> Unit:
        """The unit of a COPY, in one of its three forms; `steps`: it waits at a Flush."""
        unit = self.unit([item])
        if not unit.query:
            unit.last = messages.sync()
            unit.last_if_copying = self.rng.random() < 0.5  # the Sync behind Execute is one more
            if not unit.last_if_copying:
                unit.wire = unit.wire.removesuffix(messages.sync()) + messages.flush()
                unit.steps = [Step(b"", "G", 1)]
        return unit

    def _cut(self, text: bytes) -> list[bytes]:
        """Rows in pieces, not always whole ones."""
        pieces = []
        while text:
            size = self.rng.randrange(1, 40)
            pieces.append(text[:size])
            text = text[size:]
        return pieces

    def copy_out(self) -> Unit:
        series = self.series()
        assert series.rows is not None
        rows = [row + b"\n" for row in series.rows]
        return self.unit([Item("copy out", f"COPY ({series.sql}) TO STDOUT", "", rows=rows)])

    def flushed(self, items: list[Item]) -> Unit:
        """A batch whose client reads what it has prepared, and each answer, before it goes on."""
        unit = Unit(self.numbers.next(), False, items, ended=False)
        described = self.rng.random() < 0.5
        parts = []
        for number, item in enumerate(items, 1):
            message = self._extended(item)
            if described and not item.name:
                parse, rest = _after_first(message)
                about = parse + messages.describe(b"S", "") + messages.flush()
                parts += [Step(about, "C", number - 1), Step(rest, "t", number)]
            else:
                parts.append(Step(message, "C", number - 1))
            parts[-1].wire += messages.flush()
        unit.wire, unit.steps, unit.last = parts[0].wire, parts[1:], messages.sync()
        return unit

    # -- units

    def unit(self, items: list[Item], query: bool | None = None) -> Unit:
        """A unit of these, as a Query or a batch."""
        rng = self.rng
        if query is None:
            query = self.taste == "simple" or (self.taste == "both" and rng.random() < 0.5)
        if any(item.name for item in items):
            query = False
        unit = Unit(self.numbers.next(), query, items)
        if query:
            unit.wire = messages.query("; ".join(item.sql for item in items))
        else:
            unit.wire = b"".join(self._extended(item) for item in items) + messages.sync()
        return unit

    def _extended(self, item: Item) -> bytes:
        params: list[bytes] = []
        sql = item.sql
        if item.verb in ("echo", "insert") and not item.name and self.rng.random() < 0.5:
            quoted = f"'{item.arg}'" if item.verb == "echo" else f"({item.arg})"
            sql = sql.replace(quoted, "$1::text" if item.verb == "echo" else "($1)")
            params = [item.arg.encode()]
        if item.bind is not None:
            params = [item.bind]
        out = messages.parse(item.name, sql) if item.parse else b""
        out += messages.bind("", item.name, params)
        if self.rng.random() < 0.7:
            out += messages.describe(b"P", "")
        return out + messages.execute("")


def _after_first(wire: bytes) -> tuple[bytes, bytes]:
    """The first message, and the rest."""
    size = 1 + int.from_bytes(wire[1:5], "big")
    return wire[:size], wire[size:]


class Numbers:
    """1, 2, 3…: one for all of a run."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        self.last += 1
        return self.last


_PLAIN = {
    "begin": "BEGIN",
    "commit": "COMMIT",
    "rollback": "ROLLBACK",
    "commit chain": "COMMIT AND CHAIN",
    "rollback chain": "ROLLBACK AND CHAIN",
    "savepoint": "SAVEPOINT s",
    "rollback to": "ROLLBACK TO s",
    "duplicate": "INSERT INTO fixed VALUES (1)",
    "syntax": "SELEC 1",
    "reset all": "RESET ALL",
    "discard all": "DISCARD ALL",
    "deallocate all": "DEALLOCATE ALL",
    "lock": "SELECT pg_advisory_lock(7)",
    "temp": "CREATE TEMP TABLE scratch ()",
    "listen": "LISTEN news",
    "unlisten": "UNLISTEN *",
    "sleep": "SELECT pg_sleep(1)",
    "long sleep": "SELECT pg_sleep(20)",
}
