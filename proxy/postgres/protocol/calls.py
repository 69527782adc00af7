"""Function calls in a statement: which of them change the session, write, or reach outside.

Owns the list of functions that READ ONLY does not stop (reference/postgres-replay.md, section 4,
rule 3) and the reading of set_config's arguments. Knows tokens, not grammar: a name before an
opening parenthesis is a call unless it is a keyword, a column list or a type.
"""

from dataclasses import dataclass, field
from enum import Enum

from proxy.postgres.protocol import lexer
from proxy.postgres.protocol.builtins import HARMLESS
from proxy.postgres.protocol.effects import (
    AdvisoryLock,
    AdvisoryUnlock,
    AdvisoryUnlockAll,
    Argument,
    Effect,
    Flag,
    Parameter,
    SetConfig,
    UnknownSetConfig,
    Unrestorable,
    UsesSequence,
)
from proxy.postgres.protocol.lexer import MARK, NAME, PARAM, STRING, WORD, Token


class Category(Enum):
    """What a function may do."""

    HARMLESS = 0
    UNKNOWN = 1  # not in the catalogue
    TRANSACTIONAL = 2  # writes, undone by ROLLBACK
    NEXTVAL = 3
    SEQUENCE = 4  # reads or moves sequence state of the session
    SET_CONFIG = 5
    LOCK = 6
    UNLOCK = 7
    UNLOCK_ALL = 8
    DENIED = 9  # reaches outside the transaction
    RUNS_SQL = 10  # runs text that we do not see
    CONNECTS = 11  # opens a connection that lives as long as the session
    CURRENT_SETTING = 12
    SHOWS_READ_ONLY = 13  # answers otherwise inside BEGIN READ ONLY


_SPECIAL: dict[bytes, Category] = {
    b"set_config": Category.SET_CONFIG,
    b"current_setting": Category.CURRENT_SETTING,
    b"nextval": Category.NEXTVAL,
    b"currval": Category.SEQUENCE,
    b"lastval": Category.SEQUENCE,
    b"setval": Category.SEQUENCE,
    b"pg_notify": Category.TRANSACTIONAL,
    b"loread": Category.TRANSACTIONAL,
    b"lowrite": Category.TRANSACTIONAL,
    b"pg_advisory_xact_lock": Category.TRANSACTIONAL,
    b"pg_advisory_xact_lock_shared": Category.TRANSACTIONAL,
    b"pg_try_advisory_xact_lock": Category.TRANSACTIONAL,
    b"pg_try_advisory_xact_lock_shared": Category.TRANSACTIONAL,
    b"pg_advisory_lock": Category.LOCK,
    b"pg_advisory_lock_shared": Category.LOCK,
    b"pg_try_advisory_lock": Category.LOCK,
    b"pg_try_advisory_lock_shared": Category.LOCK,
    b"pg_advisory_unlock": Category.UNLOCK,
    b"pg_advisory_unlock_shared": Category.UNLOCK,
    b"pg_advisory_unlock_all": Category.UNLOCK_ALL,
    b"setseed": Category.DENIED,
    b"dblink_connect": Category.CONNECTS,
    b"dblink_connect_u": Category.CONNECTS,
    b"ts_stat": Category.RUNS_SQL,
    b"query_to_xml": Category.RUNS_SQL,
    b"query_to_xmlschema": Category.RUNS_SQL,
    b"query_to_xml_and_xmlschema": Category.RUNS_SQL,
    b"cursor_to_xml": Category.RUNS_SQL,
    b"cursor_to_xmlschema": Category.RUNS_SQL,
    # volatile functions of the catalogue without a telling prefix
    b"brin_desummarize_range": Category.DENIED,
    b"brin_summarize_new_values": Category.DENIED,
    b"brin_summarize_range": Category.DENIED,
    b"gin_clean_pending_list": Category.DENIED,
    b"currtid2": Category.HARMLESS,
}

# ts_rewrite runs a query when it has two arguments; with three it only computes.
_SPECIAL[b"ts_rewrite"] = Category.RUNS_SQL

