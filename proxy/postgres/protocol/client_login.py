"""The login of a client to us: passthrough, scram-sha-256 or trust.

Owns the exchange from the start-up packet to the outcome, and what the outcome says about the
client's secret. Does not know databases, pools or the upstream. AuthenticationOk is not sent from
here: with passthrough the upstream has the last word, so the runtime sends `welcome` once a link
is there, or the upstream's refusal.
Source: PostgreSQL documentation, "Message Flow" (Start-up) and "SASL Authentication"; auth.c.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from proxy.core.errors import PeerProtocolError
from proxy.postgres.protocol import messages, say, scram
from proxy.postgres.protocol.messages import STATUS_IDLE
from proxy.postgres.protocol.say import Said
from proxy.postgres.protocol.scram import ScramKeys, ServerExchange, Verifier

MESSAGE_BYTES_MAX = 64 * 1024
"""Longest body of a client's login message; PG_MAX_AUTH_TOKEN_LENGTH of the server is 65535."""

PASSWORD_KIND = ord("p")


class Method(StrEnum):
    """`auth.method` of the settings."""

    PASSTHROUGH = "passthrough"
    SCRAM = "scram-sha-256"
    TRUST = "trust"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client proved or the settings say for it: enough to open its links, if anything is.

    `key` identifies the secret without telling it (a keyed hash): links opened with one secret are
    never handed to a client that showed another. Equal secrets of one process have equal keys.
    """

    password: bytes | None = field(repr=False)
    scram_keys: ScramKeys | None = field(repr=False)
    key: bytes


@dataclass(frozen=True, slots=True)
class UserSecret:
    """What the settings hold for one user: always a verifier, and the password if it was given."""

    verifier: Verifier = field(repr=False)
    password: bytes | None = field(repr=False)


def user_secret(text: str, salt: bytes) -> UserSecret:
    """The secret that `text` is: a stored SCRAM verifier, or else a password. Slow: for start-up.

    `salt`: 16 random bytes for the verifier of a password.
    """
    verifier = scram.parse_verifier(text)
    if verifier is not None:
        return UserSecret(verifier, None)
    password = text.encode()
    return UserSecret(scram.verifier_from_password(password, salt), password)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRules:
    """How clients of a route log in.

    `process_secret`: 32 random bytes, new for each process, shared by all its routes; salts of
    unknown users and pool keys come from it. `cert_hash`: channel binding data of the certificate
    we show, None if there is none. `mock_iterations`: what unknown users are told; the iteration
    count of most known ones.
    """

    method: Method
    process_secret: bytes = field(repr=False)
    users: Mapping[bytes, UserSecret] = field(default_factory=dict, repr=False)
    cert_hash: bytes | None = None
    mock_iterations: int = scram.ITERATIONS_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPath:
    """How a client came: through TLS or not; `private`: TLS, Unix socket or loopback."""

    tls: bool
    private: bool


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Nothing is left to ask; open or take a link with these."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Refused:
    """Send `wire` (a FATAL) and close."""

    wire: Said


Outcome = Authenticated | Refused


def password_key(process_secret: bytes, password: bytes | None) -> bytes:
    """`Credentials.key` of a password; of None for links that need no secret from the client."""
    told = b"none" if password is None else b"password " + password
    return _keyed(process_secret, told)


def _keyed(secret: bytes, told: bytes) -> bytes:
    # BLAKE2 has a key of its own, and takes 1 µs where OpenSSL's HMAC takes ten.
    return hashlib.blake2b(told, digest_size=32, key=secret).digest()


def password_credentials(process_secret: bytes, password: bytes | None) -> Credentials:
    """Credentials of a password that is known from elsewhere, such as the upstream's URL."""
    return Credentials(password, None, password_key(process_secret, password))


