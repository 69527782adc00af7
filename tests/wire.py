"""A raw PostgreSQL client for byte-exact tests: builders for frontend messages, blocking reads.

Nothing is interpreted beyond message boundaries, the login, and ReadyForQuery. The raw Redis client
is in wire_redis.py.
"""

import base64
import contextlib
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
DEADLINE_S = 10.0

Address = tuple[str, int] | Path


class WireClosed(Exception):
    """The peer closed. `rest` is what had come of an unfinished message."""

    def __init__(self, rest: bytes, *, reset: bool = False) -> None:
        super().__init__(f"closed{' by a reset' if reset else ''}, {len(rest)} bytes of a message")
        self.rest = rest
        self.reset = reset


class LoginRefused(Exception):
    """The login ended in an ErrorResponse; the argument holds its fields by letter."""


# --- frontend messages ---------------------------------------------------------------------------


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message with its length."""
    return kind + struct.pack("!I", len(body) + 4) + body


def zero(text: str | bytes) -> bytes:
    """A C string."""
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def startup(version: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    """A StartupMessage."""
    body = b"".join(zero(name) + zero(value) for name, value in parameters.items()) + b"\0"
    return struct.pack("!II", len(body) + 8, version) + body


def cancel(pid: int, secret: bytes) -> bytes:
    """A CancelRequest (secrets longer than 4 bytes: protocol 3.2)."""
    return struct.pack("!III", 12 + len(secret), 80877102, pid) + secret


def query(sql: str | bytes) -> bytes:
    """Query."""
    return message(b"Q", zero(sql))


def parse(sql: str | bytes, name: str = "", types: Sequence[int] = ()) -> bytes:
    """Parse."""
    oids = struct.pack(f"!H{len(types)}I", len(types), *types)
    return message(b"P", zero(name) + zero(sql) + oids)


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What Bind carries beside the names."""

    values: Sequence[bytes | None] = ()
    formats: Sequence[int] = ()
    result_formats: Sequence[int] = ()


def bind(statement: str = "", portal: str = "", binding: Binding = Binding()) -> bytes:
    """Bind."""
    body = zero(portal) + zero(statement)
    body += struct.pack(f"!H{len(binding.formats)}H", len(binding.formats), *binding.formats)
    body += struct.pack("!H", len(binding.values))
    for value in binding.values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    formats = binding.result_formats
    return message(b"B", body + struct.pack(f"!H{len(formats)}H", len(formats), *formats))


def values(*texts: str | bytes | None, statement: str = "", portal: str = "") -> bytes:
    """Bind with text values and text results."""
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return bind(statement, portal, Binding(values=raw))


def describe(kind: str, name: str = "") -> bytes:
    """Describe: kind S or P."""
    return message(b"D", kind.encode() + zero(name))


def close(kind: str, name: str = "") -> bytes:
    """Close: kind S or P."""
    return message(b"C", kind.encode() + zero(name))


def execute(portal: str = "", rows_max: int = 0) -> bytes:
    """Execute."""
    return message(b"E", zero(portal) + struct.pack("!I", rows_max))


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return message(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return message(b"f", zero(reason))


def function_call(oid: int, arguments: Sequence[bytes | None], binary: bool = True) -> bytes:
    """FunctionCall with all arguments and the result in one format."""
    body = struct.pack("!IHHH", oid, 1, int(binary), len(arguments))
    for value in arguments:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"F", body + struct.pack("!H", int(binary)))


SYNC = message(b"S")
FLUSH = message(b"H")
COPY_DONE = message(b"c")
TERMINATE = message(b"X")


def run(sql: str, *texts: str | None, describe_it: bool = True) -> bytes:
    """The usual extended batch without its Sync: Parse, Bind, Describe portal, Execute."""
    middle = describe("P") if describe_it else b""
    return parse(sql) + values(*texts) + middle + execute()


# --- backend messages ----------------------------------------------------------------------------


