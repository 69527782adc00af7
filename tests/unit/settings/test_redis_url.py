"""Redis upstream URLs, with redis-py as the oracle where it has a say."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from proxy.settings.redis_url import RedisUpstream, parse_redis_url
from proxy.settings.url_parts import UrlError

FORMS: list[tuple[str, dict[str, Any]]] = [
    ("redis://h", {"host": "h", "port": 6379, "db": 0, "tls": False, "verify": "none"}),
    ("valkey://h:1/3", {"host": "h", "port": 1, "db": 3}),
    ("redis://h/0/", {"db": 0}),
    ("redis://h/?db=5", {"db": 5}),
    ("redis://h/2?db=5", {"db": 5}),
    ("redis://:p%40ss@h", {"user": None, "password": "p@ss"}),
    ("redis://u:p@ss@h", {"user": "u", "password": "p@ss", "host": "h"}),
    ("redis://h?username=u&password=p", {"user": "u", "password": "p"}),
    ("redis://u@h", {"user": "u", "password": None}),
    ("redis://[::1]:7/1", {"host": "::1", "port": 7, "db": 1, "target": "[::1]:7"}),
    ("REDISS://h", {"tls": True, "verify": "full"}),
    ("valkeys://h?ssl_check_hostname=false", {"tls": True, "verify": "ca"}),
    ("rediss://h?ssl_cert_reqs=none", {"verify": "none"}),
    ("rediss://h?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
    ("rediss://h?ssl_cert_reqs=optional", {"verify": "full"}),
    (
        "rediss://h?ssl_ca_certs=/a&ssl_certfile=/c&ssl_keyfile=/k&ssl_password=x",
        {"files": ("/a", "/c", "/k"), "ssl_password": "x"},
    ),
    ("redis://h?socket_connect_timeout=1.5", {"connect_timeout_s": 1.5}),
    ("unix:///run/r.sock?db=2", {"path": "/run/r.sock", "db": 2, "host": None, "is_unix": True}),
    ("unix://u:p@/run/r.sock", {"user": "u", "password": "p", "target": "/run/r.sock"}),
    ("unix:///run/a%20b@c.sock", {"path": "/run/a b@c.sock"}),
]


@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[text for text, _ in FORMS])
def test_spellings(text: str, expected: dict[str, Any]) -> None:
    upstream = parse_redis_url(text)
    assert {name: getattr(upstream, name) for name in expected} == expected


REFUSED: list[tuple[str, str]] = [
    ("h:6379", "^expected redis://"),
    ("http://h", "^expected redis://"),
    ("redis://", "no host is named"),
    ("redis:///1", "no host is named"),
    ("redis://h:x", "the port must be"),
    ("redis://u:pa/ss@h", "^special characters of a password"),
    ("redis://h/x", "the database's number: expected a whole number"),
    ("redis://h/16384", "from 0 to 16383"),
    ("redis://h?db=-1", "^db: expected a whole number from 0"),
    ("redis://[::1", "an IPv6 address is written"),
    ("redis://h h", "the host is not a name"),
    ("redis://:%zz@h", "^password: a % must be"),
    ("redis://h?zork=1", "^zork: unknown parameter of a Redis URL; known are db, username"),
    ("redis://h?decode_responses=true", "^decode_responses: belongs to the application's URL"),
    ("redis://h?db", "^parameters are written"),
    ("redis://h?password=", "^password: expected a value"),
    ("rediss://h?ssl_cert_reqs=maybe", "^ssl_cert_reqs: expected none, optional or required"),
    ("rediss://h?ssl_check_hostname=maybe", "^ssl_check_hostname: expected"),
    ("redis://h?ssl_cert_reqs=none", "need rediss://"),
    ("redis://h?ssl_ca_certs=/a", "need rediss://"),
    ("rediss://h?ssl_keyfile=/k", "need ssl_certfile"),
    ("redis://h?socket_connect_timeout=0", "^socket_connect_timeout: expected seconds"),
    ("redis://h?socket_connect_timeout=nan", "^socket_connect_timeout: expected seconds"),
    ("unix://run/r.sock", "^a Unix socket is written"),
    ("unix:///run/", "^a Unix socket is written"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_refused(text: str, message: str) -> None:
    with pytest.raises(UrlError, match=message):
        parse_redis_url(text)


def test_secrets_are_not_shown() -> None:
    upstream = parse_redis_url("rediss://u:hunter2@h?ssl_certfile=/c&ssl_password=hunter3")
    assert "hunter" not in repr(upstream)
    assert upstream == RedisUpstream(
        host="h", user="u", password="hunter2", tls=True, ssl_certfile="/c", ssl_password="hunter3"
    )


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9
)


@given(
    words, words, st.from_regex(r"[a-z][a-z0-9.]{0,9}[a-z0-9]", fullmatch=True), st.integers(0, 99)
)
def test_urls_mean_what_redis_py_says(user: str, password: str, host: str, db: int) -> None:
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@{host}:7/{db}"
    upstream = parse_redis_url(url)
    ours = {"username": upstream.user, "password": upstream.password, "host": upstream.host,
            "port": upstream.port, "db": upstream.db}  # fmt: skip
    assert ours == parse_url(url)


@given(st.one_of(st.text(), st.text().map("redis://".__add__), st.text().map("unix://".__add__)))
def test_any_text_is_an_upstream_or_an_error(text: str) -> None:
    try:
        upstream = parse_redis_url(text)
    except UrlError:
        return
    assert (upstream.host is None) != (upstream.path is None)


@given(
    st.sampled_from(
        [
            "redis://u:{}@h/x",
            "redis://u:{}/x@h",
            "redis://:{}#@h:1x",
            "redis://h?password={}&db=x",
            "redis://h?db={}",
            "redis://h?{}",
            "redis://h/{}",
            "unix://:{}@x",
            "{}",
        ]
    ),
    st.text(st.sampled_from("@:/?#[]%&' \\"), max_size=3),
)
def test_no_error_repeats_a_secret(template: str, noise: str) -> None:
    said = ""
    try:
        parse_redis_url(template.format(f"SE{noise}9CRET"))
    except UrlError as error:
        said = str(error)
    assert "SE" not in said
    assert "9CRET" not in said
