"""Simple protocol: queries, errors in each place, several statements, notices, parameter status."""

from tests import wire
from tests.corpus.model import Exchange, exchange, note, simple, syncs

QUERIES = [
    simple("select_one", "SELECT 1"),
    simple("select_columns", "SELECT id, t, n, b, nothing FROM corpus_rows WHERE id = 7"),
    simple("select_no_rows", "SELECT * FROM corpus_rows WHERE id < 0"),
    simple("select_no_columns", "SELECT FROM corpus_rows WHERE id < 4"),
    simple("select_nulls", "SELECT NULL, ''::text, NULL::int, 'null'"),
    simple("empty_query", ""),
    simple("empty_query_of_spaces", "  \n\t "),
    simple("empty_query_of_comments", "/* nothing */ -- at all"),
    simple("empty_query_of_semicolons", ";;"),
    simple("comments_around", "/* a /* nested */ b */ SELECT 2 -- end\n;"),
    simple("dollar_quotes", "SELECT $q$it's ; $$ not the end$q$, 'a;b', E'\\'', \"current_user\""),
    simple("values_and_table", "VALUES (1, 'a'), (2, 'b')", "TABLE corpus_parent"),
    simple("show", "SHOW server_encoding", "SHOW search_path"),
    simple("explain", "EXPLAIN (COSTS OFF) SELECT * FROM corpus_rows WHERE id = 1"),
    simple("several_queries", "SELECT 1", "SELECT 2", "SELECT 3"),
    exchange(
        "queries_without_waiting",
        syncs(3, wire.query("SELECT 1"), wire.query("SELECT 2"), wire.query("SELECT 3")),
    ),
    exchange(
        "queries_without_waiting_one_fails",
        syncs(3, wire.query("SELECT 1"), wire.query("SELECT 1/0"), wire.query("SELECT 3")),
    ),
]

STATEMENTS = [
    simple("two_statements", "SELECT 1; SELECT 'two'"),
    simple("statements_with_empty_one", "SELECT 1;; SELECT 2;"),
    simple("second_statement_fails", "SELECT 1; SELECT 1/0; SELECT 3"),
    simple("syntax_error_in_second", "SELECT 1; SELEC 2"),
    simple(
        "implicit_transaction_rolls_back",
        f"{note('implicit_transaction_rolls_back', 'lost')}; SELECT 1/0",
        "SELECT count(*) FROM corpus_ledger WHERE exchange = 'implicit_transaction_rolls_back'",
    ),
    simple(
        "implicit_transaction_commits",
        f"{note('implicit_transaction_commits', 'a')}; {note('implicit_transaction_commits', 'b')}",
        effects={"a": 1, "b": 1},
    ),
    simple(
        "commit_within_statements",
        f"BEGIN; {note('commit_within_statements', 'kept')}; COMMIT; SELECT 1/0",
        effects={"kept": 1},
    ),
    simple(
        "begin_within_statements",
        "SELECT 1; BEGIN; SELECT 2",
        "SELECT 3",
        "ROLLBACK",
    ),
    simple(
        "rollback_within_statements",
        f"{note('rollback_within_statements', 'lost')}; ROLLBACK; SELECT 1",
    ),
    simple("many_statements", "; ".join(f"SELECT {n}" for n in range(100))),
    simple("show_within_statements", "SET work_mem = '5MB'; SHOW work_mem; RESET work_mem"),
]

ERRORS = [
    simple("syntax_error", "SELEC 1"),
    simple("unknown_table", "SELECT * FROM no_such_table"),
    simple("unknown_column", "SELECT no_such FROM corpus_rows"),
    simple("unknown_function", "SELECT no_such_function(1)"),
    simple("division_by_zero", "SELECT 1/0"),
    simple("error_after_rows", "SELECT 10 / (5 - i) FROM generate_series(1, 10) AS i"),
    simple(
        "error_after_many_rows",
        "SELECT repeat('x', 1000), 10 / (3000 - i) FROM generate_series(1, 4000) AS i",
    ),
    simple("bad_cast", "SELECT 'twelve'::int"),
    simple("permission_denied", "SET ROLE corpus_role", "SELECT * FROM corpus_ledger"),
    simple("unique_violation", "INSERT INTO corpus_rows (id) VALUES (1)"),
    simple("error_with_position", "SELECT 1,\n 2,\n oops FROM corpus_rows"),
    simple("unterminated_string", "SELECT 'open"),
    simple("unterminated_comment", "SELECT 1 /* open"),
    simple("unknown_setting", "SET no_such_setting = 1"),
    simple("bad_setting_value", "SET work_mem = 'much'"),
    simple("raised_error", "SELECT corpus_say('error', 'on purpose')"),
    simple("error_then_works", "SELECT 1/0", "SELECT 1"),
]

