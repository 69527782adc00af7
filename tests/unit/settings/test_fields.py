"""The types of settings: values that are already right pass, others are refused in plain words."""

from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from proxy.settings import fields
from proxy.settings.fields import ListenAddress
from proxy.settings.urls import parse_postgres_url, parse_redis_url

PASSING = [
    (fields.Whole, 7, 7),
    (fields.Whole, "7", 7),
    (fields.Whole, "-7", -7),
    (fields.Number, 1, 1),
    (fields.Number, "1.5", 1.5),
    (fields.Switch, True, True),
    (fields.Switch, "false", False),
    (fields.Size, 5, 5),
    (fields.Size, "5KiB", 5120),
    (fields.File, "a/b", Path("a/b")),
    (fields.File, Path("a"), Path("a")),
    (fields.Secret, SecretStr("x"), SecretStr("x")),
    (fields.PostgresSecret, SecretStr("x"), SecretStr("x")),
    (fields.AdminListen, (ListenAddress("h", 1),), (ListenAddress("h", 1),)),
    (fields.AdminListen, [], ()),
    (fields.PostgresListen, ListenAddress("h", 1), (ListenAddress("h", 1),)),
    (fields.PostgresTarget, parse_postgres_url("host=h"), parse_postgres_url("host=h")),
    (fields.RedisTarget, parse_redis_url("redis://h"), parse_redis_url("redis://h")),
]


@pytest.mark.parametrize(("kind", "value", "result"), PASSING)
def test_passing(kind: object, value: object, result: object) -> None:
    assert TypeAdapter(kind).validate_python(value) == result


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (fields.Whole, True),
        (fields.Whole, 1.0),
        (fields.Whole, "1.0"),
        (fields.Whole, "9" * 30),
        (fields.Number, False),
        (fields.Number, "nan"),
        (fields.Number, float("inf")),
        (fields.Switch, 1),
        (fields.Switch, "True"),
        (fields.Size, True),
        (fields.Size, 1.5),
        (fields.File, ""),
        (fields.File, "a\0b"),
        (fields.File, 7),
        (fields.Secret, 7),
        (fields.PostgresSecret, 7),
        (fields.Pattern, "x" * 1025),
        (fields.RedisListen, []),
        (fields.RedisListen, ["h:1"] * 17),
        (fields.PostgresTarget, 7),
        (fields.RedisTarget, None),
    ],
)
def test_refused(kind: object, value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


def test_relative_files_start_at_the_directory_of_the_settings() -> None:
    adapter = TypeAdapter(fields.File)
    context = {"directory": Path("/etc/backstay")}
    assert adapter.validate_python("tls.crt", context=context) == Path("/etc/backstay/tls.crt")
    assert adapter.validate_python("/tls.crt", context=context) == Path("/tls.crt")