_KEYWORDS = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
    boolean both case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user dec decimal default deferrable desc distinct do else end except
    exists extract false fetch float for foreign freeze from full grant greatest group grouping
    having ilike in initially inner inout int integer intersect interval into is isnull join json
    json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
    json_serialize json_table json_value lateral leading least left like limit localtime
    localtimestamp merge_action national natural nchar none normalize not notnull null nullif
    numeric offset on only or order out outer overlaps overlay placing position precision primary
    real references returning right row select session_user setof similar smallint some substring
    symmetric system_user table tablesample then time timestamp to trailing treat trim true union
    unique user using values varchar variadic verbose when where window with xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize
    xmltable
    by over filter sets rollup cube conflict set key materialized varying bpchar varbit
    timestamptz timetz
"""

KEYWORDS: frozenset[bytes] = frozenset(_KEYWORDS.encode().split())
"""Words before a parenthesis that are no calls: all that cannot name a function unquoted, and a few
that in this place mean grammar (OVER, FILTER, BY, ON CONFLICT, SET, …)."""

FUNCTIONS: frozenset[bytes] = HARMLESS - frozenset(_SPECIAL)
"""Functions whose calls need no second look."""

FREE: frozenset[bytes] = FUNCTIONS | KEYWORDS
"""What may stand before a parenthesis without making a statement interesting."""


def category(name: bytes) -> Category:
    """What the function of this name may do, whatever schema it is in."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    if name in HARMLESS:
        return Category.HARMLESS
    if name.startswith(b"lo_"):
        return Category.TRANSACTIONAL
    if name.startswith((b"pg_", b"dblink", b"binary_upgrade_")):
        return Category.DENIED
    return Category.UNKNOWN


@dataclass(slots=True)
class Calls:
    """The sum over a statement's calls."""

    seen: set[Category] = field(default_factory=set)
    effects: list[Effect] = field(default_factory=list)
    certain: bool = True  # every set_config and nextval runs exactly once
    only_local: bool = True  # every set_config is local to the transaction

    @property
    def unknown(self) -> bool:
        """Some function is not known."""
        return Category.UNKNOWN in self.seen


def scan(tokens: list[Token], conforming: bool = True) -> Calls:
    """What the calls in `tokens` (one statement, or a part of one) may do. Linear time."""
    calls = Calls()
    scanner = _Scanner(tokens, conforming)
    into = _insert_list(tokens)
    for at in range(1, len(tokens)):
        token = tokens[at]
        if token[0] == MARK and token[1] == b"(" and at != into:
            kind, word, _, _ = tokens[at - 1]
            if kind == NAME or (kind == WORD and (word not in KEYWORDS or _dotted(tokens, at))):
                scanner.call(at, calls)
    return calls


def _dotted(tokens: list[Token], opening: int) -> bool:
    """A schema stands before the name: then even a keyword names a function."""
    return opening >= 2 and tokens[opening - 2][:2] == (MARK, b".")


def _insert_list(tokens: list[Token]) -> int:
    """Index of the parenthesis that opens the column list of a leading INSERT INTO name, or -1."""
    if len(tokens) < 4 or tokens[0][1] != b"insert" or tokens[1][1] != b"into":
        return -1
    at = 3
    while at + 1 < len(tokens) and tokens[at][1] == b".":
        at += 2
    return at


_NOTES: dict[Category, Effect] = {
    Category.NEXTVAL: UsesSequence(),
    Category.SEQUENCE: UsesSequence(),
    Category.LOCK: AdvisoryLock(),
    Category.UNLOCK: AdvisoryUnlock(),
    Category.CONNECTS: Unrestorable("dblink connections"),
}

_CLAUSES = frozenset(
    b"from where group having window union intersect except".split()
    + b"order limit offset fetch for into".split()
)

EFFECTS_MAX = 64
"""How many effects of one statement's calls are told apart; more count as uncertain."""


