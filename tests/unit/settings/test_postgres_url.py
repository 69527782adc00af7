"""PostgreSQL upstream URLs, with libpq as the oracle."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from proxy.settings.postgres_url import HostPort, PostgresUpstream, parse_postgres_url
from proxy.settings.url_parts import UrlError


def parse(text: str) -> PostgresUpstream:
    return parse_postgres_url(text)


def as_libpq(upstream: PostgresUpstream) -> dict[str, str]:
    """The upstream in libpq's own key words, defaults left out."""
    names = ("user", "password", "dbname", "application_name", "options", "client_encoding")
    given = {name: getattr(upstream, name) for name in names}
    given["host"] = ",".join(host.host for host in upstream.hosts)
    return {name: value for name, value in given.items() if value is not None}


# ---- spellings ----------------------------------------------------------------------------------

FORMS: list[tuple[str, dict[str, Any]]] = [
    ("postgres://h", {"hosts": (HostPort("h"),)}),
    ("postgresql://h/", {"hosts": (HostPort("h"),), "dbname": None}),
    ("POSTGRESQL://h/db", {"dbname": "db"}),
    ("postgresql+psycopg://u@h/db", {"user": "u", "password": None}),
    ("postgresql+asyncpg://u:p@h:1/db", {"user": "u", "password": "p"}),
    ("postgresql://u:p%40%2F%3A%25@h/d%20b", {"password": "p@/:%", "dbname": "d b"}),
    ("postgresql://u:p@ss@h/db", {"password": "p@ss", "hosts": (HostPort("h"),)}),
    ("postgresql://u:p?x@h/db", {"password": "p?x", "hosts": (HostPort("h"),)}),
    ("postgresql://u:p:q@h", {"password": "p:q"}),
    ("postgresql://u:@h", {"password": None}),
    ("postgresql://u@h/a/b", {"dbname": "a/b"}),
    ("postgresql://u:p@h?options=a@b", {"options": "a@b", "user": "u"}),
    ("postgresql://h:7/db?user=a%20b&password=c", {"user": "a b", "password": "c"}),
    ("postgresql://u@h/a?dbname=b&user=v", {"dbname": "b", "user": "v"}),
    ("postgresql://a:1,b:2,c/db", {"hosts": (HostPort("a", 1), HostPort("b", 2), HostPort("c"))}),
    ("postgresql://a,b/db?port=7", {"hosts": (HostPort("a", 7), HostPort("b", 7))}),
    ("postgresql://a/db?host=b,c&port=1,2", {"hosts": (HostPort("b", 1), HostPort("c", 2))}),
    ("postgresql://[::1]:5/db", {"hosts": (HostPort("::1", 5),)}),
    (
        "postgresql://[fe80::1%25eth0],b:9/db",
        {"hosts": (HostPort("fe80::1%eth0"), HostPort("b", 9))},
    ),
    ("postgresql://%2Frun%2Fpg:55/db", {"hosts": (HostPort("/run/pg", 55),)}),
    ("postgresql:///db?host=/run/pg", {"hosts": (HostPort("/run/pg"),), "dbname": "db"}),
    ("postgresql:///db?host=@abstract", {"hosts": (HostPort("@abstract"),)}),
    ("postgresql://h/db?hostaddr=10.0.0.1", {"hosts": (HostPort("h", 5432, "10.0.0.1"),)}),
    ("hostaddr=::1 port=3", {"hosts": (HostPort("::1", 3, "::1"),)}),
    ("host=h dbname = db  user='a b'", {"dbname": "db", "user": "a b"}),
    (r"host=h password='a\'b\\c' user=x\ y", {"password": r"a'b\c", "user": "x y"}),
    ("host=h password='' user=''", {"password": None, "user": None}),
    ("host=a,b port=,2", {"hosts": (HostPort("a"), HostPort("b", 2))}),
    ("host=h user=a user=b", {"user": "b"}),
    ("jdbc:postgresql://h:1/db?user=u&password=p", {"user": "u", "password": "p", "dbname": "db"}),
    ("jdbc:postgresql://a:1,b:2/db", {"hosts": (HostPort("a", 1), HostPort("b", 2))}),
    ("jdbc:postgresql://h/db?currentSchema=a b,c", {"options": r"-csearch_path=a\ b,c"}),
    (
        "jdbc:postgresql://h/db?options=-cx%3D1&currentSchema=a",
        {"options": "-cx=1 -csearch_path=a"},
    ),
    ("jdbc:postgresql://h/db?ApplicationName=x", {"application_name": "x"}),
    (
        "jdbc:postgresql://h/db?targetServerType=preferSecondary",
        {"target_session_attrs": "prefer-standby"},
    ),
    ("jdbc:postgresql://h/db?ssl=true&sslrootcert=system", {"sslmode": "verify-full"}),
    ("jdbc:postgresql://h/db?ssl=false", {"sslmode": "prefer"}),
    (
        "jdbc:postgresql://h/db?loadBalanceHosts=true&tcpKeepAlive=false&connectTimeout=3",
        {"load_balance_hosts": True, "keepalives": False, "connect_timeout_s": 3},
    ),
]


