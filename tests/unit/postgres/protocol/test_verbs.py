"""First words: what holds another statement, what speaks of a name, what has no handler.

The classes themselves are in test_classify.py, the effects in test_effects.py.
"""

import pytest

from proxy.postgres.protocol.classify import read
from proxy.postgres.protocol.statement import Class, Opaque, Statement, Tx
from proxy.postgres.protocol.verbs import NESTING_MAX, UNREAD


def one(text: str) -> Statement:
    (statement,) = read(text.encode()).statements
    return statement


@pytest.mark.parametrize(
    ("text", "verb", "target"),
    [
        ("EXECUTE P", "EXECUTE", b"p"),
        ("EXECUTE \"P\" (1, lower('X'))", "EXECUTE", b"P"),
        ("DEALLOCATE p", "DEALLOCATE", b"p"),
        ("DEALLOCATE ALL", "DEALLOCATE", b""),
        ("FETCH 1 FROM c", "FETCH", b"c"),
        ("FETCH c", "FETCH", b"c"),
        ("MOVE BACKWARD 2 IN c", "MOVE", b"c"),
        ("CLOSE c", "CLOSE", b"c"),
        ("CLOSE ALL", "CLOSE", b""),
        ("DECLARE c CURSOR FOR SELECT 1", "DECLARE", b"c"),
        ("(SELECT 1)", "SELECT", b""),
        ("explain analyze select 1", "EXPLAIN", b""),
        ("explain analyze execute p", "EXPLAIN", b""),
    ],
)
def test_names(text: str, verb: str, target: bytes) -> None:
    statement = one(text)
    assert (statement.verb, statement.target) == (verb, target)


@pytest.mark.parametrize("argument", ["f(1)", "nextval('s')", "set_config('a', 'b', false)"])
def test_execute_whose_arguments_act_cannot_be_resolved(argument: str) -> None:
    statement = one(f"EXECUTE p ({argument})")
    assert statement.target == b""
    assert statement.opaque is Opaque.STRONG


def test_what_holds_a_statement_is_what_it_holds() -> None:
    for text, kind in (
        ("EXPLAIN ANALYZE SELECT 1", Class.READ),
        ("EXPLAIN ANALYZE DELETE FROM t", Class.WRITE),
        ("EXPLAIN (ANALYZE 'off') DELETE FROM t", Class.READ),
        ("EXPLAIN (VERBOSE, ANALYZE 1) DELETE FROM t", Class.WRITE),
        ("COPY (VALUES (1)) TO STDOUT", Class.READ),
        ("COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT", Class.WRITE),
        ("DECLARE c CURSOR FOR VALUES (1)", Class.OTHER),
        ("DECLARE c CURSOR FOR SELECT nextval('s')", Class.OTHER),
    ):
        assert one(text).kind is kind


@pytest.mark.parametrize(
    "text",
    [
        "EXPLAIN ANALYZE BEGIN",
        "EXPLAIN ANALYZE",
        "COPY (COMMIT) TO STDOUT",
        "COPY (SELECT 1) FROM STDIN",
        "COPY () TO STDOUT",
        "COPY t",
        "DECLARE c CURSOR",
        "DECLARE c CURSOR FOR ROLLBACK",
        "START SLAVE",
        "SELEKT 1",
        '"select" 1',
        "1",
        "EXPLAIN ANALYZE " * (NESTING_MAX + 2) + "SELECT 1",
    ],
)
def test_what_nobody_writes_is_never_run_again(text: str) -> None:
    statement = one(text)
    assert (statement.kind, statement.tx) == (Class.OTHER, Tx.NONE)
    assert statement.opaque is Opaque.STRONG


def test_prepare_knows_what_execute_will_run() -> None:
    (effect,) = one("PREPARE p (int) AS UPDATE t SET a = $1").effects
    assert effect.inner == one("UPDATE t SET a = $1")  # type: ignore[union-attr]
    (effect,) = one("PREPARE p").effects
    assert effect.inner is None  # type: ignore[union-attr]


def test_the_unread_statement_has_no_verb() -> None:
    assert UNREAD.verb == ""
    assert not UNREAD.plain


def test_code_that_sets_custom_settings_is_noticed() -> None:
    for body in ("set_config('a.b', c, false)", "SET a.b = 1", "set session App.x to y"):
        assert one(f"DO $$ BEGIN {body}; END $$").effects
    for body in ("UPDATE t SET a = b.c", "SET work_mem = '1MB'"):
        assert not one(f"DO $$ BEGIN {body}; END $$").effects
