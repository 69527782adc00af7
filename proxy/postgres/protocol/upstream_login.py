"""Our login to a PostgreSQL server: from the start-up packet to the first ReadyForQuery.

Owns the exchange and its policy: which secrets may go out, what is refused, what a server may ask
for. Does not know sockets, TLS or when to try again: the class of the error says whether waiting
may help. Source: PostgreSQL documentation, "Message Flow" (Start-up) and "SASL Authentication".
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from proxy.core.errors import PeerProtocolError, ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages, say, scram
from proxy.postgres.protocol.client_login import Credentials
from proxy.postgres.protocol.messages import STATUS_IDLE
from proxy.postgres.protocol.scram import ChannelBinding, ClientExchange, Derive

MESSAGE_BYTES_MAX = 64 * 1024
"""Longest message of a server during login; libpq takes 30 000."""

LOGIN_BYTES_MAX = 1024 * 1024
"""Most bytes a server may send before ReadyForQuery."""

NOTICES_BYTES_MAX = 16 * 1024
"""Notices of a login are kept up to here, later ones dropped."""

_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_METHOD_NAMES = {2: "Kerberos V5", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

_HINT_PASSWORD = (
    "Set the password in the upstream URL or in auth.users, or let clients bring it with"
    " auth.method: passthrough."
)
_HINT_SALT = (
    "Store in auth.users the verifier that the server has for this role (pg_authid.rolpassword),"
    " or the password itself."
)
_HINT_CLEARTEXT = "Use TLS (sslmode=require or better) in the upstream URL, or SCRAM at the server."
_HINT_BINDING = "Use TLS and SCRAM at the server, or set channel_binding=prefer in the URL."
_HINT_METHOD = "Give this role a scram-sha-256 line in the server's pg_hba.conf."

# Texts of PgBouncer and its kin for an outage behind them: they have no SQLSTATE of their own.
_GARBLED = "received unencrypted data after"  # SSLRequest: bytes on the path that are not ours
_POOLER_OUTAGE = ("server login has been failing", "cannot connect to server", "query_wait_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """Everything a login needs.

    `params`: more start-up parameters, in order (`options`, settings). `minor`: 0 unless the
    server is known to negotiate (old poolers close the link on 3.2). `cert_hash`: channel binding
    data of the server's certificate, None without TLS. `cleartext_allowed`: whether a password may
    be sent as it is, which is for TLS, Unix sockets and loopback, or where the user said so.
    `derive`: shared cache of SCRAM keys.
    """

    user: bytes
    database: bytes
    params: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    credentials: Credentials
    minor: int = 0
    channel_binding: ChannelBinding = ChannelBinding.PREFER
    cert_hash: bytes | None = None
    cleartext_allowed: bool = False
    iterations_max: int = scram.ITERATIONS_MAX
    derive: Derive = field(default=scram.salted_password, repr=False)


@dataclass(frozen=True, slots=True)
class LoginResult:
    """What a server said on the way to ReadyForQuery.

    `pid` is 0 and `secret` empty if it sent no key (some poolers). `notices`: whole messages for
    the client. `leftover`: bytes after ReadyForQuery, the link's first. `bound`: the login was
    bound to the TLS channel.
    """

    params: dict[bytes, bytes] = field(repr=False)
    pid: int
    secret: bytes = field(repr=False)
    minor: int
    notices: bytes = field(repr=False)
    leftover: bytes = field(repr=False)
    bound: bool


class UpstreamLogin:
    """One login. Send `start()`, then `feed` what comes and send what it returns, until `result`.

    When `feed` raises, close the link. `error` and `error_wire` then hold the server's own error,
    if it sent one: fields by code, and the message byte for byte for the client.
    """

    def __init__(self, request: LoginRequest, random: bytes) -> None:
        """`random`: scram.NONCE_RANDOM_BYTES random bytes, used once."""
        self.result: LoginResult | None = None
        self.error: dict[str, str] | None = None
        self.error_wire = b""
        self._request = request
        self._random = random
        self._buffer = b""
        self._received_bytes = 0
        self._authenticated = False
        self._exchange: ClientExchange | None = None
        self._bound = False
        self._expected_code = -1  # of the request that must come next; -1: any that makes sense
        self._minor = request.minor
        self._params: dict[bytes, bytes] = {}
        self._pid, self._secret = 0, b""
        self._notices = b""

    def start(self) -> bytes:
        """The start-up packet."""
        request = self._request
        params = {b"user": request.user, b"database": request.database, **request.params}
        return messages.startup(request.minor, params)

    def feed(self, data: bytes) -> bytes:
        """What to send in answer; look at `result` after it.

        Raises UpstreamRefused (told to the client, `wire` is ready), UpstreamUnavailable (waiting
        may help) and PeerProtocolError.
        """
        assert self.result is None, "the login is over"
        self._received_bytes += len(data)
        if self._received_bytes > LOGIN_BYTES_MAX:
            raise _broken("server sent too much before the login was done")
        buf = self._buffer + data
        pos = 0
        answers: list[bytes] = []
        while self.result is None and len(buf) - pos >= 5:
            end = pos + 1 + _length(buf, pos)
            if end > len(buf):
                break
            answers.append(self._on_message(buf, pos, end))
            pos = end
        self._buffer = buf[pos:]
        return b"".join(answers)

    def _on_message(self, buf: bytes, pos: int, end: int) -> bytes:
        body = buf[pos + 5 : end]
        match chr(buf[pos]):
            case "R" if not self._authenticated:
                return self._on_authentication(*messages.read_authentication(body))
            case "E":
                self._on_error(buf[pos:end], body)
            case "N":
                if len(self._notices) + end - pos <= NOTICES_BYTES_MAX:
                    self._notices += buf[pos:end]
            case "v" if not self._authenticated:
                self._on_negotiation(body)
            case "S" if self._authenticated:
                name, value = messages.read_parameter_status(body)
                self._params[name] = value
            case "K" if self._authenticated:
                self._pid, self._secret = messages.read_backend_key(body)
            case "Z" if self._authenticated:
                self._on_ready(body, buf[end:])
            case _:
                raise _broken("server sent a message that has no place in a login")
        return b""

    # ---- authentication ----

    def _on_authentication(self, code: int, data: bytes) -> bytes:
        if self._expected_code >= 0 and code != self._expected_code:
            raise _broken("server broke off the authentication it had begun")
        handlers: dict[int, Callable[[bytes], bytes]] = {
            _OK: self._on_ok,
            _CLEARTEXT: self._on_cleartext,
            _MD5: self._on_md5,
            _SASL: self._on_sasl,
        }
        if self._exchange is not None:
            handlers |= {_SASL_CONTINUE: self._on_sasl_continue, _SASL_FINAL: self._on_sasl_final}
        if code in _METHOD_NAMES:
            name = _METHOD_NAMES[code]
            self._refuse(f"the server asks for {name}, which Backstay does not speak", _HINT_METHOD)
        if code not in handlers:
            raise _broken(f"server sent authentication request {code}")
        return handlers[code](data)

    def _on_ok(self, _data: bytes) -> bytes:
        if self._request.channel_binding is ChannelBinding.REQUIRE and not self._bound:
            self._refuse("the server did not bind the login to the channel", _HINT_BINDING)
        self._authenticated = True
        return b""

    def _on_cleartext(self, _data: bytes) -> bytes:
        self._before_password()
        if not self._request.cleartext_allowed:
            text = "the server asks for the password in clear, over a network without TLS"
            self._refuse(text, _HINT_CLEARTEXT)
        self._expected_code = _OK
        return messages.password(self._password("a password"))

    def _on_md5(self, salt: bytes) -> bytes:
        self._before_password()
        if len(salt) != 4:
            raise _broken("server sent a bad md5 salt")
        # md5(md5(password + user) + salt), hexadecimal both times: "AuthenticationMD5Password".
        inner = _md5(self._password("an md5 password") + self._request.user)
        self._expected_code = _OK
        return messages.password(b"md5" + _md5(inner + salt))

    def _before_password(self) -> None:
        if self._request.channel_binding is ChannelBinding.REQUIRE:
            self._refuse("the server asks for no channel binding", _HINT_BINDING)

    def _on_sasl(self, data: bytes) -> bytes:
        request = self._request
        offered = messages.read_mechanisms(data)
        choice = scram.choose(offered, request.channel_binding, request.cert_hash)
        if choice is None and request.channel_binding is ChannelBinding.REQUIRE:
            self._refuse("the server or the link cannot bind the login", _HINT_BINDING)
        if choice is None:
            self._refuse("the server offers no SASL mechanism that we speak", _HINT_METHOD)
        self._exchange = ClientExchange(choice, self._random)
        self._bound = choice.mechanism == scram.MECHANISM_PLUS
        self._expected_code = _SASL_CONTINUE
        return messages.sasl_initial_response(choice.mechanism, self._exchange.first())

    def _on_sasl_continue(self, data: bytes) -> bytes:
        assert self._exchange is not None
        asked = self._exchange.read_first(data, self._request.iterations_max)
        keys = self._keys_for(asked)
        self._expected_code = _SASL_FINAL
        return messages.sasl_response(self._exchange.final(keys))

    def _on_sasl_final(self, data: bytes) -> bytes:
        assert self._exchange is not None
        self._exchange.check_final(data)
        self._expected_code = _OK
        return b""

    def _keys_for(self, asked: scram.ServerFirst) -> scram.ScramKeys:
        known = self._request.credentials.scram_keys
        fits = known is not None and (known.salt, known.iterations) == (
            asked.salt,
            asked.iterations,
        )
        if known is not None and fits:
            return known
        if known is not None and self._request.credentials.password is None:
            text = "the stored SCRAM verifier is not the one of the server (salt or iterations)"
            self._refuse(text, _HINT_SALT)
        password = self._password("a password")
        salted = self._request.derive(password, asked.salt, asked.iterations)
        return scram.keys_from(salted, asked.salt, asked.iterations)

    def _password(self, what: str) -> bytes:
        credentials = self._request.credentials
        if credentials.password is not None:
            return credentials.password
        if credentials.scram_keys is not None:
            text = f"the server asks for {what}, and only a SCRAM verifier is stored"
            self._refuse(text, _HINT_PASSWORD)
        self._refuse(f"the server asks for {what}, and none is set", _HINT_PASSWORD)

    def _refuse(self, what: str, hint: str) -> NoReturn:
        wire = say.upstream_login_failed(what, hint)
        raise UpstreamRefused(f"cannot log in: {what}", wire.reason, wire)

    # ---- everything else ----

    def _on_negotiation(self, body: bytes) -> None:
        minor, unknown = messages.read_negotiation(body)
        if minor > self._request.minor or unknown:
            raise _broken("server negotiated what was not asked for")
        self._minor = minor

    def _on_error(self, wire: bytes, body: bytes) -> NoReturn:
        self.error = messages.error_fields(body)
        self.error_wire = wire
        raise login_error(self.error, wire)

    def _on_ready(self, body: bytes, leftover: bytes) -> None:
        if len(body) != 1 or messages.read_ready_status(body) != STATUS_IDLE:
            raise _broken("server is not idle after the login")
        self.result = LoginResult(
            params=self._params,
            pid=self._pid,
            secret=self._secret,
            minor=self._minor,
            notices=self._notices,
            leftover=leftover,
            bound=self._bound,
        )


def login_error(fields: Mapping[str, str], wire: bytes) -> ProxyError:
    """What an error of a server during login means: UpstreamUnavailable, or UpstreamRefused.

    57P03 (starting up), 57P01 and 57P02 (stopping), class 08 from something in between, and a link
    that was garbled before its TLS began are waits; 53300 is a wait with reason UPSTREAM_FULL, so
    that the caller backs off; all else is the server's answer, and goes to the client as it is. A
    missing SQLSTATE is an answer too.
    """
    sqlstate = fields.get("C", "")
    said = say.last_words(fields)
    if sqlstate == "53300":
        return UpstreamUnavailable(said, Reason.UPSTREAM_FULL)
    if sqlstate == "57P03":
        return UpstreamUnavailable(said, Reason.UPSTREAM_STARTING)
    if sqlstate in ("57P01", "57P02"):
        return UpstreamUnavailable(said, Reason.UPSTREAM_FATAL)
    # PgBouncer says 08P01 for refusals and outages alike, so there its text decides.
    if sqlstate == "08P01":
        texts = (*_POOLER_OUTAGE, _GARBLED)
        outage = any(text in fields.get("M", "") for text in texts)
    else:
        outage = sqlstate.startswith("08")
    if outage:
        return UpstreamUnavailable(said, Reason.UPSTREAM_UNREACHABLE)
    return UpstreamRefused(said, Reason.UPSTREAM_REFUSED, wire)


def _length(buf: bytes, pos: int) -> int:
    length = int.from_bytes(buf[pos + 1 : pos + 5])
    if not 4 <= length <= MESSAGE_BYTES_MAX:
        raise _broken("server sent a message of impossible length; is it a PostgreSQL server?")
    return length


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _broken(text: str) -> PeerProtocolError:
    return PeerProtocolError(text, Reason.UPSTREAM_PROTOCOL)
