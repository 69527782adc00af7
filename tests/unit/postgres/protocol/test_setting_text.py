"""SET and RESET: every spelling of the grammar, and the value each stands for."""

import pytest

from proxy.postgres.protocol.effects import Effect, ResetAll, ResetVariable, SetVariable
from proxy.postgres.protocol.lexer import tokens
from proxy.postgres.protocol.setting_text import (
    LOCAL,
    UNREADABLE,
    Change,
    canonical,
    date_style,
    parse_reset,
    parse_set,
)


def change(text: str, conforming: bool = True) -> Change:
    raw = text.encode()
    return parse_set(tokens(raw, conforming), raw, conforming)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("SET a.b = 'c'", b"a.b", b"c"),
        ("SET SESSION a.b TO 'it''s'", b"a.b", b"it's"),
        ('SET "A"."B" = "C d"', b"a.b", b"C d"),
        ("SET A.B = CamelCase", b"a.b", b"camelcase"),
        (r"SET a.b = E'x\\y\''", b"a.b", rb"x\y'"),
        ("SET a.b = $$c'd$$", b"a.b", b"c'd"),
        ("SET a.b.c = 1", b"a.b.c", b"1"),
        ("SET work_mem = 42", b"work_mem", b"42"),
        ("SET work_mem TO +42", b"work_mem", b"42"),
        ("SET x = -1.5", b"x", b"-1.5"),
        ("SET x = .5", b"x", b".5"),
        ("SET x = 1e-3", b"x", b"1e-3"),
        ("SET x = on", b"x", b"on"),
        ("SET x TO true", b"x", b"true"),
        ("SET sort_mem = 5", b"work_mem", b"5"),
        ("SET session_replication_role = replica", b"session_replication_role", b"replica"),
        ("SET search_path TO a, \"B\", 'C d'", b"search_path", b'a, "B", "C d"'),
        ("SET search_path TO 'a, b'", b"search_path", b'"a, b"'),
        ("SET search_path TO ''", b"search_path", b'""'),
        ("SET search_path = 'x\"y'", b"search_path", b'"x""y"'),
        ("SET SCHEMA 'Foo'", b"search_path", b'"Foo"'),
        ("SET temp_tablespaces = a, b", b"temp_tablespaces", b"a, b"),
        ("SET datestyle = sql, dmy", b"datestyle", b"sql, dmy"),
        ("SET TIME ZONE 'Europe/Berlin'", b"timezone", b"Europe/Berlin"),
        ("SET TIME ZONE UTC", b"timezone", b"utc"),
        ("SET TIME ZONE -7", b"timezone", b"-7"),
        ("SET SESSION TIME ZONE 3.5", b"timezone", b"3.5"),
        ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", b"timezone", None),
        ("SET timezone TO 'UTC'", b"timezone", b"UTC"),
        ("SET NAMES 'UTF8'", b"client_encoding", b"UTF8"),
        ("SET names = 'x'", b"names", b"x"),
        ("SET ROLE abc", b"role", b"abc"),
        ('SET ROLE "Abc"', b"role", b"Abc"),
        ("SET ROLE 'Abc'", b"role", b"Abc"),
        ("SET SESSION ROLE none", b"role", b"none"),
        ("SET role = abc", b"role", b"abc"),
        ("SET SESSION AUTHORIZATION 'Abc'", b"session_authorization", b"Abc"),
        ("SET SESSION SESSION AUTHORIZATION abc", b"session_authorization", b"abc"),
        ("SET XML OPTION DOCUMENT", b"xmloption", b"document"),
        ("SET a.b = 'c'\n'd'", b"a.b", None),
        ("SET a.b = U&'c'", b"a.b", None),
        ("SET a.b = x'1f'", b"a.b", None),
    ],
)
def test_set(text: str, name: bytes, value: bytes | None) -> None:
    assert change(text) == Change((SetVariable(name, value, text.encode()),))


def test_values_are_read_as_strings_were_meant() -> None:
    (effect,) = change(r"SET a.b = 'x\'y'", conforming=False).effects
    assert isinstance(effect, SetVariable)
    assert effect.value == b"x'y"


@pytest.mark.parametrize(
    "text",
    [
        "SET LOCAL a.b = 'c'",
        "SET LOCAL ROLE abc",
        "SET LOCAL TIME ZONE 'UTC'",
        "SET LOCAL SESSION AUTHORIZATION abc",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET LOCAL TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "SET TRANSACTION SNAPSHOT 'x'",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET transaction_read_only = on",
        "SET SESSION transaction_isolation TO 'serializable'",
    ],
)
def test_what_ends_with_the_transaction(text: str) -> None:
    made = change(text)
    assert made.local
    assert not made.effects


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SET a.b TO DEFAULT", b"a.b"),
        ("SET TIME ZONE DEFAULT", b"timezone"),
        ("SET TIME ZONE LOCAL", b"timezone"),
        ("SET NAMES", b"client_encoding"),
        ("SET NAMES DEFAULT", b"client_encoding"),
        ("SET SESSION AUTHORIZATION DEFAULT", b"session_authorization"),
        ("SET role TO DEFAULT", b"role"),
    ],
)
def test_set_to_default(text: str, name: bytes) -> None:
    assert change(text) == Change((ResetVariable(name),))


