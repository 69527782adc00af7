"""Upstream Redis and Valkey URLs: redis://, rediss://, valkey://, valkeys://, unix://.

Source: the IANA registrations of `redis` and `rediss`, and the query parameters redis-py reads from
URLs. Parameters about the application's own pool are refused with a word on where they belong.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.settings.url_parts import (
    UrlError,
    check_host,
    check_text,
    one_of,
    parse_choice,
    parse_port,
    parse_whole,
    percent_decode,
    shown_name,
    split_query,
)

DEFAULT_PORT = 6379
DATABASES_MAX = 16_383


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUpstream:
    """Where and how to reach Redis. Exactly one of `host` and `path` is set."""

    host: str | None = None
    port: int = DEFAULT_PORT
    path: str | None = None  # of a Unix socket
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0

    tls: bool = False
    ssl_cert_reqs: str = "required"  # none, optional, required
    ssl_check_hostname: bool = True
    ssl_ca_certs: str | None = None  # a file; None: the machine's own authorities
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = field(default=None, repr=False)  # of the key file
    connect_timeout_s: float | None = None  # None: the route's setting

    @property
    def is_unix(self) -> bool:
        return self.path is not None

    @property
    def verify(self) -> str:
        """What the server's certificate must prove: none, ca or full."""
        if not self.tls or self.ssl_cert_reqs == "none":
            return "none"
        return "full" if self.ssl_check_hostname else "ca"

    @property
    def files(self) -> tuple[str, ...]:
        """The files it names, to be read when links are opened."""
        files = (self.ssl_ca_certs, self.ssl_certfile, self.ssl_keyfile)
        return tuple(file for file in files if file)

    @property
    def target(self) -> str:
        """The place, for people: host:port, or the socket's path."""
        if self.path is not None:
            return self.path
        return (
            f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"
        )


_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}


def parse_redis_url(text: str) -> RedisUpstream:
    """The upstream of a Redis URL. Raises UrlError, never with a value of the URL."""
    text = check_text(text)
    match = re.match(r"([A-Za-z]+)://", text)
    scheme = match[1].lower() if match else ""
    if match is None or (scheme != "unix" and scheme not in _SCHEMES):
        raise UrlError("expected redis://…, rediss://…, valkey://…, valkeys://… or unix:///path")
    userinfo, rest = _split_userinfo(text[match.end() :], is_unix=scheme == "unix")
    location, _, query = rest.partition("?")
    fields = _credentials(userinfo)
    if scheme == "unix":
        fields["path"] = _path(location)
    else:
        fields |= _place(location)
        fields["tls"] = _SCHEMES[scheme]
    for name, value in split_query(query):
        _add_parameter(fields, name, value)
    upstream = RedisUpstream(**fields)  # type: ignore[arg-type]
    _check_together(upstream)
    return upstream


def _split_userinfo(rest: str, *, is_unix: bool) -> tuple[str, str]:
    """(user:password, what follows). A bare @ in the password is understood: the last counts."""
    end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    at = rest.rfind("@", 0, end)
    if at < 0 and not is_unix:
        _refuse_stray_at(rest, end)
    return (rest[:at], rest[at + 1 :]) if at >= 0 else ("", rest)


def _refuse_stray_at(rest: str, end: int) -> None:
    """An @ after a / can only be the end of a password whose / was not encoded: say so."""
    question = rest.find("?", end)
    if rest.find("@", end, question if question >= 0 else len(rest)) >= 0:
        raise UrlError(
            "special characters of a password must be percent-encoded: / is %2F, @ is %40"
        )


def _credentials(userinfo: str) -> dict[str, object]:
    """redis://:password@, redis://user:password@ and redis://user@."""
    user, _, password = userinfo.partition(":")
    fields: dict[str, object] = {}
    if user:
        fields["user"] = percent_decode(user, "user")
    if password:
        fields["password"] = percent_decode(password, "password")
    return fields


def _path(location: str) -> str:
    path = percent_decode(location, "path")
    if not path.startswith("/") or path.endswith("/"):
        raise UrlError("a Unix socket is written unix:///absolute/path/of/the.sock")
    return path


def _place(location: str) -> dict[str, object]:
    authority, _, path = location.partition("/")
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        if not bracket or not host or (tail and not tail.startswith(":")):
            raise UrlError("an IPv6 address is written [address]:port")
        port = tail[1:]
    else:
        host, _, port = authority.partition(":")
    if not host:
        raise UrlError("no host is named")
    fields: dict[str, object] = {"host": check_host(percent_decode(host, "host"))}
    if port:
        fields["port"] = parse_port(port)
    if path.rstrip("/"):
        fields["db"] = parse_whole("the database's number", path.rstrip("/"), 0, DATABASES_MAX)
    return fields


def _seconds(name: str, value: str) -> float:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", value, re.ASCII) or not 0 < float(value) <= 86_400:
        raise UrlError(f"{name}: expected seconds, more than 0, up to 86400")
    return float(value)


_TRUE = ("true", "1", "yes")
_FALSE = ("false", "0", "no")


def _switch(name: str, value: str) -> bool:
    return parse_choice(name, value.lower(), (*_TRUE, *_FALSE)) in _TRUE


def _cert_reqs(name: str, value: str) -> str:
    # Celery and older redis-py write the constants of the ssl module.
    return parse_choice(name, value.removeprefix("CERT_").lower(), ("none", "optional", "required"))


def _text(name: str, value: str) -> str:
    if not value:
        raise UrlError(f"{name}: expected a value")
    return value


_FIELDS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "db": ("db", lambda name, value: parse_whole(name, value, 0, DATABASES_MAX)),
    "username": ("user", _text),
    "password": ("password", _text),
    "ssl_cert_reqs": ("ssl_cert_reqs", _cert_reqs),
    "ssl_check_hostname": ("ssl_check_hostname", _switch),
    "ssl_ca_certs": ("ssl_ca_certs", _text),
    "ssl_certfile": ("ssl_certfile", _text),
    "ssl_keyfile": ("ssl_keyfile", _text),
    "ssl_password": ("ssl_password", _text),
    "socket_connect_timeout": ("connect_timeout_s", _seconds),
}
_OF_THE_CLIENT = frozenset(
    {
        "client_name",
        "decode_responses",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "socket_keepalive",
        "socket_timeout",
        "timeout",
    }
)


def _add_parameter(fields: dict[str, object], name: str, value: str) -> None:
    if name in _FIELDS:
        target, read = _FIELDS[name]
        fields[target] = read(name, value)
    elif name in _OF_THE_CLIENT:
        raise UrlError(f"{name}: belongs to the application's URL, not to the upstream's")
    else:
        known = one_of(tuple(_FIELDS))
        raise UrlError(f"{shown_name(name)}unknown parameter of a Redis URL; known are {known}")


def _check_together(upstream: RedisUpstream) -> None:
    ssl_given = upstream.ssl_ca_certs or upstream.ssl_certfile or upstream.ssl_keyfile
    ssl_changed = upstream.ssl_cert_reqs != "required" or not upstream.ssl_check_hostname
    if (ssl_given or ssl_changed) and not upstream.tls:
        raise UrlError("ssl_… parameters need rediss:// or valkeys://")
    if (upstream.ssl_keyfile or upstream.ssl_password) and not upstream.ssl_certfile:
        raise UrlError(
            "ssl_keyfile and ssl_password need ssl_certfile, the certificate they belong to"
        )
