"""Our login to a server: scripted servers for every turn, real servers for every method."""

import hashlib
from typing import Any

import pytest

from proxy.core.errors import PeerProtocolError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol import scram
from proxy.postgres.protocol import upstream_login as upstream
from proxy.postgres.protocol.client_login import Credentials, password_credentials
from proxy.postgres.protocol.scram import ChannelBinding
from proxy.postgres.protocol.upstream_login import LoginRequest, LoginResult, UpstreamLogin

RANDOM, SALT = b"r" * 18, b"0123456789abcdef"
PASSWORD = b"secret-pass"
KEYS = scram.keys_from(scram.salted_password(PASSWORD, SALT, 4096), SALT, 4096)
VERIFIER = scram.verifier_from_keys(KEYS)
WITH_PASSWORD = password_credentials(b"s" * 32, PASSWORD)
WITH_KEYS = Credentials(None, KEYS, b"k")
WITH_BOTH = Credentials(PASSWORD, KEYS, b"k")
WITH_NOTHING = password_credentials(b"s" * 32, None)
CERT_HASH = b"h" * 32
END = (
    m.authentication_ok()
    + m.parameter_status("server_version", "15.1")
    + m.backend_key_data(77, b"abcd")
    + m.ready_for_query(m.STATUS_IDLE)
)


def request(credentials: Credentials = WITH_PASSWORD, **more: Any) -> LoginRequest:
    return LoginRequest(user=b"bob", database=b"d", credentials=credentials, **more)


def begun(credentials: Credentials = WITH_PASSWORD, **more: Any) -> UpstreamLogin:
    login = UpstreamLogin(request(credentials, **more), RANDOM)
    login.start()
    return login


def at_scram_server(
    login: UpstreamLogin, verifier: scram.Verifier = VERIFIER, cert_hash: bytes | None = None
) -> bytes:
    """Play the server of a SCRAM login up to its final message, which is returned unsent."""
    server = scram.ServerExchange(verifier, b"b" * 18, cert_hash)
    initial = login.feed(m.authentication_sasl(server.mechanisms()))
    mechanism, pos = m.cstring(initial, 5)
    first = server.first(mechanism, initial[pos + 4 :])
    answer = login.feed(m.authentication_sasl_continue(first))
    final = server.final(answer[5:])
    assert final is not None, "proof is wrong"
    return m.authentication_sasl_final(final)


def refused(login: UpstreamLogin, data: bytes) -> dict[str, str]:
    """Fields of the refusal that `data` leads to."""
    with pytest.raises(UpstreamRefused) as caught:
        login.feed(data)
    assert caught.value.reason is Reason.UPSTREAM_REFUSED
    assert login.result is None
    return m.error_fields(caught.value.wire[5:])


def done(login: UpstreamLogin) -> LoginResult:
    assert login.result is not None
    return login.result


# ---- start-up and what every login ends with ----


def test_startup_packet():
    login = UpstreamLogin(request(params={b"options": b"-c x=1", b"DateStyle": b"ISO"}), RANDOM)
    assert login.start() == m.startup(
        0, {"user": "bob", "database": "d", "options": "-c x=1", "DateStyle": "ISO"}
    )
    assert UpstreamLogin(request(minor=2), RANDOM).start()[4:8] == b"\0\3\0\2"


def test_trust_and_all_that_comes_with_it():
    login = begun(WITH_NOTHING)
    notice = m.notice_response({"S": "WARNING", "M": "collation version mismatch"})
    assert login.feed(notice + END + b"leftover") == b""
    result = done(login)
    assert result.params == {b"server_version": b"15.1"}
    assert (result.pid, result.secret, result.minor) == (77, b"abcd", 0)
    assert (result.notices, result.leftover, result.bound) == (notice, b"leftover", False)


def test_byte_by_byte():
    login = begun(WITH_NOTHING)
    for index in range(len(END)):
        assert login.result is None
        assert login.feed(END[index : index + 1]) == b""
    assert done(login).leftover == b""


def test_a_pooler_without_a_key():
    login = begun(WITH_NOTHING)
    login.feed(m.authentication_ok() + m.ready_for_query(m.STATUS_IDLE))
    assert (done(login).pid, done(login).secret) == (0, b"")


