"""Transactions: modes, savepoints, failure, deferred constraints, two-phase, CALL and DO, DDL."""

from tests import wire
from tests.corpus.model import Exchange, exchange, note, simple
from tests.wire import SYNC

BASICS = [
    simple("commit_nothing", "BEGIN", "COMMIT"),
    simple("rollback_nothing", "BEGIN", "ROLLBACK"),
    simple("commit_write", "BEGIN", note("commit_write", "a"), "COMMIT", effects={"a": 1}),
    simple("rollback_write", "BEGIN", note("rollback_write", "x"), "ROLLBACK"),
    simple("start_and_end", "START TRANSACTION", "SELECT 1", "END"),
    simple("abort", "BEGIN WORK", "SELECT 1", "ABORT"),
    simple(
        "read_your_writes",
        "BEGIN",
        note("read_your_writes", "a"),
        "SELECT key FROM corpus_ledger WHERE exchange = 'read_your_writes'",
        "COMMIT",
        effects={"a": 1},
    ),
    simple("read_only", "BEGIN READ ONLY", "SELECT 1", "COMMIT"),
    simple(
        "read_only_refuses_writes", "BEGIN READ ONLY", note("never", "x"), "SELECT 1", "ROLLBACK"
    ),
    simple(
        "isolation_levels",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "SHOW transaction_isolation",
        "COMMIT",
        "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        "SELECT 1",
        "COMMIT",
    ),
    simple(
        "set_transaction",
        "BEGIN",
        "SET TRANSACTION READ ONLY",
        "SHOW transaction_read_only",
        "COMMIT",
    ),
    simple(
        "set_transaction_late",
        "BEGIN",
        "SELECT 1",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "ROLLBACK",
    ),
    simple(
        "commit_and_chain",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        note("commit_and_chain", "a"),
        "COMMIT AND CHAIN",
        "SHOW transaction_isolation",
        "ROLLBACK",
        effects={"a": 1},
    ),
    simple("rollback_and_chain", "BEGIN", "SELECT 1/0", "ROLLBACK AND CHAIN", "SELECT 1", "COMMIT"),
    simple(
        "long_transaction",
        "BEGIN",
        *(note("long_transaction", f"k{n}") for n in range(10)),
        "COMMIT",
        effects={f"k{n}": 1 for n in range(10)},
    ),
    exchange(
        "extended_transaction",
        wire.run("BEGIN") + SYNC,
        wire.run(note("extended_transaction", "a")) + SYNC,
        wire.run("COMMIT") + SYNC,
        effects={"a": 1},
    ),
    exchange(
        "psycopg_style_transaction",
        wire.query("BEGIN"),
        wire.run("SELECT $1::int", "1") + SYNC,
        wire.run("SELECT $1::text", "x") + SYNC,
        wire.query("COMMIT"),
    ),
]

FAILURES = [
    simple(
        "failed_transaction", "BEGIN", "SELECT 1/0", "SELECT 1", "SET work_mem = '5MB'", "ROLLBACK"
    ),
    simple(
        "commit_of_failed",
        "BEGIN",
        note("commit_of_failed", "x"),
        "SELECT 1/0",
        "COMMIT",
        "SELECT 1",
    ),
    exchange(
        "commit_of_failed_extended",
        wire.query("BEGIN"),
        wire.run("SELECT 1/0") + SYNC,
        wire.run("COMMIT") + SYNC,
    ),
    simple("syntax_error_fails_transaction", "BEGIN", "SELEC", "SELECT 1", "COMMIT"),
    exchange(
        "parse_in_failed_transaction",
        wire.query("BEGIN"),
        wire.query("SELECT 1/0"),
        wire.parse("SELECT 1") + SYNC,
        wire.parse("ROLLBACK") + wire.values() + wire.execute() + SYNC,
    ),
    simple(
        "deferred_constraint_fails_at_commit",
        "BEGIN",
        "INSERT INTO corpus_deferred VALUES (404)",
        note("deferred_constraint_fails_at_commit", "x"),
        "COMMIT",
        "SELECT 1",
    ),
    exchange(
        "deferred_constraint_fails_at_commit_extended",
        wire.query("BEGIN"),
        wire.run("INSERT INTO corpus_deferred VALUES (404)") + SYNC,
        wire.run("COMMIT") + SYNC,
        wire.query("SELECT 1"),
    ),
    simple("deferred_constraint_autocommit", "INSERT INTO corpus_deferred VALUES (404)"),
    exchange(
        "deferred_constraint_fails_at_sync",
        wire.run("INSERT INTO corpus_deferred VALUES (404)") + SYNC,
    ),
    simple(
        "set_constraints",
        "BEGIN",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "INSERT INTO corpus_deferred VALUES (404)",
        "ROLLBACK",
    ),
    simple("statement_timeout", "SET statement_timeout = 20", "SELECT pg_sleep(10)", "SELECT 1"),
    simple("lock_timeout_setting", "SET lock_timeout = '50ms'", "SHOW lock_timeout"),
]

