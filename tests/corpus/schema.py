"""The lasting objects the corpus uses, and the ledger that counts what took effect."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.corpus.model import Exchange

if TYPE_CHECKING:
    import psycopg

# The ledger has no unique key on purpose: a statement that ran twice must be able to show.
_SCHEMA = """
DROP TABLE IF EXISTS corpus_ledger, corpus_rows, corpus_deferred, corpus_parent CASCADE;
DROP TYPE IF EXISTS corpus_mood CASCADE;
DROP SEQUENCE IF EXISTS corpus_sequence;
CREATE TABLE corpus_ledger (
    exchange text NOT NULL, key text NOT NULL, times int NOT NULL DEFAULT 1
);
CREATE INDEX ON corpus_ledger (exchange);
CREATE TABLE corpus_rows (id int PRIMARY KEY, t text, n numeric, b bytea, nothing int);
INSERT INTO corpus_rows
    SELECT i, 'row ' || i, i / 4.0, decode(lpad(to_hex(i), 8, '0'), 'hex'), NULL
    FROM generate_series(1, 2000) AS i;
CREATE TABLE corpus_parent (id int PRIMARY KEY);
CREATE TABLE corpus_deferred (
    parent int REFERENCES corpus_parent DEFERRABLE INITIALLY DEFERRED
);
CREATE TYPE corpus_mood AS ENUM ('calm', 'tense');
CREATE SEQUENCE corpus_sequence;
CREATE OR REPLACE FUNCTION corpus_say(level text, words text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    CASE level
        WHEN 'debug' THEN RAISE DEBUG '%', words;
        WHEN 'info' THEN RAISE INFO '%', words;
        WHEN 'notice' THEN RAISE NOTICE '%', words USING HINT = 'a hint', DETAIL = 'a detail';
        WHEN 'warning' THEN RAISE WARNING '%', words USING ERRCODE = '01000';
        ELSE RAISE EXCEPTION '%', words USING ERRCODE = 'P0777', HINT = 'none';
    END CASE;
    RETURN length(words);
END $$;
CREATE OR REPLACE PROCEDURE corpus_two_commits(who text) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO corpus_ledger (exchange, key) VALUES (who, 'first');
    COMMIT;
    INSERT INTO corpus_ledger (exchange, key) VALUES (who, 'second');
    COMMIT;
END $$;
CREATE OR REPLACE FUNCTION corpus_set_inside() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('DateStyle', 'SQL, DMY', false);
    RETURN current_setting('DateStyle');
END $$;
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'corpus_role') THEN
        CREATE ROLE corpus_role;
    END IF;
END $$;
GRANT SELECT ON corpus_rows TO corpus_role;
"""


def prepare(connection: "psycopg.Connection[Any]") -> None:
    """Create everything anew; `connection` is a superuser's, in autocommit."""
    connection.execute(_SCHEMA)


def reset(connection: "psycopg.Connection[Any]", subject: Exchange) -> None:
    """Empty the exchange's part of the ledger and do what it wants done before."""
    connection.execute("DELETE FROM corpus_ledger WHERE exchange = %s", (subject.name,))
    for statement in subject.before:
        connection.execute(statement)


def effects(connection: "psycopg.Connection[Any]", subject: Exchange) -> Mapping[str, int]:
    """How often each of its keys has taken effect by now; keys that have not are absent."""
    found = connection.execute(
        "SELECT key, sum(times)::int FROM corpus_ledger WHERE exchange = %s"
        " GROUP BY key HAVING sum(times) > 0",
        (subject.name,),
    ).fetchall()
    return dict(found)