def test_notices_are_bounded():
    login = begun(WITH_NOTHING)
    notice = m.notice_response({"M": "x" * 5000})
    login.feed(notice * 5 + END)
    assert done(login).notices == notice * 3


@pytest.mark.parametrize("size", [4, 32, 256])
def test_protocol_3_2_keys(size: int):
    login = begun(WITH_NOTHING, minor=2)
    login.feed(m.authentication_ok() + m.backend_key_data(1, b"k" * size))
    login.feed(m.ready_for_query(m.STATUS_IDLE))
    assert (done(login).secret, done(login).minor) == (b"k" * size, 2)


def test_negotiated_down():
    login = begun(WITH_NOTHING, minor=2)
    login.feed(m.negotiate_protocol_version(0) + END)
    assert done(login).minor == 0


@pytest.mark.parametrize("answer", [(1, ()), (0, ("_pq_.x",))])
def test_negotiated_something_else(answer: tuple[int, tuple[str, ...]]):
    with pytest.raises(PeerProtocolError, match="not asked for"):
        begun(minor=0).feed(m.negotiate_protocol_version(*answer))


def test_nothing_is_fed_after_the_end():
    login = begun(WITH_NOTHING)
    login.feed(END)
    with pytest.raises(AssertionError):
        login.feed(b"x")


# ---- cleartext and md5 ----


def test_cleartext():
    login = begun(cleartext_allowed=True)
    assert login.feed(m.authentication_cleartext()) == m.password(PASSWORD)
    login.feed(END)
    done(login)


def test_cleartext_stays_here_unless_allowed():
    fields = refused(begun(), m.authentication_cleartext())
    assert fields["C"] == "28000"
    assert "password in clear" in fields["M"]
    assert "sslmode=require" in fields["H"]


@pytest.mark.parametrize("allowed", [True, False])
def test_md5(allowed: bool):
    login = begun(cleartext_allowed=allowed)
    inner = hashlib.md5(PASSWORD + b"bob").hexdigest()
    outer = hashlib.md5(inner.encode() + b"salt").hexdigest()
    assert login.feed(m.authentication_md5(b"salt")) == m.password("md5" + outer)
    login.feed(END)
    done(login)


def test_md5_with_a_bad_salt():
    with pytest.raises(PeerProtocolError, match="md5 salt"):
        begun().feed(m.message(b"R", b"\0\0\0\5abc"))


@pytest.mark.parametrize("asked", [m.authentication_cleartext(), m.authentication_md5(b"salt")])
@pytest.mark.parametrize(
    ("credentials", "text"),
    [(WITH_NOTHING, "none is set"), (WITH_KEYS, "only a SCRAM verifier is stored")],
)
def test_no_password_for_what_is_asked(asked: bytes, credentials: Credentials, text: str):
    fields = refused(begun(credentials, cleartext_allowed=True), asked)
    assert text in fields["M"]
    assert "auth.users" in fields["H"]


@pytest.mark.parametrize(
    "asked", [m.authentication_cleartext(), m.authentication_md5(b"salt"), m.authentication_ok()]
)
def test_required_binding_refuses_all_other_methods(asked: bytes):
    login = begun(
        cleartext_allowed=True, channel_binding=ChannelBinding.REQUIRE, cert_hash=CERT_HASH
    )
    fields = refused(login, asked)
    assert "channel" in fields["M"]
    assert "channel_binding=prefer" in fields["H"]


@pytest.mark.parametrize(
    ("code", "name"), [(2, "Kerberos V5"), (6, "SCM"), (7, "GSSAPI"), (9, "SSPI")]
)
def test_methods_we_do_not_speak(code: int, name: str):
    fields = refused(begun(), m.message(b"R", code.to_bytes(4)))
    assert name in fields["M"]
    assert "pg_hba.conf" in fields["H"]


# ---- SCRAM ----


@pytest.mark.parametrize("credentials", [WITH_PASSWORD, WITH_KEYS, WITH_BOTH])
def test_scram(credentials: Credentials):
    login = begun(credentials)
    assert login.feed(at_scram_server(login)) == b""
    login.feed(END)
    assert done(login).bound is False


def test_keys_that_fit_need_no_pbkdf2():
    def never(*_: object) -> bytes:
        raise AssertionError("not needed")

    login = begun(WITH_BOTH, derive=never)
    at_scram_server(login)


