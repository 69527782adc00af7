"""SCRAM against RFC 7677's example, scramp in both roles, ourselves, and crafted messages."""

import base64
import hashlib

import pytest
import scramp

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import scram
from proxy.postgres.protocol.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ChannelBinding,
    ChannelBindingError,
    Choice,
    ClientExchange,
    KeyCache,
    ServerExchange,
)

RANDOM_A, RANDOM_B = b"a" * 18, b"b" * 18
SALT = b"0123456789abcdef"
PASSWORD = "pässword ⅷ"
VERIFIER = scram.verifier_from_password(PASSWORD.encode(), SALT)
KEYS = scram.keys_from(scram.salted_password(PASSWORD.encode(), SALT, 4096), SALT, 4096)
CERT_HASH = b"h" * 32
PLAIN = Choice(MECHANISM, b"n,,", b"")
COULD = Choice(MECHANISM, b"y,,", b"")
PLUS = Choice(MECHANISM_PLUS, b"p=tls-server-end-point,,", CERT_HASH)


def log_in(
    choice: Choice, server: ServerExchange, keys: scram.ScramKeys = KEYS
) -> tuple[ClientExchange, bytes | None]:
    """Our client against our server up to server-final-message."""
    client = ClientExchange(choice, RANDOM_A)
    asked = client.read_first(server.first(choice.mechanism, client.first()))
    assert asked.iterations == 4096
    return client, server.final(client.final(keys))


def test_rfc_7677_example():
    password, salt = b"pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    client = ClientExchange(PLAIN, RANDOM_A)
    client._own_nonce = b"rOprNGfwEbeRWgbNEkqO"
    client._bare = b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    asked = client.read_first(b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    assert asked == scram.ServerFirst(salt, 4096)
    final = client.final(scram.keys_from(scram.salted_password(password, salt, 4096), salt, 4096))
    assert final == b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    client.check_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


# ---- verifiers and keys ----


def test_verifier_equals_scramps():
    salt, stored, server, rounds = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(
        PASSWORD, iteration_count=4096, salt=SALT
    )
    assert scram.Verifier(rounds, salt, stored, server) == VERIFIER
    assert scram.verifier_from_keys(KEYS) == VERIFIER


def test_verifier_text_round_trip():
    text = VERIFIER.text()
    assert text.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert scram.parse_verifier(text) == VERIFIER
    assert scram.parse_verifier(f" {text}\n") == VERIFIER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "password",
        "md5" + "0" * 32,
        VERIFIER.text().replace("256$", "1$", 1),
        VERIFIER.text().replace("4096", "0"),
        VERIFIER.text().replace("4096", "-1"),
        VERIFIER.text().replace("4096", "٤"),
        VERIFIER.text().replace("4096", "9" * 11),
        VERIFIER.text().replace("4096:", ""),
        VERIFIER.text().replace("=$", "$"),
        VERIFIER.text()[:-4],
        VERIFIER.text() + "$x",
        "SCRAM-SHA-256$4096:$AAAA:AAAA",
        "SCRAM-SHA-256$4096:MDEy$AAAA:AAAA",
        "SCRAM-SHA-256$4096:MDEy$*:" + "A" * 43 + "=",
        "SCRAM-SHA-256$4096:MDEy$" + "A" * 43 + "=:AAAA",
        "SCRAM-SHA-256$4096:MDEy$" + "A" * 43 + "=",
    ],
)
def test_no_verifier(text: str):
    assert scram.parse_verifier(text) is None


def test_mock_verifier_is_the_same_each_time_and_another_for_each_user():
    first = scram.mock_verifier(b"secret", b"bob", 4096)
    assert first == scram.mock_verifier(b"secret", b"bob", 4096)
    assert first.salt != scram.mock_verifier(b"secret", b"eve", 4096).salt
    assert first.salt != scram.mock_verifier(b"other", b"bob", 4096).salt
    assert (len(first.salt), len(first.stored_key), len(first.server_key)) == (16, 32, 32)
    assert first.iterations == 4096


def test_repr_hides_secrets():
    exposed = (KEYS.client_key, KEYS.server_key, VERIFIER.stored_key)
    shown = repr(KEYS) + repr(VERIFIER)
    assert not any(repr(secret)[2:10] in shown for secret in exposed)


