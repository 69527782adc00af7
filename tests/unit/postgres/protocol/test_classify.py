"""Classes of texts: the table, the cache, and time that grows with the text only."""

import time

import pytest

from proxy.postgres.protocol import quick
from proxy.postgres.protocol.classify import (
    STATEMENTS_MAX,
    TEXT_BYTES_MAX,
    Class,
    Classifier,
    Copy,
    Opaque,
    Tx,
    read,
)
from proxy.postgres.protocol.effects import UnknownSetConfig
from proxy.postgres.protocol.statement import OTHER_MODES
from tests.unit.postgres.protocol.sql_table import EMPTY, SEVERAL, rows

_OPAQUE = {"?": Opaque.WEAK, "!": Opaque.STRONG}
_COPY = {"<": Copy.IN, ">": Copy.OUT}


def test_the_table_is_big() -> None:
    assert len(rows()) + len(SEVERAL) + len(EMPTY) >= 250


@pytest.mark.parametrize(("what", "text"), rows(), ids=lambda value: value[:60])
def test_class(what: str, text: str) -> None:
    script = read(text.encode())
    assert len(script.statements) == 1
    statement = script.statements[0]
    flags = what[1:]
    assert script.kind is statement.kind is Class(what[0])
    assert statement.opaque is _OPAQUE.get(flags, Opaque.NONE)
    assert statement.copy is _COPY.get(flags, Copy.NONE)
    unread = statement.verb == ""  # the server refuses it, or we cannot say
    assert unread or quick.plain(text.encode()) in (None, script)


@pytest.mark.parametrize(("what", "text"), rows(), ids=lambda value: value[:60])
def test_class_of_wrapped_text(what: str, text: str) -> None:
    wrapped = b"/* a */ -- '\n" + text.encode() + b"\n--\n;"
    unread = read(text.encode()).statements[0].verb == ""
    if not unread:
        assert read(wrapped).kind is Class(what[0])


@pytest.mark.parametrize("text", SEVERAL)
def test_several_statements_are_never_run_again(text: str) -> None:
    script = Classifier().script(text.encode())
    assert script.kind is Class.OTHER
    assert len(script.statements) >= 2
    assert not script.plain


@pytest.mark.parametrize("text", EMPTY)
def test_nothing_to_run_is_plain(text: str) -> None:
    script = Classifier().script(text.encode())
    assert script.statements == ()
    assert script.plain


def test_plain_means_that_only_the_class_matters() -> None:
    classifier = Classifier()
    assert classifier.script(b"SELECT 1").plain
    assert classifier.script(b"INSERT INTO t VALUES (1)").plain
    for text in (b"SET a.b = 1", b"BEGIN", b"SELECT f()", b"COPY t TO STDOUT", b"SET LOCAL a.b=1"):
        assert not classifier.script(text).plain


def test_only_show_needs_no_wrapper() -> None:
    assert not read(b"SHOW transaction_read_only").statements[0].wrapper
    assert read(b"SELECT 1").statements[0].wrapper


def test_backslashes_count_when_strings_do_not_conform() -> None:
    text = rb"SELECT 'a\'; DELETE FROM t; --'"
    classifier = Classifier()
    assert len(classifier.script(text, conforming=False).statements) == 1
    assert len(classifier.script(text).statements) == 2
    assert len(classifier.script(text, conforming=False).statements) == 1


def test_the_cache_answers_with_the_same_object_and_stays_bounded() -> None:
    classifier = Classifier(max_entries=8, max_text_bytes=64)
    hot = classifier.script(b"SELECT f(1)")
    for number in range(100):
        assert classifier.script(b"SELECT f(1)") is hot
        classifier.script(b"SELECT g(%d)" % number)
    assert len(classifier._new) + len(classifier._old) <= 8


def test_long_texts_are_read_but_not_kept() -> None:
    classifier = Classifier(max_text_bytes=64)
    text = b"SELECT f('" + b"x" * 100 + b"')"
    assert classifier.script(text).kind is Class.READ
    assert not classifier._new


