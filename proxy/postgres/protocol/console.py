"""A conversation with the admin console: messages in, answers and wishes out. No I/O.

`handle` is a generator for one message of the client. It yields bytes, which are to be sent, and
needs (`NeedFacts`, `NeedAct`, `NeedClosed`), which are to be met: what was asked for is sent into
the generator, or a ConsoleError thrown. Both the simple and the extended protocol are spoken, with
results in text or binary, so that every driver can read the console.

Owns: prepared statements and portals, the transaction a driver believes to be in, who may do what.
Source: PostgreSQL documentation, "Message Flow"; PgBouncer, usage page, "Admin console".
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.core.errors import PeerProtocolError
from proxy.core.operator import Act, Outcome
from proxy.postgres.protocol import console_answers as answers
from proxy.postgres.protocol import console_bind as binding
from proxy.postgres.protocol import console_catalog as catalog
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.console_answers import Myself
from proxy.postgres.protocol.console_bind import Portal, Prepared
from proxy.postgres.protocol.console_command import (
    Command,
    ConsoleError,
    Verb,
    Word,
    parse,
)
from proxy.postgres.protocol.console_help import HELP
from proxy.postgres.protocol.console_show import Facts
from proxy.postgres.protocol.console_table import data_rows, row_description, slices
from proxy.postgres.protocol.messages import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION

STATEMENTS_MAX = 128
"""Prepared statements, and as many portals, of one session: drivers keep up to 100."""

MESSAGE_BYTES_MAX = 16 * 1024
"""One message of a client; a command has a few words, a driver's look-up in the catalog 4 KiB."""


class Role(StrEnum):
    """What a user of the console may do."""

    ADMIN = "admin"  # everything
    STATS = "stats"  # SHOW


@dataclass(frozen=True, slots=True)
class NeedFacts:
    """Send a Facts in. `detail`: with every client and link, which is dear."""

    detail: bool = False


@dataclass(frozen=True, slots=True)
class NeedAct:
    """Do it, and send the Outcome in. `route` None: all."""

    act: Act
    route: str | None
    number: int = 0


@dataclass(frozen=True, slots=True)
class NeedClosed:
    """Send None in when no link of the route (None: of any) waits to be replaced."""

    route: str | None


Need = NeedFacts | NeedAct | NeedClosed
Answer = Facts | Outcome | None
Steps = Generator[bytes | Need, Answer, None]


