"""Tokens: every lexical rule of the server that decides where something ends."""

import pytest

from proxy.postgres.protocol import lexer
from proxy.postgres.protocol.lexer import (
    MARK,
    NAME,
    NUMBER,
    PARAM,
    STRING,
    WORD,
    Unlexable,
    clip,
    identifier,
    literal,
    quoted,
    statements,
    tokens,
)


def pairs(text: bytes, conforming: bool = True) -> list[tuple[int, bytes]]:
    return [(kind, value) for kind, value, _, _ in tokens(text, conforming)]


def values(text: bytes, conforming: bool = True) -> list[bytes]:
    return [value for _, value in pairs(text, conforming)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", []),
        (b" \t\n\r\f\v", []),
        (b"Select A_1$ \xc3\xa9", [(WORD, b"select"), (WORD, b"a_1$"), (WORD, b"\xc3\xa9")]),
        (b'"A""b" ""', [(NAME, b'A""b'), (NAME, b"")]),
        (b"'a''b'", [(STRING, b"'a''b'")]),
        (b"'a\\'", [(STRING, b"'a\\'")]),
        (b"E'a\\'b'", [(STRING, b"E'a\\'b'")]),
        (b"e'\\\\'", [(STRING, b"e'\\\\'")]),
        (b"xe'a\\'", [(WORD, b"xe"), (STRING, b"'a\\'")]),
        (
            b"B'01' x'1F' N'a'",
            [(STRING, b"B'01'"), (STRING, b"x'1F'"), (WORD, b"n"), (STRING, b"'a'")],
        ),
        (b"U&'\\0041' u & 'a'", None),
        (b"$1 $23", [(PARAM, b"1"), (PARAM, b"23")]),
        (b"$$a;'$$", [(STRING, b"$$a;'$$")]),
        (b"$a$ $b$ $$ $a$", [(STRING, b"$a$ $b$ $$ $a$")]),
        (b"a$b$c", [(WORD, b"a$b$c")]),
        (b"1$$a$$", [(NUMBER, b"1"), (STRING, b"$$a$$")]),
        (b"12.5e3", [(NUMBER, b"12"), (MARK, b"."), (NUMBER, b"5"), (WORD, b"e3")]),
        (b"1for", [(NUMBER, b"1"), (WORD, b"for")]),
        (b"1E'\\''", [(NUMBER, b"1"), (STRING, b"E'\\''")]),
        (b"a--b\nc", [(WORD, b"a"), (WORD, b"c")]),
        (b"a-/**/-b", [(WORD, b"a"), (MARK, b"-"), (MARK, b"-"), (WORD, b"b")]),
        (b"a+--'\nb", [(WORD, b"a"), (MARK, b"+"), (WORD, b"b")]),
        (b"a*/*'*/b", [(WORD, b"a"), (MARK, b"*"), (WORD, b"b")]),
        (b"a/b", [(WORD, b"a"), (MARK, b"/"), (WORD, b"b")]),
        (b"/* a /* ' */ \" */ b", [(WORD, b"b")]),
        (b"/**/b", [(WORD, b"b")]),
        (b"/***/b", [(WORD, b"b")]),
        (b"/*/*/*/**/*/*/*/b", [(WORD, b"b")]),
        (b"x::y", [(WORD, b"x"), (MARK, b":"), (MARK, b":"), (WORD, b"y")]),
        (b"[](),;.=<>%^&|!~@#?`", [(MARK, bytes([c])) for c in b"[](),;.=<>%^&|!~@#?`"]),
    ],
)
def test_tokens(text: bytes, found: list[tuple[int, bytes]] | None) -> None:
    if found is not None:
        assert pairs(text) == found
    else:
        assert values(text) == [b"U&'\\0041'", b"u", b"&", b"'a'"]


def test_a_literal_goes_on_after_a_line_break_and_keeps_its_kind() -> None:
    for gap in (b"\n", b" \n ", b" -- '\n", b"\n-- '\n\t", b"--x\r\n"):
        assert len(pairs(b"E'a'" + gap + b"'\\''")) == 1
        assert len(pairs(b"B'1'" + gap + b"'0'")) == 1
    for gap in (b" ", b"", b"/*\n*/"):
        assert len(pairs(b"E'a'" + gap + b"'b'")) == (2 if gap else 1)
    # Not continued: the second literal is an ordinary one, where a backslash means nothing.
    assert values(b"E'a' '\\'") == [b"E'a'", b"'\\'"]


