"""The types settings are made of: text to value, with a message that says what was expected.

Each type refuses what YAML makes easy to get wrong (a number where text belongs, `yes` for true)
and takes numbers as text too, because that is what `${VAR}` yields. No message repeats the value.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic import ValidationInfo as Info

from proxy.core.sizes import EXPECTED as EXPECTED_SIZE
from proxy.core.sizes import parse_size
from proxy.settings.url_parts import UrlError, check_host, parse_port
from proxy.settings.urls import (
    PostgresUpstream,
    RedisUpstream,
    parse_postgres_url,
    parse_redis_url,
)


def setting(default: Any, about: str, *, reloadable: bool = True, **bounds: Any) -> Any:
    """A field with its meaning, and whether SIGHUP applies it to the running proxy.

    `...` as the default means required. The unit is the end of the field's name.
    """
    when = "Reloadable." if reloadable else "Needs a restart."
    return Field(
        default,
        description=f"{about} {when}",
        json_schema_extra={"x-reloadable": reloadable},
        **bounds,
    )


def section(kind: Callable[[], Any], about: str) -> Any:
    """A nested mapping; each of its settings says itself whether it is reloadable."""
    return Field(default_factory=kind, description=about)


# ---- numbers and switches -----------------------------------------------------------------------

_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[-+]?\d{1,18}(\.\d{1,9})?", re.ASCII)


def _whole(value: object) -> object:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a whole number")


def _number(value: object) -> object:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError("expected a number")


def _switch(value: object) -> object:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("expected true or false")


def _size(value: object) -> object:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected {EXPECTED_SIZE}")


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
]


# ---- names, files, secrets ----------------------------------------------------------------------


def _name(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", value):
        return value
    raise ValueError("expected a name: 1 to 63 letters, digits, _ . or -")


def _host_name(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", value):
        return value.lower().rstrip(".")
    raise ValueError("expected a host name, without a port")


def _sqlstate(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9A-Z]{5}", value):
        return value
    raise ValueError('expected a SQLSTATE in quotes: five digits or capitals, such as "08007"')


def _file(value: object, info: Info) -> object:
    """A path; relative ones count from the settings file's directory."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected the path of a file")
    base = (info.context or {}).get("directory")
    return Path(base, value) if base else Path(value)


def _text(value: object) -> object:
    if isinstance(value, str | SecretStr):
        return value
    raise ValueError("expected text; put it in quotes")


def _pattern(value: object) -> object:
    if not 1 <= len(str(_text(value))) <= 1024:
        raise ValueError("expected a pattern of 1 to 1024 characters")
    return value


def _role(value: object) -> object:
    if not 1 <= len(str(_text(value)).encode()) <= 63 or "\0" in str(value):
        raise ValueError("expected a name of 1 to 63 bytes")
    return value


Name = Annotated[str, BeforeValidator(_name)]
HostName = Annotated[str, BeforeValidator(_host_name)]
Role = Annotated[str, BeforeValidator(_role)]
SqlState = Annotated[str, BeforeValidator(_sqlstate)]
File = Annotated[Path, BeforeValidator(_file)]
Secret = Annotated[SecretStr, BeforeValidator(_text)]
Pattern = Annotated[str, BeforeValidator(_pattern)]


def _postgres_secret(value: object) -> object:
    """A password or a SCRAM verifier as pg_authid stores it (RFC 5803, in PostgreSQL's form)."""
    _text(value)
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if not text:
        raise ValueError("expected a password or a SCRAM-SHA-256 verifier, got an empty text")
    if re.fullmatch(r"md5[0-9a-f]{32}", text):
        raise ValueError(
            "an md5 verifier cannot serve scram-sha-256; "
            "store the password, or the SCRAM-SHA-256$… verifier of pg_authid"
        )
    if text.startswith("SCRAM-SHA-256$") and not _is_verifier(text):
        raise ValueError(
            "expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, each part as in pg_authid"
        )
    return value


def _is_verifier(text: str) -> bool:
    match = re.fullmatch(r"SCRAM-SHA-256\$([1-9]\d{0,8}):([^$:]+)\$([^$:]+):([^$:]+)", text)
    if match is None:
        return False
    try:
        salt, stored, server = (base64.b64decode(match[i], validate=True) for i in (2, 3, 4))
    except (binascii.Error, ValueError):
        return False
    return bool(salt) and len(stored) == len(server) == 32  # SHA-256


