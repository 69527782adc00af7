"""Calls: what counts as one, what it may do, and when it certainly runs."""

import pytest

from proxy.postgres.protocol.builtins import HARMLESS
from proxy.postgres.protocol.calls import (
    EFFECTS_MAX,
    FREE,
    FUNCTIONS,
    KEYWORDS,
    Calls,
    Category,
    category,
    scan,
    truth,
)
from proxy.postgres.protocol.effects import (
    AdvisoryLock,
    AdvisoryUnlock,
    AdvisoryUnlockAll,
    SetConfig,
    UnknownSetConfig,
)
from proxy.postgres.protocol.lexer import tokens


def calls(text: str) -> Calls:
    return scan(tokens(text.encode()))


DENIED = """
pg_notify pg_advisory_lock pg_advisory_xact_lock pg_try_advisory_lock pg_advisory_unlock_all
set_config pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_switch_wal
pg_create_restore_point pg_logical_emit_message pg_create_physical_replication_slot
pg_create_logical_replication_slot pg_copy_logical_replication_slot pg_drop_replication_slot
pg_replication_slot_advance pg_sync_replication_slots pg_logical_slot_get_changes
pg_logical_slot_get_binary_changes pg_replication_origin_create pg_replication_origin_advance
pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_promote pg_stat_reset
pg_stat_reset_shared pg_stat_reset_single_table_counters lo_create lo_creat lo_unlink lo_import
lo_export lo_open lo_put lo_from_bytea lowrite loread setseed dblink dblink_exec dblink_connect
dblink_send_query pg_export_snapshot nextval setval currval lastval pg_log_backend_memory_contexts
pg_wal_replay_pause pg_import_system_collations pg_nextoid binary_upgrade_set_next_pg_type_oid
brin_summarize_new_values gin_clean_pending_list query_to_xml cursor_to_xml ts_stat ts_rewrite
pg_file_write pg_prewarm pg_some_future_function
"""


@pytest.mark.parametrize("name", DENIED.split())
def test_functions_that_read_only_does_not_stop(name: str) -> None:
    found = category(name.encode())
    assert found not in (Category.HARMLESS, Category.UNKNOWN)
    assert name.encode() not in FREE


LOOKING = """
now lower count coalesce pg_sleep pg_typeof pg_get_expr jsonb_build_object uuid_generate_v4
pg_relation_size txid_current to_regclass btrim hashtext pg_is_in_recovery uuidv7
"""


@pytest.mark.parametrize("name", LOOKING.split())
def test_functions_that_only_look(name: str) -> None:
    assert name.encode() in FREE


def test_the_lists_do_not_contradict_each_other() -> None:
    assert FREE == FUNCTIONS | KEYWORDS
    assert {category(name) for name in FUNCTIONS} == {Category.HARMLESS}
    assert category(b"current_setting") is Category.CURRENT_SETTING
    assert b"current_setting" not in FREE
    assert len(HARMLESS) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT (1), a IN (1), EXISTS (SELECT 1), x = ANY (y)",
        "SELECT a::numeric(1), CAST(a AS my_type(3))",
        "SELECT * FROM t AS u(a)",
        "WITH f(a) AS (SELECT 1), g(b) AS (SELECT 2) SELECT 1",
        "WITH RECURSIVE f(a) AS (VALUES (1)) SELECT 1",
        "WITH f(a) AS MATERIALIZED (VALUES (1)), g(b) AS NOT MATERIALIZED (TABLE t) SELECT 1",
        "INSERT INTO f (a) VALUES (1)",
        'INSERT INTO s."f"(a) VALUES (1)',
        "SELECT sum(a) OVER (ORDER BY b), count(*) FILTER (WHERE c)",
    ],
)
def test_parentheses_that_are_no_unknown_calls(text: str) -> None:
    assert not calls(text).unknown


@pytest.mark.parametrize(
    "text",
    [
        "SELECT f(1)",
        "SELECT s.f(1)",
        'SELECT "F"(1)',
        'SELECT s . "F" (1)',
        "SELECT public.lower('x')",
        "SELECT s.filter(1)",
        "SELECT a, f(x) AS (y int)",
        "SELECT * FROM a, f(x) AS (values int)",
        "INSERT INTO t (a) VALUES (f(1))",
        "INSERT INTO t SELECT f(1)",
    ],
)
def test_unknown_calls(text: str) -> None:
    assert calls(text).unknown