def test_key_cache_works_out_once_and_is_bounded(monkeypatch: pytest.MonkeyPatch):
    asked: list[bytes] = []

    def derive(password: bytes, salt: bytes, iterations: int) -> bytes:
        asked.append(password)
        return hashlib.sha256(password).digest()

    monkeypatch.setattr(scram, "salted_password", derive)
    cache = KeyCache(entries_max=2)
    for password in (b"a", b"b", b"a", b"c", b"a", b"b"):
        assert cache(password, SALT, 1) == hashlib.sha256(password).digest()
        assert len(cache) <= 2
    assert asked == [b"a", b"b", b"c", b"b"]  # b was the least recently used
    cache(b"b", SALT, 2)
    assert asked[-1] == b"b"
    assert len(asked) == 5
    assert "b'b'" not in repr(cache)


def test_key_cache_equals_the_function():
    assert KeyCache()(PASSWORD.encode(), SALT, 7) == scram.salted_password(
        PASSWORD.encode(), SALT, 7
    )


# ---- both ends together ----


@pytest.mark.parametrize(
    ("choice", "cert_hash"), [(PLAIN, None), (PLAIN, CERT_HASH), (COULD, None), (PLUS, CERT_HASH)]
)
def test_right_keys(choice: Choice, cert_hash: bytes | None):
    server = ServerExchange(VERIFIER, RANDOM_B, cert_hash)
    client, answer = log_in(choice, server)
    assert answer is not None
    client.check_final(answer)


def test_client_key_is_recovered_from_the_proof():
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    assert server.keys is None
    log_in(PLAIN, server)
    assert server.keys == KEYS
    # … and logs in at another server that has the same verifier, without the password.
    upstream = ServerExchange(VERIFIER, b"c" * 18, None)
    assert log_in(PLAIN, upstream, server.keys)[1] is not None


def test_wrong_keys():
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    wrong = scram.keys_from(scram.salted_password(b"wrong", SALT, 4096), SALT, 4096)
    assert log_in(PLAIN, server, wrong)[1] is None
    assert server.keys is None


def test_nobody_fits_a_mock():
    server = ServerExchange(scram.mock_verifier(b"s", b"bob", 4096), RANDOM_B, None)
    assert log_in(PLAIN, server)[1] is None


# ---- scramp as the other end ----


@pytest.mark.parametrize("binding", [None, ("tls-server-end-point", CERT_HASH)])
def test_scramp_logs_in_here(binding):
    server = ServerExchange(VERIFIER, RANDOM_B, CERT_HASH if binding else None)
    offered = [name.decode() for name in server.mechanisms()]
    client = scramp.ScramClient(offered, "bob", PASSWORD, channel_binding=binding)
    first = server.first(client.mechanism_name.encode(), client.get_client_first().encode())
    client.set_server_first(first.decode())
    answer = server.final(client.get_client_final().encode())
    assert answer is not None
    client.set_server_final(answer.decode())
    assert client.mechanism_name.endswith("-PLUS") is bool(binding)


@pytest.mark.parametrize("choice", [PLAIN, PLUS])
def test_we_log_in_at_scramp(choice: Choice):
    mechanism = scramp.ScramMechanism(choice.mechanism.decode())
    info = (SALT, VERIFIER.stored_key, VERIFIER.server_key, 4096)
    binding = ("tls-server-end-point", CERT_HASH) if choice is PLUS else None
    server = mechanism.make_server(lambda _user: info, channel_binding=binding)
    client = ClientExchange(choice, RANDOM_A)
    # libpq and we leave the name empty, as PostgreSQL takes it from the start-up; scramp insists.
    client._bare = b"n=bob,r=" + client._own_nonce
    server.set_client_first(client.first().decode())
    client.read_first(server.get_server_first().encode())
    server.set_client_final(client.final(KEYS).decode())
    client.check_final(server.get_server_final().encode())


# ---- what we offer and choose ----


def test_mechanisms_offered():
    assert ServerExchange(VERIFIER, RANDOM_B, None).mechanisms() == [MECHANISM]
    assert ServerExchange(VERIFIER, RANDOM_B, CERT_HASH).mechanisms() == [MECHANISM_PLUS, MECHANISM]


BOTH = [MECHANISM_PLUS, MECHANISM]


