"""SCRAM-SHA-256 and -PLUS, both ends: verifiers, the server's exchange, the client's exchange.

Owns the messages and the arithmetic. Knows neither users nor the policy of a route. Nonces come in
as random bytes. What a peer sends can only raise PeerProtocolError; what it claims is bounded.
Source: RFC 5802, RFC 7677, RFC 5929; where they leave room, auth-scram.c and fe-auth-scram.c.
"""

import hashlib
import hmac
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol.saslprep import prepare

MECHANISM = b"SCRAM-SHA-256"
MECHANISM_PLUS = b"SCRAM-SHA-256-PLUS"

ITERATIONS_DEFAULT = 4096
"""What PostgreSQL uses unless told otherwise (scram_iterations)."""

ITERATIONS_MAX = 1_000_000
"""Most rounds we do for a server: about a quarter of a second once, then cached. PostgreSQL's
default is 4096; a hostile server could ask for 2**31 and hold the process for ten minutes."""

MESSAGE_BYTES_MAX = 4096
NONCE_BYTES_MAX = 512
"""Client's and server's nonce together; ours has 24 bytes (CVE-2026-6665: no bound in a pooler)."""

SALT_BYTES_MAX = 512
KEY_BYTES = 32
NONCE_RANDOM_BYTES = 18
"""Random bytes in a nonce of ours: as many as PostgreSQL takes."""

_BINDING_TYPE = b"tls-server-end-point"
_GS2_PLUS = b"p=" + _BINDING_TYPE + b",,"

Derive = Callable[[bytes, bytes, int], bytes]
"""`salted_password`, or a cache in front of it: (password, salt, iterations) → SaltedPassword."""


class ChannelBindingError(PeerProtocolError):
    """The two ends do not agree on channel binding: a fault, or somebody in the middle."""


