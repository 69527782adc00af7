"""Upstream PostgreSQL URLs, as libpq takes them, read without libpq.

Sources: PostgreSQL 18 documentation, 34.1.1 "Connection Strings" and 34.1.2 "Parameter Key Words";
the tests compare with libpq itself. Differences, all on purpose: no environment variable, service
file, password file or file in ~/.postgresql is read (a proxy's settings say everything), a host
must be named, and a parameter without effect in a proxy is refused rather than ignored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.settings.url_parts import (
    UrlError,
    check_host,
    check_text,
    parse_choice,
    parse_port,
    parse_whole,
    percent_decode,
    shown_name,
    split_query,
)

DEFAULT_PORT = 5432
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_ATTRS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
PROTOCOL_VERSIONS = ("3.0", "3.2", "latest")
_HOSTS_MAX = 64
_SECONDS_MAX = 86_400


@dataclass(frozen=True, slots=True)
class HostPort:
    """One place to dial: a name, an address, or (starting with / or @) a socket's directory."""

    host: str
    port: int = DEFAULT_PORT
    hostaddr: str | None = None  # dial this address; `host` still names the certificate

    @property
    def is_unix(self) -> bool:
        return self.host.startswith(("/", "@"))

    @property
    def socket_path(self) -> str:
        """The socket's path as the server makes it. A leading @ is Linux's abstract namespace."""
        assert self.is_unix, "only socket directories have a path"
        return f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}"

    def __str__(self) -> str:
        if self.is_unix:
            return self.socket_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresUpstream:
    """Where and how to reach PostgreSQL. Names follow libpq; None means "not given"."""

    hosts: tuple[HostPort, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    dbname: str | None = None

    sslmode: str = "prefer"
    sslnegotiation: str = "postgres"  # or direct
    sslrootcert: str | None = None  # a file, or "system"
    sslcert: str | None = None
    sslkey: str | None = None
    sslpassword: str | None = field(default=None, repr=False)  # of the key file
    channel_binding: str = "prefer"  # disable, prefer, require

    target_session_attrs: str = "any"
    load_balance_hosts: bool = False  # shuffle the hosts before each round of dials
    connect_timeout_s: int | None = None  # per host; None: the pool's setting
    keepalives: bool = True
    keepalives_idle_s: int | None = None
    keepalives_interval_s: int | None = None
    keepalives_count: int | None = None

    application_name: str | None = None  # given to the server where the client gives none
    client_encoding: str | None = None
    options: str | None = None
    max_protocol_version: str = "3.0"  # libpq's default; 3.2 and latest ask for 3.2

    @property
    def verify(self) -> str:
        """What the server's certificate must prove: none, ca or full.

        `require` with a root certificate verifies the chain, as in libpq (34.19.1).
        """
        if self.sslmode == "verify-full":
            return "full"
        if self.sslmode == "verify-ca" or (self.sslmode == "require" and self.sslrootcert):
            return "ca"
        return "none"

    @property
    def target(self) -> str:
        """The hosts, for people: host:port, host:port."""
        return ", ".join(map(str, self.hosts))

    @property
    def files(self) -> tuple[str, ...]:
        """The files it names, to be read when links are opened."""
        root = self.sslrootcert if self.sslrootcert != "system" else None
        return tuple(file for file in (root, self.sslcert, self.sslkey) if file)


def parse_postgres_url(text: str) -> PostgresUpstream:
    """The upstream of a libpq URI, a JDBC URL or a key=value DSN. Raises UrlError, value-free."""
    text = check_text(text)
    if re.match(r"jdbc:postgresql:", text, re.IGNORECASE):
        values = _jdbc_values(text.split(":", 2)[2])
    elif match := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text):
        scheme = match[1].lower().split("+", 1)[0]  # SQLAlchemy's postgresql+psycopg and the like
        if scheme not in ("postgres", "postgresql"):
            raise UrlError("expected postgresql://…, postgres://… or a key=value DSN")
        values = _uri_values(text[match.end() :])
    else:
        values = _dsn_values(text)
    return _build(values)


# ---- the three spellings, each to a dict of libpq key words -------------------------------------