@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[text for text, _ in FORMS])
def test_spellings(text: str, expected: dict[str, Any]) -> None:
    upstream = parse(text)
    assert {name: getattr(upstream, name) for name in expected} == expected


PARAMETERS: list[tuple[str, dict[str, Any]]] = [
    ("sslmode=require", {"sslmode": "require"}),
    ("ssl=true", {"sslmode": "require"}),
    ("ssl=verify-full&sslrootcert=/ca", {"sslmode": "verify-full"}),
    ("ssl=false", {"sslmode": "disable"}),
    ("sslrootcert=system", {"sslmode": "verify-full", "sslrootcert": "system"}),
    ("sslcert=/c&sslkey=/k&sslpassword=x", {"sslcert": "/c", "sslkey": "/k", "sslpassword": "x"}),
    ("sslmode=require&sslnegotiation=direct", {"sslnegotiation": "direct"}),
    ("channel_binding=require", {"channel_binding": "require"}),
    ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
    ("target_session_attrs=prefer-standby", {"target_session_attrs": "prefer-standby"}),
    ("load_balance_hosts=random", {"load_balance_hosts": True}),
    ("load_balance_hosts=disable", {"load_balance_hosts": False}),
    ("connect_timeout=7", {"connect_timeout_s": 7}),
    ("connect_timeout=0", {"connect_timeout_s": None}),
    ("connect_timeout=-1", {"connect_timeout_s": None}),
    ("keepalives=0", {"keepalives": False}),
    (
        "keepalives_idle=1&keepalives_interval=2&keepalives_count=3",
        {"keepalives_idle_s": 1, "keepalives_interval_s": 2, "keepalives_count": 3},
    ),
    ("keepalives_idle=0", {"keepalives_idle_s": None}),
    (
        "application_name=a&client_encoding=UTF8&options=-c%20x%3D1",
        {"application_name": "a", "client_encoding": "UTF8", "options": "-c x=1"},
    ),
    ("max_protocol_version=3.2", {"max_protocol_version": "3.2"}),
    ("max_protocol_version=latest", {"max_protocol_version": "latest"}),
    (
        "min_protocol_version=3.0&ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.3",
        {"max_protocol_version": "3.0"},
    ),
    ("gssencmode=disable&sslcompression=0&sslsni=1&replication=false", {"sslmode": "prefer"}),
    ("gssencmode=prefer", {"sslmode": "prefer"}),
]


@pytest.mark.parametrize(("query", "expected"), PARAMETERS, ids=[query for query, _ in PARAMETERS])
def test_parameters(query: str, expected: dict[str, Any]) -> None:
    upstream = parse(f"postgresql://h/db?{query}")
    assert {name: getattr(upstream, name) for name in expected} == expected


