"""One statement's tokens → Statement, by its first word.

Owns the class rules of reference/postgres-replay.md, section 4. A handler answers for one family
of statements; what has no handler is OTHER and opaque. Rules lean to the side where nothing runs
twice.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.postgres.protocol import calls as function_calls
from proxy.postgres.protocol import lexer, setting_text
from proxy.postgres.protocol.calls import Calls, Category
from proxy.postgres.protocol.effects import (
    CloseCursor,
    CreateTemp,
    Deallocate,
    DiscardAll,
    DiscardSequences,
    DiscardTemp,
    Drops,
    Effect,
    HoldCursor,
    Listen,
    LoadLibrary,
    PrepareSql,
    UnknownSetConfig,
    Unlisten,
)
from proxy.postgres.protocol.lexer import MARK, NAME, STRING, WORD, Token
from proxy.postgres.protocol.statement import Class, Copy, Opaque, Statement, Tx

NESTING_MAX = 4
"""EXPLAIN, DECLARE, COPY and WITH hold one statement; more levels than this are not read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A statement under classification: its tokens and the text they were cut from."""

    tokens: list[Token]
    text: bytes
    conforming: bool
    level: int = 0

    def word(self, at: int) -> bytes:
        """The unquoted word at `at`, or nothing."""
        if at >= len(self.tokens) or self.tokens[at][0] != WORD:
            return b""
        return self.tokens[at][1]

    def name(self, at: int) -> bytes:
        """The identifier at `at`, or nothing."""
        if at >= len(self.tokens) or self.tokens[at][0] not in (WORD, NAME):
            return b""
        return lexer.identifier(self.tokens[at])

    def raw(self) -> bytes:
        """The statement as it was written, without blanks around it."""
        return self.text[self.tokens[0][2] : self.tokens[-1][3]]

    def calls(self, start: int = 0) -> Calls:
        """What its function calls may do."""
        tokens = self.tokens[start:] if start else self.tokens
        return function_calls.scan(tokens, self.conforming)

    def inner(self, start: int, end: int | None = None) -> Statement:
        """The statement inside, from token `start` on."""
        tokens = self.tokens[start:end]
        if not tokens or self.level >= NESTING_MAX:
            return UNREAD
        return classify(Source(tokens, self.text, self.conforming, self.level + 1))


UNREAD = Statement(Class.OTHER, "", opaque=Opaque.STRONG)
"""Stands for text that was not understood."""


def classify(source: Source) -> Statement:
    """What `source` is. It has at least one token."""
    first = source.tokens[0]
    if first[0] == WORD:
        handler = _HANDLERS.get(first[1])
        if handler is not None:
            return handler(source)
    elif first[0] == MARK and first[1] == b"(":
        return _query(source)
    return UNREAD


def _verb(source: Source) -> str:
    first = source.tokens[0]
    return first[1].decode("ascii").upper() if first[0] == WORD else "SELECT"


def _opacity(calls: Calls) -> Opaque:
    if Category.RUNS_SQL in calls.seen:
        return Opaque.STRONG
    weak = (Category.UNKNOWN, Category.DENIED, Category.CONNECTS)
    return Opaque.WEAK if any(c in calls.seen for c in weak) else Opaque.NONE


_NEVER_AGAIN = (
    Category.DENIED,
    Category.RUNS_SQL,
    Category.CONNECTS,
    Category.LOCK,
    Category.UNLOCK,
    Category.UNLOCK_ALL,
)

# ---- reads ----

_QUERY_WORDS = frozenset(
    b"into for insert update delete merge with pg_settings pg_show_all_settings".split()
)
_LOCKS = ((b"update",), (b"share",), (b"no", b"key", b"update"), (b"key", b"share"))


def _query(source: Source) -> Statement:
    """SELECT, VALUES, TABLE, WITH, or any of them in parentheses."""
    verb = _verb(source)
    calls = source.calls()
    effects = tuple(calls.effects)
    opaque = _opacity(calls)
    if calls.seen.intersection(_NEVER_AGAIN):
        return Statement(Class.OTHER, verb, effects=effects, opaque=opaque)
    writes = _query_writes(source)
    if writes is not None:
        kind = Class.OTHER if Category.SET_CONFIG in calls.seen else Class.WRITE
        return Statement(kind, verb, effects=effects + writes, opaque=opaque)
    if Category.SET_CONFIG in calls.seen:
        return _set_config(verb, calls, opaque)
    if Category.SEQUENCE in calls.seen:
        return Statement(Class.OTHER, verb, effects=effects, opaque=opaque)
    if Category.NEXTVAL in calls.seen:
        bare = calls.certain and calls.seen <= {Category.NEXTVAL, Category.HARMLESS}
        kind = Class.SEQUENCE if bare else Class.OTHER
        return Statement(kind, verb, effects=effects, opaque=opaque)
    if Category.TRANSACTIONAL in calls.seen:
        return Statement(Class.WRITE, verb, effects=effects, opaque=opaque)
    if Category.SHOWS_READ_ONLY in calls.seen or _shows_read_only(source):
        return Statement(Class.OTHER, verb, effects=effects, opaque=opaque)
    return Statement(Class.READ, verb, effects=effects, opaque=opaque)


def _set_config(verb: str, calls: Calls, opaque: Opaque) -> Statement:
    harmless = {Category.SET_CONFIG, Category.HARMLESS, Category.CURRENT_SETTING}
    alone = calls.certain and calls.seen <= harmless
    kind = Class.SETTING if alone else Class.OTHER
    tx = Tx.LOCAL if calls.only_local and not calls.effects else Tx.NONE
    if not calls.certain and not calls.only_local:
        opaque = Opaque.STRONG
    return Statement(kind, verb, tx, tuple(calls.effects), opaque=opaque)


def _query_writes(source: Source) -> tuple[Effect, ...] | None:
    """The effects of a query that is no pure read, or None: SELECT INTO, FOR UPDATE and the like, a
    data-modifying WITH."""
    has_with = changes = False
    for at, (kind, value, _, _) in enumerate(source.tokens):
        if kind != WORD or value not in _QUERY_WORDS:
            continue
        if value == b"into":
            return _into(source, at)
        if value == b"for" and any(
            tuple(source.word(at + 1 + i) for i in range(len(lock))) == lock for lock in _LOCKS
        ):
            return ()
        has_with = has_with or value == b"with"
        changes = changes or value in (b"insert", b"update", b"delete", b"merge")
    return () if has_with and changes else None


def _into(source: Source, at: int) -> tuple[Effect, ...]:
    """SELECT INTO [TEMP] [TABLE] name."""
    words = [source.word(at + i) for i in range(1, 5)]
    if {b"temp", b"temporary"}.intersection(words[:2]) or b"pg_temp" in words:
        return (CreateTemp(),)
    return ()


def _shows_read_only(source: Source) -> bool:
    """The answer would differ inside BEGIN READ ONLY."""
    views = (b"pg_settings", b"pg_show_all_settings")
    return any(t[1] in views for t in source.tokens if t[0] in (WORD, NAME))


def _show(source: Source) -> Statement:
    return Statement(Class.READ, "SHOW", wrapper=False)


def _explain(source: Source) -> Statement:
    start, analyze = 1, False
    if source.tokens[1:2] and source.tokens[1][:2] == (MARK, b"("):
        start = _closing(source, 1) + 1
        analyze = _option(source, 2, start)
    while source.word(start) in (b"analyze", b"analyse", b"verbose"):
        analyze = analyze or source.word(start) != b"verbose"
        start += 1
    if not analyze:
        calls = source.calls(start)
        return Statement(
            Class.READ, "EXPLAIN", opaque=Opaque.WEAK if calls.unknown else Opaque.NONE
        )
    inner = source.inner(start)
    if inner.verb == "" or inner.tx is not Tx.NONE:
        return replace(UNREAD, verb="EXPLAIN")
    return replace(inner, verb="EXPLAIN", target=b"")


def _option(source: Source, start: int, end: int) -> bool:
    """ANALYZE is among the options in parentheses and not switched off."""
    for at in range(start, end):
        if source.word(at) in (b"analyze", b"analyse"):
            value = source.tokens[at + 1][1].strip(b"'").lower()
            return function_calls.truth(value) is not False
    return False


def _closing(source: Source, opening: int) -> int:
    """Index of the parenthesis that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(source.tokens)):
        if source.tokens[at][0] == MARK:
            value = source.tokens[at][1]
            depth += (value == b"(") - (value == b")")
            if depth == 0:
                return at
    return len(source.tokens) - 1