def test_the_cache_is_bounded_in_bytes() -> None:
    classifier = Classifier(max_entries=1 << 20, max_text_bytes=1024)
    for number in range(200_000 // 100):
        classifier.script(b"SELECT f('%d%s')" % (number, b"x" * 1000))
    held = sum(map(len, classifier._new)) + sum(map(len, classifier._old))
    assert held <= (1 << 20) * 1024 // 8


def test_texts_beyond_the_bounds_are_not_read() -> None:
    huge = b"SELECT " + b"1," * (TEXT_BYTES_MAX // 2) + b"1"
    many = b"SELECT f();" * (STATEMENTS_MAX + 1)
    for text in (huge, many):
        statement = read(text).statements[0]
        assert (statement.kind, statement.opaque) == (Class.OTHER, Opaque.STRONG)
        assert statement.effects == ()


def test_unread_text_that_may_set_a_setting_says_so() -> None:
    for text in (b"SELECT set_config('a', 'b', false) '", b"SET a.b = 'c", b"x'; SET a.b = 1;"):
        assert read(text).statements[0].effects == (UnknownSetConfig(None, False),)


_QUARTER = TEXT_BYTES_MAX // 4
_HOSTILE = {
    "parentheses": b"SELECT " + b"(" * _QUARTER + b")" * _QUARTER,
    "calls": b"SELECT " + b"f(" * _QUARTER + b")" * _QUARTER,
    "set_config": b"SELECT " + b"set_config('a','b',false)," * (TEXT_BYTES_MAX // 30) + b"1",
    "nested set_config": b"SELECT " + b"set_config(" * 50_000 + b")" * 50_000,
    "nextval": b"SELECT " + b"nextval('a')," * (TEXT_BYTES_MAX // 14) + b"1",
    "columns": b"SELECT " + b",f(" * 150_000 + b")" * 150_000,
    "comments": b"/*" * _QUARTER + b"*/" * _QUARTER + b"SELECT 1",
    "dollars": b"SELECT " + b"$a$b" * (_QUARTER - 8),
    "escapes": b"SELECT E'" + b"\\'" * (TEXT_BYTES_MAX // 2 - 8) + b"'",
    "continued": b"SELECT E'a'" + b"\n'a'" * (_QUARTER - 8),
    "almost continued": b"SELECT 'a'" + b"\n--'a'" * (TEXT_BYTES_MAX // 6 - 8),
    "semicolons": b";" * TEXT_BYTES_MAX,
    "dots": b"SELECT " + b"a." * (_QUARTER - 8) + b"f(1)",
    "with": b"WITH a AS (SELECT 1)" + b", b(x) AS (SELECT 1)" * 50_000 + b" SELECT 1",
    "set": b"SET a TO " + b"b," * (_QUARTER - 8) + b"c",
    "explain": b"EXPLAIN ANALYZE " * 60_000 + b"SELECT 1",
    "prepare": b"PREPARE a AS " * 70_000 + b"SELECT 1",
    "for": b"SELECT " + b"for no key " * 90_000,
    "unterminated": b"SELECT '" + b"''" * (TEXT_BYTES_MAX // 2 - 8),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_megabyte_takes_linear_time(name: str) -> None:
    """In processor time: the machine may be busy. A quadratic step would take minutes."""
    text = _HOSTILE[name]
    assert len(text) <= TEXT_BYTES_MAX + 64
    started_s = time.process_time()
    Classifier().script(text[:TEXT_BYTES_MAX])
    assert time.process_time() - started_s < 8


@pytest.mark.parametrize(
    ("text", "tx", "savepoint"),
    [
        ("BEGIN", Tx.BEGIN, ""),
        ("start transaction", Tx.BEGIN, ""),
        ("END", Tx.COMMIT, ""),
        ("commit and chain", Tx.COMMIT_CHAIN, ""),
        ("commit and no chain", Tx.COMMIT, ""),
        ("ABORT", Tx.ROLLBACK, ""),
        ("rollback work and chain", Tx.ROLLBACK_CHAIN, ""),
        ("SAVEPOINT Abc", Tx.SAVEPOINT, "abc"),
        ('SAVEPOINT "Abc"', Tx.SAVEPOINT, "Abc"),
        ("RELEASE a", Tx.RELEASE, "a"),
        ("RELEASE SAVEPOINT a", Tx.RELEASE, "a"),
        ("RELEASE savepoint", Tx.RELEASE, "savepoint"),
        ("ROLLBACK TO a", Tx.ROLLBACK_TO, "a"),
        ("ROLLBACK WORK TO SAVEPOINT a", Tx.ROLLBACK_TO, "a"),
        ("ROLLBACK TO savepoint", Tx.ROLLBACK_TO, "savepoint"),
        ("PREPARE TRANSACTION 'x'", Tx.PREPARE, ""),
        ("PREPARE transaction AS SELECT 1", Tx.NONE, ""),
        ("COMMIT PREPARED 'x'", Tx.COMMIT_PREPARED, ""),
        ("ROLLBACK PREPARED 'x'", Tx.ROLLBACK_PREPARED, ""),
        ("SET LOCAL a.b = 1", Tx.LOCAL, ""),
        ("SET TRANSACTION READ ONLY", Tx.LOCAL, ""),
        ("SET transaction_isolation = 'serializable'", Tx.LOCAL, ""),
        ("SET CONSTRAINTS ALL IMMEDIATE", Tx.LOCAL, ""),
        ("SELECT set_config('a', 'b', true)", Tx.LOCAL, ""),
        ("SELECT set_config('a', 'b', true), set_config('a', 'c', false)", Tx.NONE, ""),
        ("SELECT 1", Tx.NONE, ""),
    ],
)
def test_transaction_control(text: str, tx: Tx, savepoint: str) -> None:
    statement = read(text.encode()).statements[0]
    assert (statement.tx, statement.savepoint) == (tx, savepoint)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        (b"BEGIN", b""),
        (b"begin work", b""),
        (b"START TRANSACTION read only", b"read only"),
        (
            b"BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY;",
            b"ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        ),
        (b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", b"ISOLATION LEVEL REPEATABLE READ"),
        (b"set local transaction read only", b"read only"),
        (b"SET TRANSACTION SNAPSHOT '1'", b""),
        (b"SET LOCAL transaction_isolation = serializable", OTHER_MODES),
        (b"SET transaction_read_only TO on", OTHER_MODES),
        (b"SELECT set_config('a.b', 'c', true)", OTHER_MODES),
        (b"SET LOCAL work_mem = '1MB'", b""),
        (b"SET CONSTRAINTS ALL DEFERRED", b""),
    ],
)
def test_kinds_of_transactions(text: bytes, modes: bytes) -> None:
    """What another BEGIN must say to begin one like it."""
    (one,) = read(text).statements
    assert one.modes == modes
