"""Session state: settings and their reports, roles, SQL-level statements, cursors, temp tables."""

from tests import wire
from tests.corpus.model import Exchange, exchange, note, simple
from tests.wire import SYNC

SETTINGS = [
    simple("set_unreported", "SET work_mem = '6MB'", "SHOW work_mem"),
    simple("set_reported", "SET application_name = 'corpus'", "SET DateStyle = 'German'"),
    simple("set_to_same_value", "SET application_name = 'x'", "SET application_name = 'x'"),
    simple("set_timezone", "SET TIME ZONE 'Asia/Tokyo'", "SELECT timestamptz 'epoch'"),
    simple("set_names", "SET NAMES 'LATIN1'", "SELECT 'ab'", "SET NAMES 'UTF8'"),
    simple("set_interval_style", "SET IntervalStyle = 'iso_8601'", "SELECT interval '1 day 2:03'"),
    simple("set_search_path", "SET search_path = pg_catalog, public", "SHOW search_path"),
    simple("set_search_path_missing", "SET search_path TO nowhere", "SELECT * FROM corpus_rows"),
    simple("set_quoted_identifiers", "SET search_path = \"Odd Schema\", 'b'", "SHOW search_path"),
    simple(
        "set_custom",
        "SET corpus.tenant = 'seven'",
        "SELECT current_setting('corpus.tenant')",
        "SELECT current_setting('corpus.none', true)",
    ),
    simple("set_then_reset", "SET DateStyle = 'SQL'", "RESET DateStyle", "SHOW DateStyle"),
    simple(
        "reset_all", "SET DateStyle = 'SQL'", "SET work_mem = '7MB'", "RESET ALL", "SHOW work_mem"
    ),
    simple("set_to_default", "SET DateStyle TO SQL", "SET DateStyle TO DEFAULT"),
    simple(
        "set_config_function",
        "SELECT set_config('application_name', 'by function', false)",
        "SHOW application_name",
    ),
    simple("set_config_local", "SELECT set_config('work_mem', '8MB', true)", "SHOW work_mem"),
    simple("set_inside_function", "SELECT corpus_set_inside()", "SHOW DateStyle"),
    exchange(
        "set_config_with_parameters",
        wire.run("SELECT set_config($1, $2, false)", "corpus.id", "42") + SYNC,
        wire.query("SHOW corpus.id"),
    ),
    exchange(
        "set_extended",
        wire.run("SET application_name = 'ext'") + SYNC,
        wire.run("SHOW application_name") + SYNC,
    ),
    simple("set_error_keeps_old", "SET DateStyle = 'nonsense'", "SHOW DateStyle"),
    simple("set_two_in_one_query", "SET DateStyle = 'SQL'; SET application_name = 'two'"),
    simple("set_read_only_default", "SET default_transaction_read_only = on", note("x", "never")),
    simple(
        "set_session_characteristics",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW default_transaction_isolation",
    ),
    simple(
        "startup_options",
        "SHOW work_mem",
        "SHOW application_name",
        "RESET ALL",
        "SHOW work_mem",
        parameters={"options": "-c work_mem=9MB", "application_name": "from startup"},
    ),
    simple(
        "startup_settings",
        "SHOW DateStyle",
        "SHOW search_path",
        parameters={
            "DateStyle": "SQL, DMY",
            "search_path": "pg_catalog",
            "client_encoding": "LATIN1",
        },
    ),
]

IN_TRANSACTIONS = [
    simple("set_rolled_back", "BEGIN", "SET DateStyle = 'SQL'", "ROLLBACK", "SHOW DateStyle"),
    simple("set_committed", "BEGIN", "SET DateStyle = 'SQL'", "COMMIT", "SHOW DateStyle"),
    simple(
        "set_local",
        "BEGIN",
        "SET LOCAL DateStyle = 'SQL'",
        "SHOW DateStyle",
        "COMMIT",
        "SHOW DateStyle",
    ),
    simple("set_local_outside", "SET LOCAL work_mem = '5MB'"),
    simple(
        "set_local_then_set",
        "BEGIN",
        "SET LOCAL DateStyle = 'SQL'",
        "SET DateStyle = 'German'",
        "COMMIT",
        "SHOW DateStyle",
    ),
    simple(
        "set_undone_by_savepoint",
        "BEGIN",
        "SET DateStyle = 'SQL'",
        "SAVEPOINT s",
        "SET DateStyle = 'German'",
        "ROLLBACK TO s",
        "SHOW DateStyle",
        "COMMIT",
    ),
    simple(
        "set_undone_by_error",
        "BEGIN",
        "SET application_name = 'gone'",
        "SELECT 1/0",
        "COMMIT",
        "SHOW application_name",
    ),
    simple("set_undone_in_statements", "SET DateStyle = 'SQL'; SELECT 1/0", "SHOW DateStyle"),
]

ROLES = [
    simple(
        "set_role",
        "SET ROLE corpus_role",
        "SELECT current_user, session_user",
        "RESET ROLE",
        "SELECT current_user",
    ),
    simple("set_role_none", "SET ROLE corpus_role", "SET ROLE NONE", "SELECT current_user"),
    simple("set_unknown_role", "SET ROLE nobody_at_all"),
    simple(
        "session_authorization",
        "SET SESSION AUTHORIZATION corpus_role",
        "SELECT session_user",
        "RESET SESSION AUTHORIZATION",
        "SELECT session_user",
    ),
    simple("role_rolled_back", "BEGIN", "SET ROLE corpus_role", "ROLLBACK", "SELECT current_user"),
]