class ChannelBinding(StrEnum):
    """libpq's `channel_binding`."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"


# ---- keys ----


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What logs a client in without its password, at servers with this salt and iteration count."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    salt: bytes
    iterations: int


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps of a password (pg_authid.rolpassword)."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def text(self) -> str:
        """`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`."""
        salt, stored, server = (
            b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def salted_password(password: bytes, salt: bytes, iterations: int) -> bytes:
    """SaltedPassword (RFC 5802, section 3). Slow on purpose: 1 ms for 4096 rounds; see KeyCache."""
    return hashlib.pbkdf2_hmac("sha256", prepare(password), salt, iterations)


def keys_from(salted: bytes, salt: bytes, iterations: int) -> ScramKeys:
    """ClientKey and ServerKey of a SaltedPassword."""
    client_key, server_key = _hmac(salted, b"Client Key"), _hmac(salted, b"Server Key")
    return ScramKeys(client_key, server_key, salt, iterations)


def verifier_from_keys(keys: ScramKeys) -> Verifier:
    """The verifier that belongs to these keys."""
    stored_key = hashlib.sha256(keys.client_key).digest()
    return Verifier(keys.iterations, keys.salt, stored_key, keys.server_key)


def verifier_from_password(
    password: bytes, salt: bytes, iterations: int = ITERATIONS_DEFAULT
) -> Verifier:
    """The verifier of a password; `salt`: 16 random bytes."""
    return verifier_from_keys(
        keys_from(salted_password(password, salt, iterations), salt, iterations)
    )


def parse_verifier(text: str) -> Verifier | None:
    """The verifier that `text` is in the form of `Verifier.text`, or None if it is none.

    A text that begins with `SCRAM-SHA-256$` and gives None is a damaged verifier, no password.
    """
    parts = text.strip().split("$")
    if len(parts) != 3 or parts[0] != "SCRAM-SHA-256":
        return None
    rounds, _, salt_text = parts[1].partition(":")
    stored_text, _, server_text = parts[2].partition(":")
    salt, stored, server = (
        _base64(part.encode()) for part in (salt_text, stored_text, server_text)
    )
    if not (rounds.isascii() and rounds.isdigit() and len(rounds) <= 10 and int(rounds) > 0):
        return None
    if not salt or stored is None or server is None:
        return None
    if len(stored) != KEY_BYTES or len(server) != KEY_BYTES:
        return None
    return Verifier(int(rounds), salt, stored, server)


def mock_verifier(process_secret: bytes, user: bytes, iterations: int) -> Verifier:
    """A verifier that no password fits, for a user that does not exist.

    The same salt for the same user each time, as a real one has (auth-scram.c, mock_scram_secret).
    """
    salt = _hmac(process_secret, b"salt " + user)[:16]
    stored, server = _hmac(process_secret, b"stored " + user), _hmac(process_secret, b"key " + user)
    return Verifier(iterations, salt, stored, server)


class KeyCache:
    """A `Derive` that remembers the last `entries_max` results; its repr shows none of them."""

    def __init__(self, entries_max: int = 256) -> None:
        assert entries_max > 0, entries_max
        self._entries_max = entries_max
        self._salted: dict[tuple[bytes, bytes, int], bytes] = {}

    def __call__(self, password: bytes, salt: bytes, iterations: int) -> bytes:
        """SaltedPassword, from memory if it was worked out lately."""
        key = (password, salt, iterations)
        salted = self._salted.pop(key, None) or salted_password(*key)
        self._salted[key] = salted  # last in order: most recently used
        if len(self._salted) > self._entries_max:
            del self._salted[next(iter(self._salted))]
        return salted

    def __len__(self) -> int:
        return len(self._salted)


# ---- the server's end ----


class ServerExchange:
    """One login of a client to us: `first`, then `final`.

    `cert_hash`: channel binding data of our certificate if this client came through TLS and was
    offered PLUS, else None. Raises PeerProtocolError for messages that break the protocol.
    """

    def __init__(self, verifier: Verifier, random: bytes, cert_hash: bytes | None) -> None:
        assert len(random) >= NONCE_RANDOM_BYTES, len(random)
        self._verifier = verifier
        self._nonce_tail = b64encode(random)
        self._cert_hash = cert_hash
        self._gs2_header = b""
        self._nonce = b""
        self._transcript = b""
        self.keys: ScramKeys | None = None
        """After a right proof: the client's keys, which can log in wherever its salt is used."""

    def mechanisms(self) -> list[bytes]:
        """What to offer, best first."""
        return [MECHANISM_PLUS, MECHANISM] if self._cert_hash is not None else [MECHANISM]

    def first(self, mechanism: bytes, data: bytes) -> bytes:
        """server-first-message in answer to client-first-message."""
        assert not self._nonce, "first() is called once"
        if mechanism not in self.mechanisms():
            raise PeerProtocolError("client selected an invalid SASL authentication mechanism")
        _check_size(data, Reason.CLIENT_PROTOCOL)
        self._gs2_header, bare = self._split_gs2(mechanism, data)
        self._nonce = _client_nonce(bare) + self._nonce_tail
        salt = b64encode(self._verifier.salt)
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._verifier.iterations)
        self._transcript = bare + b"," + answer
        return answer

    def final(self, data: bytes) -> bytes | None:
        """server-final-message in answer to client-final-message; None: the proof is wrong."""
        assert self._nonce, "first() comes first"
        _check_size(data, Reason.CLIENT_PROTOCOL)
        without_proof, comma, proof_text = data.rpartition(b",p=")
        proof = _base64(proof_text)
        if not comma or proof is None or len(proof) != KEY_BYTES:
            raise PeerProtocolError("malformed SCRAM message: malformed proof")
        attributes = without_proof.split(b",")
        self._check_binding(_value(attributes, 0, b"c"))
        if _value(attributes, 1, b"r") != self._nonce:
            raise PeerProtocolError("invalid SCRAM response: nonce does not match")
        signed = self._transcript + b"," + without_proof
        client_key = _xor(proof, _hmac(self._verifier.stored_key, signed))
        stored_key = hashlib.sha256(client_key).digest()
        if not hmac.compare_digest(stored_key, self._verifier.stored_key):
            return None
        verifier = self._verifier
        self.keys = ScramKeys(client_key, verifier.server_key, verifier.salt, verifier.iterations)
        return b"v=" + b64encode(_hmac(verifier.server_key, signed))

    def _split_gs2(self, mechanism: bytes, data: bytes) -> tuple[bytes, bytes]:
        """(gs2-header, client-first-message-bare), the channel binding flag checked."""
        flag, _, rest = data.partition(b",")
        authzid, comma, bare = rest.partition(b",")
        if authzid.startswith(b"a="):
            raise PeerProtocolError("client uses authorization identity, but it is not supported")
        if not comma or authzid:
            raise PeerProtocolError("malformed SCRAM message: bad GS2 header")
        if mechanism == MECHANISM_PLUS:
            if flag != b"p=" + _BINDING_TYPE:
                raise ChannelBindingError("unsupported SCRAM channel-binding type")
        elif flag == b"y":
            # The client could bind and thinks we cannot. If we offered PLUS, somebody in the
            # middle took it out of the list (RFC 5802, section 6).
            if self._cert_hash is not None:
                raise ChannelBindingError("SCRAM channel binding negotiation error")
        elif flag != b"n":
            raise PeerProtocolError("malformed SCRAM message: unexpected channel-binding flag")
        return flag + b",,", bare

    def _check_binding(self, value: bytes) -> None:
        expected = self._gs2_header
        if expected == _GS2_PLUS:
            assert self._cert_hash is not None, "PLUS is offered with a certificate only"
            expected += self._cert_hash
        if not hmac.compare_digest(value, b64encode(expected)):
            raise ChannelBindingError("SCRAM channel binding check failed")


