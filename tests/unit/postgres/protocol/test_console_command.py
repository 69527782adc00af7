"""Commands as they are typed: any case, quoted or not, several in one text, or nonsense."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.operator import Act
from proxy.postgres.protocol.console_command import (
    COMMANDS_MAX,
    Command,
    ConsoleError,
    Parameter,
    Verb,
    parse,
)


def one(text: str) -> Command:
    (command,) = parse(text.encode())
    return command


@pytest.mark.parametrize(
    "text",
    ["SHOW STATS", "show stats;", "  Show\tStats ; ", 'SHOW "stats"', "/* x */ show stats--"],
)
def test_case_blanks_quotes_comments_and_semicolons(text: str) -> None:
    assert one(text) == Command(Verb.SHOW, "stats")


@pytest.mark.parametrize(
    ("text", "act", "target"),
    [
        ("PAUSE", Act.PAUSE, ""),
        ("pause main", Act.PAUSE, "main"),
        ('RESUME "Main-2";', Act.RESUME, "Main-2"),
        ("RECONNECT main", Act.RECONNECT, "main"),
        ("KILL", Act.KILL, ""),
        ("KILL_CLIENT 17", Act.KILL_CLIENT, "17"),
        ("KILL_CLIENT ('17'::int8)", Act.KILL_CLIENT, "17"),  # pgjdbc in simple mode
        ("PAUSE ('main')", Act.PAUSE, "main"),
        ("RELOAD", Act.RELOAD, ""),
        ("shutdown wait_for_clients", Act.SHUTDOWN, ""),
    ],
)
def test_control(text: str, act: Act, target: str) -> None:
    command = one(text)
    assert (command.verb, command.act, command.target) == (Verb.ACT, act, target)


def test_several_commands_of_one_text() -> None:
    found = parse(b"SHOW STATS; ; PAUSE main;SHOW STATE")
    assert [command.name for command in found] == ["stats", "PAUSE", "state"]
    assert parse(b" ; ;; -- nothing") == []
    with pytest.raises(ConsoleError, match="more than"):
        parse(b"SHOW STATS;" * (COMMANDS_MAX + 1))


def test_a_parameter_stands_for_a_name() -> None:
    command = one("KILL_CLIENT $1")
    assert command.target == Parameter(1)
    assert command.parameters == 1
    assert one("SHOW CLIENTS $2").parameters == 2


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("SHOW", "42601"),
        ("SHOW a b c", "42601"),
        ("SHOW (stats)", "42601"),
        ("PAUSE a b", "42601"),
        ("KILL_CLIENT", "42601"),
        ("KILL_CLIENT all", "42601"),
        ("KILL_CLIENT ::int8", "42601"),
        ("PAUSE :", "42601"),
        ("KILL_CLIENT -5", "42601"),
        ("KILL_CLIENT ²", "42601"),
        ("RELOAD now", "42601"),
        ("SHUTDOWN maybe", "42601"),
        ("DROP TABLE users", "42601"),
        ("'text'", "42601"),
        ("SHOW 'unterminated", "42601"),
        ("DISABLE main", "0A000"),
        ("ENABLE main", "0A000"),
        ("SUSPEND", "0A000"),
        ("SET pool_size = 5", "0A000"),
        ("SET client_encoding TO LATIN1", "0A000"),
    ],
)
def test_refused(text: str, sqlstate: str) -> None:
    with pytest.raises(ConsoleError) as caught:
        parse(text.encode())
    assert caught.value.sqlstate == sqlstate
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "verb", "tag"),
    [
        ("BEGIN", Verb.BEGIN, "BEGIN"),
        ("START TRANSACTION READ ONLY", Verb.BEGIN, "BEGIN"),
        ("begin isolation level serializable", Verb.BEGIN, "BEGIN"),
        ("END", Verb.COMMIT, "COMMIT"),
        ("ABORT", Verb.ROLLBACK, "ROLLBACK"),
        ("ROLLBACK TO SAVEPOINT a", Verb.SET, "ROLLBACK"),
        ("SET extra_float_digits = 3", Verb.SET, "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Verb.SET, "SET"),
        ("set application_name to 'x'", Verb.SET, "SET"),
        ("SET client_encoding TO 'UTF8'", Verb.SET, "SET"),
        ("SET NAMES 'utf-8'", Verb.SET, "SET"),
        ("DISCARD ALL", Verb.SET, "DISCARD ALL"),
        ("CLOSE ALL", Verb.SET, "CLOSE CURSOR ALL"),
        ("UNLISTEN *", Verb.SET, "UNLISTEN"),
        ("RESET ALL", Verb.SET, "RESET"),
    ],
)
def test_what_drivers_send(text: str, verb: Verb, tag: str) -> None:
    command = one(text)
    assert (command.verb, command.name) == (verb, tag)


def test_settings_of_several_words() -> None:
    assert one("SHOW TRANSACTION ISOLATION LEVEL").name == "transaction isolation level"
    assert one("show time zone").name == "time zone"


def test_an_error_repeats_only_the_first_word() -> None:
    with pytest.raises(ConsoleError) as caught:
        parse(b"ALTER USER ops PASSWORD 'hunter2'")
    error = caught.value
    assert "ALTER" in error.message
    assert "hunter2" not in error.message + error.hint + error.detail


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_random_text_is_commands_or_an_error(text: bytes) -> None:
    with contextlib.suppress(ConsoleError):
        assert all(isinstance(command, Command) for command in parse(text.replace(b"\0", b"")))


WORDS = st.sampled_from(
    [
        "show",
        "pause",
        "set",
        "select",
        "kill_client",
        "begin",
        "(",
        ")",
        ",",
        ";",
        "$1",
        "$99999999",
        "'a'",
        '"b"',
        "main",
        "17",
        "=",
        "to",
        "client_encoding",
        "all",
        "--",
        "/*",
        "E'\\x'",
        "::",
    ]
)


@given(st.lists(WORDS, max_size=12).map(" ".join))
def test_shuffled_words_are_commands_or_an_error(text: str) -> None:
    with contextlib.suppress(ConsoleError):
        parse(text.encode())
