"""Ways to look at a statement's tokens."""

from proxy.postgres.protocol.lexer import tokens
from proxy.postgres.protocol.source import Source


def source(text: bytes) -> Source:
    return Source(tokens(text), text, True)


def test_words_and_names() -> None:
    it = source(b"Select \"A\" 'x' B")
    assert [it.word(at) for at in range(6)] == [b"select", b"", b"", b"b", b"", b""]
    assert [it.name(at) for at in range(6)] == [b"select", b"A", b"", b"b", b"", b""]
    assert it.verb() == "SELECT"
    assert source(b"(values (1))").verb() == "SELECT"


def test_the_text_as_written() -> None:
    assert source(b" /* a */ LOAD 'x' -- b\n").raw() == b"LOAD 'x'"


def test_parentheses() -> None:
    it = source(b"a (b (c) d) e")
    assert [it.opens(at) for at in (0, 1, 3, 99)] == [False, True, True, False]
    assert (it.closing(1), it.closing(3)) == (7, 5)
    assert source(b"a (b").closing(1) == 2


def test_calls_from_a_token_on() -> None:
    it = source(b"EXECUTE p (f(1))")
    assert it.calls(3).unknown
    assert not source(b"EXECUTE p (1)").calls(2).unknown