PostgresSecret = Annotated[SecretStr, BeforeValidator(_postgres_secret)]


# ---- addresses to listen on ---------------------------------------------------------------------

LISTEN_MAX = 16
_EXPECTED_ADDRESS = "expected host:port, [IPv6]:port or an absolute path"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A TCP address or a Unix socket's file (`path`). Port 0 is any free one, host * everywhere."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """The address. Raises ValueError. A path is the socket's file itself."""
    if text.startswith("/"):
        if "\0" in text or len(text.encode()) > 107:  # sun_path of Linux, minus the ending NUL
            raise ValueError("a Unix socket's path has at most 107 bytes")
        return ListenAddress(path=text)
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):([0-9]{1,5})", text)
    if match is None:
        raise ValueError(_EXPECTED_ADDRESS + _listen_hint(text))
    try:
        host = "*" if match[2] == "*" else check_host(match[1] or match[2])
        port = parse_port(match[3]) if match[3].strip("0") else 0
    except UrlError:
        raise ValueError(_EXPECTED_ADDRESS + _listen_hint(text)) from None
    if match[1] and ":" not in host:
        raise ValueError(f"{_EXPECTED_ADDRESS}; only IPv6 addresses stand in brackets")
    return ListenAddress(host, port)


def _listen_hint(text: str) -> str:
    if text.startswith(":"):
        return f"; every interface is *{text[:6]}"
    if text.isdigit():
        return f"; for loopback write 127.0.0.1:{text[:5]}"
    return ""


def postgres_socket(directory: str) -> str:
    """The socket's file in a directory, named as libpq looks for it; `dir:port` sets the port."""
    match = re.fullmatch(r"(/.*?)/*(?::(\d{1,5}))?", directory)
    if match is None or re.search(r"/\.s\.PGSQL\.\d+$", directory):
        return directory
    return f"{match[1]}/.s.PGSQL.{parse_port(match[2]) if match[2] else 6432}"


def _postgres_listen(value: object) -> object:
    if isinstance(value, str) and value.startswith("/"):
        value = postgres_socket(value)
    return _listen(value)


def _listen(value: object) -> object:
    if isinstance(value, ListenAddress):
        return value
    if isinstance(value, int):
        raise ValueError(f"{_EXPECTED_ADDRESS}; for loopback write 127.0.0.1:{value}")
    if not isinstance(value, str):
        raise ValueError(_EXPECTED_ADDRESS)
    return parse_listen(value)


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _some(value: object) -> object:
    if value in ([], ()):
        raise ValueError("expected at least one address")
    return _one_or_many(value)


_LISTEN_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
)
_Addresses = tuple[Annotated[ListenAddress, PlainValidator(_listen)], ...]
_PostgresAddresses = tuple[Annotated[ListenAddress, PlainValidator(_postgres_listen)], ...]
_MANY = Field(max_length=LISTEN_MAX)

PostgresListen = Annotated[_PostgresAddresses, BeforeValidator(_some), _MANY, _LISTEN_SCHEMA]
RedisListen = Annotated[_Addresses, BeforeValidator(_some), _MANY, _LISTEN_SCHEMA]
AdminListen = Annotated[_Addresses, BeforeValidator(_one_or_many), _MANY, _LISTEN_SCHEMA]


# ---- upstreams ----------------------------------------------------------------------------------


def _postgres_upstream(value: object) -> object:
    if isinstance(value, PostgresUpstream):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a PostgreSQL URL or a key=value DSN")
    return parse_postgres_url(value)


def _redis_upstream(value: object) -> object:
    if isinstance(value, RedisUpstream):
        return value
    if not isinstance(value, str):
        raise ValueError("expected a Redis URL")
    return parse_redis_url(value)


PostgresTarget = Annotated[
    PostgresUpstream, PlainValidator(_postgres_upstream), WithJsonSchema({"type": "string"})
]
RedisTarget = Annotated[
    RedisUpstream, PlainValidator(_redis_upstream), WithJsonSchema({"type": "string"})
]


class Section(BaseModel):
    """A mapping of settings. `key:` with nothing behind it is the default, as if left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}


def upstream_or_file(schema: dict[str, Any]) -> None:
    """For editors: one of the two is required, while the model itself sees the file's content."""
    schema["required"] = [name for name in schema["required"] if name != "upstream"]
    schema["anyOf"] = [{"required": ["upstream"]}, {"required": ["upstream_file"]}]
    if not schema["required"]:
        del schema["required"]
