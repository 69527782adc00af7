"""Values of bound parameters, where an effect depends on them.

Owns the reading of set_config's arguments at run time. Source: PostgreSQL documentation, "Bind".
"""

from collections.abc import Sequence
from enum import Enum

from proxy.postgres.protocol.calls import truth
from proxy.postgres.protocol.effects import (
    Argument,
    Effect,
    Flag,
    Parameter,
    SetConfig,
    UnknownSetConfig,
)
from proxy.postgres.protocol.setting_text import OF_TRANSACTION, canonical


class Unknown(Enum):
    """A parameter whose value was not given, or not in a form that is read here."""

    UNKNOWN = 0


UNKNOWN = Unknown.UNKNOWN


class Binary(bytes):
    """A value in binary format whose type the server chose: that of the place where it stands."""


Params = tuple[bytes | Unknown | None, ...] | None
"""Bound values, or None when they are not known."""


def value_of(argument: Argument, params: Params) -> bytes | Unknown | None:
    """The argument's value, or UNKNOWN."""
    if not isinstance(argument, Parameter):
        return argument
    if params is None or not 0 < argument.number <= len(params):
        return UNKNOWN
    value = params[argument.number - 1]
    return UNKNOWN if argument.cast and isinstance(value, Binary) else value


def flag_of(flag: Flag, params: Params) -> bool | None:
    """True: local to the transaction; None: not known. A NULL flag counts as false."""
    if isinstance(flag, bool):
        return flag
    value = value_of(flag, params)
    if isinstance(value, Unknown):
        return None
    return False if value is None else truth(value)


def counts(effect: SetConfig | UnknownSetConfig, params: Params) -> bool:
    """It outlives the transaction."""
    if flag_of(effect.is_local, params) is True:
        return False
    name = value_of(effect.name, params)
    return not isinstance(name, bytes) or canonical(name) not in (*OF_TRANSACTION, b"seed")


def bound(
    effect: SetConfig | UnknownSetConfig, params: Params
) -> tuple[bytes | None, bytes | Unknown | None]:
    """Name of the setting (None: not known) and its value (None: reset; UNKNOWN: not known)."""
    name = value_of(effect.name, params)
    value = value_of(effect.value, params) if isinstance(effect, SetConfig) else UNKNOWN
    if flag_of(effect.is_local, params) is None:
        value = UNKNOWN
    return (canonical(name) if isinstance(name, bytes) else None), value


def without_parameters(effect: Effect) -> Effect:
    """The effect when nobody knows what the parameters hold."""
    if not isinstance(effect, SetConfig | UnknownSetConfig):
        return effect
    values = effect.value if isinstance(effect, SetConfig) else None
    if not any(isinstance(part, Parameter) for part in (effect.name, values, effect.is_local)):
        return effect
    name = None if isinstance(effect.name, Parameter) else effect.name
    return UnknownSetConfig(name, effect.is_local is True)


_BYTES_AS_TEXT = frozenset((16, 18, 19, 25, 705, 1042, 1043))
"""Types whose binary form is read here: bool, "char", name, text, unknown, bpchar, varchar."""


def text_params(
    values: Sequence[bytes | None], formats: Sequence[int], oids: Sequence[int] = ()
) -> Params:
    """The values of a Bind, each as text if it is text, a Binary if it may be.

    `formats` as in Bind (none: all text; one: for all), `oids` as in Parse (missing or 0: the
    server chooses, which is text where set_config wants text).
    """
    found: list[bytes | Unknown | None] = []
    for at, value in enumerate(values):
        binary = formats[0] if len(formats) == 1 else at < len(formats) and formats[at]
        oid = oids[at] if at < len(oids) else 0
        if value is None or not binary or oid in _BYTES_AS_TEXT:
            found.append(value)
        else:
            found.append(UNKNOWN if oid else Binary(value))
    return tuple(found)
