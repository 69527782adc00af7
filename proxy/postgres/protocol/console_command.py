"""What is typed at the console, read: SHOW and control commands, and what drivers send unasked.

The language is that of PgBouncer's console (its usage page, "Admin console"): words in any case,
names quoted or not, one or several commands separated by semicolons. What drivers and tools say to
every server (SET, BEGIN, SELECT version(), look-ups in the catalog) is understood far enough to be
answered. Nothing here echoes more of a text than its first word: it may hold a secret.
"""

from dataclasses import dataclass
from enum import StrEnum

from proxy.core.operator import Act
from proxy.postgres.protocol.lexer import (
    MARK,
    NAME,
    NUMBER,
    PARAM,
    STRING,
    WORD,
    Token,
    Unlexable,
    identifier,
    literal,
    statements,
    tokens,
)

COMMANDS_MAX = 64
"""Commands of one text; more is nobody's habit."""

WORD_CHARS_MAX = 40
"""Of a text's first word, as errors quote it."""


class ConsoleError(Exception):
    """A command that cannot be done: what the client is told, as fields of an ErrorResponse."""

    def __init__(self, sqlstate: str, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.detail = detail


class Verb(StrEnum):
    """What a command does; the value is its tag, where it has one."""

    SHOW = "SHOW"
    ACT = "ACT"  # a control command
    WAIT_CLOSE = "WAIT_CLOSE"
    SELECT = "SELECT"
    SET = "SET"  # and all else that changes nothing here
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"


@dataclass(frozen=True, slots=True)
class Parameter:
    """`$1`: its value comes with Bind."""

    number: int


Word = str | Parameter


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `name`: what to SHOW, the tag of SET and its like, or the text of a SELECT.

    `target`: the route, client or value that was named, empty if none was.
    """

    verb: Verb
    name: str = ""
    target: Word = ""
    act: Act | None = None
    parameters: int = 0  # how many values Bind has to bring


def parse(text: bytes) -> list[Command]:
    """The commands of a text, in order; none for an empty one. Raises ConsoleError."""
    try:
        found = statements(tokens(text))
    except Unlexable:
        raise ConsoleError("42601", "this text cannot be read as commands", _HELP) from None
    if len(found) > COMMANDS_MAX:
        raise ConsoleError("54000", f"more than {COMMANDS_MAX} commands in one text")
    return [_command(one) for one in found]


_HELP = "SHOW HELP lists the commands."


def _command(found: list[Token]) -> Command:
    kind, word, _, _ = found[0]
    verb = word.decode("utf-8", "replace") if kind == WORD else ""
    reader = _READERS.get(verb)
    if reader is None:
        shown = verb.upper()[:WORD_CHARS_MAX] or "this text"
        raise ConsoleError(
            "42601",
            f"{shown} is no command of this console",
            "This is Backstay's admin console, not a database. " + _HELP,
        )
    return reader(verb.upper(), found)


def _wrong(verb: str, usage: str) -> ConsoleError:
    return ConsoleError("42601", f"{verb}: wrong or superfluous words", f"Usage: {usage}. {_HELP}")


def _word(token: Token) -> Word | None:
    """What a token names: a word or quoted name, a plain literal, digits, a parameter."""
    kind, value = token[0], token[1]
    if kind in (WORD, NAME):
        return identifier(token).decode("utf-8", "replace")
    if kind == PARAM:
        # A longer number is no parameter anybody could bind.
        return Parameter(int(value)) if len(value) <= 5 and int(value) > 0 else None
    if kind == STRING:
        plain = literal(value)
        return plain.decode("utf-8", "replace") if plain is not None else None
    return value.decode() if kind == NUMBER else None


def _count(*words: Word) -> int:
    return max((word.number for word in words if isinstance(word, Parameter)), default=0)


# ---- SHOW


def _show(verb: str, found: list[Token]) -> Command:
    words = [_word(token) for token in found[1:]]
    known = [word for word in words if word is not None]
    if not known or len(known) != len(words) or not isinstance(known[0], str):
        raise _wrong(verb, "SHOW what [route]")
    name = known[0].lower()
    if name in _PARAMETER_HEADS:  # SHOW TRANSACTION ISOLATION LEVEL, SHOW TIME ZONE
        return Command(Verb.SHOW, " ".join(str(word).lower() for word in known))
    if len(known) > 2:
        raise _wrong(verb, "SHOW what [route]")
    target = known[1] if len(known) == 2 else ""
    return Command(Verb.SHOW, name, target, parameters=_count(target))


_PARAMETER_HEADS = frozenset(("transaction", "session", "time"))


# ---- control


def _control(verb: str, found: list[Token]) -> Command:
    """PAUSE, RESUME, RECONNECT, KILL and WAIT_CLOSE, each of one route or of all."""
    found = _bare(found)
    target = _word(found[1]) if len(found) == 2 else ""
    if len(found) > 2 or target is None:
        raise _wrong(verb, f"{verb} [route]")
    act = _ACTS.get(verb)
    return Command(
        Verb.ACT if act is not None else Verb.WAIT_CLOSE, verb, target, act, _count(target)
    )


_ACTS = {
    "PAUSE": Act.PAUSE,
    "RESUME": Act.RESUME,
    "RECONNECT": Act.RECONNECT,
    "KILL": Act.KILL,
}


def _bare(found: list[Token]) -> list[Token]:
    """Without the parentheses and the cast that drivers put around a value: `('17'::int8)`."""
    bare = [token for token in found if token[1] not in (b"(", b")") or token[0] != MARK]
    ends = [at for at, token in enumerate(bare) if token[0] == MARK and token[1] == b":"]
    return bare[: ends[0]] if ends and ends[0] == 2 else bare


def _kill_client(verb: str, found: list[Token]) -> Command:
    found = _bare(found)
    target = _word(found[1]) if len(found) == 2 else None
    number = isinstance(target, str) and target.isascii() and target.isdigit()
    if target is None or not (number or isinstance(target, Parameter)):
        raise _wrong(verb, "KILL_CLIENT id, with an id of SHOW CLIENTS")
    return Command(Verb.ACT, verb, target, Act.KILL_CLIENT, _count(target))


def _reload(verb: str, found: list[Token]) -> Command:
    if len(found) > 1:
        raise _wrong(verb, "RELOAD")
    return Command(Verb.ACT, verb, "", Act.RELOAD)


def _shutdown(verb: str, found: list[Token]) -> Command:
    word = _word(found[1]) if len(found) == 2 else ""
    mode = word.upper() if isinstance(word, str) else None
    if len(found) > 2 or mode not in ("", "WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"):
        raise _wrong(verb, "SHUTDOWN")
    return Command(Verb.ACT, verb, "", Act.SHUTDOWN)


def _unsupported(verb: str, found: list[Token]) -> Command:
    raise ConsoleError("0A000", f"{verb} is not supported", _INSTEAD[verb])


_INSTEAD = {
    "DISABLE": "PAUSE keeps clients waiting; to refuse them, take the route out of the settings"
    " and RELOAD.",
    "ENABLE": "Nothing can be disabled here. RESUME ends a PAUSE.",
    "SUSPEND": "PAUSE keeps clients waiting. For a restart start the new process beside the old"
    " one: both may listen on the same ports.",
}


# ---- what drivers send


def _transaction(verb: str, found: list[Token]) -> Command:
    kind = _TRANSACTIONS[verb]
    if kind is Verb.ROLLBACK and any(token[1] == b"to" for token in found):
        return Command(Verb.SET, "ROLLBACK")
    return Command(kind, verb if verb in ("BEGIN", "COMMIT", "ROLLBACK") else kind.value)


_TRANSACTIONS = {
    "BEGIN": Verb.BEGIN,
    "START": Verb.BEGIN,
    "COMMIT": Verb.COMMIT,
    "END": Verb.COMMIT,
    "ROLLBACK": Verb.ROLLBACK,
    "ABORT": Verb.ROLLBACK,
}


def _nothing(verb: str, found: list[Token]) -> Command:
    """RESET, DISCARD and others that undo what nobody can have done here."""
    tag = verb
    if verb in ("DISCARD", "CLOSE") and len(found) > 1 and found[1][1] == b"all":
        tag = "DISCARD ALL" if verb == "DISCARD" else "CLOSE CURSOR ALL"
    return Command(Verb.SET, tag)


def _set(verb: str, found: list[Token]) -> Command:
    """SET of what drivers set; a setting of Backstay is no session's to change."""
    words = [token[1].decode("utf-8", "replace") for token in found[1:]]
    if words and words[0] in ("session", "local") and len(words) > 1:
        words = words[1:]
    name = words[0].lower() if words else ""
    if name == "client_encoding" or name == "names":
        _check_encoding(found[-1])
    elif name not in DRIVER_SETTINGS and name not in ("transaction", "characteristics", "time"):
        raise ConsoleError(
            "0A000",
            "settings cannot be changed at the console",
            "Change them in Backstay's settings file, then RELOAD. SHOW CONFIG lists them.",
        )
    return Command(Verb.SET, "SET", parameters=_count(*(_word(token) or "" for token in found)))


DRIVER_SETTINGS = frozenset(
    (
        "application_name",
        "bytea_output",
        "client_min_messages",
        "datestyle",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "enable_seqscan",
        "extra_float_digits",
        "geqo",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "intervalstyle",
        "jit",
        "lc_messages",
        "lc_monetary",
        "lock_timeout",
        "plan_cache_mode",
        "role",
        "row_security",
        "search_path",
        "standard_conforming_strings",
        "statement_timeout",
        "synchronous_commit",
        "synchronize_seqscans",
        "timezone",
        "transaction_isolation",
        "transaction_read_only",
        "transaction_timeout",
        "work_mem",
        "xmloption",
    )
)
"""What drivers, psql and dump tools set at every server. Accepted, and of no effect here."""


def _check_encoding(token: Token) -> None:
    word = _word(token)
    name = word.upper().replace("-", "").replace("_", "") if isinstance(word, str) else ""
    if name not in ("UTF8", "UNICODE", "SQLASCII", "DEFAULT"):
        raise ConsoleError("0A000", "the console speaks UTF8 only", "Leave client_encoding alone.")


def _select(verb: str, found: list[Token]) -> Command:
    """A SELECT, as its tokens joined by blanks: `answers` knows some of these."""
    parts: list[str] = []
    number = 0
    for token in found:
        value = token[1].decode("utf-8", "replace")
        if token[0] == PARAM:
            value = f"${value}"
            word = _word(token)
            number = max(number, word.number if isinstance(word, Parameter) else 0)
        elif token[0] == NAME:
            value = f'"{value}"'
        parts.append(value)
    return Command(Verb.SELECT, " ".join(parts), parameters=number)


_READERS = {
    "show": _show,
    "pause": _control,
    "resume": _control,
    "reconnect": _control,
    "kill": _control,
    "wait_close": _control,
    "kill_client": _kill_client,
    "reload": _reload,
    "shutdown": _shutdown,
    "disable": _unsupported,
    "enable": _unsupported,
    "suspend": _unsupported,
    "begin": _transaction,
    "start": _transaction,
    "commit": _transaction,
    "end": _transaction,
    "rollback": _transaction,
    "abort": _transaction,
    "set": _set,
    "reset": _nothing,
    "discard": _nothing,
    "deallocate": _nothing,
    "unlisten": _nothing,
    "close": _nothing,
    "savepoint": _nothing,
    "release": _nothing,
    "select": _select,
    "with": _select,
}
