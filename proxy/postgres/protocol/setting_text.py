"""SET and RESET in all their spellings, as effects.

Owns the grammar of the server's VariableSetStmt and VariableResetStmt. A value is given the form
that set_config takes, because that is how it will be restored: building SET text again is how
quoting grows with each turn. Source: PostgreSQL documentation, "SET", "RESET", "SET TRANSACTION".
"""

import re
from dataclasses import dataclass

from proxy.postgres.protocol import lexer
from proxy.postgres.protocol.effects import (
    Effect,
    ResetAll,
    ResetVariable,
    SetVariable,
    UnknownSetConfig,
)
from proxy.postgres.protocol.lexer import MARK, NAME, NUMBER, STRING, WORD, Token
from proxy.postgres.protocol.statement import OTHER_MODES

LIST_QUOTE = frozenset(
    (
        b"search_path",
        b"temp_tablespaces",
        b"local_preload_libraries",
        b"session_preload_libraries",
        b"shared_preload_libraries",
        b"unix_socket_directories",
    )
)
"""Settings whose items are identifiers: SET quotes each (GUC_LIST_QUOTE; extensions cannot add)."""

OF_TRANSACTION = frozenset(
    (b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable")
)
"""Settings that end with the transaction however they are set."""

_STYLES = (b"iso", b"sql", b"postgres", b"german")
_ORDERS = (b"ymd", b"dmy", b"euro", b"mdy", b"us", b"noneuro")


def date_style(old: bytes, new: bytes) -> bytes:
    """DateStyle `new` set over `old`: what it leaves out, style or order, stays as it was."""
    parts = [b"", b""]
    for value in (old, new):
        words = [word.strip().lower() for word in value.split(b",")]
        if b"german" in words and len(words) == 1:
            words.append(b"dmy")
        for at, known in enumerate((_STYLES, _ORDERS)):
            parts[at] = next((w for w in words if w.startswith(known)), parts[at])
    return b", ".join(filter(None, parts)) or new


_ALIASES = {b"sort_mem": b"work_mem", b"vacuum_mem": b"maintenance_work_mem"}

_BARE = re.compile(rb"[a-z_][a-z0-9_]*\Z")
_NUMERIC = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Change:
    """What a SET or RESET does. `local`: gone with the transaction. `modes`: as in Statement."""

    effects: tuple[Effect, ...]
    local: bool = False
    modes: bytes = b""


UNREADABLE = Change((UnknownSetConfig(None, False),))
"""A spelling we do not know: any setting may have any value."""

LOCAL = Change((), True)
MODES = Change((), True, OTHER_MODES)


def canonical(name: bytes) -> bytes:
    """The one name a setting is known by here: lower case, old names resolved."""
    name = name.lower()
    return _ALIASES.get(name, name)


def parse_set(tokens: list[Token], text: bytes, conforming: bool) -> Change:
    """The change a SET statement makes. `tokens` begins with SET."""
    words = _words(tokens)
    at = 1
    local = words[at : at + 1] == [b"local"]
    if local or (words[at : at + 1] == [b"session"] and _scope_only(words)):
        at += 1
    if words[at : at + 1] == [b"constraints"] or words[at : at + 2] == [
        b"transaction",
        b"snapshot",
    ]:
        return LOCAL
    if words[at : at + 1] == [b"transaction"]:
        return Change(
            (), True, text[tokens[at + 1][2] : tokens[-1][3]] if tokens[at + 1 :] else b""
        )
    raw = text[tokens[0][2] : tokens[-1][3]]
    change = _target(tokens, words, at, _Source(text, raw, conforming))
    return Change((), True, change.modes) if local else change


_RESET_PAIRS: dict[tuple[bytes, ...], bytes] = {
    (b"time", b"zone"): b"timezone",
    (b"session", b"authorization"): b"session_authorization",
}


def parse_reset(tokens: list[Token]) -> Change:
    """The change a RESET statement makes. `tokens` begins with RESET."""
    words = _words(tokens)[1:]
    if words == [b"all"]:
        return Change((ResetAll(),))
    if words[:1] == [b"transaction"]:
        return LOCAL
    special = _RESET_PAIRS.get(tuple(words))
    name, end = (special, len(tokens)) if special else _variable(tokens, 1)
    if name is None or end != len(tokens):
        return UNREADABLE
    return LOCAL if name in OF_TRANSACTION else Change((ResetVariable(name),))


@dataclass(frozen=True, slots=True)
class _Source:
    text: bytes
    raw: bytes
    conforming: bool


def _words(tokens: list[Token]) -> list[bytes]:
    """The first words; anything else is empty. No clause needs more than six."""
    return [t[1] if t[0] == WORD else b"" for t in tokens[:8]]


def _scope_only(words: list[bytes]) -> bool:
    """SESSION is the scope, not the beginning of a clause of its own."""
    return words[2:3] not in ([b"authorization"], [b"characteristics"])


def _target(tokens: list[Token], words: list[bytes], at: int, source: _Source) -> Change:
    pair = words[at : at + 2]
    rest = tokens[at + 2 :]
    if pair == [b"session", b"characteristics"]:
        return _characteristics(words_of(tokens[at + 2 :]), source)
    if pair == [b"session", b"authorization"]:
        return _one(b"session_authorization", rest, source)
    if pair == [b"time", b"zone"]:
        return _time_zone(rest, source)
    if pair == [b"xml", b"option"]:
        return _one(b"xmloption", rest, source)
    if words[at : at + 1] == [b"names"] and not _assigns(tokens, at + 1):
        if len(tokens) == at + 1:
            return Change((ResetVariable(b"client_encoding"),))
        return _one(b"client_encoding", tokens[at + 1 :], source)
    if words[at : at + 1] == [b"role"] and not _assigns(tokens, at + 1):
        return _one(b"role", tokens[at + 1 :], source)
    if words[at : at + 1] == [b"schema"] and tokens[at + 1 : at + 2] and _is_string(tokens[at + 1]):
        return _one(b"search_path", tokens[at + 1 :], source)
    return _generic(tokens, at, source)


def words_of(tokens: list[Token]) -> list[bytes]:
    """The words among `tokens`, in order."""
    return [t[1] for t in tokens if t[0] == WORD]


def _is_string(token: Token) -> bool:
    return token[0] == STRING


def _assigns(tokens: list[Token], at: int) -> bool:
    return at < len(tokens) and tokens[at][:2] in ((WORD, b"to"), (MARK, b"="))


def _variable(tokens: list[Token], at: int) -> tuple[bytes | None, int]:
    """A setting's name, dotted or not, and the index after it."""
    parts: list[bytes] = []
    while at < len(tokens) and tokens[at][0] in (WORD, NAME):
        parts.append(lexer.identifier(tokens[at]))
        at += 1
        if at >= len(tokens) or tokens[at][:2] != (MARK, b"."):
            break
        at += 1
    return (canonical(b".".join(parts)) if parts else None), at


def _generic(tokens: list[Token], at: int, source: _Source) -> Change:
    name, at = _variable(tokens, at)
    if name is None or not _assigns(tokens, at):
        return UNREADABLE
    change = _values(name, tokens[at + 1 :], source)
    return MODES if name in OF_TRANSACTION else change


def _one(name: bytes, tokens: list[Token], source: _Source) -> Change:
    return _values(name, tokens, source) if len(tokens) == 1 else UNREADABLE


def _values(name: bytes, tokens: list[Token], source: _Source) -> Change:
    if [t[:2] for t in tokens] == [(WORD, b"default")]:
        return Change((ResetVariable(name),))
    if not tokens:
        return UNREADABLE
    if name == b"seed":
        return Change(())  # the state behind it cannot be read, set back or restored
    items: list[list[Token]] = [[]]
    for token in tokens:
        if token[:2] == (MARK, b","):
            items.append([])
        else:
            items[-1].append(token)
    values = [_value(item, source) for item in items]
    known = [v for v in values if v is not None]
    if len(known) != len(values):
        return Change((SetVariable(name, None, source.raw),))
    if name in LIST_QUOTE:
        known = [v if _BARE.match(v) else lexer.quoted(v) for v in known]
    return Change((SetVariable(name, b", ".join(known), source.raw),))


def _value(item: list[Token], source: _Source) -> bytes | None:
    """One item of the list as the server flattens it; None when it is no constant."""
    if not item:
        return None
    kind, value, start, _ = item[0]
    if len(item) == 1:
        if kind == STRING:
            return lexer.literal(value, source.conforming)
        if kind in (WORD, NAME):
            return lexer.identifier(item[0])
    number = source.text[start : item[-1][3]]
    if kind in (NUMBER, MARK) and _NUMERIC.match(number):
        return number.removeprefix(b"+")
    return None


def _time_zone(tokens: list[Token], source: _Source) -> Change:
    if [t[:2] for t in tokens] == [(WORD, b"local")]:
        return Change((ResetVariable(b"timezone"),))
    if tokens and tokens[0][:2] == (WORD, b"interval"):
        return Change((SetVariable(b"timezone", None, source.raw),))
    return _values(b"timezone", tokens, source)


_MODES: list[tuple[list[bytes], bytes, bytes]] = [
    ([b"isolation", b"level", b"serializable"], b"isolation", b"serializable"),
    ([b"isolation", b"level", b"repeatable", b"read"], b"isolation", b"repeatable read"),
    ([b"isolation", b"level", b"read", b"committed"], b"isolation", b"read committed"),
    ([b"isolation", b"level", b"read", b"uncommitted"], b"isolation", b"read uncommitted"),
    ([b"read", b"only"], b"read_only", b"on"),
    ([b"read", b"write"], b"read_only", b"off"),
    ([b"not", b"deferrable"], b"deferrable", b"off"),
    ([b"deferrable"], b"deferrable", b"on"),
]


def _characteristics(words: list[bytes], source: _Source) -> Change:
    """SESSION CHARACTERISTICS AS TRANSACTION: the defaults of later transactions."""
    if words[:2] != [b"as", b"transaction"] or len(words) > 32:
        return UNREADABLE
    words = words[2:]
    effects: list[Effect] = []
    while words:
        for mode, name, value in _MODES:
            if words[: len(mode)] == mode:
                effects.append(SetVariable(b"default_transaction_" + name, value, source.raw))
                words = words[len(mode) :]
                break
        else:
            return UNREADABLE
    return Change(tuple(effects)) if effects else UNREADABLE