class ClientLogin:
    """One client's login. Call `start`, send what it returns, then `feed` each message likewise,
    until `outcome` is set. Messages after that are a bug of the caller.
    """

    def __init__(self, user: bytes, rules: LoginRules, path: ClientPath, random: bytes) -> None:
        """`random`: scram.NONCE_RANDOM_BYTES random bytes, used once."""
        self.outcome: Outcome | None = None
        self._user = user
        self._rules = rules
        self._path = path
        self._random = random
        self._exchange: ServerExchange | None = None  # SCRAM's, once it has begun
        self._next: Callable[[bytes], bytes] = self._on_password

    def start(self) -> bytes:
        """The first request to the client; empty if the outcome is there at once."""
        assert self.outcome is None, "start() is called once"
        match self._rules.method:
            case Method.TRUST:
                secret = self._rules.users.get(self._user)
                password = secret.password if secret is not None else None
                return self._accept(password, None)
            case Method.PASSTHROUGH:
                if not self._path.private:
                    return self._refuse(say.password_needs_tls())
                return messages.authentication_cleartext()
            case Method.SCRAM:
                self._next = self._on_sasl_initial
                self._exchange = self._new_exchange(self._random)
                return messages.authentication_sasl(self._exchange.mechanisms())

    def feed(self, kind: int, body: bytes) -> bytes:
        """What to send in answer to one message of the client; look at `outcome` after it.

        Never raises: a message that breaks the protocol ends in `Refused`.
        """
        assert self.outcome is None, "the login is over"
        if kind != PASSWORD_KIND:
            text = f"expected password response, got message type {kind}"
            return self._refuse(say.login_violation(text))
        if len(body) > MESSAGE_BYTES_MAX:
            return self._refuse(say.login_violation("invalid message length"))
        try:
            return self._next(body)
        except scram.ChannelBindingError as error:
            return self._refuse(say.login_violation(str(error), sqlstate="28000"))
        except PeerProtocolError as error:
            return self._refuse(say.login_violation(str(error)))

    def _new_exchange(self, random: bytes) -> ServerExchange:
        rules = self._rules
        # Both are looked up for every user, so that the time taken does not tell who exists.
        mock = scram.mock_verifier(rules.process_secret, self._user, rules.mock_iterations)
        secret = rules.users.get(self._user)
        verifier = secret.verifier if secret is not None else mock
        cert_hash = rules.cert_hash if self._path.tls else None
        return ServerExchange(verifier, random, cert_hash)

    def _on_password(self, body: bytes) -> bytes:
        if body.find(b"\0") != len(body) - 1 or not body:
            return self._refuse(say.login_violation("invalid password packet size"))
        password = body[:-1]
        if not password:
            return self._refuse(say.password_empty())
        return self._accept(password, None)

    def _on_sasl_initial(self, body: bytes) -> bytes:
        mechanism, pos = messages.cstring(body)
        if len(body) < pos + 4:
            raise PeerProtocolError("insufficient data left in message")
        length = int.from_bytes(body[pos : pos + 4], signed=True)
        data = body[pos + 4 :]
        if length == -1 and not data:
            # No initial response: the server asks for it with an empty challenge.
            self._next = lambda later: self._on_client_first(mechanism, later)
            return messages.authentication_sasl_continue(b"")
        if length != len(data):
            raise PeerProtocolError("insufficient data left in message")
        return self._on_client_first(mechanism, data)

    def _on_client_first(self, mechanism: bytes, data: bytes) -> bytes:
        assert self._exchange is not None
        answer = self._exchange.first(mechanism, data)
        self._next = self._on_client_final
        return messages.authentication_sasl_continue(answer)

    def _on_client_final(self, data: bytes) -> bytes:
        assert self._exchange is not None
        answer = self._exchange.final(data)
        secret = self._rules.users.get(self._user)
        if answer is None or secret is None:
            return self._refuse(say.password_failed(self._user))
        self._accept(secret.password, self._exchange.keys)
        return messages.authentication_sasl_final(answer)

    def _accept(self, password: bytes | None, keys: ScramKeys | None) -> bytes:
        process_secret = self._rules.process_secret
        key = password_key(process_secret, password)
        if password is None and keys is not None:
            key = _keyed(process_secret, b"client key " + keys.client_key)
        self.outcome = Authenticated(Credentials(password, keys, key))
        return b""

    def _refuse(self, said: Said) -> bytes:
        self.outcome = Refused(said)
        return b""


def welcome(params: Mapping[bytes, bytes], key_message: bytes) -> bytes:
    """All that ends a login: AuthenticationOk, ParameterStatus each, the key, ReadyForQuery."""
    ready = messages.ready_for_query(STATUS_IDLE)
    return _accepted(tuple(params.items())) + key_message + ready


@lru_cache(maxsize=64)  # links of one pool report the same
def _accepted(params: tuple[tuple[bytes, bytes], ...]) -> bytes:
    reported = b"".join(messages.parameter_status(name, value) for name, value in params)
    return messages.authentication_ok() + reported