def _client_nonce(bare: bytes) -> bytes:
    attributes = bare.split(b",")
    if attributes[0].startswith(b"m="):
        raise PeerProtocolError("client requires an unsupported SCRAM extension")
    _value(attributes, 0, b"n")  # the user of the startup packet counts, this one is ignored
    nonce = _value(attributes, 1, b"r")
    if not _is_nonce(nonce) or len(nonce) > NONCE_BYTES_MAX // 2:
        raise PeerProtocolError("malformed SCRAM message: non-printable or overlong nonce")
    return nonce


# ---- the client's end ----


@dataclass(frozen=True, slots=True)
class Choice:
    """A mechanism, with its gs2-header and the channel binding data that go with it."""

    mechanism: bytes
    gs2_header: bytes
    binding_data: bytes


def choose(
    offered: Sequence[bytes], policy: ChannelBinding, cert_hash: bytes | None
) -> Choice | None:
    """How to log in at a server that offers these mechanisms; None: not possible.

    `cert_hash`: channel binding data of the server's certificate, None without TLS or if its
    signature has no binding defined.
    """
    able = cert_hash is not None and policy is not ChannelBinding.DISABLE
    if able and cert_hash is not None and MECHANISM_PLUS in offered:
        return Choice(MECHANISM_PLUS, _GS2_PLUS, cert_hash)
    if MECHANISM not in offered or policy is ChannelBinding.REQUIRE:
        return None
    # "y": we could have bound, so that the server notices if PLUS was taken out of its list.
    return Choice(MECHANISM, b"y,," if able else b"n,,", b"")


@dataclass(frozen=True, slots=True)
class ServerFirst:
    """What the server asks for: keys of this salt and iteration count."""

    salt: bytes
    iterations: int


