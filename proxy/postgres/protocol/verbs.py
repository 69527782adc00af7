"""One statement's tokens → Statement, by its first word.

Owns the table of first words, and the handlers of statements about the session, the transaction and
of those that hold another statement. What has no handler is OTHER and opaque.
Source: reference/postgres-replay.md, section 4.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from proxy.postgres.protocol import calls as function_calls
from proxy.postgres.protocol import data_verbs, setting_text
from proxy.postgres.protocol.calls import Category
from proxy.postgres.protocol.effects import (
    CloseCursor,
    Deallocate,
    DiscardAll,
    DiscardSequences,
    DiscardTemp,
    Effect,
    HoldCursor,
    Listen,
    LoadLibrary,
    PrepareSql,
    UnknownSetConfig,
    Unlisten,
)
from proxy.postgres.protocol.lexer import MARK, STRING, WORD
from proxy.postgres.protocol.source import Source
from proxy.postgres.protocol.statement import Class, Copy, Opaque, Statement, Tx

NESTING_MAX = 4
"""EXPLAIN, PREPARE, DECLARE and COPY hold a statement; more levels than this are not read."""


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
        return data_verbs.query(source)
    return UNREAD


def _inner(source: Source, start: int, end: int | None = None) -> Statement:
    """The statement inside, from token `start` on."""
    tokens = source.tokens[start:end]
    if not tokens or source.level >= NESTING_MAX:
        return UNREAD
    return classify(replace(source, tokens=tokens, level=source.level + 1))


def _show(source: Source) -> Statement:
    return Statement(Class.READ, "SHOW", wrapper=False)


def _explain(source: Source) -> Statement:
    start, analyze = 1, False
    if source.opens(1):
        start = source.closing(1) + 1
        analyze = _option(source, 2, start)
    while source.word(start) in (b"analyze", b"analyse", b"verbose"):
        analyze = analyze or source.word(start) != b"verbose"
        start += 1
    if not analyze:
        calls = source.calls(start)
        return Statement(
            Class.READ, "EXPLAIN", opaque=Opaque.WEAK if calls.unknown else Opaque.NONE
        )
    inner = _inner(source, start)
    if inner.verb == "" or inner.tx is not Tx.NONE:
        return replace(UNREAD, verb="EXPLAIN")
    return replace(inner, verb="EXPLAIN", target=b"")


def _option(source: Source, start: int, end: int) -> bool:
    """ANALYZE is among the options in parentheses and not switched off wherever it stands: of
    several the server takes the last. It may be written as a quoted name."""
    for at in range(start, end):
        if source.name(at) in (b"analyze", b"analyse"):
            value = source.tokens[at + 1][1].strip(b"'").lower()
            if function_calls.truth(value) is not False:
                return True
    return False


def _copy(source: Source) -> Statement:
    if source.opens(1):
        end = source.closing(1)
        inner = _inner(source, 2, end)
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
    return Statement(Class.BEGIN, source.verb(), tx, savepoint=name)


def _begin(source: Source) -> Statement:
    if source.word(0) == b"start" and source.word(1) != b"transaction":
        return UNREAD
    at = 2 if source.word(1) in (b"work", b"transaction") else 1
    modes = source.text[source.tokens[at][2] : source.tokens[-1][3]] if source.tokens[at:] else b""
    return Statement(Class.BEGIN, source.verb(), Tx.BEGIN, modes=modes)


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
    return Statement(Class.SETTING, source.verb(), effects=effects)


def _set(source: Source) -> Statement:
    return _change(source, setting_text.parse_set(source.tokens, source.text, source.conforming))


def _reset(source: Source) -> Statement:
    return _change(source, setting_text.parse_reset(source.tokens))


def _change(source: Source, change: setting_text.Change) -> Statement:
    if change is setting_text.UNREADABLE:
        return replace(UNREAD, verb=source.verb(), effects=change.effects)
    tx = Tx.LOCAL if change.local else Tx.NONE
    return Statement(Class.SETTING, source.verb(), tx, change.effects, modes=change.modes)


def _prepare(source: Source) -> Statement:
    if source.word(1) == b"transaction" and source.tokens[2:3] and source.tokens[2][0] == STRING:
        return Statement(Class.OTHER, "PREPARE", Tx.PREPARE)
    raw = source.raw()
    at = 2
    if source.opens(at):
        at = source.closing(at) + 1
    inner = _inner(source, at + 1) if source.word(at) == b"as" else None
    escapes = b"\\" in raw and not source.conforming
    return _setting(source, PrepareSql(source.name(1), raw, escapes, inner))


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
    inner = _inner(source, at + 1)
    if inner.verb == "" or inner.tx is not Tx.NONE:
        return replace(UNREAD, verb="DECLARE")
    hold = any(head[i : i + 2] == [b"with", b"hold"] for i in range(len(head)))
    effects = (*inner.effects, HoldCursor(name)) if hold else inner.effects
    # The functions run with each FETCH, if ever. Never again, even when it only reads: outside a
    # transaction it is an error, inside the wrapper it would be none.
    opaque = Opaque.STRONG if inner.effects else inner.opaque
    return Statement(Class.OTHER, "DECLARE", effects=effects, opaque=opaque, target=name)


def _fetch(source: Source) -> Statement:
    return Statement(Class.OTHER, source.verb(), target=source.name(len(source.tokens) - 1))


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
    return Statement(Class.OTHER, source.verb(), effects=effects, opaque=Opaque.STRONG)


def _other(source: Source) -> Statement:
    return Statement(Class.OTHER, source.verb())


_HANDLERS: dict[bytes, Callable[[Source], Statement]] = {
    b"select": data_verbs.query,
    b"values": data_verbs.query,
    b"table": data_verbs.query,
    b"with": data_verbs.query,
    b"show": _show,
    b"explain": _explain,
    b"insert": data_verbs.dml,
    b"update": data_verbs.dml,
    b"delete": data_verbs.dml,
    b"merge": data_verbs.dml,
    b"create": data_verbs.create,
    b"alter": data_verbs.alter,
    b"drop": data_verbs.drop,
    b"copy": _copy,
    b"refresh": data_verbs.refresh,
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
    _HANDLERS[_word] = data_verbs.write
for _word in b"analyze analyse".split():
    _HANDLERS[_word] = data_verbs.write
for _word in b"vacuum cluster reindex checkpoint".split():
    _HANDLERS[_word] = _other