# ---- writes ----


def _dml(source: Source) -> Statement:
    """INSERT, UPDATE, DELETE, MERGE, with or without a WITH."""
    calls = source.calls()
    denied = bool(calls.seen.intersection(_NEVER_AGAIN)) or (
        Category.SET_CONFIG in calls.seen and not calls.only_local
    )
    opaque = Opaque.STRONG if Category.SET_CONFIG in calls.seen else _opacity(calls)
    kind = Class.OTHER if denied else Class.WRITE
    return Statement(kind, _verb(source), effects=tuple(calls.effects), opaque=opaque)


def _with(source: Source) -> Statement:
    """WITH: a write when any word in it says so; a column of that name is taken for one."""
    changes = (b"insert", b"update", b"delete", b"merge")
    if any(t[0] == WORD and t[1] in changes for t in source.tokens):
        locking = _query(source)
        if locking.kind is Class.WRITE or locking.kind is Class.OTHER:
            return locking
        return _dml(source)
    return _query(source)


def _write(source: Source) -> Statement:
    """Transactional, and of no interest otherwise."""
    return Statement(Class.WRITE, _verb(source))


def _refresh(source: Source) -> Statement:
    return Statement(Class.WRITE, _verb(source), opaque=Opaque.WEAK)


_NO_TRANSACTION = (b"database", b"tablespace", b"subscription", b"system")