WRITES = [
    simple("insert_one", note("insert_one", "a"), effects={"a": 1}),
    simple(
        "insert_returning",
        note("insert_returning", "a") + " RETURNING key, times",
        effects={"a": 1},
    ),
    simple(
        "insert_many",
        "INSERT INTO corpus_ledger SELECT 'insert_many', 'k' || i FROM generate_series(1, 50) AS i",
        effects={f"k{n}": 1 for n in range(1, 51)},
    ),
    simple(
        "update_counter",
        "UPDATE corpus_ledger SET times = times + 1 WHERE exchange = 'update_counter'",
        before=("INSERT INTO corpus_ledger VALUES ('update_counter', 'n', 0)",),
        effects={"n": 1},
    ),
    simple(
        "update_returning_counter",
        "UPDATE corpus_ledger SET times = times + 1"
        " WHERE exchange = 'update_returning_counter' RETURNING times",
        before=("INSERT INTO corpus_ledger VALUES ('update_returning_counter', 'n', 0)",),
        effects={"n": 1},
    ),
    simple(
        "delete_rows",
        "DELETE FROM corpus_ledger WHERE exchange = 'delete_rows' RETURNING key",
        before=("INSERT INTO corpus_ledger VALUES ('delete_rows', 'a')",),
        changes=True,
    ),
    simple(
        "modifying_with",
        f"WITH new AS ({note('modifying_with', 'a')} RETURNING key) SELECT * FROM new",
        effects={"a": 1},
    ),
    simple("select_for_update", "SELECT id FROM corpus_rows WHERE id = 3 FOR UPDATE"),
    simple(
        "merge",
        "MERGE INTO corpus_ledger AS l USING (VALUES ('merge', 'a')) AS v (e, k)"
        " ON l.exchange = v.e AND l.key = v.k"
        " WHEN MATCHED THEN UPDATE SET times = times + 1"
        " WHEN NOT MATCHED THEN INSERT VALUES (v.e, v.k)",
        effects={"a": 1},
    ),
    simple(
        "upsert_does_nothing",
        "INSERT INTO corpus_rows (id) VALUES (1) ON CONFLICT DO NOTHING",
    ),
    simple("insert_three_times", *([note("insert_three_times", "a")] * 3), effects={"a": 3}),
]

NOTICES = [
    simple("notice", "SELECT corpus_say('notice', 'look')"),
    simple("warning", "SELECT corpus_say('warning', 'careful')"),
    simple("info", "SELECT corpus_say('info', 'by the way')"),
    simple(
        "debug_notices", "SET client_min_messages = debug1", "SELECT corpus_say('debug', 'deep')"
    ),
    simple(
        "many_notices", "SELECT sum(corpus_say('notice', 'n' || i)) FROM generate_series(1, 50) i"
    ),
    simple("notices_then_error", "SELECT corpus_say('notice', 'a'), corpus_say('error', 'b')"),
    simple("notice_of_drop", "DROP TABLE IF EXISTS corpus_never"),
    simple("warning_commit_without_begin", "COMMIT", "ROLLBACK"),
    simple("warning_begin_twice", "BEGIN", "BEGIN", "COMMIT"),
    simple("do_block_notice", "DO $$ BEGIN RAISE NOTICE 'from do'; END $$"),
    simple("big_notice", "SELECT corpus_say('notice', repeat('n', 100000))"),
]

EXCHANGES: list[Exchange] = [*QUERIES, *STATEMENTS, *ERRORS, *WRITES, *NOTICES]