def test_default_in_quotes_is_a_value() -> None:
    (effect,) = change('SET a.b TO "default"').effects
    assert isinstance(effect, SetVariable)
    assert effect.value == b"default"


@pytest.mark.parametrize(
    ("modes", "found"),
    [
        ("READ ONLY", [("read_only", b"on")]),
        ("READ WRITE", [("read_only", b"off")]),
        ("ISOLATION LEVEL SERIALIZABLE", [("isolation", b"serializable")]),
        ("ISOLATION LEVEL REPEATABLE READ", [("isolation", b"repeatable read")]),
        ("ISOLATION LEVEL READ COMMITTED", [("isolation", b"read committed")]),
        ("ISOLATION LEVEL READ UNCOMMITTED", [("isolation", b"read uncommitted")]),
        (
            "ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
            [("isolation", b"serializable"), ("read_only", b"on"), ("deferrable", b"on")],
        ),
        ("NOT DEFERRABLE", [("deferrable", b"off")]),
    ],
)
def test_characteristics(modes: str, found: list[tuple[str, bytes]]) -> None:
    text = f"SET SESSION CHARACTERISTICS AS TRANSACTION {modes}"
    expected: list[Effect] = [
        SetVariable(f"default_transaction_{name}".encode(), value, text.encode())
        for name, value in found
    ]
    assert change(text) == Change(tuple(expected))


@pytest.mark.parametrize(
    "text",
    [
        "SET",
        "SET LOCAL2",
        "SET a.b",
        "SET a.b =",
        "SET a.b FROM CURRENT",
        "SET = 1",
        "SET ROLE",
        "SET ROLE a b",
        "SET SESSION AUTHORIZATION",
        "SET SESSION CHARACTERISTICS AS TRANSACTION",
        "SET SESSION CHARACTERISTICS AS TRANSACTION SPEED HIGH",
        "SET SESSION CHARACTERISTICS",
        "SET XML OPTION",
    ],
)
def test_what_we_do_not_know_may_be_anything(text: str) -> None:
    assert change(text) is UNREADABLE


def test_an_item_that_is_no_constant_keeps_the_text() -> None:
    for text in ("SET a.b = 1 2", "SET a.b = c,", "SET a.b = $1"):
        assert change(text) == Change((SetVariable(b"a.b", None, text.encode()),))


def test_the_text_has_no_blanks_around() -> None:
    (effect,) = change("/* x */ SET TIME ZONE INTERVAL '1' HOUR -- y").effects
    assert isinstance(effect, SetVariable)
    assert effect.text == b"SET TIME ZONE INTERVAL '1' HOUR"


def test_seed_leaves_nothing_that_could_be_restored() -> None:
    assert change("SET seed = 0.5") == Change(())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RESET ALL", Change((ResetAll(),))),
        ("RESET Work_Mem", Change((ResetVariable(b"work_mem"),))),
        ("RESET a.b", Change((ResetVariable(b"a.b"),))),
        ('RESET "all"', Change((ResetVariable(b"all"),))),
        ("RESET ROLE", Change((ResetVariable(b"role"),))),
        ("RESET TIME ZONE", Change((ResetVariable(b"timezone"),))),
        ("RESET SESSION AUTHORIZATION", Change((ResetVariable(b"session_authorization"),))),
        ("RESET TRANSACTION ISOLATION LEVEL", LOCAL),
        ("RESET transaction_isolation", LOCAL),
        ("RESET", UNREADABLE),
        ("RESET a b", UNREADABLE),
    ],
)
def test_reset(text: str, found: Change) -> None:
    assert parse_reset(tokens(text.encode())) == found


def test_names_are_known_by_one_spelling() -> None:
    assert canonical(b"TimeZone") == b"timezone"
    assert canonical(b"VACUUM_MEM") == b"maintenance_work_mem"


@pytest.mark.parametrize(
    ("old", "new", "together"),
    [
        (b"ISO, MDY", b"SQL", b"sql, mdy"),
        (b"sql", b"dmy", b"sql, dmy"),
        (b"ISO, DMY", b"German", b"german, dmy"),
        (b"ISO, YMD", b"German", b"german, dmy"),
        (b"German, DMY", b"MDY", b"german, mdy"),
        (b"ISO, MDY", b"postgresql, european", b"postgresql, european"),
        (b"dmy", b"mdy", b"mdy"),
        (b"ISO, MDY", b"SQL, YMD", b"sql, ymd"),
        (b"", b"odd", b"odd"),
    ],
)
def test_date_style_keeps_what_is_left_out(old: bytes, new: bytes, together: bytes) -> None:
    assert date_style(old, new) == together
