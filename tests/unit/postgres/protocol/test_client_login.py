"""A client's login: message by message, and with libpq and asyncpg at the other end."""

from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.core.reasons import Reason
from proxy.demo.certificates import TlsFiles
from proxy.postgres.protocol import client_login as login
from proxy.postgres.protocol import keys, messages, scram
from proxy.postgres.protocol.client_login import (
    Authenticated,
    ClientLogin,
    ClientPath,
    LoginRules,
    Method,
    Refused,
)
from tests.unit.postgres.protocol.login_door import Door, door

SECRET = b"s" * 32
RANDOM, SALT = b"r" * 18, b"0123456789abcdef"
PASSWORD = "pass wörd"
VERIFIER = scram.verifier_from_password(PASSWORD.encode(), SALT)
KEYS = scram.keys_from(scram.salted_password(PASSWORD.encode(), SALT, 4096), SALT, 4096)
PRIVATE, PUBLIC = ClientPath(tls=False, private=True), ClientPath(tls=False, private=False)
TLS = ClientPath(tls=True, private=True)
P = ord("p")

USERS = {
    b"bob": login.user_secret(PASSWORD, SALT),
    b"eve": login.user_secret(VERIFIER.text(), b"unused"),
}


def rules(method: Method, **more: Any) -> LoginRules:
    return LoginRules(method=method, process_secret=SECRET, users=USERS, **more)


def begin(
    method: Method, user: bytes = b"bob", path: ClientPath = PRIVATE, **more: Any
) -> tuple[ClientLogin, bytes]:
    client = ClientLogin(user, rules(method, **more), path, RANDOM)
    return client, client.start()


def refusal(client: ClientLogin) -> tuple[str, str]:
    """(SQLSTATE, message) of a refused login."""
    assert isinstance(client.outcome, Refused), client.outcome
    fields = messages.error_fields(client.outcome.wire[5:])
    assert fields["S"] == "FATAL"
    return fields["C"], fields["M"]


def accepted(client: ClientLogin) -> login.Credentials:
    assert isinstance(client.outcome, Authenticated), client.outcome
    return client.outcome.credentials


def sasl_initial(mechanism: bytes, data: bytes) -> bytes:
    return messages.sasl_initial_response(mechanism, data)[5:]


def prove(
    client: ClientLogin, choice: scram.Choice, scram_keys: scram.ScramKeys | None = KEYS
) -> tuple[scram.ClientExchange, bytes]:
    """Our own client end logs in; None: with keys of the salt it is told and a wrong password."""
    exchange = scram.ClientExchange(choice, b"c" * 18)
    challenge = client.feed(P, sasl_initial(choice.mechanism, exchange.first()))
    assert messages.read_authentication(challenge[5:])[0] == 11, client.outcome
    asked = exchange.read_first(challenge[9:])
    if scram_keys is None:
        salted = scram.salted_password(b"wrong", asked.salt, asked.iterations)
        scram_keys = scram.keys_from(salted, asked.salt, asked.iterations)
    return exchange, client.feed(P, exchange.final(scram_keys))


PLAIN = scram.Choice(scram.MECHANISM, b"n,,", b"")


# ---- trust ----


def test_trust_asks_nothing():
    client, sent = begin(Method.TRUST)
    assert sent == b""
    assert accepted(client).password == PASSWORD.encode()  # for the upstream, from the settings


@pytest.mark.parametrize("user", [b"eve", b"nobody"])
def test_trust_without_a_password_in_the_settings(user: bytes):
    client, _ = begin(Method.TRUST, user, PUBLIC)
    assert accepted(client) == login.password_credentials(SECRET, None)


# ---- passthrough ----


@pytest.mark.parametrize("path", [PRIVATE, TLS])
def test_passthrough_keeps_the_password(path: ClientPath):
    client, sent = begin(Method.PASSTHROUGH, b"anyone", path)
    assert sent == messages.authentication_cleartext()
    assert client.feed(P, b"any\xffthing\0") == b""
    assert accepted(client) == login.password_credentials(SECRET, b"any\xffthing")


def test_passthrough_never_asks_over_an_open_network():
    client, sent = begin(Method.PASSTHROUGH, path=PUBLIC)
    assert sent == b""
    assert refusal(client)[0] == "28000"
    assert "in clear" in refusal(client)[1]


@pytest.mark.parametrize("body", [b"", b"x", b"x\0y\0", b"x\0\0", b"\0x"])
def test_broken_password_packet(body: bytes):
    client, _ = begin(Method.PASSTHROUGH)
    assert client.feed(P, body) == b""
    assert refusal(client) == ("08P01", "invalid password packet size")


def test_empty_password():
    client, _ = begin(Method.PASSTHROUGH)
    client.feed(P, b"\0")
    assert refusal(client) == ("28P01", "empty password returned by client")


# ---- messages that have no place ----


@pytest.mark.parametrize("method", [Method.PASSTHROUGH, Method.SCRAM])
@pytest.mark.parametrize("kind", [ord("Q"), ord("X"), 0, 255])
def test_other_messages(method: Method, kind: int):
    client, _ = begin(method)
    client.feed(kind, b"SELECT 1\0")
    expected = f"expected password response, got message type {kind}"
    assert refusal(client) == ("08P01", expected)


