"""First packets: each kind, each refusal, every chopping, every bound."""

import pytest

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.startup import (
    STARTUP_BYTES_MAX,
    CancelRequest,
    DirectTls,
    GssRequest,
    NeedMore,
    Refuse,
    SslRequest,
    Startup,
    read_first,
)


def refusal(buf: bytes, **done: bool) -> dict[str, str]:
    """Fields of the FATAL that `buf` is answered with."""
    first = read_first(buf, **done)
    assert isinstance(first, Refuse), first
    fields = messages.error_fields(first.wire[5:])
    assert first.wire[:1] == b"E"
    assert fields["S"] == fields["V"] == "FATAL"
    return fields


def started(minor: int = 0, **params: str) -> Startup:
    first = read_first(messages.startup(minor, params))
    assert isinstance(first, Startup), first
    return first


def raw_startup(fields: bytes, code: int = 3 << 16) -> bytes:
    return (8 + len(fields)).to_bytes(4) + code.to_bytes(4) + fields


def test_startup_with_everything():
    first = started(user="u", database="d", application_name="a", options="-c x=1")
    assert (first.user, first.database) == (b"u", b"d")
    assert first.params[b"application_name"] == b"a"
    assert first.settings() == {b"application_name": b"a", b"options": b"-c x=1"}
    assert not first.replication
    assert first.negotiation() == b""


def test_database_is_the_user_unless_told():
    assert started(user="u").database == b"u"
    assert started(user="u", database="").database == b"u"


def test_last_of_a_repeated_parameter_counts():
    first = read_first(raw_startup(b"user\0a\0user\0b\0\0"))
    assert isinstance(first, Startup)
    assert first.user == b"b"


@pytest.mark.parametrize("packet", [messages.startup(0, {"user": "u"}), messages.ssl_request()])
def test_every_beginning_needs_more(packet: bytes):
    for end in range(len(packet)):
        assert read_first(packet[:end]) == NeedMore()
    assert read_first(packet) != NeedMore()


def test_size_tells_where_the_next_message_begins():
    packet = messages.startup(0, {"user": "u"})
    first = read_first(packet + b"p\0\0\0\5\0")
    assert isinstance(first, Startup)
    assert first.size == len(packet)


@pytest.mark.parametrize(
    ("asked", "got", "negotiated"),
    [(0, 0, b""), (1, 0, b""), (2, 2, b""), (3, 2, b"v"), (9999, 2, b"v"), (65535, 2, b"v")],
)
def test_minor_versions(asked: int, got: int, negotiated: bytes):
    first = started(asked, user="u")
    assert first.minor == got
    answer = first.negotiation()
    assert answer[:1] == negotiated
    if answer:
        assert messages.read_negotiation(answer[5:]) == (2, [])


def test_unknown_protocol_options_are_named_and_not_passed_on():
    packet = messages.startup(0, {"user": "u", "_pq_.a": "1", "_pq_.b": "2"})
    first = read_first(packet)
    assert isinstance(first, Startup)
    assert first.unknown_options == (b"_pq_.a", b"_pq_.b")
    assert first.settings() == {}
    assert messages.read_negotiation(first.negotiation()[5:]) == (0, [b"_pq_.a", b"_pq_.b"])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *((value, True) for value in ("true", "t", "yes", "y", "on", "1", "database", "TRUE")),
        *((value, False) for value in ("false", "f", "no", "n", "off", "of", "0", "Off")),
    ],
)
def test_replication_is_reported(value: str, wanted: bool):
    first = started(user="u", replication=value)
    assert first.replication is wanted
    assert first.settings() == {}


@pytest.mark.parametrize("value", ["o", "maybe", "2", "", "truely", "\xe9"])
def test_replication_that_is_no_boolean(value: str):
    packet = messages.startup(0, {"user": "u", "replication": value})
    fields = refusal(packet)
    assert fields["C"] == "22023"
    assert "replication" in fields["M"]