def _outside(source: Source) -> bool:
    """The command cannot run in a transaction, so a rollback proves nothing."""
    if any(source.word(at) in _NO_TRANSACTION for at in (1, 2)):
        return True
    return any(t[0] == WORD and t[1] == b"concurrently" for t in source.tokens[:8]) or (
        source.tokens[-1][:2] == (WORD, b"concurrently")
    )


_RUNS_NOTHING = (b"function", b"procedure", b"view", b"rule", b"trigger", b"aggregate", b"event")


def _create(source: Source) -> Statement:
    if _outside(source):
        return Statement(Class.OTHER, "CREATE", opaque=Opaque.WEAK)
    head = [source.word(at) for at in range(1, 6)]
    effects: tuple[Effect, ...] = ()
    if _is_temporary(source, head):
        effects = (CreateTemp(),)
    materialized = b"materialized" in head
    if not materialized and any(word in _RUNS_NOTHING for word in head):
        return Statement(Class.WRITE, "CREATE", effects=effects)
    calls = source.calls()
    found = tuple(e for e in calls.effects if e not in effects)
    words = [t[1] for t in source.tokens if t[0] == WORD]
    opaque = Opaque.STRONG if Category.SET_CONFIG in calls.seen else Opaque.NONE
    if b"extension" in head or (b"as" in words and calls.unknown):
        opaque = opaque if opaque is Opaque.STRONG else Opaque.WEAK
    if b"execute" in words:
        opaque = Opaque.STRONG
    kind = Class.OTHER if calls.seen.intersection(_NEVER_AGAIN) else Class.WRITE
    return Statement(kind, "CREATE", effects=effects + found, opaque=opaque)


def _is_temporary(source: Source, head: list[bytes]) -> bool:
    """CREATE TEMP …, or a name in pg_temp; not a table that goes with its transaction."""
    tail = [t[1] for t in source.tokens if t[0] == WORD]
    if any(tail[i : i + 3] == [b"on", b"commit", b"drop"] for i in range(len(tail) - 2)):
        return False
    if any(word in (b"temp", b"temporary") for word in head[:4]):
        return True
    return any(
        source.tokens[at][1] == b"pg_temp" and source.tokens[at + 1][1] == b"."
        for at in range(1, min(12, len(source.tokens) - 1))
    )


def _alter(source: Source) -> Statement:
    if _outside(source):
        return Statement(Class.OTHER, "ALTER")
    calls = source.calls()
    denied = calls.seen.intersection(_NEVER_AGAIN)
    opaque = Opaque.STRONG if Category.SET_CONFIG in calls.seen else Opaque.NONE
    kind = Class.OTHER if denied else Class.WRITE
    return Statement(kind, "ALTER", effects=tuple(calls.effects), opaque=opaque)


def _drop(source: Source) -> Statement:
    kind = Class.OTHER if _outside(source) else Class.WRITE
    return Statement(kind, "DROP", effects=(Drops(),))