def _uri_values(rest: str) -> dict[str, str]:
    """libpq's grammar: [userinfo@][host[:port][,…]][/dbname][?parameters], empty parts left out."""
    userinfo, rest = _split_userinfo(rest)
    user, _, password = userinfo.partition(":")
    end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    hosts, ports = _split_authority(rest[:end])
    path, _, query = rest[end:].partition("?")
    given = {
        "user": percent_decode(user, "user"),
        "password": percent_decode(password, "password"),
        "host": hosts if hosts.strip(",") else "",
        "port": ports if ports.strip(",") else "",
        "dbname": percent_decode(path[1:], "dbname"),
    }
    return {name: value for name, value in given.items() if value} | dict(split_query(query))


def _split_userinfo(rest: str) -> tuple[str, str]:
    """(user:password, what follows). libpq looks for the first @ before any /.

    A bare @ in the password, which libpq reads as part of an impossible host name, is taken for
    what it is: the last @ before the host's end counts.
    """
    slash = rest.find("/")
    first = rest.find("@", 0, slash if slash >= 0 else len(rest))
    if first < 0:
        return "", rest
    end = min(
        (i for i in (rest.find("/", first), rest.find("?", first)) if i >= 0), default=len(rest)
    )
    at = rest.rfind("@", 0, end)
    return rest[:at], rest[at + 1 :]


def _split_authority(text: str) -> tuple[str, str]:
    """The comma-joined hosts and ports, decoded; missing ports are empty."""
    hosts: list[str] = []
    ports: list[str] = []
    for part in text.split(","):
        if part.startswith("["):
            address, bracket, tail = part[1:].partition("]")
            if not bracket or not address or (tail and not tail.startswith(":")):
                raise UrlError("an IPv6 address is written [address]:port")
            hosts.append(percent_decode(address, "host"))
            ports.append(tail[1:])
        else:
            host, _, port = part.partition(":")
            hosts.append(percent_decode(host, "host"))
            ports.append(port)
    return ",".join(hosts), ",".join(ports)


def _dsn_values(text: str) -> dict[str, str]:
    """key = value pairs; values may stand in single quotes, a backslash escapes one character."""
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _DSN_KEY.match(text, position)
        if match is None:
            raise UrlError(
                "expected postgresql://user@host/dbname or pairs such as host=… dbname=…"
            )
        value, position = _dsn_value(text, match.end(), match[1])
        values[match[1]] = value
        while position < len(text) and text[position].isspace():
            position += 1
    return values


_DSN_KEY = re.compile(r"([^\s=]+)\s*=\s*")
_DSN_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DSN_PLAIN = re.compile(r"((?:[^\s\\]|\\.)*)\\?", re.DOTALL)


def _dsn_value(text: str, position: int, name: str) -> tuple[str, int]:
    quoted = text.startswith("'", position)
    match = (_DSN_QUOTED if quoted else _DSN_PLAIN).match(text, position)
    if match is None:
        raise UrlError(f"{shown_name(name)}the quoted value has no closing quote")
    return re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match.end()


# ---- JDBC ---------------------------------------------------------------------------------------

_JDBC_NAMES = {
    "ApplicationName": "application_name",
    "channelBinding": "channel_binding",
    "connectTimeout": "connect_timeout",
    "sslNegotiation": "sslnegotiation",
}
_JDBC_TARGETS = {
    "any": "any",
    "master": "primary",
    "primary": "primary",
    "secondary": "standby",
    "slave": "standby",
    "preferSecondary": "prefer-standby",
    "preferSlave": "prefer-standby",
}


def _jdbc_values(rest: str) -> dict[str, str]:
    """pgjdbc's URL: //host:port,host:port/database?parameters, with its own parameter names."""
    if not rest.startswith("//"):
        raise UrlError("a JDBC URL is written jdbc:postgresql://host:port/database?user=…")
    authority, question, query = rest[2:].partition("?")
    values = _uri_values(authority)
    for name, value in split_query(query if question else ""):
        key, text = _jdbc_parameter(name, value)
        joins = key == "options" and key in values  # currentSchema beside options
        values[key] = f"{values[key]} {text}" if joins else text
    return values


def _jdbc_parameter(name: str, value: str) -> tuple[str, str]:
    if name == "currentSchema":
        # In `options` a blank ends the argument unless a backslash stands before it.
        return "options", "-csearch_path=" + re.sub(r"([ \\])", r"\\\1", value)
    if name == "targetServerType":
        if value not in _JDBC_TARGETS:
            raise UrlError("targetServerType: expected any, primary, secondary or preferSecondary")
        return "target_session_attrs", _JDBC_TARGETS[value]
    if name == "ssl":  # pgjdbc: ssl=true verifies fully
        return "sslmode", "verify-full" if value in ("true", "") else "prefer"
    if name == "loadBalanceHosts":
        return "load_balance_hosts", "random" if value == "true" else "disable"
    if name == "tcpKeepAlive":
        return "keepalives", "1" if value == "true" else "0"
    return _JDBC_NAMES.get(name, name), value


