"""A listener with nothing behind it but our side of the login, for real drivers to knock at."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.demo.certificates import TlsFiles
from proxy.postgres.protocol import client_login as login
from proxy.postgres.protocol import keys, startup
from proxy.postgres.protocol.cert_hash import server_end_point
from proxy.postgres.protocol.client_login import ClientLogin, ClientPath, LoginRules, Refused

WELCOME_PARAMS = {
    b"server_version": b"15.0",
    b"server_encoding": b"UTF8",
    b"client_encoding": b"UTF8",
    b"standard_conforming_strings": b"on",
    b"integer_datetimes": b"on",
    b"TimeZone": b"UTC",
}


@dataclass
class Door:
    """A listener with nothing behind it: start-up, login, welcome. One client at a time."""

    rules: LoginRules
    context: ssl.SSLContext | None = None
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    outcomes: list[Any] = field(default_factory=list)
    starts: list[startup.Startup] = field(default_factory=list)
    link: socket.socket = field(init=False)
    buf: bytes = b""

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def serve(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            link.settimeout(10)
            self.link, self.buf = link, b""
            try:
                self.one()
            except (OSError, EOFError):
                continue
            finally:
                self.link.close()

    def one(self) -> None:
        ssl_done = gss_done = False
        while True:
            first = startup.read_first(self.buf, ssl_done, gss_done)
            match first:
                case startup.NeedMore():
                    self.more()
                case startup.GssRequest():
                    gss_done, self.buf = True, b""
                    self.link.sendall(b"N")
                case startup.SslRequest():
                    ssl_done, self.buf = True, b""
                    self.link.sendall(b"S" if self.context else b"N")
                    if self.context:
                        self.link = self.context.wrap_socket(self.link, server_side=True)
                case startup.Refuse(wire):
                    self.link.sendall(wire)
                    return
                case startup.Startup():
                    self.buf = self.buf[first.size :]
                    self.log_in(first)
                    return
                case _:
                    raise AssertionError(first)

    def log_in(self, first: startup.Startup) -> None:
        self.starts.append(first)
        path = ClientPath(tls=isinstance(self.link, ssl.SSLSocket), private=True)
        client = ClientLogin(first.user, self.rules, path, b"r" * 18)
        self.link.sendall(first.negotiation() + client.start())
        while client.outcome is None:
            self.link.sendall(client.feed(*self.message()))
        self.outcomes.append(client.outcome)
        if isinstance(client.outcome, Refused):
            self.link.sendall(client.outcome.wire)
            return
        self.link.sendall(
            login.welcome(WELCOME_PARAMS, keys.make(7, b"k" * 32, first.minor).message())
        )
        while self.message()[0] != ord("X"):
            pass

    def message(self) -> tuple[int, bytes]:
        while len(self.buf) < 5 or len(self.buf) < 1 + int.from_bytes(self.buf[1:5]):
            self.more()
        end = 1 + int.from_bytes(self.buf[1:5])
        kind, body, self.buf = self.buf[0], self.buf[5:end], self.buf[end:]
        return kind, body

    def more(self) -> None:
        data = self.link.recv(65536)
        if not data:
            raise EOFError
        self.buf += data


@contextmanager
def door(rules_: LoginRules, tls: TlsFiles | None = None) -> Iterator[Door]:
    """A running Door; with TLS files it takes TLS and knows its certificate's hash."""
    context = tls.server_context() if tls else None
    if tls:
        text = tls.certificate.read_text()
        first = text[: text.index("-----END CERTIFICATE-----") + 26]
        rules_ = replace(rules_, cert_hash=server_end_point(ssl.PEM_cert_to_DER_cert(first)))
        assert rules_.cert_hash
    made = Door(rules_, context)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        yield made
    finally:
        made.listener.shutdown(socket.SHUT_RDWR)
        made.listener.close()
        thread.join(10)
        assert not thread.is_alive()
