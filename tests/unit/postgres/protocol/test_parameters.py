"""Bound values where an effect depends on them."""

import pytest

from proxy.postgres.protocol.effects import (
    Effect,
    Flag,
    Listen,
    Parameter,
    SetConfig,
    UnknownSetConfig,
)
from proxy.postgres.protocol.parameters import (
    UNKNOWN,
    Binary,
    Params,
    bound,
    counts,
    flag_of,
    text_params,
    value_of,
    without_parameters,
)

P1, P2 = Parameter(1), Parameter(2)


@pytest.mark.parametrize(
    ("params", "value"),
    [((b"x",), b"x"), ((None,), None), ((), UNKNOWN), (None, UNKNOWN)],
)
def test_value_of_a_parameter(params: Params, value: object) -> None:
    assert value_of(P1, params) == value
    assert value_of(b"y", params) == b"y"
    assert value_of(None, params) is None
    assert value_of(Parameter(0), params) is UNKNOWN


@pytest.mark.parametrize(
    ("flag", "params", "local"),
    [
        (True, None, True),
        (False, None, False),
        (P1, (b"t",), True),
        (P1, (b"\x01",), True),
        (P1, (b"off",), False),
        (P1, (None,), False),
        (P1, (b"odd",), None),
        (P1, None, None),
    ],
)
def test_flag(flag: Flag, params: Params, local: bool | None) -> None:
    assert flag_of(flag, params) is local


@pytest.mark.parametrize(
    ("effect", "params", "outlives"),
    [
        (SetConfig(b"a", b"b", False), None, True),
        (SetConfig(b"a", b"b", True), None, False),
        (SetConfig(b"a", b"b", P1), (b"t",), False),
        (SetConfig(b"a", b"b", P1), None, True),
        (SetConfig(P1, b"b", False), None, True),
        (SetConfig(P1, b"b", False), (b"Transaction_Read_Only",), False),
        (SetConfig(b"seed", b"1", False), None, False),
        (UnknownSetConfig(None, False), None, True),
    ],
)
def test_what_outlives_the_transaction(
    effect: SetConfig | UnknownSetConfig, params: Params, outlives: bool
) -> None:
    assert counts(effect, params) is outlives


@pytest.mark.parametrize(
    ("effect", "params", "found"),
    [
        (SetConfig(b"a", b"b", False), None, (b"a", b"b")),
        (SetConfig(P1, P2, False), (b"App.X", None), (b"app.x", None)),
        (SetConfig(P1, P2, False), None, (None, UNKNOWN)),
        (SetConfig(P1, b"b", False), (None,), (None, b"b")),
        (SetConfig(b"a", b"b", P1), None, (b"a", UNKNOWN)),
        (UnknownSetConfig(b"a", False), None, (b"a", UNKNOWN)),
        (UnknownSetConfig(None, False), None, (None, UNKNOWN)),
    ],
)
def test_name_and_value(
    effect: SetConfig | UnknownSetConfig, params: Params, found: tuple[object, object]
) -> None:
    assert bound(effect, params) == found


@pytest.mark.parametrize(
    ("effect", "without"),
    [
        (SetConfig(b"a", b"b", False), SetConfig(b"a", b"b", False)),
        (SetConfig(b"a", P1, False), UnknownSetConfig(b"a", False)),
        (SetConfig(P1, b"b", False), UnknownSetConfig(None, False)),
        (SetConfig(b"a", b"b", P1), UnknownSetConfig(b"a", False)),
        (UnknownSetConfig(P1, True), UnknownSetConfig(None, True)),
        (UnknownSetConfig(b"a", False), UnknownSetConfig(b"a", False)),
        (Listen(b"a"), Listen(b"a")),
    ],
)
def test_effects_when_the_parameters_are_unknown(effect: Effect, without: Effect) -> None:
    assert without_parameters(effect) == without


A, B = b"a", b"b"
AS_A, AS_B = Binary(A), Binary(B)


@pytest.mark.parametrize(
    ("formats", "oids", "found"),
    [
        ((), (), (A, B)),
        ((0,), (), (A, B)),
        ((1,), (), (AS_A, AS_B)),
        ((1,), (25, 1043), (A, B)),
        ((1,), (23, 25), (UNKNOWN, B)),
        ((0, 1), (23, 25), (A, B)),
        ((1, 0), (23, 25), (UNKNOWN, B)),
        ((1, 1), (16, 705), (A, B)),
        ((0, 1), (0, 17), (A, UNKNOWN)),
        ((1, 1), (19, 0), (A, AS_B)),
    ],
)
def test_which_values_can_be_read(
    formats: tuple[int, ...], oids: tuple[int, ...], found: tuple[object, ...]
) -> None:
    made = text_params((A, B), formats, oids)
    assert made == found
    assert made is not None
    assert [type(value) for value in made] == [type(value) for value in found]


def test_a_null_is_a_null_in_any_format() -> None:
    assert text_params((None,), (1,), (23,)) == (None,)


def test_what_a_cast_makes_of_binary_bytes_is_not_known() -> None:
    """set_config('a', $1::text, false), and the server takes $1 for a number."""
    cast = SetConfig(b"a", Parameter(1, cast=True), False)
    assert bound(cast, (AS_A,)) == (b"a", UNKNOWN)
    assert bound(cast, (A,)) == (b"a", A)
    assert bound(SetConfig(b"a", P1, False), (AS_A,)) == (b"a", A)
    assert bound(SetConfig(b"a", P1, False), (UNKNOWN,)) == (b"a", UNKNOWN)
