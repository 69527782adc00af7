"""Logging in: what a link says first, how its answers are judged, and what clients' HELLO means.

Secrets live in `Credential` only, whose repr hides them. Source: Redis HELLO, AUTH, SELECT;
reference/redis.md, sections 2.1 and 4.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.core.errors import PeerProtocolError, ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol import say
from proxy.redis.protocol.values import ErrorReply, Value, as_dict, decode, encode_command

DEFAULT_USER: Final = b"default"


@dataclass(frozen=True, slots=True)
class Credential:
    """Who a link logs in as. `user` None: the one-argument AUTH. Equal only with equal secrets."""

    user: bytes | None = None
    password: bytes = field(default=b"", repr=False)

    @property
    def auth_args(self) -> tuple[bytes, ...]:
        """The arguments of AUTH."""
        return (self.password,) if self.user is None else (self.user, self.password)

    @property
    def name(self) -> str:
        """The user's name, for logs."""
        return (self.user or DEFAULT_USER).decode(errors="replace")


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    """What a link is before any client's own state: who, which database, which protocol."""

    credential: Credential | None
    db: int
    resp: int


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's HELLO, understood. `resp` None: keep the version."""

    resp: int | None = None
    credential: Credential | None = None
    name: bytes | None = None


@dataclass(frozen=True, slots=True)
class Greeting:
    """How the upstream answered a handshake. `hello` is its whole HELLO reply, or b""."""

    hello: bytes
    authenticated: bool
    server: Mapping[bytes, Value]


def handshake(identity: LinkIdentity, name: bytes = b"") -> list[bytes]:
    """Commands that make a fresh (or RESET) link `identity`, to be written at once, in order.

    The last is a PING, which tells a server that still loads its data.
    """
    commands = []
    if identity.credential is not None:
        commands.append(encode_command(b"AUTH", *identity.credential.auth_args))
    commands.append(encode_command(b"HELLO", b"%d" % identity.resp))
    if identity.db:
        commands.append(encode_command(b"SELECT", b"%d" % identity.db))
    if name:
        commands.append(encode_command(b"CLIENT", b"SETNAME", name))
    commands.append(encode_command(b"PING"))
    return commands


def judge(identity: LinkIdentity, replies: list[bytes]) -> Greeting:
    """What the replies to `handshake` mean; there may be fewer (the server hung up after them).

    Raises: UpstreamUnavailable (starting, full, gone: try later), UpstreamRefused (`wire` is the
    server's own error line: wrong password, no such database, no such protocol).
    """
    answers = [(wire, decode(wire)[0]) for wire in replies]
    if answers and len(answers) < 3:
        _check_full(answers[0][1])
    if identity.credential is not None and answers:
        wire, value = answers.pop(0)
        if isinstance(value, ErrorReply):
            raise _refusal(value, wire)
    if not answers:
        raise UpstreamUnavailable("the upstream hung up during login", Reason.UPSTREAM_EOF)
    hello, value = answers.pop(0)
    authenticated = True
    if isinstance(value, ErrorReply):
        authenticated = value.code != b"NOAUTH"
        if identity.resp != 2 or _is_transient(value):
            raise _refusal(value, hello)
        hello = b""  # no HELLO there, or a password is wanted first: RESP2 either way
    if identity.db and answers and authenticated:
        wire, chosen = answers.pop(0)
        if isinstance(chosen, ErrorReply):
            raise _refusal(chosen, wire)
    return _last_look(hello, answers, authenticated)


def _last_look(hello: bytes, answers: list[tuple[bytes, Value]], authenticated: bool) -> Greeting:
    if not answers:
        raise UpstreamUnavailable("the upstream hung up during login", Reason.UPSTREAM_EOF)
    wire, pong = answers[-1]
    if isinstance(pong, ErrorReply) and _is_transient(pong):
        raise _refusal(pong, wire)
    # Any other error (BUSY, NOAUTH, NOPERM) comes from a server that is alive (exp 21).
    return Greeting(hello, authenticated, as_dict(decode(hello)[0]) if hello else {})


def _is_transient(value: ErrorReply) -> bool:
    return value.code == b"LOADING" or value.text.startswith(b"ERR max number of clients")


def _check_full(value: Value) -> None:
    if isinstance(value, ErrorReply) and _is_transient(value):
        raise _refusal(value, b"")


def _refusal(value: ErrorReply, wire: bytes) -> ProxyError:
    if value.code == b"LOADING":
        return UpstreamUnavailable("the upstream is loading its data", Reason.UPSTREAM_STARTING)
    if _is_transient(value):
        return UpstreamUnavailable("the upstream has no free connection", Reason.UPSTREAM_FULL)
    code = value.code.decode(errors="replace")[:20]
    return UpstreamRefused(f"the upstream refused the login: {code}", Reason.LOGIN_REFUSED, wire)


def server_version(greeting: Greeting) -> tuple[int, int, int]:
    """The version from a HELLO reply; (0, 0, 0) if it does not say."""
    version = greeting.server.get(b"version")
    found = re.match(rb"(\d+)\.(\d+)(?:\.(\d+))?", version) if isinstance(version, bytes) else None
    if found is None:
        return (0, 0, 0)
    return (int(found[1]), int(found[2]), int(found[3] or 0))


def parse_hello(args: list[bytes]) -> Hello | bytes:
    """A client's HELLO (its whole argument list), or the error line Redis answers it with."""
    if len(args) == 1:
        return Hello()
    if args[1] not in (b"2", b"3"):
        return say.NOPROTO if re.fullmatch(rb"-?[1-9]\d{0,17}|0", args[1]) else say.BAD_PROTO
    credential: Credential | None = None
    name: bytes | None = None
    position = 2
    while position < len(args):
        option, left = args[position].upper(), len(args) - position - 1
        if option == b"AUTH" and left >= 2:
            credential = Credential(args[position + 1], args[position + 2])
            position += 3
        elif option == b"SETNAME" and left >= 1:
            name = args[position + 1]
            if not is_good_name(name):
                return say.BAD_NAME
            position += 2
        else:
            shown = args[position].decode(errors="replace")[:64]
            clean = shown.replace("\r", " ").replace("\n", " ")
            return say.error(f"Syntax error in HELLO option '{clean}'")
    return Hello(int(args[1]), credential, name)


def is_good_name(name: bytes) -> bool:
    """True if Redis would take it as a client's name (`validateClientAttr`)."""
    return all(33 <= char <= 126 for char in name)


_ID: Final = re.compile(rb"(\$2\r\nid\r\n:)\d+(\r\n)")


def hello_reply(hello: bytes, client_id: int) -> bytes:
    """The upstream's HELLO reply with the client's own id in place of the shared link's."""
    return _ID.sub(rb"\g<1>%d\g<2>" % client_id, hello, count=1)


def accepts(users: Mapping[bytes, bytes], credential: Credential) -> bool:
    """True if `credential` is one of `users` (name to password); takes the same time either way."""
    expected = users.get(credential.user or DEFAULT_USER)
    given = credential.password
    matches = hmac.compare_digest(expected if expected is not None else b"\0" + given[:64], given)
    return matches and expected is not None


def protocol_error_line(error: PeerProtocolError) -> bytes:
    """The last line a client gets that broke the protocol."""
    return b"-ERR %b\r\n" % str(error).encode("latin-1", "replace")
