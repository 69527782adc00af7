"""Effects of texts: what each statement is known to do to its session."""

import pytest

from proxy.postgres.protocol.classify import read
from proxy.postgres.protocol.effects import (
    AdvisoryLock,
    AdvisoryUnlock,
    AdvisoryUnlockAll,
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
    Parameter,
    PrepareSql,
    ResetAll,
    ResetVariable,
    SetConfig,
    SetVariable,
    UnknownSetConfig,
    Unlisten,
    Unrestorable,
    UsesSequence,
)

P1, P2, P3 = Parameter(1), Parameter(2), Parameter(3)
ANY = UnknownSetConfig(None, False)
SEQUENCE = UsesSequence()

TABLE: list[tuple[str, tuple[Effect, ...]]] = [
    ("SELECT 1", ()),
    ("SELECT set_config('A.b', 'it''s', false)", (SetConfig(b"a.b", b"it's", False),)),
    ("SELECT set_config('a.b', E'x\\n', 'f')", (SetConfig(b"a.b", b"x\n", False),)),
    ("SELECT set_config('a.b', $$x'y$$, off)", (SetConfig(b"a.b", b"x'y", False),)),
    ("SELECT set_config($1, $2, $3)", (SetConfig(P1, P2, P3),)),
    (
        "SELECT set_config('a.b', $1::text, false)",
        (SetConfig(b"a.b", Parameter(1, cast=True), False),),
    ),
    (
        "SELECT set_config('a'::pg_catalog.text, NULL, false::boolean) AS x",
        (SetConfig(b"a", None, False),),
    ),
    ("SELECT set_config('a.b', 'c', true)", ()),
    ("SELECT set_config('a.b', c, true) FROM t", ()),
    ("SELECT set_config('a.b', ($1::int)::text, false)", (UnknownSetConfig(b"a.b", False),)),
    ("SELECT set_config('a.b', 'c', false) FROM t", (UnknownSetConfig(b"a.b", False),)),
    ("SELECT set_config('a.b', 'c', $1) FROM t", (UnknownSetConfig(b"a.b", P1),)),
    ("SELECT set_config(x, 'c', $1) FROM t", (UnknownSetConfig(None, P1),)),
    ("SELECT set_config('a.b', 'c', x)", (UnknownSetConfig(b"a.b", False),)),
    ("SELECT set_config($123456, 'c', false)", (ANY,)),
    ("SELECT set_config('a.b', U&'c', false)", (UnknownSetConfig(b"a.b", False),)),
    ("SELECT set_config(NULL, 'c', false)", (ANY,)),
    ("SELECT set_config('a', 'b')", (ANY,)),
    ("INSERT INTO t SELECT set_config('a', 'b', false)", (UnknownSetConfig(b"a", False),)),
    ("CREATE TABLE x AS SELECT set_config('a', 'b', false)", (UnknownSetConfig(b"a", False),)),
    ("SELECT nextval('s')", (SEQUENCE,)),
    ("SELECT lastval()", (SEQUENCE,)),
    ("INSERT INTO t VALUES (nextval('s'), currval('s'))", (SEQUENCE,)),
    ("SELECT pg_advisory_lock(1)", (AdvisoryLock(),)),
    ("SELECT pg_try_advisory_lock_shared(1, 2) FROM t", (AdvisoryLock(),)),
    ("UPDATE t SET a = 1 WHERE pg_advisory_lock(1) IS NULL", (AdvisoryLock(),)),
    ("SELECT pg_advisory_unlock(1)", (AdvisoryUnlock(),)),
    ("SELECT pg_advisory_unlock_all()", (AdvisoryUnlockAll(),)),
    ("SELECT pg_advisory_unlock_all() FROM t", (AdvisoryUnlock(),)),
    ("SELECT pg_advisory_xact_lock(1)", ()),
    ("SELECT dblink_connect('a', 'b')", (Unrestorable("dblink connections"),)),
    ("CREATE TEMP TABLE t (a int)", (CreateTemp(),)),
    ("create local temporary table t (a int)", (CreateTemp(),)),
    ("CREATE TEMP TABLE t (a int) ON COMMIT DELETE ROWS", (CreateTemp(),)),
    ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", ()),
    ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", (CreateTemp(),)),
    ("CREATE TEMP SEQUENCE s", (CreateTemp(),)),
    ("CREATE TABLE pg_temp.t (a int)", (CreateTemp(),)),
    ('CREATE TABLE IF NOT EXISTS "pg_temp".t (a int)', (CreateTemp(),)),
    ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", (CreateTemp(),)),
    ("CREATE TABLE t (temp int)", ()),
    ("CREATE UNLOGGED TABLE t (a int)", ()),
    ("SELECT 1 INTO TEMP x", (CreateTemp(),)),
    ("SELECT a INTO TEMPORARY TABLE x FROM t", (CreateTemp(),)),
    ("SELECT a INTO pg_temp.x FROM t", (CreateTemp(),)),
    ("SELECT a INTO x FROM t", ()),
    ("DROP TABLE t", (Drops(),)),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", (HoldCursor(b"c"),)),
    ('DECLARE "C" NO SCROLL CURSOR WITH HOLD FOR SELECT 1', (HoldCursor(b"C"),)),
    ("DECLARE c CURSOR FOR SELECT 1", ()),
    ("CLOSE c", (CloseCursor(b"c"),)),
    ("CLOSE ALL", (CloseCursor(None),)),
    ("LISTEN Abc", (Listen(b"abc"),)),
    ('LISTEN "A""b"', (Listen(b'A"b'),)),
    ("LISTEN " + "x" * 70, (Listen(b"x" * 63),)),
    ("UNLISTEN a", (Unlisten(b"a"),)),
    ("UNLISTEN *", (Unlisten(None),)),
    ("DEALLOCATE a", (Deallocate(b"a"),)),
    ("DEALLOCATE PREPARE a", (Deallocate(b"a"),)),
    ("DEALLOCATE prepare", (Deallocate(b"prepare"),)),
    ("DEALLOCATE ALL", (Deallocate(None),)),
    ('DEALLOCATE "all"', (Deallocate(b"all"),)),
    ("DISCARD ALL", (DiscardAll(),)),
    ("DISCARD TEMPORARY", (DiscardTemp(),)),
    ("DISCARD SEQUENCES", (DiscardSequences(),)),
    ("DISCARD PLANS", ()),
    ("/* a */ LOAD 'age' ;", (LoadLibrary(b"LOAD 'age'"),)),
    ("RESET ALL", (ResetAll(),)),
    ("RESET Work_Mem", (ResetVariable(b"work_mem"),)),
    ("SET a.b = 'c'", (SetVariable(b"a.b", b"c", b"SET a.b = 'c'"),)),
    ("DO $$ BEGIN PERFORM f(); END $$", ()),
    ("DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$", (ANY,)),
    ("DO $$ BEGIN EXECUTE 'SET app.user = 1'; END $$", (ANY,)),
    ("EXPLAIN SELECT set_config('a', 'b', false)", ()),
    ("EXPLAIN ANALYZE SELECT nextval('s')", (SEQUENCE,)),
    ("COPY (SELECT nextval('s')) TO STDOUT", (SEQUENCE,)),
]