# ---- key words to the upstream ------------------------------------------------------------------


def _text(name: str, value: str) -> str:
    return value


def _choice(*choices: str) -> Callable[[str, str], str]:
    return lambda name, value: parse_choice(name, value, choices)


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    return lambda name, value: parse_whole(name, value, low, high)


def _switch(on: str, off: str) -> Callable[[str, str], bool]:
    return lambda name, value: parse_choice(name, value, (off, on)) == on


# key word → (field of PostgresUpstream, how its text is read)
_FIELDS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "user": ("user", _text),
    "password": ("password", _text),
    "dbname": ("dbname", _text),
    "sslmode": ("sslmode", _choice(*SSLMODES)),
    "sslnegotiation": ("sslnegotiation", _choice("postgres", "direct")),
    "sslrootcert": ("sslrootcert", _text),
    "sslcert": ("sslcert", _text),
    "sslkey": ("sslkey", _text),
    "sslpassword": ("sslpassword", _text),
    "channel_binding": ("channel_binding", _choice("disable", "prefer", "require")),
    "target_session_attrs": ("target_session_attrs", _choice(*SESSION_ATTRS)),
    "load_balance_hosts": ("load_balance_hosts", _switch("random", "disable")),
    "connect_timeout": ("connect_timeout_s", _whole(-_SECONDS_MAX, _SECONDS_MAX)),
    "keepalives": ("keepalives", _switch("1", "0")),
    "keepalives_idle": ("keepalives_idle_s", _whole(0, 32_767)),
    "keepalives_interval": ("keepalives_interval_s", _whole(0, 32_767)),
    "keepalives_count": ("keepalives_count", _whole(0, 127)),
    "application_name": ("application_name", _text),
    "client_encoding": ("client_encoding", _text),
    "options": ("options", _text),
    "max_protocol_version": ("max_protocol_version", _choice(*PROTOCOL_VERSIONS)),
}

# Zero is libpq's way to say "the default": it means the same as leaving the key word out.
_ZERO_IS_DEFAULT = frozenset(
    {
        "connect_timeout_s",
        "keepalives_idle_s",
        "keepalives_interval_s",
        "keepalives_count",
    }
)

# Accepted only with the value that describes what happens anyway.
_FIXED: dict[str, tuple[tuple[str, ...], str]] = {
    "gssencmode": (("disable", "prefer"), "GSSAPI encryption is not supported"),
    "sslcompression": (("0",), "TLS compression is unsafe and not supported"),
    "sslsni": (("1",), "the server's name is always sent"),
    "ssl_min_protocol_version": (("TLSv1.2",), "TLS 1.2 and 1.3 are spoken, no choice of them"),
    "ssl_max_protocol_version": (("TLSv1.3",), "TLS 1.2 and 1.3 are spoken, no choice of them"),
    "min_protocol_version": (("3.0",), "a server may always answer with protocol 3.0"),
    "replication": (("false", "off", "no", "0"), "the client asks for replication, not the URL"),
}

_REFUSED: dict[str, str] = {
    "passfile": "password files are not read; use password_file in the settings",
    "service": "service files are not read; write the service's parameters here",
    "servicefile": "service files are not read; write the service's parameters here",
    "sslcrl": "certificate revocation lists are not supported",
    "sslcrldir": "certificate revocation lists are not supported",
    "sslcertmode": "a client certificate is sent when sslcert is given and the server asks",
    "sslkeylogfile": "TLS secrets are never written to a file",
    "tcp_user_timeout": "it follows from keepalives_idle, keepalives_interval and keepalives_count",
    "requirepeer": "the socket's owner is not checked; protect its directory",
    "require_auth": "the methods cannot be narrowed; use channel_binding=require",
    "krbsrvname": "GSSAPI is not supported",
    "gsslib": "GSSAPI is not supported",
    "gssdelegation": "GSSAPI is not supported",
    "fallback_application_name": "use application_name",
    "scram_client_key": "store a SCRAM verifier under auth.users",
    "scram_server_key": "store a SCRAM verifier under auth.users",
    "oauth_issuer": "OAuth is not supported",
    "oauth_client_id": "OAuth is not supported",
    "oauth_client_secret": "OAuth is not supported",
    "oauth_scope": "OAuth is not supported",
    "pgbouncer": "a Prisma parameter; keep it in the application's URL",
    "connection_limit": "a Prisma parameter; keep it in the application's URL",
    "pool_timeout": "a Prisma parameter; keep it in the application's URL",
    "schema": "a Prisma parameter; keep it in the application's URL, or use options",
}