class _Scanner:
    """One statement under the eye. The maps are made once, and only when a call needs them."""

    __slots__ = ("_closing", "_depth", "conforming", "plain_list", "tokens")

    def __init__(self, tokens: list[Token], conforming: bool) -> None:
        self.tokens = tokens
        self.conforming = conforming
        self._closing: dict[int, int] | None = None
        self._depth: dict[int, int] = {}
        self.plain_list = False  # SELECT list, no other clause

    def call(self, opening: int, calls: Calls) -> None:
        """Adds the call whose arguments open at `opening`."""
        tokens = self.tokens
        first = opening - 1
        while first >= 2 and tokens[first - 1][1] == b"." and tokens[first - 1][0] == MARK:
            first -= 2
        if first and self._names_no_function(tokens[first - 1], opening):
            return
        name = lexer.identifier(tokens[opening - 1])
        found = category(name)
        if found is Category.HARMLESS and first < opening - 1:
            schema = tokens[first]
            if schema[0] not in (WORD, NAME) or lexer.identifier(schema) != b"pg_catalog":
                found = Category.UNKNOWN
        calls.seen.add(found)
        if found not in (Category.HARMLESS, Category.UNKNOWN, Category.DENIED):
            self._note(found, (first, opening), calls)

    def _names_no_function(self, before: Token, opening: int) -> bool:
        """After AS comes a column list or a type, after :: a type, after WITH a CTE; a later CTE
        shows by what follows its columns."""
        if before[0] == WORD and before[1] == b"as":
            return True
        if before[0] == MARK and before[1] == b":":
            return True
        if before[0] == WORD and before[1] in (b"with", b"recursive"):
            return True
        if before[:2] == (MARK, b","):
            close = self.closing(opening)
            words = [t[1] for t in self.tokens[close + 1 : close + 6]]
            words = [w for w in words if w not in (b"not", b"materialized")]
            body = words[2] if len(words) > 2 else b""
            return words[:2] == [b"as", b"("] and body in (b"select", b"with", b"table")
        return False

    def closing(self, opening: int) -> int:
        """Index of the parenthesis that closes the one at `opening` (the lexer saw to it that it
        exists)."""
        if self._closing is None:
            self._map()
            assert self._closing is not None
        return self._closing.get(opening, len(self.tokens) - 1)

    def _map(self) -> None:
        self._closing = {}
        stack: list[int] = []
        self.plain_list = bool(self.tokens) and self.tokens[0][1] == b"select"
        for at, (kind, value, _, _) in enumerate(self.tokens):
            if kind == MARK and value == b"(":
                self._depth[at] = len(stack)
                stack.append(at)
            elif kind == MARK and value == b")" and stack:
                self._closing[stack.pop()] = at
            elif kind == WORD and not stack and value in _CLAUSES:
                self.plain_list = False

    def _runs_once(self, first: int, opening: int) -> bool:
        """True for an item of the list of a SELECT that has no other clause."""
        close = self.closing(opening)
        if not self.plain_list or self._depth[opening] or not first:
            return False
        if self.tokens[first - 1][1] not in (b"select", b","):
            return False
        after = self.tokens[close + 1 : close + 4]
        if after and after[0][:2] == (WORD, b"as"):
            after = after[1:]
        if after and after[0][0] in (WORD, NAME):
            after = after[1:]
        return not after or after[0][:2] == (MARK, b",")

    def _note(self, found: Category, span: tuple[int, int], calls: Calls) -> None:
        effect = _NOTES.get(found)
        if found is Category.NEXTVAL:
            calls.certain = calls.certain and self._runs_once(*span)
        elif found is Category.UNLOCK_ALL:
            effect = AdvisoryUnlockAll() if self._runs_once(*span) else AdvisoryUnlock()
        elif found is Category.SET_CONFIG:
            effect = self._set_config(*span) if len(calls.effects) < EFFECTS_MAX else None
            effect = effect or UnknownSetConfig(None, False)
            calls.certain = calls.certain and isinstance(effect, SetConfig)
            if effect.is_local is True:
                effect = None
            else:
                calls.only_local = False
        elif found is Category.CURRENT_SETTING and self._asks_read_only(span[1]):
            calls.seen.add(Category.SHOWS_READ_ONLY)
        if effect is not None and effect not in calls.effects:
            calls.effects.append(effect)

    def _asks_read_only(self, opening: int) -> bool:
        kind, value, _, _ = self.tokens[opening + 1]
        return kind != STRING or b"transaction_read_only" in value.lower()

    def _set_config(self, first: int, opening: int) -> SetConfig | UnknownSetConfig:
        arguments = self._arguments(opening)
        if len(arguments) != 3:
            return UnknownSetConfig(None, False)
        name = self._text(arguments[0])
        value = self._text(arguments[1])
        flag = self._flag(arguments[2])
        is_local = False if isinstance(flag, _Odd) else flag
        if name is None or isinstance(name, _Odd):
            return UnknownSetConfig(None, is_local)
        name = name.lower() if isinstance(name, bytes) else name
        odd = isinstance(value, _Odd) or isinstance(flag, _Odd)
        if odd or not self._runs_once(first, opening):
            return UnknownSetConfig(name, is_local)
        assert not isinstance(value, _Odd)
        return SetConfig(name, value, is_local)

    def _arguments(self, opening: int) -> list[list[Token]]:
        """The argument list, cut at its commas; empty when it is longer than anybody writes it."""
        close = self.closing(opening)
        if close - opening > _ARGUMENT_TOKENS_MAX:
            return []
        found: list[list[Token]] = [[]]
        depth = 0
        for token in self.tokens[opening + 1 : close]:
            if token[0] == MARK:
                depth += (token[1] == b"(") - (token[1] == b")")
                if token[1] == b"," and depth == 0:
                    found.append([])
                    continue
            found[-1].append(token)
        return found

    def _text(self, argument: list[Token]) -> "Argument | _Odd":
        bare = _without_cast(argument, (b"text", b"varchar"))
        if len(bare) != 1:
            return _Odd.ODD
        kind, value, _, _ = bare[0]
        if kind == PARAM:
            return _parameter(value, cast=len(argument) > 1)
        if kind == STRING:
            decoded = lexer.literal(value, self.conforming)
            return _Odd.ODD if decoded is None else decoded
        return None if kind == WORD and value == b"null" else _Odd.ODD

    def _flag(self, argument: list[Token]) -> "Flag | _Odd":
        bare = _without_cast(argument, (b"bool", b"boolean"))
        if len(bare) != 1:
            return _Odd.ODD
        kind, value, _, _ = bare[0]
        if kind == PARAM:
            return _parameter(value, cast=len(argument) > 1)
        if kind == STRING:
            value = lexer.literal(value, self.conforming) or b""
        known = truth(value) if kind in (STRING, WORD) else None
        return _Odd.ODD if known is None else known


_ARGUMENT_TOKENS_MAX = 64


class _Odd(Enum):
    """An argument that is neither a literal nor a parameter."""

    ODD = 0


def _without_cast(argument: list[Token], types: tuple[bytes, ...]) -> list[Token]:
    """`argument` less a cast to one of `types`, which changes nothing."""
    if len(argument) >= 4 and argument[1][1] == argument[2][1] == b":":
        names = [t[1] for t in argument[3:] if t[1] not in (b".", b"pg_catalog")]
        if len(names) == 1 and names[0] in types:
            return argument[:1]
    return argument


def _parameter(digits: bytes, cast: bool) -> Parameter | _Odd:
    """The protocol has 65535 parameters."""
    return Parameter(int(digits), cast) if len(digits) <= 5 else _Odd.ODD


_TRUE = (b"true", b"t", b"on", b"yes", b"y", b"1", b"\x01")
_FALSE = (b"false", b"f", b"off", b"no", b"n", b"0", b"\x00")


def truth(value: bytes) -> bool | None:
    """A boolean as the server reads it, text or binary; None: neither."""
    value = value.strip(b" \t\n\r").lower()
    return True if value in _TRUE else False if value in _FALSE else None