def test_backslashes_in_ordinary_literals_depend_on_the_setting() -> None:
    text = b"'a\\'b'"
    assert values(text, conforming=False) == [text]
    with pytest.raises(Unlexable):
        tokens(text)


@pytest.mark.parametrize(
    "text",
    [
        b"'a",
        b"E'a\\'",
        b'"a',
        b"/* a",
        b"/* /* */",
        b"$$ a",
        b"$a$ a $b$",
        b"$a",
        b"a \\ b",
        b"{",
        b'U&"a"',
        b"E'a'\n'b",
        b"\x01",
    ],
)
def test_what_the_server_refuses(text: bytes) -> None:
    with pytest.raises(Unlexable):
        tokens(text)


@pytest.mark.parametrize(
    ("text", "conforming"), [(b"E'\x95\\'", True), (b"E'a\xe9\\n'", True), (b"'\x95\\''", False)]
)
def test_escapes_that_depend_on_the_encoding_are_refused(text: bytes, conforming: bool) -> None:
    """0x95 0x5C is one character of SJIS: the backslash may be none."""
    with pytest.raises(Unlexable):
        tokens(text, conforming)


def test_other_bytes_beyond_ascii_are_fine() -> None:
    assert len(tokens(b"E'\xe9' 'a\xe9\\'")) == 2


def test_more_tokens_than_anybody_waits_for_are_refused() -> None:
    assert len(tokens(b"a " * lexer.TOKENS_MAX)) == lexer.TOKENS_MAX
    assert len(tokens(b"/**/ a " + b" " * 100_000 + b"a" * 100_000)) == 2
    with pytest.raises(Unlexable):
        tokens(b"a," * lexer.TOKENS_MAX)


def test_offsets_span_the_token() -> None:
    text = b"SELECT \"A\" , 'b'  $1"
    spans = [text[start:end] for _, _, start, end in tokens(text)]
    assert spans == [b"SELECT", b'"A"', b",", b"'b'", b"$1"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (b"", []),
        (b";;", []),
        (b"a;b", [b"a", b"b"]),
        (b"a;", [b"a"]),
        (b"(a;b)", [b"(a;b)"]),
        (b"a;(b;c);d", [b"a", b"(b;c)", b"d"]),
    ],
)
def test_statements(text: bytes, cut: list[bytes]) -> None:
    found = [b"".join(value for _, value, _, _ in one) for one in statements(tokens(text))]
    assert found == cut


@pytest.mark.parametrize("text", [b"(", b")", b"a)(", b"(a;b"])
def test_parentheses_must_match(text: bytes) -> None:
    with pytest.raises(Unlexable):
        statements(tokens(text))


def test_names() -> None:
    (word,) = tokens(b"ABC")
    (name,) = tokens(b'"A""b"')
    assert (identifier(word), identifier(name)) == (b"abc", b'A"b')
    assert quoted(b'A"b') == b'"A""b"'
    assert clip(b"x" * 63) == b"x" * 63
    assert clip(b"x" * 64) == b"x" * 63
    assert clip(b"x" * 62 + "é".encode()) == b"x" * 62


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"'a'", b"a"),
        (b"''", b""),
        (b"'it''s \\'", b"it's \\"),
        (b"$$it's$$", b"it's"),
        (b"$x$ $$ $x$", b" $$ "),
        (b"E'a\\\\b\\'c''d'", b"a\\b'c'd"),
        (b"e'\\n\\t\\r\\b\\f\\z'", b"\n\t\r\b\fz"),
        (b"E'\\101\\x42\\7'", b"AB\x07"),
        (b"E'\\u0041'", None),
        (b"E'\\0'", None),
        (b"U&'a'", None),
        (b"B'1'", None),
        (b"x'1'", None),
        (b"'a'\n'b'", None),
        (b"E'a' --\n'b'", None),
        (b"'a''\nb'", b"a'\nb"),
    ],
)
def test_values_of_literals(raw: bytes, value: bytes | None) -> None:
    assert literal(raw) == value


def test_values_of_literals_that_do_not_conform() -> None:
    assert literal(b"'a\\'b'", conforming=False) == b"a'b"


def test_constants_name_the_groups_of_the_expression() -> None:
    assert (WORD, NAME, STRING, NUMBER, PARAM, MARK) == (1, 2, 3, 4, 5, 6)
    assert lexer.NAME_BYTES_MAX == 63