@pytest.mark.parametrize(
    "server",
    [
        scram.verifier_from_password(PASSWORD, b"another salt"),
        scram.verifier_from_password(PASSWORD, SALT, 5000),
    ],
)
def test_keys_of_another_verifier(server: scram.Verifier):
    at_scram_server(begun(WITH_BOTH), server)  # the password helps
    exchange = scram.ServerExchange(server, b"b" * 18, None)
    login = begun(WITH_KEYS)
    initial = login.feed(m.authentication_sasl([scram.MECHANISM]))
    first = exchange.first(scram.MECHANISM, initial[5 + 14 + 4 :])
    fields = refused(login, m.authentication_sasl_continue(first))
    assert "salt or iterations" in fields["M"]
    assert "pg_authid.rolpassword" in fields["H"]


def test_scram_without_a_password():
    with pytest.raises(UpstreamRefused, match="none is set"):
        at_scram_server(begun(WITH_NOTHING))


def test_derive_is_asked():
    cache = scram.KeyCache()
    at_scram_server(begun(derive=cache))
    at_scram_server(begun(derive=cache))
    assert len(cache) == 1


@pytest.mark.parametrize("policy", [ChannelBinding.PREFER, ChannelBinding.REQUIRE])
def test_plus(policy: ChannelBinding):
    login = begun(channel_binding=policy, cert_hash=CERT_HASH)
    login.feed(at_scram_server(login, cert_hash=CERT_HASH) + END)
    assert done(login).bound is True


@pytest.mark.parametrize(
    ("policy", "cert_hash", "offered", "hint"),
    [
        (ChannelBinding.REQUIRE, None, [scram.MECHANISM_PLUS, scram.MECHANISM], "channel_binding"),
        (ChannelBinding.REQUIRE, CERT_HASH, [scram.MECHANISM], "channel_binding"),
        (ChannelBinding.PREFER, None, [scram.MECHANISM_PLUS], "pg_hba.conf"),
        (ChannelBinding.PREFER, None, [b"OAUTHBEARER"], "pg_hba.conf"),
        (ChannelBinding.PREFER, None, [], "pg_hba.conf"),
    ],
)
def test_no_mechanism_fits(policy, cert_hash, offered, hint):
    login = begun(channel_binding=policy, cert_hash=cert_hash)
    assert hint in refused(login, m.authentication_sasl(offered))["H"]


def test_server_that_does_not_know_the_verifier():
    login = begun()
    at_scram_server(login)
    with pytest.raises(PeerProtocolError, match="server signature"):
        login.feed(m.authentication_sasl_final(b"v=" + b"A" * 43 + b"="))


def test_iterations_are_bounded():
    login = begun(iterations_max=4095)
    with pytest.raises(PeerProtocolError, match="iteration count"):
        at_scram_server(login)


# ---- servers that break the order ----


@pytest.mark.parametrize(
    "then",
    [
        m.authentication_ok(),
        m.authentication_cleartext(),
        m.authentication_sasl([scram.MECHANISM]),
        m.authentication_sasl_final(b"v=x"),
    ],
)
def test_scram_broken_off(then: bytes):
    login = begun(cleartext_allowed=True)
    login.feed(m.authentication_sasl([scram.MECHANISM]))
    with pytest.raises(PeerProtocolError, match="broke off"):
        login.feed(then)


def test_ok_before_the_server_has_proved_itself():
    login = begun()
    at_scram_server(login)
    with pytest.raises(PeerProtocolError, match="broke off"):
        login.feed(m.authentication_ok())


@pytest.mark.parametrize("first", [m.authentication_cleartext(), m.authentication_md5(b"salt")])
def test_a_password_is_asked_for_once(first: bytes):
    login = begun(cleartext_allowed=True)
    login.feed(first)
    with pytest.raises(PeerProtocolError, match="broke off"):
        login.feed(m.authentication_cleartext())