SQL_STATEMENTS = [
    simple(
        "prepare_execute",
        "PREPARE p (int) AS SELECT $1 + 1",
        "EXECUTE p (41)",
        "DEALLOCATE p",
        "EXECUTE p (1)",
    ),
    simple("prepare_twice", "PREPARE p AS SELECT 1", "PREPARE p AS SELECT 2", "EXECUTE p"),
    simple("prepare_survives_rollback", "BEGIN", "PREPARE p AS SELECT 1", "ROLLBACK", "EXECUTE p"),
    simple(
        "deallocate_all",
        "PREPARE a AS SELECT 1",
        "PREPARE b AS SELECT 2",
        "DEALLOCATE ALL",
        "EXECUTE a",
    ),
    exchange(
        "sql_prepare_protocol_bind",
        wire.query("PREPARE shared AS SELECT 5"),
        wire.values(statement="shared") + wire.execute() + SYNC,
    ),
    exchange(
        "protocol_parse_sql_execute",
        wire.parse("SELECT $1::int + 1", name="shared") + SYNC,
        wire.query("EXECUTE shared (4)"),
        wire.query("DEALLOCATE shared"),
        wire.values("1", statement="shared") + SYNC,
    ),
    exchange(
        "deallocate_all_drops_protocol_statements",
        wire.parse("SELECT 1", name="gone") + SYNC,
        wire.query("DEALLOCATE ALL"),
        wire.values(statement="gone") + wire.execute() + SYNC,
    ),
    simple(
        "prepared_insert",
        "PREPARE i (text) AS INSERT INTO corpus_ledger VALUES ('prepared_insert', $1)",
        "EXECUTE i ('a')",
        "EXECUTE i ('b')",
        effects={"a": 1, "b": 1},
    ),
    exchange(
        "discard_all",
        wire.query("SET DateStyle = 'SQL'"),
        wire.query("PREPARE p AS SELECT 1"),
        wire.parse("SELECT 2", name="q") + SYNC,
        wire.query("LISTEN corpus_discarded"),
        wire.query("DISCARD ALL"),
        wire.query("EXECUTE p"),
        wire.values(statement="q") + SYNC,
        wire.query("SELECT count(*) FROM pg_listening_channels()"),
    ),
    simple("discard_all_in_transaction", "BEGIN", "DISCARD ALL", "ROLLBACK"),
    simple("discard_parts", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP"),
]

CURSORS = [
    simple(
        "cursor",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id FROM corpus_rows ORDER BY id",
        "FETCH 3 FROM c",
        "MOVE 5 FROM c",
        "FETCH NEXT FROM c",
        "CLOSE c",
        "COMMIT",
    ),
    simple("cursor_outside_transaction", "DECLARE c CURSOR FOR SELECT 1"),
    simple(
        "cursor_gone_after_commit", "BEGIN", "DECLARE c CURSOR FOR SELECT 1", "COMMIT", "FETCH c"
    ),
    simple(
        "cursor_scroll",
        "BEGIN",
        "DECLARE c SCROLL CURSOR FOR SELECT id FROM corpus_rows ORDER BY id",
        "FETCH LAST FROM c",
        "FETCH BACKWARD 2 FROM c",
        "FETCH ABSOLUTE 4 FROM c",
        "ROLLBACK",
    ),
    simple(
        "cursor_with_hold",
        "DECLARE kept CURSOR WITH HOLD FOR SELECT id FROM corpus_rows ORDER BY id LIMIT 6",
        "FETCH 2 FROM kept",
        "FETCH ALL FROM kept",
        "CLOSE kept",
        session_state=True,
    ),
    exchange(
        "cursor_binary",
        wire.query("BEGIN"),
        wire.query("DECLARE c BINARY CURSOR FOR SELECT id, b FROM corpus_rows ORDER BY id LIMIT 2"),
        wire.run("FETCH ALL FROM c") + SYNC,
        wire.query("END"),
    ),
]

TEMPORARY = [
    simple(
        "temp_table",
        "CREATE TEMP TABLE corpus_temp (i int)",
        "INSERT INTO corpus_temp VALUES (1), (2)",
        "SELECT * FROM corpus_temp",
        "DROP TABLE corpus_temp",
        session_state=True,
    ),
    simple(
        "temp_table_on_commit_drop",
        "BEGIN",
        "CREATE TEMP TABLE corpus_temp ON COMMIT DROP AS SELECT 1 AS i",
        "SELECT * FROM corpus_temp",
        "COMMIT",
        "SELECT * FROM corpus_temp",
    ),
    simple(
        "select_into_temp",
        "SELECT 1 AS a INTO TEMP corpus_into",
        "TABLE corpus_into",
        session_state=True,
    ),
    simple(
        "advisory_lock",
        "SELECT pg_advisory_lock(7001)",
        "SELECT pg_advisory_unlock(7001)",
        "SELECT pg_advisory_unlock(7001)",
        session_state=True,
    ),
    simple("advisory_xact_lock", "BEGIN", "SELECT pg_advisory_xact_lock(7002)", "COMMIT"),
    simple(
        "sequence_state",
        "CREATE TEMP SEQUENCE s",
        "SELECT nextval('s'), currval('s'), lastval()",
        "SELECT setval('s', 50)",
        "SELECT nextval('s')",
        session_state=True,
    ),
    simple("currval_before_nextval", "SELECT currval('corpus_sequence')"),
    simple(
        "setseed", "SELECT setseed(0.25)", "SELECT random() BETWEEN 0 AND 1", session_state=True
    ),
]

EXCHANGES: list[Exchange] = [
    *SETTINGS,
    *IN_TRANSACTIONS,
    *ROLES,
    *SQL_STATEMENTS,
    *CURSORS,
    *TEMPORARY,
]