@pytest.mark.parametrize("method", [Method.PASSTHROUGH, Method.SCRAM])
def test_bodies_are_bounded(method: Method):
    client, _ = begin(method)
    client.feed(P, b"x" * login.MESSAGE_BYTES_MAX + b"\0")
    assert refusal(client) == ("08P01", "invalid message length")


def test_longest_password():
    client, _ = begin(Method.PASSTHROUGH)
    client.feed(P, b"x" * (login.MESSAGE_BYTES_MAX - 1) + b"\0")
    assert accepted(client).password == b"x" * (login.MESSAGE_BYTES_MAX - 1)


def test_nothing_is_fed_after_the_outcome():
    client, _ = begin(Method.TRUST)
    with pytest.raises(AssertionError):
        client.feed(P, b"x\0")
    with pytest.raises(AssertionError):
        client.start()


# ---- SCRAM ----


@pytest.mark.parametrize(("user", "password"), [(b"bob", PASSWORD.encode()), (b"eve", None)])
def test_scram(user: bytes, password: bytes | None):
    client, sent = begin(Method.SCRAM, user, PUBLIC)
    assert sent == messages.authentication_sasl([scram.MECHANISM])
    exchange, final = prove(client, PLAIN)
    assert messages.read_authentication(final[5:])[0] == 12
    exchange.check_final(final[9:])
    credentials = accepted(client)
    assert (credentials.password, credentials.scram_keys) == (password, KEYS)


@pytest.mark.parametrize("user", [b"bob", b"eve", b"nobody", b"b\xffd"])
def test_a_wrong_password_and_no_such_user_look_the_same(user: bytes):
    client, sent = begin(Method.SCRAM, user)
    assert sent == messages.authentication_sasl([scram.MECHANISM])
    _, final = prove(client, PLAIN, None)
    assert final == b""
    name = user.decode("utf-8", "replace")
    assert refusal(client) == ("28P01", f'password authentication failed for user "{name}"')


def challenge_of(user: bytes, **more: Any) -> scram.ServerFirst:
    client, _ = begin(Method.SCRAM, user, **more)
    exchange = scram.ClientExchange(PLAIN, b"c" * 18)
    return exchange.read_first(client.feed(P, sasl_initial(scram.MECHANISM, exchange.first()))[9:])


def test_challenges_of_unknown_users_look_like_real_ones():
    real, mock = challenge_of(b"bob"), challenge_of(b"nobody")
    assert len(mock.salt) == len(real.salt)
    assert mock.iterations == real.iterations
    assert mock == challenge_of(b"nobody")  # stable: a real salt does not change either
    assert mock != challenge_of(b"nobody2")
    assert challenge_of(b"nobody", mock_iterations=10_000).iterations == 10_000


def test_initial_response_may_come_later():
    client, _ = begin(Method.SCRAM)
    sent = client.feed(P, scram.MECHANISM + b"\0\xff\xff\xff\xff")
    assert sent == messages.authentication_sasl_continue(b"")
    exchange = scram.ClientExchange(PLAIN, b"c" * 18)
    challenge = client.feed(P, exchange.first())
    exchange.read_first(challenge[9:])
    client.feed(P, exchange.final(KEYS))
    accepted(client)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0\0\0",
        b"SCRAM-SHA-256\0\0\0\0\x09n,,",
        b"SCRAM-SHA-256\0\xff\xff\xff\xfen,,n=,r=abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=abc",
        b"SCRAM-SHA-256\0\0\0\0\0",
        b"SCRAM-SHA-1\0\0\0\0\x0bn,,n=,r=abc",
        b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc",
    ],
)
def test_crafted_initial_response(body: bytes):
    client, _ = begin(Method.SCRAM)
    client.feed(P, body)
    assert refusal(client)[0] == "08P01"
    assert client.outcome.wire.reason is Reason.CLIENT_PROTOCOL


def test_crafted_final_message():
    client, _ = begin(Method.SCRAM)
    client.feed(P, sasl_initial(scram.MECHANISM, b"n,,n=,r=abc"))
    client.feed(P, b"c=biws,r=abc,p=AAAA")
    assert refusal(client)[0] == "08P01"


PLUS = scram.Choice(scram.MECHANISM_PLUS, b"p=tls-server-end-point,,", b"h" * 32)


def test_plus_is_offered_through_tls_only():
    _, sent = begin(Method.SCRAM, path=TLS, cert_hash=b"h" * 32)
    assert sent == messages.authentication_sasl([scram.MECHANISM_PLUS, scram.MECHANISM])
    _, sent = begin(Method.SCRAM, path=PRIVATE, cert_hash=b"h" * 32)
    assert sent == messages.authentication_sasl([scram.MECHANISM])
    _, sent = begin(Method.SCRAM, path=TLS)
    assert sent == messages.authentication_sasl([scram.MECHANISM])