SAVEPOINTS = [
    simple(
        "savepoint", "BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 1", "COMMIT"
    ),
    simple(
        "savepoint_keeps_outer",
        "BEGIN",
        note("savepoint_keeps_outer", "kept"),
        "SAVEPOINT a",
        note("savepoint_keeps_outer", "lost"),
        "ROLLBACK TO SAVEPOINT a",
        "RELEASE a",
        "COMMIT",
        effects={"kept": 1},
    ),
    simple(
        "nested_savepoints",
        "BEGIN",
        "SAVEPOINT a",
        "SAVEPOINT b",
        "SAVEPOINT a",
        "RELEASE a",
        "ROLLBACK TO a",
        "COMMIT",
    ),
    simple("unknown_savepoint", "BEGIN", "ROLLBACK TO nowhere", "ROLLBACK"),
    simple("savepoint_outside", "SAVEPOINT a"),
    simple(
        "psycopg2_style_savepoints",
        "BEGIN",
        "SAVEPOINT s1",
        note("psycopg2_style_savepoints", "a"),
        "RELEASE SAVEPOINT s1",
        "SAVEPOINT s2",
        "INSERT INTO corpus_rows (id) VALUES (1)",
        "ROLLBACK TO SAVEPOINT s2",
        "COMMIT",
        effects={"a": 1},
    ),
]

TWO_PHASE = [
    simple("commit_prepared_unknown", "COMMIT PREPARED 'corpus never'"),
    simple("rollback_prepared_unknown", "ROLLBACK PREPARED 'corpus never'"),
    simple("prepare_transaction_outside", "PREPARE TRANSACTION 'corpus outside'"),
    simple(
        "prepare_and_rollback",
        "BEGIN",
        note("prepare_and_rollback", "x"),
        "PREPARE TRANSACTION 'corpus rolled back'",
        "ROLLBACK PREPARED 'corpus rolled back'",
        before=(
            # A broken run may have left it prepared; only its own session may, so take it over.
            "DO $$ BEGIN IF EXISTS (SELECT FROM pg_prepared_xacts"
            " WHERE gid = 'corpus rolled back') THEN"
            " RAISE EXCEPTION 'left over: ROLLBACK PREPARED it first'; END IF; END $$",
        ),
    ),
    simple(
        "prepare_failed_transaction",
        "BEGIN",
        "SELECT 1/0",
        "PREPARE TRANSACTION 'corpus failed'",
        "SELECT 1",
    ),
]

CODE = [
    simple("do_block", f"DO $$ BEGIN {note('do_block', 'a')}; END $$", effects={"a": 1}),
    simple(
        "do_block_with_commit",
        f"DO $$ BEGIN {note('do_block_with_commit', 'a')}; COMMIT; PERFORM 1/0; END $$",
        effects={"a": 1},
    ),
    simple(
        "call_two_commits",
        "CALL corpus_two_commits('call_two_commits')",
        effects={"first": 1, "second": 1},
    ),
    exchange(
        "call_extended",
        wire.run("CALL corpus_two_commits('call_extended')") + SYNC,
        effects={"first": 1, "second": 1},
    ),
    simple(
        "call_in_transaction", "BEGIN", "CALL corpus_two_commits('call_in_transaction')", "ROLLBACK"
    ),
    simple("call_unknown", "CALL no_such_procedure()"),
    simple("do_raises", "DO $$ BEGIN RAISE EXCEPTION 'in do'; END $$"),
]

DDL = [
    simple(
        "create_and_drop",
        "CREATE TABLE corpus_new (i int)",
        "DROP TABLE corpus_new",
        before=("DROP TABLE IF EXISTS corpus_new",),
        changes=True,
    ),
    simple(
        "ddl_rolled_back",
        "BEGIN",
        "CREATE TABLE corpus_rolled (i int)",
        "ROLLBACK",
        "SELECT * FROM corpus_rolled",
    ),
    simple("truncate_rolled_back", "BEGIN", "TRUNCATE corpus_deferred", "ROLLBACK"),
    simple(
        "create_exists",
        "CREATE TABLE corpus_rows (i int)",
        "CREATE TABLE IF NOT EXISTS corpus_rows (i int)",
    ),
    simple("analyze", "ANALYZE corpus_parent"),
    simple("vacuum", "VACUUM corpus_parent"),
    simple("vacuum_in_transaction", "BEGIN", "VACUUM corpus_parent", "ROLLBACK"),
    simple(
        "create_table_as",
        "CREATE TABLE corpus_made AS SELECT 1 AS i",
        "DROP TABLE corpus_made",
        before=("DROP TABLE IF EXISTS corpus_made",),
        changes=True,
    ),
    simple("comment_on", "COMMENT ON TABLE corpus_parent IS 'said'", changes=True),
    simple(
        "grant_revoke",
        "GRANT SELECT ON corpus_parent TO corpus_role",
        "REVOKE SELECT ON corpus_parent FROM corpus_role",
        changes=True,
    ),
    simple("lock_table", "BEGIN", "LOCK TABLE corpus_parent IN SHARE MODE", "COMMIT"),
    simple("checkpoint", "CHECKPOINT"),
]

EXCHANGES: list[Exchange] = [*BASICS, *FAILURES, *SAVEPOINTS, *TWO_PHASE, *CODE, *DDL]