@pytest.mark.parametrize("fields", [b"\0", b"user\0\0\0", b"database\0d\0\0"])
def test_no_user(fields: bytes):
    found = refusal(raw_startup(fields))
    assert found["C"] == "28000"
    assert found["M"] == "no PostgreSQL user name specified in startup packet"


@pytest.mark.parametrize(
    "fields", [b"", b"user\0u\0", b"user\0u\0\0x", b"user\0u", b"user", b"user\0u\0\0\0"]
)
def test_bad_layout(fields: bytes):
    found = refusal(raw_startup(fields))
    assert found["C"] == "08P01"
    assert "terminator" in found["M"]


@pytest.mark.parametrize("size", [0, 4, 7, STARTUP_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_impossible_lengths_are_refused_at_once(size: int):
    assert refusal(size.to_bytes(4))["C"] == "08P01"


def test_longest_packet():
    user = "u" * (STARTUP_BYTES_MAX - 8 - len(b"user\0\0\0"))
    packet = messages.startup(0, {"user": user})
    assert len(packet) == STARTUP_BYTES_MAX
    assert isinstance(read_first(packet), Startup)


@pytest.mark.parametrize(
    ("buf", "version"),
    [
        (raw_startup(b"\0" * 288, 2 << 16), "2.0"),
        (raw_startup(b"user\0u\0\0", 4 << 16), "4.0"),
        (raw_startup(b"", 0), "0.0"),
        (raw_startup(b"", 1234 << 16 | 5681), "1234.5681"),
    ],
)
def test_other_protocols(buf: bytes, version: str):
    found = refusal(buf)
    assert found["C"] == "0A000"
    assert f"unsupported frontend protocol {version}:" in found["M"]


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", b"SSH-2.0-x\r\n"]
)
def test_other_services(text: bytes):
    assert refusal(text)["C"] == "08P01"


def test_encryption_requests():
    assert read_first(messages.ssl_request()) == SslRequest()
    assert read_first(messages.gss_request()) == GssRequest()
    assert read_first(messages.ssl_request(), gss_done=True) == SslRequest()
    assert read_first(messages.gss_request(), ssl_done=True) == GssRequest()


@pytest.mark.parametrize("request_", [messages.ssl_request(), messages.gss_request()])
def test_bytes_behind_an_encryption_request_are_refused(request_: bytes):
    found = refusal(request_ + messages.startup(0, {"user": "u"})[:1])
    assert found["C"] == "08P01"
    assert "received unencrypted data after" in found["M"]
    assert "man-in-the-middle" in found["D"]


def test_encryption_is_asked_for_once():
    assert "1234.5679" in refusal(messages.ssl_request(), ssl_done=True)["M"]
    assert "1234.5680" in refusal(messages.gss_request(), gss_done=True)["M"]


def test_encryption_request_of_another_length():
    packet = b"\0\0\0\x09" + messages.ssl_request()[4:] + b"x"
    assert refusal(packet)["C"] == "08P01"


def test_direct_tls():
    assert read_first(b"\x16") == DirectTls()
    assert read_first(b"\x16\x03\x01\x02\x00") == DirectTls()
    # Within TLS, or after an answer, it is no handshake but a length of 369 million.
    assert refusal(b"\x16\x03\x01\x02", ssl_done=True)["C"] == "08P01"


@pytest.mark.parametrize("secret", [b"abcd", b"s" * 32, b"s" * 256])
def test_cancel(secret: bytes):
    assert read_first(messages.cancel_request(77, secret)) == CancelRequest(77, secret)


@pytest.mark.parametrize("secret", [b"", b"abc", b"s" * 257])
def test_cancel_with_an_impossible_secret(secret: bytes):
    assert refusal(messages.cancel_request(77, secret))["C"] == "08P01"


def test_refusals_have_a_reason():
    first = read_first(b"GET ")
    assert isinstance(first, Refuse)
    assert first.wire.reason is Reason.CLIENT_PROTOCOL


def test_repr_hides_what_may_be_secret():
    assert "hush" not in repr(CancelRequest(1, b"hush"))
    assert "hush" not in repr(started(user="u", options="-c app.token=hush"))