REFUSED: list[tuple[str, str]] = [
    ("mysql://h/db", "expected postgresql://"),
    ("h:5432", "expected postgresql://"),
    ("postgresql://", "no host is named"),
    ("postgresql:///db", "no host is named"),
    ("dbname=x", "no host is named"),
    ("postgresql://h,,k/db", "an entry of the list of hosts is empty"),
    ("postgresql://h:1,k:2/db?port=1,2,3", "same number of entries"),
    ("host=a,b hostaddr=::1", "same number of hosts"),
    ("postgresql://" + ",".join(["h"] * 65), "at most 64 hosts"),
    ("postgresql://h:70000/db", "the port must be"),
    ("postgresql://u:pa/ss@h/db", "the port must be"),
    ("postgresql://[::1/db", "an IPv6 address is written"),
    ("postgresql://[]/db", "an IPv6 address is written"),
    ("postgresql://[::1]x/db", "an IPv6 address is written"),
    ("postgresql://[::g]/db", "the host is not a name"),
    ("postgresql://h h/db", "the host is not a name"),
    ("postgresql://h/a%zz", "dbname: a % must be"),
    ("postgresql://h/%00", "dbname: %00"),
    ("postgresql://h/db?sslmode", "^parameters are written"),
    ("postgresql://h/db?zork=1", "^zork: unknown parameter of a PostgreSQL URL$"),
    (
        "postgresql://h/db?sslmode=on",
        "^sslmode: expected disable, allow, prefer, require, verify-ca or",
    ),
    ("postgresql://h/db?ssl=maybe", "^sslmode: expected"),
    ("postgresql://h/db?sslnegotiation=x", "^sslnegotiation: expected postgres or direct"),
    ("postgresql://h/db?channel_binding=x", "^channel_binding: expected"),
    ("postgresql://h/db?target_session_attrs=x", "^target_session_attrs: expected any, read-write"),
    ("postgresql://h/db?load_balance_hosts=x", "^load_balance_hosts: expected disable or random"),
    ("postgresql://h/db?connect_timeout=x", "^connect_timeout: expected a whole number"),
    ("postgresql://h/db?keepalives=yes", "^keepalives: expected 0 or 1"),
    (
        "postgresql://h/db?keepalives_count=128",
        "^keepalives_count: expected a whole number from 0 to",
    ),
    (
        "postgresql://h/db?max_protocol_version=3.1",
        "^max_protocol_version: expected 3.0, 3.2 or lat",
    ),
    ("postgresql://h/db?gssencmode=require", "^gssencmode: GSSAPI"),
    ("postgresql://h/db?sslsni=0", "^sslsni: the server's name is always sent"),
    ("postgresql://h/db?replication=database", "^replication: the client asks"),
    ("postgresql://h/db?passfile=/x", "^passfile: .*password_file"),
    ("service=x host=h", "^service: service files are not read"),
    ("postgresql://h/db?pgbouncer=true", "^pgbouncer: a Prisma parameter"),
    ("postgresql://h/db?sslmode=verify-full", "^sslmode=verify-full: needs sslrootcert"),
    ("postgresql://h/db?sslmode=verify-ca", "^sslmode=verify-ca: needs sslrootcert"),
    (
        "postgresql://h/db?sslrootcert=system&sslmode=require",
        "^sslrootcert=system: expected sslmode=v",
    ),
    ("postgresql://h/db?sslnegotiation=direct", "^sslnegotiation=direct: needs sslmode=require"),
    (
        "postgresql://h/db?channel_binding=require&sslmode=disable",
        "^channel_binding=require: needs TLS",
    ),
    ("postgresql://h/db?sslkey=/k", "^sslkey: needs sslcert"),
    ("postgresql://h/db?sslpassword=x", "^sslpassword: needs sslcert"),
    ("postgresql://h/db?min_protocol_version=3.2", "^min_protocol_version: a server may always"),
    (
        "postgresql://h/db?ssl_min_protocol_version=TLSv1.3",
        "^ssl_min_protocol_version: TLS 1.2 and",
    ),
    (
        "postgresql://h/db?ssl_max_protocol_version=TLSv1.2",
        "^ssl_max_protocol_version: TLS 1.2 and",
    ),
    ("postgresql://h/db?tcp_user_timeout=1", "^tcp_user_timeout: it follows from keepalives_idle"),
    ("host=h password='abc", "^password: the quoted value has no closing quote"),
    ("host=h user='a' 'b'", "expected postgresql://"),
    ("jdbc:postgresql:db", "a JDBC URL is written"),
    ("jdbc:postgresql://h/db?targetServerType=x", "^targetServerType: expected"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:60] for text, _ in REFUSED])
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UrlError, match=message):
        parse(text)


# ---- what the result knows ----------------------------------------------------------------------


def test_secrets_are_not_shown() -> None:
    upstream = parse("postgresql://u:hunter2@h/db?sslcert=/c&sslkey=/k&sslpassword=hunter3")
    assert "hunter" not in repr(upstream)
    assert upstream.password == "hunter2"


def test_socket_paths_and_targets() -> None:
    upstream = parse("host=/run/pg/,db,::1,@a port=1,2,3,4")
    assert [host.is_unix for host in upstream.hosts] == [True, False, False, True]
    assert upstream.hosts[0].socket_path == "/run/pg/.s.PGSQL.1"
    assert upstream.target == "/run/pg/.s.PGSQL.1, db:2, [::1]:3, @a/.s.PGSQL.4"


@pytest.mark.parametrize(
    ("query", "verify"),
    [
        ("sslmode=disable", "none"),
        ("sslmode=prefer", "none"),
        ("sslmode=require", "none"),
        ("sslmode=require&sslrootcert=/ca", "ca"),
        ("sslmode=verify-ca&sslrootcert=/ca", "ca"),
        ("sslmode=verify-full&sslrootcert=/ca", "full"),
        ("sslrootcert=system", "full"),
    ],
)
def test_verification(query: str, verify: str) -> None:
    assert parse(f"postgresql://h/db?{query}").verify == verify


def test_files() -> None:
    assert parse("host=h sslrootcert=/ca sslcert=/c sslkey=/k").files == ("/ca", "/c", "/k")
    assert parse("host=h sslrootcert=system").files == ()


