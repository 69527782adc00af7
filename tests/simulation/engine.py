"""A model of what one PostgreSQL backend does with SQL: transactions, settings, statements.

Transactions are those of tests/unit/postgres/protocol/_backend.py, with the session's state on
top: settings and channels are undone by a rollback, prepared statements and advisory locks are not.
It knows the texts of the model clients and of the proxy, and no others: an unknown text is a bug.

Owns: the meaning of texts. Must not know: messages, time.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from proxy.postgres.protocol import fingerprint, restore
from tests.unit.postgres.protocol._backend import Backend

Row = tuple[bytes | None, ...]

REPORTED = {"application_name": "application_name", "timezone": "TimeZone"}
BUILT_IN = {
    "application_name": "",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "search_path": '"$user", public',
}
SERIES_PAD = b"." * 150


class UnknownText(Exception):
    """Neither a client of the simulation nor the proxy should send this."""


class SqlError(Exception):
    """The server's error, with its SQLSTATE."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass
class Result:
    """What one statement gave."""

    tag: str
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    copied: bool = False  # the rows go out as COPY's


@dataclass(frozen=True)
class Scope:
    """What a rollback undoes. `local`: for the transaction only."""

    settings: tuple[tuple[str, str], ...] = ()
    local: tuple[tuple[str, str], ...] = ()
    channels: tuple[str, ...] = ()
    temp: bool = False


@dataclass(frozen=True)
class Statement:
    """One statement, read: the letter of `_backend`, and what else it is about."""

    verb: str
    letter: str
    args: tuple[str, ...] = ()


_IDENT = r"([A-Za-z_]+(?:\.[a-z_]+)?)"
_FORMS: tuple[tuple[str, str, str], ...] = (  # pattern, verb, letter
    (r"SET SESSION AUTHORIZATION DEFAULT|RESET ROLE|CLOSE ALL|DISCARD SEQUENCES", "clean", "s"),
    (r"INSERT INTO ledger VALUES \('?(\d+)'?\)", "insert", "w"),
    (r"INSERT INTO fixed VALUES \(1\)", "duplicate", "e"),
    (r"SELECT note\('?(\d+)'?\)", "note", "f"),
    (r"SELECT id FROM ledger WHERE id = '?(\d+)'?", "look", "r"),
    (r"SELECT '([^']*)'(?:::text)?", "echo", "r"),
    (r"SELECT n FROM series WHERE run = '([^']*)' LIMIT (\d+)", "series", "r"),
    (r"COPY \(SELECT n FROM series WHERE run = '([^']*)' LIMIT (\d+)\) TO STDOUT", "copy out", "r"),
    (r"COPY ledger FROM STDIN", "copy in", "w"),
    (r"SELECT pg_sleep\((\d+)\)", "sleep", "r"),
    (r"BEGIN|START TRANSACTION|BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN", "B"),
    (r"BEGIN READ ONLY", "begin read only", "B"),
    (r"COMMIT", "COMMIT", "C"),
    (r"ROLLBACK", "ROLLBACK", "R"),
    (r"COMMIT AND CHAIN", "COMMIT", "c"),
    (r"ROLLBACK AND CHAIN", "ROLLBACK", "k"),
    (r"SAVEPOINT s", "SAVEPOINT", "p"),
    (r"ROLLBACK TO s", "ROLLBACK", "t"),
    (rf"SET {_IDENT} = '?([^']*?)'?", "set", "s"),
    (rf"SET LOCAL {_IDENT} = '?([^']*?)'?", "set local", "l"),
    (rf"SELECT set_config\('{_IDENT}', '([^']*)', false\)", "set_config", "s"),
    (rf"select pg_catalog.set_config\('{_IDENT}', '([^']*)', false\)", "set_config", "s"),
    (r"RESET ALL", "reset all", "s"),
    (rf"RESET {_IDENT}", "reset", "s"),
    (rf"SHOW {_IDENT}", "show", "r"),
    (r"PREPARE ([a-z0-9_]+) AS (.*)", "prepare", "s"),
    (r"EXECUTE ([a-z0-9_]+)", "execute", "r"),
    (r"DEALLOCATE ([a-z0-9_]+)", "deallocate", "s"),
    (r"DEALLOCATE ALL", "deallocate all", "s"),
    (r"DISCARD ALL", "discard all", "s"),
    (r"LISTEN \"?([a-z]+)\"?", "listen", "s"),
    (r"UNLISTEN \*", "unlisten", "s"),
    (r"NOTIFY news, '(\d+)'", "notify", "w"),
    (r"SELECT pg_notify\('news', '(\d+)'\)", "notify", "w"),
    (r"SELECT pg_advisory_lock\((\d+)\)", "lock", "r"),
    (r"SELECT (?:pg_catalog\.)?pg_advisory_unlock_all\(\)", "unlock all", "r"),
    (r"CREATE TEMP TABLE scratch \(\)", "temp", "s"),
    (r"DISCARD TEMP", "discard temp", "s"),
    (r"SELEC 1", "syntax", "r"),
    (r"SELECT 'lost with its link'::pg_catalog.int4", "invalid", "r"),
)
_PATTERNS = [(re.compile(f"(?:{pattern})\\Z"), verb, letter) for pattern, verb, letter in _FORMS]
OWN = {
    fingerprint._SQL.decode(): Statement("fingerprint", "r"),
    fingerprint._END_SQL.decode(): Statement("end orphan", "r"),
    fingerprint.IDENTITY_SQL.decode(): Statement("identity", "r"),
    restore._SET_CONFIG.decode(): Statement("set_config", "s"),
}
_read_cache: dict[str, Statement] = {}


