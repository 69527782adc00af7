"""Statements about data and schema: queries, writes, DDL.

Owns rules 2, 3 and 5 of reference/postgres-replay.md, section 4, for statements that hold no other
statement. Rules lean to the side where nothing runs twice.
"""

from proxy.postgres.protocol.calls import Calls, Category
from proxy.postgres.protocol.effects import CreateTemp, Drops, Effect
from proxy.postgres.protocol.lexer import NAME, WORD
from proxy.postgres.protocol.source import Source
from proxy.postgres.protocol.statement import OTHER_MODES, Class, Opaque, Statement, Tx


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


def query(source: Source) -> Statement:
    """SELECT, VALUES, TABLE, WITH (also before a write), or any of them in parentheses."""
    verb = source.verb()
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
    modes = OTHER_MODES if tx is Tx.LOCAL else b""  # its name may be that of a mode
    return Statement(kind, verb, tx, tuple(calls.effects), opaque=opaque, modes=modes)


def _query_writes(source: Source) -> tuple[Effect, ...] | None:
    """The effects of a query that is no pure read, or None: SELECT INTO, FOR UPDATE and the like, a
    data-modifying WITH."""
    has_with = changes = False
    for at, (kind, value, _, _) in enumerate(source.tokens):
        if kind != WORD or value not in _QUERY_WORDS:
            continue
        if value == b"into" and source.word(at - 1) not in (b"insert", b"merge"):
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


# ---- writes ----


def dml(source: Source) -> Statement:
    """INSERT, UPDATE, DELETE, MERGE."""
    calls = source.calls()
    denied = bool(calls.seen.intersection(_NEVER_AGAIN)) or (
        Category.SET_CONFIG in calls.seen and not calls.only_local
    )
    opaque = Opaque.STRONG if Category.SET_CONFIG in calls.seen else _opacity(calls)
    kind = Class.OTHER if denied else Class.WRITE
    return Statement(kind, source.verb(), effects=tuple(calls.effects), opaque=opaque)


def write(source: Source) -> Statement:
    """Transactional, and of no interest otherwise."""
    return Statement(Class.WRITE, source.verb())


def refresh(source: Source) -> Statement:
    return Statement(Class.WRITE, source.verb(), opaque=Opaque.WEAK)


_NO_TRANSACTION = (b"database", b"tablespace", b"subscription", b"system")


def _outside(source: Source) -> bool:
    """The command cannot run in a transaction, so a rollback proves nothing."""
    if any(source.word(at) in _NO_TRANSACTION for at in (1, 2)):
        return True
    return any(t[0] == WORD and t[1] == b"concurrently" for t in source.tokens[:8]) or (
        source.tokens[-1][:2] == (WORD, b"concurrently")
    )


_MODIFIERS = frozenset(
    b"or replace local global temp temporary unlogged recursive".split()
    + b"constraint event unique foreign".split()
)
_RUNS_NOTHING = (b"function", b"procedure", b"view", b"rule", b"trigger", b"aggregate")


def create(source: Source) -> Statement:
    """CREATE: of a table from a query, the query's calls count; of code, nothing runs yet."""
    if _outside(source):
        return Statement(Class.OTHER, "CREATE", opaque=Opaque.WEAK)
    at, temporary = 1, False
    while source.word(at) in _MODIFIERS:
        temporary = temporary or source.word(at) in (b"temp", b"temporary")
        at += 1
    what = source.word(at)
    words = [t[1] for t in source.tokens if t[0] == WORD]
    effects: tuple[Effect, ...] = ()
    if (temporary or _in_pg_temp(source)) and not _drops_at_commit(words):
        effects = (CreateTemp(),)
    if what in _RUNS_NOTHING:
        return Statement(Class.WRITE, "CREATE", effects=effects)
    calls = source.calls()
    opaque = Opaque.NONE
    if what == b"extension" or (b"as" in words and calls.unknown):
        opaque = Opaque.WEAK
    if b"execute" in words or Category.SET_CONFIG in calls.seen:
        opaque = Opaque.STRONG
    kind = Class.OTHER if calls.seen.intersection(_NEVER_AGAIN) else Class.WRITE
    return Statement(kind, "CREATE", effects=(*effects, *calls.effects), opaque=opaque)


def _drops_at_commit(words: list[bytes]) -> bool:
    """ON COMMIT DROP: a table that goes with its transaction."""
    return any(
        words[at : at + 3] == [b"on", b"commit", b"drop"]
        for at, word in enumerate(words)
        if word == b"on"
    )


def _in_pg_temp(source: Source) -> bool:
    """The new object's name is in the schema pg_temp."""
    return any(
        source.tokens[at][1] == b"pg_temp" and source.tokens[at + 1][1] == b"."
        for at in range(1, min(12, len(source.tokens) - 1))
    )


def alter(source: Source) -> Statement:
    if _outside(source):
        return Statement(Class.OTHER, "ALTER")
    calls = source.calls()
    denied = calls.seen.intersection(_NEVER_AGAIN)
    opaque = Opaque.STRONG if Category.SET_CONFIG in calls.seen else Opaque.NONE
    kind = Class.OTHER if denied else Class.WRITE
    return Statement(kind, "ALTER", effects=tuple(calls.effects), opaque=opaque)


def drop(source: Source) -> Statement:
    kind = Class.OTHER if _outside(source) else Class.WRITE
    return Statement(kind, "DROP", effects=(Drops(),))