def error_fields(raw: bytes) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse by their letter."""
    parts = raw[5:].split(b"\0")
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in parts if part}


def sqlstate(messages: Iterable[bytes]) -> str | None:
    """SQLSTATE of the first ErrorResponse, if any."""
    return next((error_fields(raw)["C"] for raw in messages if raw[:1] == b"E"), None)


def tags(messages: Iterable[bytes]) -> list[str]:
    """CommandComplete tags in order."""
    return [raw[5:-1].decode() for raw in messages if raw[:1] == b"C"]


def rows(messages: Iterable[bytes]) -> list[tuple[bytes | None, ...]]:
    """DataRow values in order."""
    return [_row(raw) for raw in messages if raw[:1] == b"D"]


def _row(raw: bytes) -> tuple[bytes | None, ...]:
    (count,) = struct.unpack_from("!H", raw, 5)
    at = 7
    found: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", raw, at)
        at += 4
        found.append(None if size < 0 else raw[at : at + size])
        at += max(size, 0)
    return tuple(found)


def kinds(messages: Iterable[bytes]) -> str:
    """Type letters in order, the shape of an answer: `TDDCZ`."""
    return "".join(raw[:1].decode("latin-1") for raw in messages)


@dataclass(eq=False)
class PgWire:
    """One connection. Reads raise TimeoutError after `deadline_s`, WireClosed at the end."""

    sock: socket.socket
    deadline_s: float = DEADLINE_S
    chop_bytes: int = 0
    """Write in pieces of this size, each its own segment; 0: whole."""
    parameters: dict[str, str] = field(default_factory=dict)
    key: tuple[int, bytes] = (0, b"")
    _buffer: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(cls, address: Address, deadline_s: float = DEADLINE_S) -> Self:
        """TCP or Unix socket connected, nothing sent."""
        if isinstance(address, Path):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(deadline_s)
            sock.connect(str(address))
        else:
            sock = socket.create_connection(address, deadline_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, deadline_s)

    @classmethod
    def session(
        cls, address: Address, user: str = "postgres", password: str = "any", **parameters: str
    ) -> Self:
        """Connected and logged in, database `app` unless told otherwise.

        The default password is for roles that the server trusts: the proxy asks for one all the
        same (it cannot know yet), and refuses an empty one as the server would.
        """
        wire = cls.connect(address)
        answer = wire.login(password, user=user, **{"database": "app", **parameters})
        if answer[-1][:1] != b"Z":
            wire.close()
            raise LoginRefused(error_fields(answer[-1]))
        return wire

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, saying nothing."""
        self.sock.close()

    def end_sending(self) -> None:
        """Say that no more will come, and go on reading."""
        if isinstance(self.sock, ssl.SSLSocket):
            # unwrap() also wants the peer's end, which does not come yet.
            with contextlib.suppress(ssl.SSLError, TimeoutError):
                self.sock.settimeout(0.05)
                self.sock.unwrap()
        else:
            self.sock.shutdown(socket.SHUT_WR)

    def request_tls(self, context: ssl.SSLContext, server_name: str = "localhost") -> bytes:
        """SSLRequest, and TLS if the answer (which is returned) is S."""
        self.sock.sendall(SSL_REQUEST)
        answer = self.sock.recv(1)
        if answer == b"S":
            self.start_tls(context, server_name)
        return answer

    def start_tls(self, context: ssl.SSLContext, server_name: str = "localhost") -> None:
        """TLS at once (sslnegotiation=direct needs the ALPN `postgresql` in the context)."""
        self.sock = context.wrap_socket(self.sock, server_hostname=server_name)

    def login(
        self, password: str = "", version: int = PROTOCOL_3_0, **parameters: str
    ) -> list[bytes]:
        """StartupMessage and whatever the server asks, up to ReadyForQuery; all its messages."""
        self.send(startup(version, **parameters))
        found: list[bytes] = []
        scram = _Scram(password)
        while True:
            raw = self.read_message()
            found.append(raw)
            kind = raw[:1]
            if kind == b"R":
                self._authenticate(raw, password, parameters.get("user", ""), scram)
            elif kind == b"K":
                (pid,) = struct.unpack_from("!I", raw, 5)
                self.key = (pid, raw[9:])
            elif kind == b"S":
                name, value = raw[5:].split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode()
            elif kind in {b"Z", b"E"}:
                return found

    def _authenticate(self, raw: bytes, password: str, user: str, scram: "_Scram") -> None:
        (code,) = struct.unpack_from("!I", raw, 5)
        match code:
            case 3:
                self.send(message(b"p", zero(password)))
            case 5:
                inner = hashlib.md5(password.encode() + user.encode()).hexdigest()
                outer = hashlib.md5(inner.encode() + raw[9:13]).hexdigest()
                self.send(message(b"p", zero("md5" + outer)))
            case 10:
                first = scram.first()
                body = zero("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first
                self.send(message(b"p", body))
            case 11:
                self.send(message(b"p", scram.final(raw[9:])))
            case 12:
                scram.check(raw[9:])

    def send(self, data: bytes) -> None:
        """Write all, chopped if so set. OSError when the peer is gone."""
        if not self.chop_bytes:
            self.sock.sendall(data)
            return
        for at in range(0, len(data), self.chop_bytes):
            self.sock.sendall(data[at : at + self.chop_bytes])

    def read_message(self, deadline_s: float | None = None) -> bytes:
        """The next whole message, header included."""
        end_s = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while True:
            if len(self._buffer) >= 5:
                size = struct.unpack_from("!I", self._buffer, 1)[0] + 1
                if len(self._buffer) >= size:
                    raw = bytes(self._buffer[:size])
                    del self._buffer[:size]
                    return raw
            self._fill(end_s)

    def until_ready(self, count: int = 1) -> list[bytes]:
        """Messages up to the count-th ReadyForQuery."""
        found: list[bytes] = []
        while count:
            found.append(self.read_message())
            count -= found[-1][:1] == b"Z"
        return found

    def until(self, kind: bytes) -> list[bytes]:
        """Messages up to the first of that kind."""
        found = [self.read_message()]
        while found[-1][:1] != kind:
            found.append(self.read_message())
        return found

    def until_closed(self) -> list[bytes]:
        """Messages up to the peer's FIN. Raises WireClosed if it came within a message."""
        found: list[bytes] = []
        while True:
            try:
                found.append(self.read_message())
            except WireClosed as closed:
                if closed.rest or closed.reset:
                    raise
                return found

    def query(self, sql: str) -> list[bytes]:
        """Simple query, all its messages."""
        self.send(query(sql))
        return self.until_ready()

    def extended(self, sql: str, *texts: str | None) -> list[bytes]:
        """Parse, Bind, Describe, Execute, Sync; all messages."""
        self.send(run(sql, *texts) + SYNC)
        return self.until_ready()

    def value(self, sql: str) -> bytes | None:
        """First column of the first row. AssertionError with the error if there is none."""
        answer = self.query(sql)
        found = rows(answer)
        assert found, [error_fields(raw) for raw in answer if raw[:1] == b"E"]
        return found[0][0]

    def _fill(self, end_s: float) -> None:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no message in time; {len(self._buffer)} bytes of one")
        self.sock.settimeout(left_s)
        try:
            data = self.sock.recv(262144)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise WireClosed(bytes(self._buffer)) from None
        except ConnectionError:
            raise WireClosed(bytes(self._buffer), reset=True) from None
        finally:
            self.sock.settimeout(self.deadline_s)
        if not data:
            raise WireClosed(bytes(self._buffer))
        self._buffer += data


class _Scram:
    """Client side of SCRAM-SHA-256 without channel binding (RFC 5802, 7677)."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.bare = f"n=,r={secrets.token_urlsafe(18)}"
        self.signature = b""

    def first(self) -> bytes:
        return f"n,,{self.bare}".encode()

    def final(self, challenge: bytes) -> bytes:
        parts = dict(item.split("=", 1) for item in challenge.decode().split(","))
        salt, rounds = base64.b64decode(parts["s"]), int(parts["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, rounds)
        client_key = _hmac(salted, b"Client Key")
        without_proof = f"c=biws,r={parts['r']}"
        said = f"{self.bare},{challenge.decode()},{without_proof}".encode()
        signature = _hmac(hashlib.sha256(client_key).digest(), said)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self.signature = _hmac(_hmac(salted, b"Server Key"), said)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def check(self, final: bytes) -> None:
        expected = b"v=" + base64.b64encode(self.signature)
        assert final == expected, "the server's signature is wrong"


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, "sha256").digest()