@dataclass(slots=True)
class Conversation:
    """One client's time at the console."""

    me: Myself
    role: Role
    status: int = STATUS_IDLE
    over: bool = False  # the client has said good-bye
    _skipping: bool = False  # an error in the extended protocol: nothing counts until Sync
    _prepared: dict[bytes, Prepared] = field(default_factory=dict)
    _portals: dict[bytes, Portal] = field(default_factory=dict)

    def handle(self, kind: int, body: bytes) -> Steps:
        """See the module. Raises PeerProtocolError on what no client sends: end the session."""
        letter = chr(kind)
        if letter == "X":
            self.over = True
        elif letter == "S":
            self._skipping = False
            if self.status == STATUS_IDLE:
                self._portals.clear()
            yield messages.ready_for_query(self.status)
        elif letter in _EXTENDED:
            if not self._skipping:
                yield from self._extended(letter, body)
        elif letter in "QF":
            self._skipping = False
            yield from self._simple(letter, body)
        elif letter not in "dcfH":  # COPY that nobody asked for is ignored, as the server does
            raise PeerProtocolError(f"invalid frontend message type {kind}")

    # -- the simple protocol

    def _simple(self, letter: str, body: bytes) -> Steps:
        try:
            if letter == "F":
                raise ConsoleError("0A000", "the console has no functions to call")
            text, end = messages.cstring(body)
            if end != len(body):
                raise PeerProtocolError("invalid message format")
            commands = parse(text)
            if not commands:
                yield messages.empty_query()
            for command in commands:
                yield from self._whole(command)
        except ConsoleError as error:
            yield self._failed(error)
        yield messages.ready_for_query(self.status)

    def _whole(self, command: Command) -> Steps:
        """One command of a Query: its description, rows and tag."""
        if command.parameters:
            raise ConsoleError("42P02", "there is no parameter $1")
        portal = Portal(command)
        described = catalog.columns(command, self.me)
        if described is not None:
            portal.formats = [0] * len(described)
        yield from self._run(portal)
        if portal.table is not None:
            yield row_description(portal.table.columns, portal.formats)
            yield from slices(portal.table, portal.formats)
        yield messages.command_complete(portal.tag)

    # -- the extended protocol

    def _extended(self, letter: str, body: bytes) -> Steps:
        try:
            match letter:
                case "P":
                    yield self._parse(body)
                case "B":
                    yield self._bind(body)
                case "D":
                    yield self._describe(body)
                case "E":
                    yield from self._execute(body)
                case _:
                    yield self._close(body)
        except ConsoleError as error:
            self._skipping = True
            yield self._failed(error)

    def _parse(self, body: bytes) -> bytes:
        name, text = messages.parse_name_and_text(body)
        commands = parse(text)
        if len(commands) > 1:
            raise ConsoleError("42601", "cannot insert multiple commands into a prepared statement")
        if name and name in self._prepared:
            raise ConsoleError("42P05", "prepared statement already exists")
        if name not in self._prepared and len(self._prepared) >= STATEMENTS_MAX:
            raise ConsoleError("54000", f"more than {STATEMENTS_MAX} prepared statements")
        command = commands[0] if commands else None
        self._prepared[name] = Prepared(command, messages.parse_oids(body))
        return messages.parse_complete()

    def _bind(self, body: bytes) -> bytes:
        bound = binding.read(body)
        prepared = self._prepared.get(bound.statement)
        if prepared is None:
            raise ConsoleError("26000", "prepared statement does not exist")
        if bound.portal and bound.portal in self._portals:
            raise ConsoleError("42P03", "portal already exists")
        if bound.portal not in self._portals and len(self._portals) >= STATEMENTS_MAX:
            raise ConsoleError("54000", f"more than {STATEMENTS_MAX} portals")
        described = catalog.columns(prepared.command, self.me)
        self._portals[bound.portal] = binding.portal(prepared, bound, len(described or ()))
        return messages.bind_complete()

    def _describe(self, body: bytes) -> bytes:
        kind, name = messages.kind_and_name(body)
        if kind == b"S":
            prepared = self._prepared.get(name)
            if prepared is None:
                raise ConsoleError("26000", "prepared statement does not exist")
            described = catalog.columns(prepared.command, self.me)
            head = messages.parameter_description(prepared.parameter_oids())
            formats = [0] * len(described or ())
        else:
            portal = self._portal(name)
            described = catalog.columns(portal.command, self.me)
            head, formats = b"", portal.formats
        if described is None:
            return head + messages.no_data()
        return head + row_description(described, formats)

    def _execute(self, body: bytes) -> Steps:
        name, limit = messages.execute_portal(body)
        portal = self._portal(name)
        if portal.command is None:
            yield messages.empty_query()
            return
        if not portal.ran:
            yield from self._run(portal)
        if portal.table is not None:
            rows = len(portal.table.rows)
            start, count = portal.position, min(limit, rows - portal.position) if limit else 0
            if limit and start < rows:
                yield data_rows(portal.table, portal.formats, start, count)
            elif start < rows:
                yield from slices(portal.table, portal.formats, start)
            portal.position = start + count if limit else rows
            if limit and portal.position < rows:
                yield messages.portal_suspended()
                return
        yield messages.command_complete(portal.tag)

    def _close(self, body: bytes) -> bytes:
        kind, name = messages.kind_and_name(body)
        if kind == b"S":
            self._prepared.pop(name, None)
        else:
            self._portals.pop(name, None)
        return messages.close_complete()

    def _portal(self, name: bytes) -> Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise ConsoleError("34000", "portal does not exist")
        return portal

    # -- errors and notices

    def _failed(self, error: ConsoleError) -> bytes:
        if self.status == STATUS_IN_TRANSACTION:
            self.status = STATUS_FAILED
        return messages.error_response(
            _said("ERROR", error.sqlstate, error.message, error.detail, error.hint)
        )

    # -- commands

    def _run(self, portal: Portal) -> Steps:
        """Execute the portal's command: fills its table and tag."""
        command = portal.command
        assert command is not None
        portal.ran = True
        verb = command.verb
        if self.status == STATUS_FAILED and verb not in (Verb.ROLLBACK, Verb.COMMIT):
            raise ConsoleError(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )
        target = _text(command.target, portal.parameters)
        match verb:
            case Verb.SHOW:
                portal.tag = "SHOW"
                yield from self._show(portal, command.name, target)
            case Verb.SELECT:
                portal.table = answers.select(command.name, self.me, portal.parameters)
                portal.tag = f"SELECT {len(portal.table.rows)}"
            case Verb.ACT | Verb.WAIT_CLOSE:
                portal.tag = command.name
                yield from self._act(command, target)
            case _:
                portal.tag = self._transaction(command)

    def _transaction(self, command: Command) -> str:
        if command.verb is Verb.BEGIN:
            self.status = STATUS_IN_TRANSACTION
        elif command.verb in (Verb.COMMIT, Verb.ROLLBACK):
            failed = self.status == STATUS_FAILED
            self.status = STATUS_IDLE
            return "ROLLBACK" if failed else command.name
        return command.name

    def _show(self, portal: Portal, name: str, target: str) -> Steps:
        catalog.columns(Command(Verb.SHOW, name), self.me)  # an unknown name is told first
        if name == "help":
            yield messages.notice_response(_said("NOTICE", "00000", "Console usage", HELP))
            return
        setting = None if catalog.is_table(name) else answers.show(name, self.me)
        if setting is not None:
            portal.table = setting
            return
        facts = yield NeedFacts(detail=catalog.is_detailed(name))
        assert isinstance(facts, Facts)
        portal.table = catalog.made(name, catalog.narrowed(facts, target))

    def _act(self, command: Command, target: str) -> Steps:
        if self.role is not Role.ADMIN:
            raise ConsoleError(
                "42501",
                f"permission denied: {command.name} needs a console administrator",
                "Have the user listed under admin.users in Backstay's settings.",
            )
        number, route = 0, target or None
        if command.act is Act.KILL_CLIENT:
            number, route = _number(target), None
        if route is not None:
            facts = yield NeedFacts()
            assert isinstance(facts, Facts)
            catalog.known(facts.report, route)
        if command.verb is Verb.WAIT_CLOSE:
            yield NeedClosed(route)
            return
        assert command.act is not None
        outcome = yield NeedAct(command.act, route, number)
        assert isinstance(outcome, Outcome)
        yield from self._told(command, outcome)

    def _told(self, command: Command, outcome: Outcome) -> Iterable[bytes]:
        if not outcome.done:
            state = "F0000" if command.act is Act.RELOAD else "55000"
            raise ConsoleError(state, outcome.text, detail="\n".join(outcome.problems))
        if outcome.text:
            problems = "\n".join(outcome.problems)
            yield messages.notice_response(_said("NOTICE", "00000", outcome.text, problems))


_EXTENDED = "PBDEC"


def _said(
    severity: str, sqlstate: str, text: str, detail: str = "", hint: str = ""
) -> dict[str, str]:
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text}
    if detail:
        fields["D"] = detail
    if hint:
        fields["H"] = hint
    fields |= {"F": "backstay", "R": "console"}
    return {code: value.replace("\0", " ") for code, value in fields.items()}


def _text(word: Word, parameters: list[str | None]) -> str:
    if isinstance(word, str):
        return word
    value = parameters[word.number - 1]
    if not value:
        raise ConsoleError("22004", "a route or client must be named, not NULL")
    return value


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ConsoleError("22023", "KILL_CLIENT needs an id of SHOW CLIENTS")
    return int(text)
