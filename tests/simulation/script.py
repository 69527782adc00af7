"""What model clients send: statements with unique marks, in every form of the protocol.

Owns: texts, bytes, chance. Must not know: answers (`belief`), connections (`client`).
"""

import random
from dataclasses import dataclass, field

from proxy.postgres.protocol import messages

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
        return self.verb in ("insert", "note")


@dataclass
class Unit:
    """What is answered by one ReadyForQuery."""

    number: int
    query: bool
    items: list[Item]
    wire: bytes = b""
    sent_s: float = 0.0
    got: list[tuple[str, bytes]] = field(default_factory=list)

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


class Numbers:
    """1, 2, 3…: one for all of a run."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last


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
    "sleep": "SELECT pg_sleep(1)",
    "long sleep": "SELECT pg_sleep(20)",
}
