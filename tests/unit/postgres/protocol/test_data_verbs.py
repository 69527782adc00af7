"""Queries, writes and DDL where the decision is a fine one. The rest is in test_classify.py."""

import pytest

from proxy.postgres.protocol.classify import read
from proxy.postgres.protocol.effects import CreateTemp
from proxy.postgres.protocol.statement import Class, Opaque, Statement


def one(text: str) -> Statement:
    (statement,) = read(text.encode()).statements
    return statement


@pytest.mark.parametrize(
    ("text", "kind", "opaque"),
    [
        # a write with a denied call may have done more than a rollback undoes
        ("INSERT INTO t SELECT pg_reload_conf()", Class.OTHER, Opaque.WEAK),
        ("UPDATE t SET a = set_config('a', 'b', false)", Class.OTHER, Opaque.STRONG),
        ("UPDATE t SET a = set_config('a', 'b', true)", Class.WRITE, Opaque.STRONG),
        ("INSERT INTO t VALUES (currval('s'))", Class.WRITE, Opaque.NONE),
        ("INSERT INTO t VALUES (lo_create(0))", Class.WRITE, Opaque.NONE),
        ("INSERT INTO t SELECT current_setting($1)", Class.WRITE, Opaque.NONE),
        # reads that write, and writes that read
        ("SELECT pg_notify('a', 'b') FROM f(1)", Class.WRITE, Opaque.WEAK),
        ("SELECT set_config('a', 'b', false) FOR UPDATE", Class.OTHER, Opaque.NONE),
        ("SELECT pg_advisory_lock(1) FOR UPDATE", Class.OTHER, Opaque.NONE),
        ("WITH x AS (SELECT 1) SELECT delete FROM t", Class.WRITE, Opaque.NONE),
        ("WITH x AS (SELECT f(1)) DELETE FROM t", Class.WRITE, Opaque.WEAK),
        ("WITH x AS (SELECT pg_reload_conf()) DELETE FROM t", Class.OTHER, Opaque.WEAK),
        ("SELECT a FROM t WHERE b = 'x' FOR\nNO KEY\tUPDATE", Class.WRITE, Opaque.NONE),
        ("SELECT a FROM t ORDER BY a for key share", Class.WRITE, Opaque.NONE),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT f(1)", Class.WRITE, Opaque.WEAK),
        # schema changes
        ("CREATE TABLE rule AS SELECT f(1)", Class.WRITE, Opaque.WEAK),
        ("CREATE TABLE x AS EXECUTE p", Class.WRITE, Opaque.STRONG),
        ("CREATE TABLE x AS SELECT pg_reload_conf()", Class.OTHER, Opaque.NONE),
        ("CREATE MATERIALIZED VIEW v AS SELECT f(1)", Class.WRITE, Opaque.WEAK),
        ("CREATE RECURSIVE VIEW v (a) AS SELECT f(1)", Class.WRITE, Opaque.NONE),
        ("CREATE OR REPLACE VIEW v AS SELECT pg_reload_conf()", Class.WRITE, Opaque.NONE),
        ("CREATE UNIQUE INDEX i ON t (f(a))", Class.WRITE, Opaque.NONE),
        ("CREATE CONSTRAINT TRIGGER t AFTER INSERT ON x EXECUTE FUNCTION f()", Class.WRITE, None),
        ("ALTER TABLE t ALTER a TYPE int USING f(a)", Class.WRITE, Opaque.NONE),
        ("ALTER TABLE t ADD a text DEFAULT set_config('a', 'b', false)", Class.WRITE, None),
        ("ALTER TABLE t ADD a int DEFAULT pg_advisory_lock(1)", Class.OTHER, Opaque.NONE),
        ("DROP SUBSCRIPTION s", Class.OTHER, Opaque.NONE),
        ("ALTER SYSTEM RESET ALL", Class.OTHER, Opaque.NONE),
    ],
)
def test_fine_decisions(text: str, kind: Class, opaque: Opaque | None) -> None:
    statement = one(text)
    assert statement.kind is kind
    assert opaque is None or statement.opaque is opaque


def test_only_select_into_makes_a_table() -> None:
    assert one("WITH x AS (SELECT 1) INSERT INTO temp SELECT * FROM x").effects == ()
    assert one("WITH x AS (SELECT 1) SELECT * INTO TEMP y FROM x").effects == (CreateTemp(),)


def test_set_config_in_a_schema_change_is_code_out_of_sight() -> None:
    text = "ALTER TABLE t ADD a text DEFAULT set_config('a', 'b', false)"
    assert one(text).opaque is Opaque.STRONG
    assert one("CREATE TABLE x (a text DEFAULT set_config('a', b, false))").opaque is Opaque.STRONG
