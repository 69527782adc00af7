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


@pytest.mark.parametrize(
    ("formats", "oids", "readable"),
    [
        ((), (), True),
        ((0,), (), True),
        ((1,), (), True),
        ((1,), (25, 1043), True),
        ((1,), (23, 25), False),
        ((0, 1), (23, 25), True),
        ((1, 0), (23, 25), False),
        ((1, 1), (16, 705), True),
        ((0, 1), (0, 17), False),
    ],
)
def test_which_binds_can_be_read(
    formats: tuple[int, ...], oids: tuple[int, ...], readable: bool
) -> None:
    values = (b"a", b"b")
    assert text_params(values, formats, oids) == (values if readable else None)