@pytest.mark.parametrize(
    "data",
    [
        m.authentication_sasl_continue(b"r=x"),
        m.authentication_sasl_final(b"v=x"),
        m.message(b"R", b"\0\0\0\1"),
        m.message(b"R", b"\0\0"),
        m.message(b"R", b"\0\0\0\x0ax\0"),
        m.message(b"R", b"\0\0\0\x0aabc"),
        m.parameter_status("a", "b"),
        m.backend_key_data(1, b"abcd"),
        m.ready_for_query(m.STATUS_IDLE),
        m.row([b"x"]),
        m.authentication_ok() * 2,
        m.authentication_ok() + m.negotiate_protocol_version(0),
        m.authentication_ok() + m.message(b"S", b"a\0b"),
        m.authentication_ok() + m.message(b"K", b"\0\0\0\1"),
        m.authentication_ok() + m.ready_for_query(m.STATUS_IN_TRANSACTION),
        m.authentication_ok() + m.message(b"Z", b""),
        m.authentication_ok() + m.message(b"Z", b"II"),
        b"R\0\0\0\3",
        b"R\0\1\0\1",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"EFATAL:  unsupported frontend protocol\n\0",
        b"-ERR unknown command\r\n",
    ],
)
def test_broken_servers(data: bytes):
    with pytest.raises(PeerProtocolError) as caught:
        feed_whole(begun(), data)
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL


def feed_whole(login: UpstreamLogin, data: bytes) -> None:
    """Feed, with bytes behind so that a message that claims to be longer is not just waited for."""
    login.feed(data)
    login.feed(b"\0" * upstream.MESSAGE_BYTES_MAX)


def test_a_login_that_never_ends():
    login = begun(WITH_NOTHING)
    login.feed(m.authentication_ok())
    status = m.parameter_status("a", "b" * 60_000)
    for _ in range(upstream.LOGIN_BYTES_MAX // len(status)):
        login.feed(status)
    with pytest.raises(PeerProtocolError, match="too much"):
        login.feed(status)


# ---- errors of the server ----


@pytest.mark.parametrize(
    ("sqlstate", "message", "kind", "reason"),
    [
        ("57P03", "the database system is starting up", UpstreamUnavailable, "upstream_starting"),
        ("57P01", "terminating connection", UpstreamUnavailable, "upstream_fatal"),
        ("57P02", "crash", UpstreamUnavailable, "upstream_fatal"),
        ("53300", "too many clients already", UpstreamUnavailable, "upstream_full"),
        ("08006", "x", UpstreamUnavailable, "upstream_unreachable"),
        ("08P01", "server login has been failing", UpstreamUnavailable, "upstream_unreachable"),
        (
            "08P01",
            "cannot connect to server",
            UpstreamUnavailable,
            "upstream_unreachable",
        ),
        (
            "08P01",
            "received unencrypted data after SSL request",
            UpstreamUnavailable,
            "upstream_unreachable",
        ),
        ("08P01", "no such user: x", UpstreamRefused, "upstream_refused"),
        ("28P01", "password authentication failed", UpstreamRefused, "upstream_refused"),
        ("28000", "no pg_hba.conf entry", UpstreamRefused, "upstream_refused"),
        ("3D000", "no such database", UpstreamRefused, "upstream_refused"),
        ("42501", "permission denied", UpstreamRefused, "upstream_refused"),
    ],
)
@pytest.mark.parametrize("before", [b"", m.authentication_ok()])
def test_errors_are_kept_whole(before, sqlstate, message, kind, reason):
    wire = m.error_response({"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": message})
    login = begun()
    with pytest.raises(kind) as caught:
        login.feed(before + wire + b"Z")
    assert caught.value.reason == reason
    assert login.error_wire == wire
    assert login.error == {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": message}
    assert message in str(caught.value)
    if kind is UpstreamRefused:
        assert caught.value.wire == wire


@pytest.mark.parametrize("body", [b"", b"\0", b"Mno code\0\0", b"\xff\xff\xff"])
def test_errors_without_a_sqlstate(body: bytes):
    login = begun()
    with pytest.raises(UpstreamRefused) as caught:
        login.feed(m.message(b"E", body))
    assert caught.value.wire == m.message(b"E", body)


def test_repr_hides_secrets():
    login = begun(WITH_NOTHING, params={b"options": b"-c token=hush"})
    login.feed(m.authentication_ok() + m.backend_key_data(1, b"hush"))
    login.feed(m.parameter_status("x", "hush") + m.ready_for_query(m.STATUS_IDLE))
    assert "hush" not in repr((login, done(login), request(params={b"options": b"hush"})))
    assert PASSWORD.decode() not in repr(request())