def read(text: str) -> Statement:
    """The statement in a text without parameters. Raises UnknownText."""
    own = OWN.get(text)
    if own is not None:
        return own
    for pattern, verb, letter in _PATTERNS:
        found = pattern.match(text)
        if found is not None:
            return Statement(verb, letter, found.groups())
    raise UnknownText(text)


def split(text: str) -> list[str]:
    """The statements of a simple Query; none of ours has a semicolon inside."""
    if text in OWN:
        return [text]
    return [part.strip() for part in text.split(";") if part.strip()]


class Engine(Backend):
    """One backend's transactions and session state. `server`: has ledger, backends, facts."""

    def __init__(self, server: Any, startup: dict[str, str]) -> None:
        super().__init__(saved=server.ledger)
        self.server = server
        self.startup = startup
        self.scope = self.base = Scope()
        self.at_savepoint = Scope()
        self.sql_prepared: dict[str, tuple[str, str]] = {}  # name → (text, the whole Query)
        self.statements: dict[str, str] = {}
        self.locks = 0
        self._began_as_standby = server.standby  # nothing but a restart makes one
        self.told = self.roles()
        self.notes: set[int] = set()  # numbers that are notifications
        self.reported = {name: self.setting(name) for name in REPORTED}

    # -- transactions, with the session's state

    def save(self) -> None:
        news = [number for number, _ in self.pending if number in self.notes]
        super().save()
        self.scope = self.base = Scope(
            self.scope.settings, (), self.scope.channels, self.scope.temp
        )
        for number in news:
            self.server.publish(number)

    def drop(self) -> None:
        super().drop()
        self.scope = self.base

    def fail(self) -> None:
        super().fail()
        if self.status == "E" and self.mark is None:
            self.scope = self.base

    def _control(self, letter: str) -> bool:
        refused = super()._control(letter)
        if not refused and letter == "p":
            self.at_savepoint = self.scope
        elif not refused and letter == "t":
            self.scope = self.at_savepoint
        return refused

    # -- settings

    def setting(self, name: str) -> str | None:
        """What SHOW says."""
        for where in (self.scope.local, self.scope.settings):
            for key, value in where:
                if key == name:
                    return value
        return self.startup.get(name, BUILT_IN.get(name))

    def changed_reports(self) -> list[tuple[str, str]]:
        """Reported settings whose value is another than the client knows."""
        out = []
        for name, shown in REPORTED.items():
            value = self.setting(name) or ""
            if self.reported[name] != value:
                self.reported[name] = value
                out.append((shown, value))
        roles = self.roles()
        out += [pair for pair in roles.items() if self.told[pair[0]] != pair[1]]
        self.told = roles
        return out

    @property
    def is_standby(self) -> bool:
        """Its host is in recovery, and not in its last moments before that."""
        return bool(self._began_as_standby and self.server.standby)

    def roles(self) -> dict[str, str]:
        """What its host says of itself."""
        standby = "on" if self.is_standby else "off"
        turned = "on" if self.server.turned else "off"
        return {"in_hot_standby": standby, "default_transaction_read_only": turned}

    def _begins(self) -> None:
        """Before a statement: a transaction that begins with it takes its host's role."""
        if self.status == "I" and not self.implicit:
            self.read_only = self.server.read_only

    def _set(self, name: str, value: str | None, local: bool = False) -> None:
        if name not in BUILT_IN and "." not in name:
            raise UnknownText(f"setting {name}")
        scope = self.scope
        kept = tuple((k, v) for k, v in scope.settings if k != name)
        locals_ = tuple((k, v) for k, v in scope.local if k != name)
        if local:
            if self.status == "T" and value is not None:
                locals_ = (*locals_, (name, value))
            kept = scope.settings
        elif value is not None:
            kept = (*kept, (name, value))
        self.scope = Scope(kept, locals_, scope.channels, scope.temp)

    # -- statements

    def run_one(self, statement: Statement, crowded: bool, text: str) -> Result:
        """Run it. Raises SqlError; then `fail` is to be called."""
        resolved = statement
        if statement.verb == "execute" and self.status != "E":
            resolved = read(self._prepared(statement.args[0]))
        write = (int(resolved.args[0]), 0) if resolved.letter in "wf" else (0, 0)
        self._begins()
        if statement.verb == "BEGIN" and self.status != "T":
            self.read_only = self.server.read_only
        quiet = resolved.verb == "notify"  # a read-only transaction may do it
        if self.one("s" if quiet else resolved.letter, write, crowded):
            raise self._error(resolved)
        if statement.verb == "begin read only":
            self.read_only = True
        if self.status == "I":
            self.read_only = False
        return self._result(resolved, text)

    def copy_begins(self) -> None:
        """COPY FROM STDIN is to run. Raises SqlError."""
        if self.status == "E":
            raise SqlError("25P02", "current transaction is aborted")
        self._begins()
        if self.read_only:
            raise SqlError("25006", "cannot execute COPY FROM in a read-only transaction")
        self.implicit = self.status == "I"

    def copied(self, ids: list[int]) -> Result:
        """It has got these rows."""
        self.pending += [(number, 0) for number in ids]
        return Result(f"COPY {len(ids)}")

    def check(self, statement: Statement) -> None:
        """What Parse finds out. Raises SqlError."""
        if statement.verb == "syntax":
            raise SqlError("42601", 'syntax error at or near "SELEC"')
        if self.status == "E" and statement.letter not in "CRcktP":
            raise SqlError("25P02", "current transaction is aborted")
        if statement.verb == "invalid":
            raise SqlError("22P02", "invalid input syntax for type integer")
        if statement.verb == "execute":
            self._prepared(statement.args[0])

    def _prepared(self, name: str) -> str:
        if name not in self.sql_prepared:
            raise SqlError("26000", f'prepared statement "{name}" does not exist')
        return self.sql_prepared[name][0]

    def _error(self, statement: Statement) -> SqlError:
        if self.status == "E" and statement.letter not in "ckpt":
            return SqlError("25P02", "current transaction is aborted")
        if statement.verb == "duplicate":
            return SqlError("23505", "duplicate key value violates unique constraint")
        if self.read_only and statement.letter in "wf":
            return SqlError("25006", "cannot execute INSERT in a read-only transaction")
        if statement.letter == "t" and self.status != "I":
            return SqlError("3B001", 'savepoint "s" does not exist')
        return SqlError("25P01", "there is no transaction in progress")

    def _result(self, statement: Statement, text: str) -> Result:
        args = statement.args
        match statement.verb:
            case "BEGIN" | "begin read only":
                return Result("BEGIN")
            case "COMMIT" | "ROLLBACK" | "SAVEPOINT":
                rolled = self.tag == "R" or statement.verb == "ROLLBACK"
                return Result("ROLLBACK" if rolled else statement.verb)
            case "insert":
                return Result("INSERT 0 1")
            case "note" | "echo" | "sleep":
                return Result("SELECT 1", ("v",), [(args[0].encode(),)])
            case "notify":
                self.notes.add(int(args[0]))
                self.pending.append((int(args[0]), 0))
                called = text.startswith("SELECT")
                return Result(*(("SELECT 1", ("v",), [(b"",)]) if called else ("NOTIFY",)))
            case "look":
                sought = (int(args[0]), 0)
                found = sought in self.saved or sought in self.pending
                rows: list[Row] = [(args[0].encode(),)] if found else []
                return Result(f"SELECT {len(rows)}", ("id",), rows)
            case "series" | "copy out":
                run, count = args[0].encode(), int(args[1])
                rows = [(b"%s:%d" % (run, n) + SERIES_PAD,) for n in range(count)]
                copied = statement.verb == "copy out"
                tag = "COPY" if copied else "SELECT"
                return Result(f"{tag} {count}", () if copied else ("n",), rows, copied)
            case "show":
                return self._show(args[0])
            case "identity":
                return Result("SELECT 1", ("v",) * 6, [self.server.identity(self)])
            case "fingerprint":
                return Result("SELECT 1", ("k", "n", "v"), self._fingerprint(args))
            case "end orphan":
                found = self.server.end(int(args[0]), args[1])
                return Result("SELECT 1", ("v",), [(b"t",)] if found else [])
            case _:
                return self._session(statement, text)

    def _show(self, name: str) -> Result:
        value = self.setting(name.lower())
        if value is None:
            raise SqlError("42704", f'unrecognized configuration parameter "{name}"')
        return Result("SHOW", (name,), [(value.encode(),)])

    def _session(self, statement: Statement, text: str) -> Result:
        """Statements about the session itself."""
        args, scope = statement.args, self.scope
        tag, rows = "SET", []
        match statement.verb:
            case "set" | "set local":
                self._set(args[0].lower(), args[1], statement.verb == "set local")
            case "set_config":
                self._set(args[0].lower(), args[1])
                return Result("SELECT 1", ("set_config",), [(args[1].encode(),)])
            case "reset":
                tag = "RESET"
                self._set(args[0].lower(), None)
            case "reset all":
                tag = "RESET"
                self.scope = Scope((), (), scope.channels, scope.temp)
            case "prepare":
                tag = "PREPARE"
                if args[0] in self.sql_prepared:
                    raise SqlError("42P05", "prepared statement already exists")
                self.sql_prepared[args[0]] = (args[1], text)
            case "deallocate":
                tag = "DEALLOCATE"
                self._prepared(args[0])
                del self.sql_prepared[args[0]]
            case "deallocate all":
                tag = "DEALLOCATE ALL"
                self.sql_prepared.clear()
                self.statements.clear()
            case "discard all":
                tag = "DISCARD ALL"
                self.sql_prepared.clear()
                self.statements.clear()
                self.locks = 0
                self.scope = Scope()
            case "listen":
                tag = "LISTEN"
                channels = (*(c for c in scope.channels if c != args[0]), args[0])
                self.scope = Scope(scope.settings, scope.local, channels, scope.temp)
            case "unlisten":
                tag = "UNLISTEN"
                self.scope = Scope(scope.settings, scope.local, (), scope.temp)
            case "lock":
                self.locks += 1
                tag, rows = "SELECT 1", [(b"",)]
            case "unlock all":
                self.locks = 0
                tag, rows = "SELECT 1", [(b"",)]
            case "temp" | "discard temp":
                temp = statement.verb == "temp"
                tag = "CREATE TABLE" if temp else "DISCARD TEMP"
                self.scope = Scope(scope.settings, scope.local, scope.channels, temp)
            case "clean":
                tag = text.split()[0]
            case verb:
                raise UnknownText(verb)
        return Result(tag, ("v",) if rows else (), list(rows))

    def _fingerprint(self, names: tuple[str, ...]) -> list[Row]:
        """What `fingerprint._SQL` asks for."""
        scope = self.scope
        rows: list[tuple[str, str, str | None]] = [
            ("t", "", "3" if scope.temp else "0"),
            ("a", "", str(self.locks)),
            ("r", "", "none"),
            ("u", "", self.startup["user"]),
        ]
        rows += [("c", channel, "") for channel in scope.channels]
        rows += [("p", name, whole) for name, (_, whole) in self.sql_prepared.items()]
        session = dict((*scope.settings, *scope.local))
        rows += [("s", n, v) for n, v in session.items() if n in BUILT_IN]
        rows += [("g", name, self.setting(name)) for name in names]
        return [(k.encode(), n.encode(), None if v is None else v.encode()) for k, n, v in rows]