def _copy(source: Source) -> Statement:
    if source.tokens[1:2] and source.tokens[1][:2] == (MARK, b"("):
        end = _closing(source, 1)
        inner = source.inner(2, end)
        if source.word(end + 1) != b"to" or inner.verb == "" or inner.tx is not Tx.NONE:
            return replace(UNREAD, verb="COPY")
        if source.word(end + 2) not in _STREAMS:
            return replace(inner, kind=Class.OTHER, verb="COPY", target=b"")
        return replace(inner, verb="COPY", copy=Copy.OUT, target=b"")
    depth = 0
    for at, (kind, value, _, _) in enumerate(source.tokens[:-1]):
        if kind == MARK:
            depth += (value == b"(") - (value == b")")
        elif kind == WORD and value in (b"from", b"to") and depth == 0:
            return _copy_table(source, at)
    return replace(UNREAD, verb="COPY")


_STREAMS = (b"stdin", b"stdout")


def _copy_table(source: Source, at: int) -> Statement:
    reads = source.word(at) == b"to"
    if source.word(at + 1) in _STREAMS:
        if reads:
            return Statement(Class.READ, "COPY", copy=Copy.OUT)
        return Statement(Class.WRITE, "COPY", copy=Copy.IN)
    to_file = source.tokens[at + 1][0] == STRING
    kind = Class.WRITE if to_file and not reads else Class.OTHER
    return Statement(kind, "COPY")


# ---- transaction control ----


def _control(source: Source, tx: Tx, savepoint: bytes = b"") -> Statement:
    name = savepoint.decode("utf-8", "surrogateescape")
    return Statement(Class.BEGIN, _verb(source), tx, savepoint=name)


def _begin(source: Source) -> Statement:
    if source.word(0) == b"start" and source.word(1) != b"transaction":
        return UNREAD
    return _control(source, Tx.BEGIN)


def _chains(source: Source) -> bool:
    words = [t[1] for t in source.tokens]
    return words[-2:] == [b"and", b"chain"]


def _commit(source: Source) -> Statement:
    if source.word(1) == b"prepared":
        return Statement(Class.OTHER, "COMMIT", Tx.COMMIT_PREPARED)
    return _control(source, Tx.COMMIT_CHAIN if _chains(source) else Tx.COMMIT)


def _rollback(source: Source) -> Statement:
    if source.word(1) == b"prepared":
        return Statement(Class.OTHER, "ROLLBACK", Tx.ROLLBACK_PREPARED)
    at = 2 if source.word(1) in (b"work", b"transaction") else 1
    if source.word(at) == b"to":
        at += 2 if source.word(at + 1) == b"savepoint" and at + 2 < len(source.tokens) else 1
        return _control(source, Tx.ROLLBACK_TO, source.name(at))
    return _control(source, Tx.ROLLBACK_CHAIN if _chains(source) else Tx.ROLLBACK)


def _savepoint(source: Source) -> Statement:
    return _control(source, Tx.SAVEPOINT, source.name(1))


def _release(source: Source) -> Statement:
    at = 2 if source.word(1) == b"savepoint" and len(source.tokens) > 2 else 1
    return _control(source, Tx.RELEASE, source.name(at))


# ---- the session ----


def _setting(source: Source, *effects: Effect) -> Statement:
    return Statement(Class.SETTING, _verb(source), effects=effects)


def _set(source: Source) -> Statement:
    return _change(source, setting_text.parse_set(source.tokens, source.text, source.conforming))


def _reset(source: Source) -> Statement:
    return _change(source, setting_text.parse_reset(source.tokens))


def _change(source: Source, change: setting_text.Change) -> Statement:
    if change is setting_text.UNREADABLE:
        return replace(UNREAD, verb=_verb(source), effects=change.effects)
    tx = Tx.LOCAL if change.local else Tx.NONE
    return Statement(Class.SETTING, _verb(source), tx, change.effects)


def _prepare(source: Source) -> Statement:
    if source.word(1) == b"transaction" and source.tokens[2:3] and source.tokens[2][0] == STRING:
        return Statement(Class.OTHER, "PREPARE", Tx.PREPARE)
    raw = source.raw()
    name = source.name(1)
    return _setting(source, PrepareSql(name, raw, b"\\" in raw and not source.conforming))


def _deallocate(source: Source) -> Statement:
    at = 2 if source.word(1) == b"prepare" and len(source.tokens) > 2 else 1
    name = None if source.word(at) == b"all" else source.name(at)
    made = _setting(source, Deallocate(name))
    return replace(made, target=name or b"")