@pytest.mark.parametrize(
    ("offered", "policy", "cert_hash", "chosen"),
    [
        (BOTH, ChannelBinding.PREFER, CERT_HASH, PLUS),
        (BOTH, ChannelBinding.REQUIRE, CERT_HASH, PLUS),
        (BOTH, ChannelBinding.DISABLE, CERT_HASH, PLAIN),
        (BOTH, ChannelBinding.PREFER, None, PLAIN),
        (BOTH, ChannelBinding.REQUIRE, None, None),
        ([MECHANISM], ChannelBinding.PREFER, CERT_HASH, COULD),
        ([MECHANISM], ChannelBinding.PREFER, None, PLAIN),
        ([MECHANISM], ChannelBinding.DISABLE, CERT_HASH, PLAIN),
        ([MECHANISM], ChannelBinding.REQUIRE, CERT_HASH, None),
        ([MECHANISM_PLUS], ChannelBinding.PREFER, CERT_HASH, PLUS),
        ([MECHANISM_PLUS], ChannelBinding.PREFER, None, None),
        ([b"OAUTHBEARER"], ChannelBinding.PREFER, CERT_HASH, None),
        ([], ChannelBinding.PREFER, None, None),
    ],
)
def test_choose(offered, policy, cert_hash, chosen):
    assert scram.choose(offered, policy, cert_hash) == chosen


# ---- crafted messages of a client (CVE-2026-6664) ----

NONCE = base64.b64encode(RANDOM_A)
FULL_NONCE = NONCE + base64.b64encode(RANDOM_B)
PROOF = b"p=" + base64.b64encode(b"x" * 32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=",
        b"n,,n=,",
        b"n,,n=,r",
        b"n,,n=,r=",
        b"n,,r=" + NONCE,
        b"n,a=admin,n=,r=" + NONCE,
        b"n,x,n=,r=" + NONCE,
        b"n,,m=ext,n=,r=" + NONCE,
        b"n,,n=,r=a b",
        b"n,,n=,r=\xff",
        b"n,,n=,r=" + b"a" * 257,
        b"n,,n=,r=" + NONCE + b"\0",
        b"x,,n=,r=" + NONCE,
        b"p=tls-server-end-point,,n=,r=" + NONCE,
        b"n,,n=,r=" + NONCE + b"," * 4096,
    ],
)
def test_crafted_first_message(data: bytes):
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    with pytest.raises(PeerProtocolError) as caught:
        server.first(MECHANISM, data)
    assert caught.value.reason is Reason.CLIENT_PROTOCOL


def test_longest_nonce_and_extensions_of_a_client():
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    answer = server.first(MECHANISM, b"n,,n=x,r=" + b"a" * 256 + b",x=ignored")
    assert answer.startswith(b"r=" + b"a" * 256 + base64.b64encode(RANDOM_B) + b",s=")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"p=",
        PROOF,
        b"," + PROOF,
        b"c=biws," + PROOF,
        b"c=biws,r=" + FULL_NONCE,
        b"c=biws,r=" + FULL_NONCE + b",p=",
        b"c=biws,r=" + FULL_NONCE + b",p=AAAA",
        b"c=biws,r=" + FULL_NONCE + b",p=****",
        b"c=biws,r=" + FULL_NONCE + b",p=" + base64.b64encode(b"x" * 33),
        b"c=biws,r=" + FULL_NONCE + b"," + PROOF + b",x=y",
        b"c=biws,r=" + NONCE + b"," + PROOF,
        b"c=biws,r=" + FULL_NONCE + b"x," + PROOF,
        b"r=" + FULL_NONCE + b",c=biws," + PROOF,
        b"c=biws,r=" + FULL_NONCE + b"," + PROOF + b"\0",
        b"c=biws,r=" + FULL_NONCE + b",x=" + b"a" * 4096 + b"," + PROOF,
    ],
)
def test_crafted_final_message(data: bytes):
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    server.first(MECHANISM, b"n,,n=,r=" + NONCE)
    with pytest.raises(PeerProtocolError):
        server.final(data)


def test_mechanism_that_was_not_offered():
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    for mechanism in (MECHANISM_PLUS, b"", b"SCRAM-SHA-1"):
        with pytest.raises(PeerProtocolError, match="invalid SASL authentication mechanism"):
            server.first(mechanism, b"n,,n=,r=" + NONCE)


def test_downgrade_is_noticed():
    server = ServerExchange(VERIFIER, RANDOM_B, CERT_HASH)
    with pytest.raises(ChannelBindingError, match="negotiation error"):
        server.first(MECHANISM, b"y,,n=,r=" + NONCE)


