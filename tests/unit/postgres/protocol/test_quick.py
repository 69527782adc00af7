"""The quick proof: what it must accept to be worth having, what it must leave to the lexer.

That it never contradicts the lexer is a property: tests/property/test_sql.py.
"""

import pytest

from proxy.postgres.protocol import quick
from proxy.postgres.protocol.classify import Class, read


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("R", "SELECT 1"),
        ("R", "  select\n1 ;"),
        ("R", 'SELECT "t"."a", "t"."b" FROM "t" WHERE "t"."c" = \'x\' LIMIT 21'),
        ("R", 'SELECT COUNT(*) AS "__count" FROM t WHERE (a IN (1, 2) AND b IS NULL)'),
        ("R", "SELECT t.id AS t_id FROM t WHERE t.name = 'it''s; -- a (literal)' AND t.x = $1"),
        ("R", "SELECT coalesce(max(a), 0), pg_catalog.lower('X') FROM t"),
        ("R", "SELECT pg_catalog.version()"),
        ("R", "select current_schema()"),
        ("R", "SELECT a.updated_at, b.created_for FROM a, b"),
        ("R", "SELECT x::varchar(3), CAST(y AS numeric(3, 1)) FROM t"),
        ("W", "INSERT INTO t (a, b) VALUES ('x', now()), ('y', NULL) RETURNING t.id"),
        ("W", 'INSERT INTO "app_t" ("a", "b") VALUES (\'x (y)\', 1) RETURNING "app_t"."id"'),
        ("W", "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b"),
        ("W", "UPDATE t SET a='x', b=b+1 WHERE t.id = 5"),
        ("W", 'UPDATE "t" SET "a" = \'2024-01-01\'::timestamptz WHERE "t"."id" IN (1)'),
        ("W", "DELETE FROM t WHERE id IN (SELECT id FROM u)"),
    ],
)
def test_ordinary_texts_are_proven(kind: str, text: str) -> None:
    script = quick.plain(text.encode())
    assert script is not None
    assert script.kind is Class(kind)
    assert script == read(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECTED 1",
        "SELECT$1",
        "BEGIN",
        "WITH x AS (SELECT 1) SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1 -- x",
        "SELECT /* x */ 1",
        "SELECT E'a\\'b'",
        "SELECT $$a$$",
        "SELECT $a$a$a$",
        "SELECT 1 INTO x",
        "SELECT 1 FOR UPDATE",
        "SELECT 1 for  no\nkey\tupdate",
        "SELECT 1for share",
        "SELECT * FROM pg_settings",
        "SELECT current_setting('transaction_read_only')",
        "SELECT f(1)",
        'SELECT "lower"(1)',
        "SELECT my.lower(1)",
        "SELECT my . lower(1)",
        "SELECT my.\nlower(1)",
        "SELECT set_config('a', 'b', false)",
        "SELECT nextval('s')",
        "SELECT $$ ' $$, set_config('a', 'b', false) --'",
        "SELECT \"'\", set_config('a', 'b', false), \"'\"",
        "SELECT 'a', set_config('a', 'b', false), 'b'",
        "INSERT INTO t SELECT f(1)",
        "INSERT SELECTINTO t (a)",
        "INSERT INTO t (a) VALUES (nextval('s'))",
        "UPDATE t SET a = pg_advisory_lock(1)",
        "DELETE FROM t WHERE f(a)",
    ],
)
def test_everything_else_is_left_to_the_lexer(text: str) -> None:
    assert quick.plain(text.encode()) is None
