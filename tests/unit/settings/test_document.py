"""YAML to data: what each scalar is, and what the environment puts in."""

import pytest

from proxy.settings.document import Mark, read_document

ENV = {"A": "1", "EMPTY": "", "TRUE": "true", "NULL": "null", "BRACES": "${A}", "SEQ": "[1, 2]"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1.5", 1.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        # what YAML 1.1 would turn into something else
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("True", "True"),
        ("NULL", "NULL"),
        ("08007", "08007"),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("6432:5432", "6432:5432"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        # the environment: text stays text
        ("${A}", "1"),
        ("${TRUE}", "true"),
        ("${NULL}", "null"),
        ("${SEQ}", "[1, 2]"),
        ("x${A}y${A}", "x1y1"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NOPE:-}", ""),
        ("${NOPE:-a:-b}", "a:-b"),
        ("${A:-d}", "1"),
        ("${A:?m}", "1"),
        ("$${A}", "${A}"),
        ("$A $ $$", "$A $ $$"),
        ("${BRACES}", "${A}"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    document = read_document(f"a: {text}", "f", ENV)
    assert document.mistakes == []
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)  # type: ignore[index]


def test_positions() -> None:
    document = read_document("a:\n  - b: 1\n    c: {d: 2}\n", "f", ENV)
    assert document.data == {"a": [{"b": 1, "c": {"d": 2}}]}
    assert document.values[()] == Mark("f", 1, 1)
    assert document.keys["a", 0, "c"] == Mark("f", 3, 5)
    assert document.values["a", 0, "c", "d"] == Mark("f", 3, 12)
    assert str(document.values["a", 0, "b"]) == "f:2:8"
    assert str(Mark("f")) == "f"


def test_aliases_are_copies() -> None:
    document = read_document("a: &x {b: 1}\nc: *x\n", "f", ENV)
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_mistake_leaves_the_rest() -> None:
    document = read_document("a: ${NOPE}\nb: 1\na: 2\n", "f", ENV)
    assert document.data == {"a": None, "b": 1}
    assert [(path, mark.line) for path, mark, _ in document.mistakes] == [(("a",), 1), (("a",), 3)]


def test_an_empty_text() -> None:
    document = read_document("# nothing\n", "f", ENV)
    assert document.data is None
    assert document.mistakes == []