class ClientExchange:
    """One login of us to a server: `first`, `read_first`, `final`, `check_final`, in this order.

    All but `first` and `final` raise PeerProtocolError for what a server must not send.
    """

    def __init__(self, choice: Choice, random: bytes) -> None:
        assert len(random) >= NONCE_RANDOM_BYTES, len(random)
        self._choice = choice
        self._own_nonce = b64encode(random)
        self._bare = b"n=,r=" + self._own_nonce  # the server takes the user of the startup packet
        self._server_first = b""
        self._nonce = b""
        self._server_signature = b""

    def first(self) -> bytes:
        """client-first-message."""
        return self._choice.gs2_header + self._bare

    def read_first(self, data: bytes, iterations_max: int = ITERATIONS_MAX) -> ServerFirst:
        """What server-first-message asks for; bounds of nonce, salt and iterations checked."""
        reason = Reason.UPSTREAM_PROTOCOL
        _check_size(data, reason)
        attributes = data.split(b",")
        if len(attributes) != 3:
            raise PeerProtocolError("malformed SCRAM message: server-first-message", reason)
        nonce = _value(attributes, 0, b"r", reason)
        salt = _base64(_value(attributes, 1, b"s", reason))
        rounds = _value(attributes, 2, b"i", reason)
        if len(nonce) > NONCE_BYTES_MAX or not _is_nonce(nonce):
            raise PeerProtocolError("invalid SCRAM response: bad nonce", reason)
        if not nonce.startswith(self._own_nonce) or len(nonce) == len(self._own_nonce):
            raise PeerProtocolError("invalid SCRAM response: nonce mismatch", reason)
        if not salt or len(salt) > SALT_BYTES_MAX:
            raise PeerProtocolError("malformed SCRAM message: invalid salt", reason)
        if not rounds.isdigit() or len(rounds) > 10 or not 1 <= int(rounds) <= iterations_max:
            text = f"SCRAM iteration count is not between 1 and {iterations_max}"
            raise PeerProtocolError(text, reason)
        self._nonce, self._server_first = nonce, data
        return ServerFirst(salt, int(rounds))

    def final(self, keys: ScramKeys) -> bytes:
        """client-final-message; `keys` are of the salt and iterations that `read_first` gave."""
        assert self._server_first, "read_first() comes first"
        binding = b64encode(self._choice.gs2_header + self._choice.binding_data)
        without_proof = b"c=" + binding + b",r=" + self._nonce
        signed = b",".join((self._bare, self._server_first, without_proof))
        stored_key = hashlib.sha256(keys.client_key).digest()
        proof = _xor(keys.client_key, _hmac(stored_key, signed))
        self._server_signature = _hmac(keys.server_key, signed)
        return without_proof + b",p=" + b64encode(proof)

    def check_final(self, data: bytes) -> None:
        """Return if server-final-message proves that the server knows the verifier."""
        reason = Reason.UPSTREAM_PROTOCOL
        assert self._server_signature, "final() comes first"
        _check_size(data, reason)
        if data.startswith(b"e="):
            raise PeerProtocolError("server ended the SCRAM exchange with an error", reason)
        signature = _base64(_value([data], 0, b"v", reason))
        if signature is None or not hmac.compare_digest(signature, self._server_signature):
            raise PeerProtocolError("incorrect server signature: not the server we know", reason)


# ---- shared ----


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    assert len(left) == len(right) == KEY_BYTES
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(KEY_BYTES)


def _base64(text: bytes) -> bytes | None:
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        return None


def _is_nonce(nonce: bytes) -> bool:
    """RFC 5802, section 7: printable ASCII without comma (there is none left after a split)."""
    return bool(nonce) and all(0x21 <= char <= 0x7E for char in nonce)


def _check_size(data: bytes, reason: Reason) -> None:
    if not 0 < len(data) <= MESSAGE_BYTES_MAX or b"\0" in data:
        raise PeerProtocolError("malformed SCRAM message: bad length", reason)


def _value(
    attributes: Sequence[bytes],
    index: int,
    name: bytes,
    reason: Reason = Reason.CLIENT_PROTOCOL,
) -> bytes:
    """Value of the attribute that must stand at `index` with this name."""
    if index >= len(attributes) or attributes[index][:2] != name + b"=":
        text = f"malformed SCRAM message: attribute {name.decode()} expected"
        raise PeerProtocolError(text, reason)
    return attributes[index][2:]
