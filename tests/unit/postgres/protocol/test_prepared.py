"""Prepared statements of both protocols: kept, bounded, resolved."""

import pytest

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.classify import read
from proxy.postgres.protocol.effects import PrepareSql, SetConfig, UnknownSetConfig
from proxy.postgres.protocol.prepared import PreparedStatements
from proxy.postgres.protocol.statement import Class, Opaque, Statement


def one(text: str) -> Statement:
    (statement,) = read(text.encode()).statements
    return statement


def prepared(*texts: str) -> PreparedStatements:
    kept = PreparedStatements(1 << 20)
    for text in texts:
        (effect,) = one(text).effects
        assert isinstance(effect, PrepareSql)
        kept.prepare(effect)
    return kept


def test_parse_messages_are_kept_by_name() -> None:
    kept = PreparedStatements(100)
    kept.parsed(b"a", b"x" * 40)
    kept.parsed(b"", b"y" * 40)
    kept.parsed(b"", b"z" * 40)
    assert kept.by_name == {b"a": b"x" * 40, b"": b"z" * 40}
    kept.forget(b"a")
    kept.forget(b"unknown")
    assert kept.by_name == {b"": b"z" * 40}


def test_what_does_not_fit_is_known_to_be_missing() -> None:
    kept = PreparedStatements(100)
    kept.parsed(b"a", b"x" * 60)
    kept.parsed(b"b", b"x" * 60)
    assert kept.too_many
    assert list(kept.by_name) == [b"a"]
    kept.forget(b"b")
    assert not kept.too_many
    kept.parsed(b"b", b"x" * 60)
    kept.deallocate(None)
    assert not kept.too_many
    kept.parsed(b"c", b"x" * 100)
    assert not kept.too_many


def test_too_much_prepare_text() -> None:
    kept = PreparedStatements(20)
    (effect,) = one("PREPARE p AS SELECT 12345").effects
    assert isinstance(effect, PrepareSql)
    kept.prepare(effect)
    assert kept.too_many


def test_deallocate_speaks_of_both_kinds() -> None:
    kept = prepared("PREPARE p AS SELECT 1", "PREPARE q AS SELECT 1")
    kept.parsed(b"p", b"x")
    kept.parsed(b"r", b"x")
    kept.parsed(b"", b"x")
    kept.deallocate(b"p")
    assert list(kept.sql) == [b"q"]
    assert list(kept.by_name) == [b"r", b""]
    kept.deallocate(None)
    assert not kept.sql
    assert list(kept.by_name) == [b""]


def test_texts_whose_backslashes_may_change_their_meaning() -> None:
    kept = prepared("PREPARE p AS SELECT 'a'")
    kept.changed_setting(b"standard_conforming_strings")
    assert not kept.unclear
    kept = prepared(r"PREPARE p AS SELECT 'a\b'")
    kept.changed_setting(b"work_mem")
    assert not kept.unclear
    kept.changed_setting(b"standard_conforming_strings")
    assert kept.unclear
    kept.deallocate(None)
    assert not kept.unclear
    kept.prepare(PrepareSql(b"p", b"PREPARE p AS SELECT 'a\\\\'", escapes=True))
    assert kept.unclear


def test_the_servers_list_is_the_truth() -> None:
    kept = prepared("PREPARE p AS SELECT 1")
    assert not kept.correct({b"p": b"PREPARE p AS SELECT 1"})
    assert kept.correct({b"q": b"SELECT 1; PREPARE q AS SELECT 2; SELECT 3"})
    assert list(kept.sql) == [b"q"]
    assert kept.sql[b"q"].text == b"PREPARE q AS SELECT 2"
    assert not kept.unclear
    assert kept.correct({b"q": b"", b"z": b"DO 'EXECUTE something'"})
    assert kept.unclear


@pytest.mark.parametrize(
    ("inner", "kind"),
    [("SELECT $1", Class.READ), ("DELETE FROM t", Class.WRITE), ("SELECT f(1)", Class.READ)],
)
def test_execute_is_what_was_prepared(inner: str, kind: Class) -> None:
    kept = prepared(f"PREPARE p AS {inner}")
    kept.parsed(b"q", messages.parse(b"q", inner))
    for name in ("p", "q"):
        found = kept.resolve(one(f"EXECUTE {name} (1)"))
        assert (found.kind, found.verb, found.target) == (kind, "EXECUTE", name.encode())
        assert found.opaque is one(inner).opaque


@pytest.mark.parametrize("text", ["EXECUTE unknown", "EXECUTE p (f(1))", "SELECT 1", "FETCH p"])
def test_anything_else_stays_as_it_is(text: str) -> None:
    statement = one(text)
    assert prepared("PREPARE p AS SELECT 1").resolve(statement) is statement


def test_what_cannot_be_told_stays_opaque() -> None:
    kept = prepared("PREPARE p AS SELEKT 1")
    kept.parsed(b"q", messages.parse(b"q", b"SELECT 1; SELECT 2"))
    kept.parsed(b"r", messages.parse(b"r", b"BEGIN"))
    for name in ("p", "q", "r"):
        statement = one(f"EXECUTE {name}")
        assert kept.resolve(statement) is statement
        assert statement.opaque is Opaque.STRONG


def test_arguments_of_execute_do_not_reach_set_config() -> None:
    kept = prepared("PREPARE p AS SELECT set_config('a', $1, false)")
    found = kept.resolve(one("EXECUTE p ('x')"))
    assert found.effects == (UnknownSetConfig(b"a", False),)
    assert found.kind is Class.OTHER
    kept = prepared("PREPARE p AS SELECT set_config('a', 'b', false)")
    found = kept.resolve(one("EXECUTE p"))
    assert found.effects == (SetConfig(b"a", b"b", False),)
    assert found.kind is Class.SETTING