@pytest.mark.parametrize(("text", "effects"), TABLE)
def test_effects(text: str, effects: tuple[Effect, ...]) -> None:
    (statement,) = read(text.encode()).statements
    assert statement.effects == effects


def test_effects_in_schema_changes_are_seen_too() -> None:
    (statement,) = read(b"ALTER TABLE t ADD a text DEFAULT set_config('a', b, false)").statements
    assert statement.effects == (UnknownSetConfig(b"a", False),)


def test_values_do_not_show() -> None:
    for text in (
        b"SET app.secret = 'hunter2'",
        b"SELECT set_config('app.secret', 'hunter2', false)",
        b"PREPARE p AS SELECT 'hunter2'",
        b"LOAD 'hunter2'",
    ):
        assert "hunter2" not in repr(read(text))


@pytest.mark.parametrize(
    ("text", "name", "kept"),
    [
        ("/* a */ PREPARE p AS SELECT 1;", b"p", b"PREPARE p AS SELECT 1"),
        ('PREPARE "P" (int) AS SELECT $1', b"P", b'PREPARE "P" (int) AS SELECT $1'),
    ],
)
def test_prepare_keeps_the_whole_text(text: str, name: bytes, kept: bytes) -> None:
    (effect,) = read(text.encode()).statements[0].effects
    assert isinstance(effect, PrepareSql)
    assert (effect.name, effect.text, effect.escapes) == (name, kept, False)
    assert effect.inner == read(kept[kept.index(b"SELECT") :]).statements[0]


def test_prepare_with_backslashes_that_depend_on_a_setting() -> None:
    text = rb"PREPARE p AS SELECT 'a\\b'"
    for conforming in (True, False):
        (effect,) = read(text, conforming).statements[0].effects
        assert isinstance(effect, PrepareSql)
        assert effect.escapes is not conforming


def test_many_unknown_set_configs_are_summed_up() -> None:
    calls = ", ".join(f"set_config('a{n}', x, false)" for n in range(200))
    (statement,) = read(f"SELECT {calls} FROM t".encode()).statements
    assert ANY in statement.effects
    assert len(statement.effects) <= 65