# ---- against libpq ------------------------------------------------------------------------------

texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
)
hosts = st.one_of(
    st.from_regex(r"[a-z][a-z0-9.-]{0,10}[a-z0-9]", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.from_regex(r"/[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True),
)
ports = st.one_of(st.none(), st.integers(1, 65535))
places = st.lists(st.tuples(hosts, ports), min_size=1, max_size=3)
words = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("user", "dbname", "application_name", "options"), texts)
)


@given(places, words, st.one_of(st.none(), texts))
def test_uris_mean_what_libpq_says(
    where: list[tuple[str, int | None]], values: dict[str, str], password: str | None
) -> None:
    authority = ",".join(quote(h, safe="") + (f":{p}" if p else "") for h, p in where)
    user = values.get("user")
    secret = f":{quote(password, safe='')}" if user and password else ""
    userinfo = f"{quote(user, safe='')}{secret}@" if user else ""
    path = f"/{quote(values['dbname'], safe='')}" if "dbname" in values else "/"
    names = ("application_name", "options")
    query = "&".join(f"{n}={quote(values[n], safe='')}" for n in names if n in values)
    uri = f"postgresql://{userinfo}{authority}{path}?{query}"

    oracle = conninfo_to_dict(uri)
    numbers = str(oracle.pop("port", "") or "").split(",")
    upstream = parse(uri)
    assert as_libpq(upstream) == oracle
    assert [h.port for h in upstream.hosts] == [
        int(n or 5432) for n in (numbers if len(numbers) == len(where) else numbers * len(where))
    ]


@given(places, words, texts)
def test_dsns_mean_what_libpq_says(
    where: list[tuple[str, int | None]], values: dict[str, str], password: str
) -> None:
    dsn = make_conninfo(
        host=",".join(h for h, _ in where),
        port=",".join(str(p or "") for _, p in where),
        password=password,
        **values,
    )
    oracle = conninfo_to_dict(dsn)
    oracle.pop("port", None)
    assert as_libpq(parse(dsn)) == oracle


def _libpq(text: str) -> dict[str, Any] | None:
    try:
        return conninfo_to_dict(text)
    except (ProgrammingError, UnicodeDecodeError):
        return None


@given(st.text(st.sampled_from("hu/:@?,=[]%25'\\ &")).map("postgresql://h".__add__))
def test_no_uri_means_something_else_to_us(text: str) -> None:
    """What we accept, libpq reads the same, except for the leniences that are documented."""
    try:
        upstream = parse(text)
    except UrlError:
        return
    oracle = _libpq(text)
    if oracle is None or "@" in str(oracle.get("host", "")) or " " in text:
        return  # a bare = in a value, a bare @ in the password, blanks (libpq 18 drops some)
    oracle.pop("port", None)
    assert as_libpq(upstream) == oracle


@given(st.text(st.sampled_from("hostuser=' \\/ab,")).map("host=h ".__add__))
def test_no_dsn_means_something_else_to_us(text: str) -> None:
    try:
        upstream = parse(text)
    except UrlError:
        return
    oracle = _libpq(text)
    assert oracle is not None
    oracle.pop("port", None)
    assert as_libpq(upstream) == {name: value for name, value in oracle.items() if value != ""}


# ---- anything at all ----------------------------------------------------------------------------


@given(st.one_of(st.text(), st.text().map("postgresql://".__add__), st.text().map("host=".__add__)))
def test_any_text_is_an_upstream_or_an_error(text: str) -> None:
    try:
        upstream = parse(text)
    except UrlError:
        return
    assert upstream.hosts


@given(
    st.sampled_from(
        [
            "postgresql://u:{}@h/db",
            "postgresql://u:x{}y@h/db?sslmode=zz",
            "postgresql://u:{}/x@h/db",
            "postgresql://u:{}#@h:1x/db",
            "postgresql://u:a/{}?b@h",
            "postgresql://h/db?password={}&sslmode=zz",
            "postgresql://h/db?password={}%zz",
            "postgresql://h/db?{}",
            "host=h password={} sslmode=zz",
            "host=h password='{}",
            "host=h password=x {}",
            "host=h connect_timeout={}",
            "{}",
            "jdbc:postgresql:{}",
        ]
    ),
    st.text(st.sampled_from("@:/?#[]%&' \\"), max_size=3),
)
def test_no_error_repeats_a_secret(template: str, noise: str) -> None:
    said = ""
    try:
        parse(template.format(f"SE{noise}9CRET"))
    except UrlError as error:
        said = str(error)
    assert "SE" not in said
    assert "9CRET" not in said