@pytest.mark.parametrize("flag", [b"n", b"y", b"p=tls-unique", b"p="])
def test_plus_with_another_binding(flag: bytes):
    server = ServerExchange(VERIFIER, RANDOM_B, CERT_HASH)
    with pytest.raises(ChannelBindingError, match="channel-binding type"):
        server.first(MECHANISM_PLUS, flag + b",,n=,r=" + NONCE)


def test_binding_to_another_certificate():
    server = ServerExchange(VERIFIER, RANDOM_B, b"other".ljust(32))
    with pytest.raises(ChannelBindingError, match="binding check failed"):
        log_in(PLUS, server)


def test_flag_changed_between_the_messages():
    server = ServerExchange(VERIFIER, RANDOM_B, None)
    server.first(MECHANISM, b"n,,n=,r=" + NONCE)
    with pytest.raises(ChannelBindingError):
        server.final(b"c=eSws,r=" + FULL_NONCE + b"," + PROOF)


# ---- crafted messages of a server (CVE-2026-6665) ----


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"r=" + FULL_NONCE,
        b"r=" + FULL_NONCE + b",s=MDEy",
        b"r=" + FULL_NONCE + b",i=4096,s=MDEy",
        b"m=x,r=" + FULL_NONCE + b",s=MDEy,i=4096",
        b"r=" + FULL_NONCE + b",s=MDEy,i=4096,x=y",
        b"r=" + NONCE + b",s=MDEy,i=4096",
        b"r=" + FULL_NONCE[1:] + b",s=MDEy,i=4096",
        b"r=" + FULL_NONCE + b"\x7f,s=MDEy,i=4096",
        b"r=" + FULL_NONCE + b"a" * 500 + b",s=MDEy,i=4096",
        b"r=" + FULL_NONCE + b",s=,i=4096",
        b"r=" + FULL_NONCE + b",s=*,i=4096",
        b"r=" + FULL_NONCE + b",s=" + base64.b64encode(b"x" * 513) + b",i=4096",
        b"r=" + FULL_NONCE + b",s=MDEy,i=",
        b"r=" + FULL_NONCE + b",s=MDEy,i=0",
        b"r=" + FULL_NONCE + b",s=MDEy,i=-1",
        b"r=" + FULL_NONCE + b",s=MDEy,i=4096 ",
        b"r=" + FULL_NONCE + b",s=MDEy,i=1000001",
        b"r=" + FULL_NONCE + b",s=MDEy,i=" + b"9" * 3000,
        b"r=" + FULL_NONCE + b",s=MDEy,i=4096\0",
    ],
)
def test_crafted_server_first(data: bytes):
    client = ClientExchange(PLAIN, RANDOM_A)
    with pytest.raises(PeerProtocolError) as caught:
        client.read_first(data)
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL


def test_iterations_up_to_the_bound():
    client = ClientExchange(PLAIN, RANDOM_A)
    asked = client.read_first(b"r=" + FULL_NONCE + b",s=MDEy,i=1000000")
    assert asked == scram.ServerFirst(b"012", scram.ITERATIONS_MAX)
    with pytest.raises(PeerProtocolError):
        client.read_first(b"r=" + FULL_NONCE + b",s=MDEy,i=5000", iterations_max=4999)


@pytest.mark.parametrize(
    "data",
    [b"", b"e=other-error", b"v=", b"v=*", b"v=AAAA", b"x=y", b"v=" + base64.b64encode(b"x" * 32)],
)
def test_crafted_server_final(data: bytes):
    client, _ = log_in(PLAIN, ServerExchange(VERIFIER, RANDOM_B, None))
    with pytest.raises(PeerProtocolError) as caught:
        client.check_final(data)
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL


# ---- our own mistakes ----


def test_steps_out_of_order():
    server, client = ServerExchange(VERIFIER, RANDOM_B, None), ClientExchange(PLAIN, RANDOM_A)
    with pytest.raises(AssertionError):
        server.final(b"x")
    with pytest.raises(AssertionError):
        client.final(KEYS)
    with pytest.raises(AssertionError):
        client.check_final(b"x")
    with pytest.raises(AssertionError):
        ClientExchange(PLAIN, b"short")
    with pytest.raises(AssertionError):
        ServerExchange(VERIFIER, b"short", None)
