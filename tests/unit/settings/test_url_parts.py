"""Percent-decoding, ports, hosts, queries."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.url_parts import (
    UrlError,
    check_host,
    check_text,
    one_of,
    parse_port,
    parse_whole,
    percent_decode,
    split_query,
)


@given(st.text().filter(lambda text: "\0" not in text))
def test_decoding_undoes_encoding(text: str) -> None:
    assert percent_decode(quote(text, safe=""), "x") == text


def test_decoding_leaves_plus_and_what_is_beyond_ascii() -> None:
    assert percent_decode("a+b", "x") == "a+b"
    assert percent_decode("ü%2Fü", "x") == "ü/ü"


@pytest.mark.parametrize("text", ["%", "%2", "a%zz", "%00", "%ff", "ü%", "%C3x"])
def test_bad_escapes(text: str) -> None:
    with pytest.raises(UrlError, match=r"^user: "):
        percent_decode(text, "user")


@pytest.mark.parametrize("text", ["", "  ", "\n", "a\tb", "a\x7fb", "x" * 16_385])
def test_texts_that_are_no_url(text: str) -> None:
    with pytest.raises(UrlError):
        check_text(text)


def test_blanks_around_are_dropped() -> None:
    assert check_text(" x \n") == "x"


@pytest.mark.parametrize("text", ["0", "65536", "-1", "", "5432x", "\u0665", "000001", "1 2"])
def test_ports_refused(text: str) -> None:
    with pytest.raises(UrlError, match="from 1 to 65535"):
        parse_port(text)


def test_ports() -> None:
    assert [parse_port(text) for text in ("1", "05432", "65535")] == [1, 5432, 65535]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Db.Internal", "db.internal"),
        ("my_db-1", "my_db-1"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("FE80::1%eth0", "fe80::1%eth0"),
        ("bücher.example", "bücher.example"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert check_host(text) == host


@pytest.mark.parametrize("text", ["", "a b", "a@b", "a#b", "a:b", ":::1", "a%b", "::1%", "x" * 254])
def test_hosts_refused(text: str) -> None:
    with pytest.raises(UrlError, match="host is not a name"):
        check_host(text)


def test_queries() -> None:
    assert split_query("") == []
    assert split_query("a=1&&b=%26&c=&") == [("a", "1"), ("b", "&"), ("c", "")]
    assert split_query("options=-csearch_path=app") == [("options", "-csearch_path=app")]
    with pytest.raises(UrlError, match=r"^parameters are written name=value"):
        split_query("sslmode")


def test_whole_numbers() -> None:
    assert parse_whole("n", "-5", -5, 5) == -5
    for text in ("", "x", "1.0", "٣", "--1", "6", "99999999999"):
        with pytest.raises(UrlError, match=r"^n: expected a whole number"):
            parse_whole("n", text, -5, 5)


def test_one_of() -> None:
    assert one_of(("a",)) == "a"
    assert one_of(("a", "b", "c")) == "a, b or c"