def _execute(source: Source) -> Statement:
    """EXECUTE name: the session state knows the text behind it, unless the arguments act too."""
    calls = source.calls(2)
    clean = calls.seen <= {Category.HARMLESS}
    target = source.name(1) if clean else b""
    return Statement(
        Class.OTHER,
        "EXECUTE",
        effects=tuple(calls.effects),
        opaque=Opaque.STRONG,
        target=target,
    )


def _discard(source: Source) -> Statement:
    what = source.word(1)
    if what == b"all":
        return _setting(source, DiscardAll())
    if what in (b"temp", b"temporary"):
        return _setting(source, DiscardTemp())
    return _setting(source, DiscardSequences()) if what == b"sequences" else _setting(source)


def _listen(source: Source) -> Statement:
    return _setting(source, Listen(source.name(1)))


def _unlisten(source: Source) -> Statement:
    every = source.tokens[1:2] and source.tokens[1][:2] == (MARK, b"*")
    return _setting(source, Unlisten(None if every else source.name(1)))


def _load(source: Source) -> Statement:
    return Statement(Class.OTHER, "LOAD", effects=(LoadLibrary(source.raw()),))


# ---- cursors ----


def _declare(source: Source) -> Statement:
    name = source.name(1)
    at = 2
    while at < len(source.tokens) and source.word(at) != b"for":
        at += 1
    head = [source.word(i) for i in range(2, at)]
    inner = source.inner(at + 1)
    if inner.verb == "" or inner.tx is not Tx.NONE:
        return replace(UNREAD, verb="DECLARE")
    hold = any(head[i : i + 2] == [b"with", b"hold"] for i in range(len(head)))
    effects = (*inner.effects, HoldCursor(name)) if hold else inner.effects
    # The functions run with each FETCH, if ever.
    opaque = Opaque.STRONG if inner.effects else inner.opaque
    kind = Class.OTHER if hold or inner.effects else inner.kind
    return Statement(kind, "DECLARE", effects=effects, opaque=opaque, target=name)


def _fetch(source: Source) -> Statement:
    return Statement(Class.OTHER, _verb(source), target=source.name(len(source.tokens) - 1))


def _close(source: Source) -> Statement:
    name = None if source.word(1) == b"all" else source.name(1)
    return Statement(Class.OTHER, "CLOSE", effects=(CloseCursor(name),), target=name or b"")


# ---- code we cannot read ----

_SETS = re.compile(rb"(?i)\bset_config\b|\bset\s+(?:session\s+)?[a-z_][a-z0-9_$]*\.[a-z_]")


def _code(source: Source) -> Statement:
    """DO, CALL: may do anything to the session. Built-in settings show in the fingerprint, custom
    ones do not: code that seems to set one makes the session unrestorable."""
    sets = _SETS.search(source.raw()) is not None
    effects: tuple[Effect, ...] = (UnknownSetConfig(None, False),) if sets else ()
    return Statement(Class.OTHER, _verb(source), effects=effects, opaque=Opaque.STRONG)


def _other(source: Source) -> Statement:
    return Statement(Class.OTHER, _verb(source))


_HANDLERS: dict[bytes, Callable[[Source], Statement]] = {
    b"select": _query,
    b"values": _query,
    b"table": _query,
    b"with": _with,
    b"show": _show,
    b"explain": _explain,
    b"insert": _dml,
    b"update": _dml,
    b"delete": _dml,
    b"merge": _dml,
    b"create": _create,
    b"alter": _alter,
    b"drop": _drop,
    b"copy": _copy,
    b"refresh": _refresh,
    b"begin": _begin,
    b"start": _begin,
    b"commit": _commit,
    b"end": _commit,
    b"rollback": _rollback,
    b"abort": _rollback,
    b"savepoint": _savepoint,
    b"release": _release,
    b"set": _set,
    b"reset": _reset,
    b"prepare": _prepare,
    b"deallocate": _deallocate,
    b"execute": _execute,
    b"discard": _discard,
    b"listen": _listen,
    b"unlisten": _unlisten,
    b"load": _load,
    b"declare": _declare,
    b"fetch": _fetch,
    b"move": _fetch,
    b"close": _close,
    b"do": _code,
    b"call": _code,
}
for _word in b"truncate comment security grant revoke import reassign notify lock".split():
    _HANDLERS[_word] = _write
for _word in b"analyze analyse".split():
    _HANDLERS[_word] = _write
for _word in b"vacuum cluster reindex checkpoint".split():
    _HANDLERS[_word] = _other