def test_a_qualified_call_of_the_catalogue_is_known() -> None:
    assert calls("SELECT pg_catalog.lower('x'), \"pg_catalog\".\"upper\"('x')").seen == {
        Category.HARMLESS
    }


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("SELECT nextval('s')", True),
        ("SELECT 1, nextval('s') AS x, 2", True),
        ("SELECT nextval('s') x", True),
        ("SELECT nextval('s') \"X\", 1", True),
        ("SELECT nextval('s') + 1", False),
        ("SELECT 1 + nextval('s')", False),
        ("SELECT (nextval('s'))", False),
        ("SELECT nextval('s') FROM t", False),
        ("SELECT nextval('s') WHERE a", False),
        ("SELECT nextval('s') LIMIT 0", False),
        ("SELECT DISTINCT nextval('s')", False),
        ("SELECT (SELECT 1 FROM t), nextval('s')", True),
        ("SELECT nextval('s') UNION SELECT 2", False),
        ("VALUES (nextval('s'))", False),
        ("SELECT nextval('s')::int", False),
    ],
)
def test_what_certainly_runs_once(text: str, certain: bool) -> None:
    assert calls(text).certain is certain


def test_locks() -> None:
    assert calls("SELECT pg_advisory_lock(1), pg_advisory_lock(2)").effects == [AdvisoryLock()]
    assert calls("SELECT pg_advisory_unlock(1)").effects == [AdvisoryUnlock()]
    assert calls("SELECT pg_advisory_unlock_all()").effects == [AdvisoryUnlockAll()]
    assert calls("SELECT pg_advisory_unlock_all() WHERE a").effects == [AdvisoryUnlock()]


def test_local_set_config_has_no_effect_but_is_seen() -> None:
    found = calls("SELECT set_config('a', 'b', true)")
    assert (found.effects, found.only_local, found.certain) == ([], True, True)
    assert found.seen == {Category.SET_CONFIG}
    found = calls("SELECT set_config('a', 'b', true), set_config('a', 'b', false)")
    assert (found.effects, found.only_local) == ([SetConfig(b"a", b"b", False)], False)


def test_what_answers_otherwise_inside_read_only() -> None:
    asks = Category.SHOWS_READ_ONLY
    assert asks in calls("SELECT current_setting('transaction_read_only')").seen
    assert asks in calls("SELECT current_setting($1)").seen
    assert asks not in calls("SELECT current_setting('a.b')").seen


def test_effects_are_bounded() -> None:
    text = ", ".join(f"set_config('a{at}', 'b', false)" for at in range(EFFECTS_MAX + 10))
    found = calls("SELECT " + text)
    assert not found.certain
    assert len(found.effects) == EFFECTS_MAX + 1
    assert found.effects[-1] == UnknownSetConfig(None, False)


def test_long_arguments_are_not_read() -> None:
    found = calls("SELECT set_config('a', 'b' || " + "'c' || " * 40 + "'d', false)")
    assert found.effects == [UnknownSetConfig(None, False)]


def test_a_cast_that_changes_the_value_is_no_literal() -> None:
    found = calls("SELECT set_config('a', 'b'::char(1), false), set_config('a', 'b'::int, false)")
    assert found.effects == [UnknownSetConfig(b"a", False)]
    assert calls("SELECT set_config('a', 'b', 'f'::text || 't')").effects == [
        UnknownSetConfig(b"a", False)
    ]


def test_a_type_after_a_cast_is_no_call() -> None:
    assert not calls("SELECT a::my_type(3), b::s.my_type(3)").unknown


def test_truth() -> None:
    for value in (b"t", b"TRUE", b" on ", b"yes", b"1", b"\x01"):
        assert truth(value) is True
    for value in (b"f", b"False", b"off", b"n", b"0", b"\x00"):
        assert truth(value) is False
    assert truth(b"maybe") is None
