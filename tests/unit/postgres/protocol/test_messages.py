"""Message shapes. psycopg's libpq wrapper and the server are the judges elsewhere; here: bytes."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages as m


def body(message: bytes) -> bytes:
    """The body of one message, its length checked."""
    assert int.from_bytes(message[1:5]) == len(message) - 1
    return message[5:]


@pytest.mark.parametrize(
    ("built", "wire"),
    [
        (m.query("SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0"),
        (m.query(b"\xff"), b"Q\0\0\0\x06\xff\0"),
        (m.parse("s", "S", [23]), b"P\0\0\0\x0es\0S\0\0\x01\0\0\0\x17"),
        (m.parse("", "S"), b"P\0\0\0\x09\0S\0\0\0"),
        (m.bind("p", "s"), b"B\0\0\0\x0ep\0s\0\0\0\0\0\0\0"),
        (
            m.bind("", "", [b"ab", None], [0, 1], [1]),
            b"B\0\0\0\x1c\0\0\0\x02\0\0\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01",
        ),
        (m.describe(b"S", "s"), b"D\0\0\0\x07Ss\0"),
        (m.describe(b"P", ""), b"D\0\0\0\x06P\0"),
        (m.close(b"P", "p"), b"C\0\0\0\x07Pp\0"),
        (m.execute("p", 7), b"E\0\0\0\x0ap\0\0\0\0\x07"),
        (m.execute(""), b"E\0\0\0\x09\0\0\0\0\0"),
        (m.sync(), b"S\0\0\0\4"),
        (m.flush(), b"H\0\0\0\4"),
        (m.terminate(), b"X\0\0\0\4"),
        (m.password("pw"), b"p\0\0\0\x07pw\0"),
        (m.sasl_initial_response("M", b"xy"), b"p\0\0\0\x0cM\0\0\0\0\x02xy"),
        (m.sasl_response(b"xy"), b"p\0\0\0\x06xy"),
        (m.copy_data(b"\0\n"), b"d\0\0\0\x06\0\n"),
        (m.copy_done(), b"c\0\0\0\4"),
        (m.copy_fail("no"), b"f\0\0\0\x07no\0"),
        (m.cancel_request(1, b"abcd"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01abcd"),
        (m.ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (m.gss_request(), b"\0\0\0\x08\x04\xd2\x16\x30"),
        (m.startup(2, {"user": "u"}), b"\0\0\0\x10\0\x03\0\x02user\0u\0\0"),
        (m.startup(0, {b"user": b"\xe9"}), b"\0\0\0\x10\0\x03\0\0user\0\xe9\0\0"),
        (m.authentication_ok(), b"R\0\0\0\x08\0\0\0\0"),
        (m.authentication_cleartext(), b"R\0\0\0\x08\0\0\0\x03"),
        (m.authentication_md5(b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
        (m.authentication_sasl(["A", b"B"]), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"),
        (m.authentication_sasl_continue(b"c"), b"R\0\0\0\x09\0\0\0\x0bc"),
        (m.authentication_sasl_final(b"f"), b"R\0\0\0\x09\0\0\0\x0cf"),
        (m.parameter_status("n", b"v"), b"S\0\0\0\x08n\0v\0"),
        (m.backend_key_data(2**32 - 1, b"abcd"), b"K\0\0\0\x0c\xff\xff\xff\xffabcd"),
        (m.negotiate_protocol_version(2), b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"),
        (m.negotiate_protocol_version(0, [b"_pq_.x"]), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0"),
        (m.ready_for_query(ord("T")), b"Z\0\0\0\5T"),
        (m.command_complete("BEGIN"), b"C\0\0\0\x0aBEGIN\0"),
        (m.error_response({"S": "ERROR", "M": "é"}), b"E\0\0\0\x10SERROR\0M\xc3\xa9\0\0"),
        (m.notice_response({"M": "n"}), b"N\0\0\0\x08Mn\0\0"),
        (m.notification_response(7, "c", "p"), b"A\0\0\0\x0c\0\0\0\x07c\0p\0"),
        (m.parse_complete(), b"1\0\0\0\4"),
        (m.bind_complete(), b"2\0\0\0\4"),
        (m.close_complete(), b"3\0\0\0\4"),
        (m.no_data(), b"n\0\0\0\4"),
        (m.portal_suspended(), b"s\0\0\0\4"),
        (m.empty_query(), b"I\0\0\0\4"),
        (m.parameter_description([25]), b"t\0\0\0\x0a\0\x01\0\0\0\x19"),
        (
            m.row_description(["a"]),
            b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        ),
        (m.row([b"x", None]), b"D\0\0\0\x0f\0\x02\0\0\0\x01x\xff\xff\xff\xff"),
    ],
)
def test_builders(built: bytes, wire: bytes):
    assert built == wire


@pytest.mark.parametrize(
    "build",
    [
        lambda: m.query("a\0b"),
        lambda: m.startup(0, {"user": "a\0b"}),
        lambda: m.error_response({"M": "a\0b"}),
        lambda: m.error_response({"MM": "a"}),
        lambda: m.describe(b"X", ""),
        lambda: m.close(b"X", ""),
        lambda: m.authentication_md5(b"abc"),
        lambda: m.ready_for_query(ord("X")),
    ],
)
def test_builders_refuse_our_own_mistakes(build):
    with pytest.raises(AssertionError):
        build()


def test_client_bodies_read_back():
    assert m.parse_name_and_text(body(m.parse("s", "SELECT $1", [23, 0]))) == (b"s", b"SELECT $1")
    assert m.parse_oids(body(m.parse("s", "SELECT $1", [23, 0]))) == (23, 0)
    assert m.parse_oids(body(m.parse("", ""))) == ()
    bound = body(m.bind("p", "s", [b"", None, b"abc"], [1], [0, 1]))
    assert m.bind_names(bound) == (b"p", b"s")
    assert m.bind_params(bound) == [b"", None, b"abc"]
    assert m.kind_and_name(body(m.describe(b"S", "n"))) == (b"S", b"n")
    assert m.kind_and_name(body(m.close(b"P", ""))) == (b"P", b"")
    assert m.execute_portal(body(m.execute("p", 9))) == (b"p", 9)
    assert m.execute_portal(b"p\0\xff\xff\xff\xff") == (b"p", 0)  # negative: all rows


def test_server_bodies_read_back():
    assert m.read_parameter_status(body(m.parameter_status("a", "b"))) == (b"a", b"b")
    assert m.read_ready_status(b"E") == m.STATUS_FAILED
    assert m.read_command_tag(body(m.command_complete("INSERT 0 1"))) == b"INSERT 0 1"
    assert m.read_authentication(body(m.authentication_md5(b"salt"))) == (5, b"salt")
    _, data = m.read_authentication(body(m.authentication_sasl(["A", "B"])))
    assert m.read_mechanisms(data) == [b"A", b"B"]
    assert m.read_mechanisms(b"\0") == []
    assert m.read_backend_key(body(m.backend_key_data(5, b"k" * 256))) == (5, b"k" * 256)
    assert m.read_negotiation(body(m.negotiate_protocol_version(2, ["_pq_.a"]))) == (2, [b"_pq_.a"])
    assert m.read_negotiation(b"\0\0\0\2\0\0\0\0") == (2, [])  # bare minor, as some poolers send
    assert m.data_row(body(m.row([None, b"", b"xy"]))) == [None, b"", b"xy"]
    assert m.data_row(b"\0\0") == []


def test_readers_take_a_place_in_a_buffer_and_stop_at_its_end():
    message = m.parse("s", "t", [1])
    buf = b"junk" + message + b"more\0"
    pos, end = 4 + 5, 4 + len(message)
    assert m.parse_name_and_text(buf, pos, end) == (b"s", b"t")
    assert m.parse_oids(buf, pos, end) == (1,)
    with pytest.raises(PeerProtocolError):
        m.cstring(b"abc\0", 0, 3)  # the NUL is beyond the end
    with pytest.raises(PeerProtocolError):
        m.parse_oids(buf, pos, end - 1)


@pytest.mark.parametrize(
    "read",
    [
        lambda: m.cstring(b"abc"),
        lambda: m.parse_name_and_text(b"s\0text"),
        lambda: m.parse_oids(b"s\0t\0"),
        lambda: m.parse_oids(b"s\0t\0\0\x01"),
        lambda: m.parse_oids(b"s\0t\0\0\0extra"),
        lambda: m.bind_names(b"p\0s"),
        lambda: m.bind_params(b"p\0s\0\0\0\0\x01"),
        lambda: m.bind_params(b"p\0s\0\0\0\0\x01\0\0\0\x09ab\0\0"),
        lambda: m.bind_params(b"p\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        lambda: m.bind_params(b"p\0s\0\0\0\0\0\0\0x"),
        lambda: m.bind_params(b"p\0s\0\xff\xff"),
        lambda: m.kind_and_name(b""),
        lambda: m.kind_and_name(b"Xn\0"),
        lambda: m.execute_portal(b"p\0\0\0\0"),
        lambda: m.execute_portal(b"p\0\0\0\0\0\0"),
    ],
)
def test_broken_client_bodies(read):
    with pytest.raises(PeerProtocolError) as caught:
        read()
    assert caught.value.reason is Reason.CLIENT_PROTOCOL


@pytest.mark.parametrize(
    "read",
    [
        lambda: m.read_parameter_status(b"name\0value"),
        lambda: m.read_ready_status(b""),
        lambda: m.read_ready_status(b"X"),
        lambda: m.read_command_tag(b"BEGIN"),
        lambda: m.read_authentication(b"\0\0\0"),
        lambda: m.read_mechanisms(b"A"),
        lambda: m.read_mechanisms(b"A\0"),
        lambda: m.read_mechanisms(b""),
        lambda: m.read_backend_key(b"\0\0\0\1abc"),
        lambda: m.read_backend_key(bytes(4 + 257)),
        lambda: m.read_negotiation(b"\0\3\0\2\0\0\0"),
        lambda: m.read_negotiation(b"\0\4\0\0\0\0\0\0"),
        lambda: m.read_negotiation(b"\0\3\0\0\0\0\0\2a\0"),
        lambda: m.read_negotiation(b"\0\3\0\0\xff\xff\xff\xffa\0b\0"),
        lambda: m.read_negotiation(b"\0\3\0\0\xff\xff\xff\xff\0"),
        lambda: m.data_row(b""),
        lambda: m.data_row(b"\0\1"),
        lambda: m.data_row(b"\0\1\0\0\0\5abc"),
        lambda: m.data_row(b"\0\1\x80\0\0\0"),
        lambda: m.data_row(b"\0\1\0\0\0\1ab"),
    ],
)
def test_broken_server_bodies(read):
    with pytest.raises(PeerProtocolError) as caught:
        read()
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"SERROR\0C42601\0Mbad\0\0", {"S": "ERROR", "C": "42601", "M": "bad"}),
        (b"", {}),
        (b"\0", {}),
        (b"Mno end", {"M": "no end"}),
        (b"M\xff\xfe\0\0", {"M": "\ufffd\ufffd"}),
        (b"Mfirst\0Msecond\0\0", {"M": "first"}),
        (b"Mtext\0\0trailing", {"M": "text"}),  # CVE-2026-6666: no SQLSTATE
        (b"\xffodd\0\0", {"\xff": "odd"}),
    ],
)
def test_error_fields_tolerates_anything(raw: bytes, fields: dict[str, str]):
    assert m.error_fields(raw) == fields


def test_error_fields_is_bounded():
    raw = b"".join(bytes((code,)) + b"x\0" for code in range(1, 256))
    assert len(m.error_fields(raw)) == m.ERROR_FIELDS_MAX


@pytest.mark.parametrize(
    ("fields", "fatal"),
    [
        ({"V": "FATAL", "S": "FATAL"}, True),
        ({"V": "PANIC"}, True),
        ({"S": "FATAL"}, True),
        ({"S": "FATAL", "V": "ERROR"}, False),  # V is never translated, so V decides
        ({"S": "FATAL", "V": "WARNING"}, False),
        ({"S": "ERROR"}, False),
        ({}, False),
    ],
)
def test_is_fatal(fields: dict[str, str], fatal: bool):
    assert m.is_fatal(fields) is fatal