def _build(values: dict[str, str]) -> PostgresUpstream:
    hosts = _hosts(values.pop("host", ""), values.pop("hostaddr", ""), values.pop("port", ""))
    values = dict(_tls_alias(name, value) for name, value in values.items())
    fields: dict[str, object] = {"hosts": hosts}
    for name, value in values.items():
        if name in _FIELDS:
            target, read = _FIELDS[name]
            if value:  # an empty one is "not given"
                fields[target] = read(name, value)
        elif name in _FIXED and value in _FIXED[name][0]:
            continue
        else:
            raise UrlError(f"{shown_name(name)}{_why_refused(name)}")
    for name in _ZERO_IS_DEFAULT:
        number = fields.get(name)
        if isinstance(number, int) and number <= 0:
            del fields[name]
    if fields.get("sslrootcert") == "system":
        fields.setdefault("sslmode", "verify-full")
    upstream = PostgresUpstream(**fields)  # type: ignore[arg-type]
    _check_together(upstream)
    return upstream


def _why_refused(name: str) -> str:
    if name in _FIXED:
        return _FIXED[name][1]
    return _REFUSED.get(name, "unknown parameter of a PostgreSQL URL")


def _tls_alias(name: str, value: str) -> tuple[str, str]:
    """`ssl=true` (JDBC through libpq) and `ssl=require` (SQLAlchemy with asyncpg) mean sslmode."""
    if name != "ssl":
        return name, value
    if value == "true":
        return "sslmode", "require"
    if value == "false":
        return "sslmode", "disable"
    return "sslmode", value


def _hosts(hosts: str, addresses: str, ports: str) -> tuple[HostPort, ...]:
    """One HostPort per host. A single port serves all, else the numbers must match (34.1.1.3)."""
    names = hosts.split(",") if hosts else []
    dials = addresses.split(",") if addresses else []
    count = len(names) or len(dials)
    if not count or not any(names + dials):
        raise UrlError(
            "no host is named (for a local server: host=/var/run/postgresql, its directory)"
        )
    if count > _HOSTS_MAX:
        raise UrlError(f"expected at most {_HOSTS_MAX} hosts")
    if names and dials and len(names) != len(dials):
        raise UrlError("host and hostaddr must list the same number of hosts")
    numbers = ports.split(",") if ports else [""]
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count:
        raise UrlError("host and port must list the same number of entries, or port just one")
    names = names or [""] * count
    dials = dials or [""] * count
    return tuple(map(_host, names, dials, numbers))


def _host(name: str, address: str, port: str) -> HostPort:
    number = parse_port(port) if port else DEFAULT_PORT
    if address:
        address = check_host(address)
        return HostPort(check_host(name) if name else address, number, address)
    if not name:
        raise UrlError("an entry of the list of hosts is empty")
    return HostPort(name if name.startswith(("/", "@")) else check_host(name), number)


def _check_together(upstream: PostgresUpstream) -> None:
    """Raises UrlError for parameters that contradict each other, as libpq does when it connects."""
    weak = SSLMODES.index(upstream.sslmode) < SSLMODES.index("require")
    if upstream.sslrootcert == "system" and upstream.sslmode != "verify-full":
        raise UrlError("sslrootcert=system: expected sslmode=verify-full, or no sslmode")
    if upstream.sslmode.startswith("verify-") and not upstream.sslrootcert:
        raise UrlError(
            f"sslmode={upstream.sslmode}: needs sslrootcert, a file of certificates "
            "(or `system`, the machine's own)"
        )
    if upstream.sslnegotiation == "direct" and weak:
        raise UrlError("sslnegotiation=direct: needs sslmode=require or stronger")
    if upstream.channel_binding == "require" and upstream.sslmode == "disable":
        raise UrlError("channel_binding=require: needs TLS, but sslmode is disable")
    if upstream.sslkey and not upstream.sslcert:
        raise UrlError("sslkey: needs sslcert, the certificate it belongs to")
    if upstream.sslpassword and not upstream.sslcert:
        raise UrlError("sslpassword: needs sslcert and sslkey")
