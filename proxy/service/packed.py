"""Reports, rows and outcomes as plain data for JSON, and back: what workers and parent exchange.

Takes dataclasses made of numbers, texts, lists, dicts, other dataclasses and histograms.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from proxy.core.histogram import Histogram

T = TypeVar("T")


def pack(value: Any) -> Any:
    """Plain data that JSON can hold."""
    match value:
        case Histogram():
            return [value.counts, value.sum_s, value.max_s]
        case dict():
            return {name: pack(item) for name, item in value.items()}
        case list() | tuple():
            return [pack(item) for item in value]
        case _ if is_dataclass(value):
            return [pack(getattr(value, field.name)) for field in fields(value)]
        case _:
            return value


def unpack(kind: type[T], data: Any) -> T:
    """What `pack` made plain."""
    made: T = _unpack(kind, data)
    return made


def _unpack(kind: Any, data: Any) -> Any:
    if kind is Histogram:
        return Histogram(*data)
    is_record: bool = is_dataclass(kind)
    if is_record:
        hints = _hints(kind)
        return kind(*(_unpack(hint, item) for hint, item in zip(hints, data, strict=True)))
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (list, Sequence):
        return [_unpack(parts[0], item) for item in data]
    if origin is dict:
        return {name: _unpack(parts[1], item) for name, item in data.items()}
    if origin in (Union, UnionType):
        inner = [part for part in parts if part is not type(None)]
        return None if data is None else _unpack(inner[0], data)
    return data


@cache
def _hints(kind: Any) -> tuple[Any, ...]:
    """The types of the fields, in order."""
    hints = get_type_hints(kind)
    return tuple(hints[field.name] for field in fields(kind))
