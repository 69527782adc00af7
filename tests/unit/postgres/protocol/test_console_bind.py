"""Bind of the console: formats and values of every shape, as messages.bind writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.console_bind import Portal, Prepared, portal, read
from proxy.postgres.protocol.console_command import Command, ConsoleError, Verb, parse

SHOW = Command(Verb.SHOW, "stats")
KILL = parse(b"KILL_CLIENT $1")[0]
FORMATS = st.lists(st.integers(0, 3), max_size=4)


@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=4),
    FORMATS,
    FORMATS,
    st.binary(max_size=5).filter(lambda name: b"\0" not in name),
)
def test_what_was_written_is_read(
    values: list[bytes | None], given_formats: list[int], asked: list[int], name: bytes
) -> None:
    body = messages.bind(name, b"s", values, given_formats, asked)[5:]
    bound = read(body)
    assert (bound.portal, bound.statement, bound.values) == (name, b"s", values)
    assert (bound.parameter_formats, bound.result_formats) == (tuple(given_formats), tuple(asked))
    for end in range(len(body)):
        with pytest.raises(PeerProtocolError):
            read(body[:end])


def bound_to(prepared: Prepared, *values: bytes | None, formats: list[int]) -> Portal:
    return portal(prepared, read(messages.bind("", "", values, formats)[5:]), 2)


def test_values_in_text_and_binary() -> None:
    prepared = Prepared(KILL)
    assert prepared.parameter_oids() == [25]
    assert bound_to(prepared, b"17", formats=[]).parameters == ["17"]
    assert bound_to(prepared, None, formats=[]).parameters == [None]
    number = Prepared(KILL, (20,))
    assert bound_to(number, b"\0\0\0\0\0\0\0\x11", formats=[1]).parameters == ["17"]
    assert bound_to(number, b"\xff\xff", formats=[1]).parameters == ["-1"]
    assert bound_to(prepared, b"\xff", formats=[1]).parameters == ["\N{REPLACEMENT CHARACTER}"]


def test_as_many_values_as_there_are_parameters() -> None:
    for prepared, values in ((Prepared(KILL), ()), (Prepared(SHOW), (b"x",))):
        with pytest.raises(ConsoleError) as caught:
            bound_to(prepared, *values, formats=[])
        assert caught.value.sqlstate == "08P01"
    assert bound_to(Prepared(None), formats=[]).command is None
    assert bound_to(Prepared(SHOW, (25,)), b"unused", formats=[]).formats == [0, 0]