def test_plus():
    client, _ = begin(Method.SCRAM, path=TLS, cert_hash=b"h" * 32)
    exchange, final = prove(client, PLUS)
    exchange.check_final(final[9:])
    assert accepted(client).scram_keys == KEYS


def test_binding_failures_have_the_servers_code():
    client, _ = begin(Method.SCRAM, path=TLS, cert_hash=b"o" * 32)
    prove(client, PLUS)
    assert refusal(client) == ("28000", "SCRAM channel binding check failed")
    client, _ = begin(Method.SCRAM, path=TLS, cert_hash=b"h" * 32)
    client.feed(P, sasl_initial(scram.MECHANISM, b"y,,n=,r=abc"))
    assert refusal(client) == ("28000", "SCRAM channel binding negotiation error")


# ---- what the outcome tells ----


def test_pool_keys_follow_the_secret_and_hide_it():
    def key(password: bytes | None, secret: bytes = SECRET) -> bytes:
        return login.password_credentials(secret, password).key

    assert key(b"a") == key(b"a")
    assert len({key(b"a"), key(b"b"), key(None), key(b""), key(b"a", b"other")}) == 5
    assert b"a" * 8 not in key(b"a" * 8)


def test_pool_key_of_a_verifier_is_of_the_client_key():
    first, second = begin(Method.SCRAM, b"eve")[0], begin(Method.SCRAM, b"eve")[0]
    prove(first, PLAIN)
    prove(second, PLAIN)
    assert accepted(first).key == accepted(second).key
    assert accepted(first).key != login.password_credentials(SECRET, PASSWORD.encode()).key


def test_repr_hides_secrets():
    client, _ = begin(Method.SCRAM)
    prove(client, PLAIN)
    shown = repr((accepted(client), client.outcome, USERS, rules(Method.SCRAM)))
    assert PASSWORD not in shown
    assert "rd'" not in shown
    assert repr(KEYS.client_key)[2:12] not in shown
    assert "ssss" not in shown


def test_user_secret_takes_both_forms():
    assert USERS[b"bob"] == login.UserSecret(VERIFIER, PASSWORD.encode())
    assert USERS[b"eve"] == login.UserSecret(VERIFIER, None)


def test_welcome():
    key = keys.make(7, b"k" * 32, 0)
    assert login.welcome({b"a": b"1", b"b": b"2"}, key.message()) == (
        messages.authentication_ok()
        + messages.parameter_status("a", "1")
        + messages.parameter_status("b", "2")
        + messages.backend_key_data(7, b"kkkk")
        + messages.ready_for_query(messages.STATUS_IDLE)
    )


# ---- real drivers ----


def with_psycopg(door: Door, user: str = "bob", password: str = PASSWORD, **more: Any) -> int:
    """Log in and out; the server version told, so that it is known the welcome was understood."""
    more = {"sslmode": "disable", **more}
    with psycopg.connect(
        host="127.0.0.1", port=door.port, user=user, password=password, dbname="d", **more
    ) as connection:
        assert connection.info.backend_pid == 7
        return connection.info.server_version


@pytest.mark.parametrize("method", list(Method))
def test_psycopg_logs_in(method: Method):
    with door(rules(method)) as made:
        assert with_psycopg(made) == 150000
        assert made.outcomes[0].credentials.password == PASSWORD.encode()


@pytest.mark.parametrize("version", ["3.0", "3.2"])
def test_psycopg_with_both_protocol_versions(version: str):
    with door(rules(Method.SCRAM)) as made:
        more = {"max_protocol_version": version} if psycopg.pq.version() >= 180000 else {}
        assert with_psycopg(made, "eve", **more) == 150000
        assert made.starts[0].minor == (2 if more and version == "3.2" else 0)


@pytest.mark.parametrize("user", ["bob", "nobody"])
def test_psycopg_is_refused(user: str):
    with door(rules(Method.SCRAM)) as made, pytest.raises(psycopg.OperationalError) as caught:
        with_psycopg(made, user, "wrong")
    assert f'password authentication failed for user "{user}"' in str(caught.value)


def test_psycopg_with_channel_binding(tls_files: TlsFiles):
    with door(rules(Method.SCRAM), tls_files) as made:
        with_psycopg(made, sslmode="require", channel_binding="require")
        with_psycopg(made, sslmode="require", channel_binding="disable")
        with_psycopg(made, "eve", sslmode="disable")
        assert len(made.outcomes) == 3
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            with_psycopg(made, sslmode="disable", channel_binding="require")


async def with_asyncpg(door: Door, user: str = "bob", password: str = PASSWORD) -> str:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=door.port, user=user, password=password, database="d", ssl=False
    )
    version = connection.get_server_version()
    await connection.close()
    return f"{version.major}.{version.minor}"


@pytest.mark.parametrize("method", list(Method))
async def test_asyncpg_logs_in(method: Method):
    with door(rules(method)) as made:
        assert await with_asyncpg(made) == "15.0"


async def test_asyncpg_is_refused():
    with door(rules(Method.SCRAM)) as made:
        for user in ("bob", "nobody"):
            with pytest.raises(
                asyncpg.InvalidPasswordError, match="password authentication failed"
            ):
                await with_asyncpg(made, user, "wrong")
