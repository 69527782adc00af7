"""What drivers ask any server. The texts are those of real drivers (integration tests run them)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.postgres.protocol.console_answers import (
    REPORTED,
    SERVER_VERSION,
    select,
    session_settings,
    show,
)
from proxy.postgres.protocol.console_command import ConsoleError, parse
from proxy.postgres.protocol.console_table import Kind, Table
from tests.unit.postgres.protocol.console_kit import ME


def ask(text: str, *parameters: str | None) -> Table:
    (command,) = parse(text.encode())
    return select(command.name, ME, parameters)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("SELECT 1", "?column?", 1),
        ("select -1", "?column?", -1),
        ("select 'it''s, so'", "?column?", "it's, so"),
        ("select current_user", "current_user", "ops"),
        ("SELECT current_database() AS db", "db", "backstay"),
        ("select current_schema()", "current_schema", "public"),
        ("SELECT pg_catalog.pg_is_in_recovery()", "pg_is_in_recovery", False),
        ("select pg_backend_pid()", "pg_backend_pid", 4711),
        ("SELECT current_setting('server_version') AS cur", "cur", SERVER_VERSION),
        ("SELECT current_setting('nope', true)", "current_setting", None),
        ("SELECT pg_catalog.set_config('jit', 'off', false)", "set_config", "off"),
        ('select 1 as "one"', "one", 1),
    ],
)
def test_answers(text: str, name: str, value: object) -> None:
    table = ask(text)
    assert [column.name for column in table.columns] == [name]
    assert table.rows == [[value]]


def test_several_at_once_and_parameters() -> None:
    table = ask(
        "SELECT current_setting('jit') AS cur, set_config('jit', $1, $2) AS new", "off", "f"
    )
    assert [column.name for column in table.columns] == ["cur", "new"]
    assert table.rows == [["off", "off"]]


def test_the_version_is_one_that_drivers_can_read() -> None:
    (row,) = ask("select pg_catalog.version()").rows
    assert str(row[0]).startswith("PostgreSQL 15.0 (Backstay 9.9.9 ")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT t.oid FROM pg_type t WHERE t.oid = to_regtype($1)",
        'select x from "pg_catalog"."pg_class"',
        "WITH RECURSIVE tree AS (SELECT oid FROM pg_catalog.pg_type) SELECT * FROM tree",
        "select table_name from information_schema.tables",
    ],
)
def test_the_catalog_is_empty(text: str) -> None:
    assert ask(text, None) == Table((), [])


@pytest.mark.parametrize(
    "text",
    [
        "select * from users",
        "select now()",
        "select secret",
        "select",
        "select set_config('work_memory', 'x', false)",
        "select set_config('jit', 'x')",
        "select version(1)",
        "with a as (select 1) select 1",
        "select 1,",
        "select 123456789012",
        'select 1 as "One two"',
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ConsoleError) as caught:
        ask(text)
    assert caught.value.sqlstate == "0A000"


def test_show_of_a_sessions_settings() -> None:
    table = show("transaction isolation level", ME)
    assert table is not None
    assert table.rows == [["read committed"]]
    assert show("no_such_thing", ME) is None
    with pytest.raises(ConsoleError):
        ask("select current_setting('no_such_thing')")


def test_everything_reported_at_login_can_be_shown() -> None:
    assert set(REPORTED.values()) <= set(session_settings(ME))


PARTS = ["select", "1", "'a'", "version", "(", ")", ",", "as", "x", "$1", ".", "pg_catalog", "from"]


@given(st.lists(st.sampled_from([*PARTS, "set_config", "'jit'", "-", '"y"']), max_size=14))
def test_shuffled_words_are_answered_or_refused(parts: list[str]) -> None:
    try:
        table = select("select " + " ".join(parts), ME, ["v"])
    except ConsoleError:
        return
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert all(isinstance(column.kind, Kind) for column in table.columns)
