"""TLS contexts, one per set of options: a CA bundle is parsed once, not once per link.

(pgbouncer#1299: a bundle per connection cost hundreds of megabytes.) Modes and names are libpq's
("SSL Support" in the PostgreSQL manual, 34.19); `rediss://` is verify-full with "system".

Must not know: connections, protocols, settings files.
"""

import os
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.core.errors import ConfigError

SYSTEM_ROOTS = "system"
_CONTEXTS_MAX = 256  # sets of options kept; the oldest go first


class SslMode(StrEnum):
    """libpq's sslmode. Only the caller can fall back, as it owns the connection:

    - DISABLE: plain.
    - ALLOW: dial plain and log in; if the server refuses that, dial again with TLS.
    - PREFER: ask for TLS (SSLRequest); plain if the answer is N; if the handshake fails
      (TLS_FAILED), dial again plain.
    - REQUIRE: TLS or nothing. Verifies the chain only if the root file exists.
    - VERIFY_CA: TLS, and the chain leads to a root. VERIFY_FULL: the name matches, too.
    """

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class ServerTlsMode(StrEnum):
    """TLS towards clients. ALLOW: those who ask for it get it. VERIFY_CA: with a certificate."""

    DISABLE = "disable"
    ALLOW = "allow"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """TLS towards an upstream.

    `root_cert`: a PEM file, or "system". `cert` and `key`: our own certificate, the key perhaps in
    the same file. `alpn`: in order of preference.
    """

    mode: SslMode
    root_cert: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: str | None = None
    alpn: tuple[str, ...] = ()

    def __repr__(self) -> str:  # the password of the key stays out of logs
        return f"ClientTls(mode={self.mode.value!r}, root_cert={self.root_cert!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """TLS towards clients: our certificate chain and key (PEM files), and the roots of theirs."""

    mode: ServerTlsMode
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    alpn: tuple[str, ...] = ()


_client: dict[ClientTls, ssl.SSLContext | None] = {}
_server: dict[ServerTls, ssl.SSLContext | None] = {}


def client_context(options: ClientTls) -> ssl.SSLContext | None:
    """The context for dialling with these options; None if they never use TLS.

    As libpq: an existing root file is used to verify the chain in every mode that uses TLS, also
    `require`; only the verify modes insist that it exists; only verify-full checks the name, and
    "system" demands verify-full. Raises ConfigError for options that cannot be used.
    """
    if options not in _client:
        _keep(_client, options, _make_client(options))
    return _client[options]


def _make_client(options: ClientTls) -> ssl.SSLContext | None:
    if options.mode is SslMode.DISABLE:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, options.alpn)
    context.check_hostname = False  # before verify_mode: ssl refuses the other order
    context.verify_mode = ssl.CERT_NONE
    if _load_roots(context, options):
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = options.mode is SslMode.VERIFY_FULL
    if options.cert is not None:
        _load_chain(context, options.cert, options.key, options.key_password)
    return context


def server_context(options: ServerTls) -> ssl.SSLContext | None:
    """The context for clients; None if TLS is off. Raises ConfigError for unusable options.

    `allow` and `require` give the same context: whether a plain client is refused is decided where
    the client speaks first.
    """
    if options not in _server:
        _keep(_server, options, _make_server(options))
    return _server[options]


def _make_server(options: ServerTls) -> ssl.SSLContext | None:
    if options.mode is ServerTlsMode.DISABLE:
        return None
    if options.cert is None:
        raise ConfigError([f"tls.cert: mode {options.mode.value} needs a certificate"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, options.alpn)
    context.num_tickets = 0  # database clients do not resume: two tickets less per handshake
    _load_chain(context, options.cert, options.key, None)
    if options.mode is ServerTlsMode.VERIFY_CA:
        if options.client_ca is None:
            raise ConfigError(["tls.client_ca: mode verify-ca needs the roots of the clients"])
        _load_file(context, options.client_ca, "tls.client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _keep(kept: dict[Any, ssl.SSLContext | None], options: Any, made: object) -> None:
    if len(kept) >= _CONTEXTS_MAX:
        del kept[next(iter(kept))]
    kept[options] = made  # type: ignore[assignment]


def forget_contexts() -> None:
    """Reads the files again from the next call on."""
    _client.clear()
    _server.clear()


class Renewal:
    """Contexts from the files as they are now: for a reload, as certificates are renewed.

    Nothing is in force before `commit`, and all of it afterwards.
    """

    def __init__(self) -> None:
        self._client: dict[ClientTls, ssl.SSLContext | None] = {}
        self._server: dict[ServerTls, ssl.SSLContext | None] = {}

    def client(self, options: ClientTls) -> None:
        """Reads what these options name. Raises as `client_context`."""
        self._client[options] = _make_client(options)

    def server(self, options: ServerTls) -> ssl.SSLContext | None:
        """The new context for these options. Raises as `server_context`."""
        self._server[options] = context = _make_server(options)
        return context

    def commit(self) -> None:
        """From now on these are given out; all others are read anew when they are needed."""
        forget_contexts()
        _client.update(self._client)
        _server.update(self._server)


def _harden(context: ssl.SSLContext, alpn: tuple[str, ...]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if alpn:
        context.set_alpn_protocols(list(alpn))


def _load_roots(context: ssl.SSLContext, options: ClientTls) -> bool:
    """Whether there are roots to verify against, which are then loaded."""
    verifies = options.mode in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL)
    if options.root_cert == SYSTEM_ROOTS:
        if options.mode is not SslMode.VERIFY_FULL:
            raise ConfigError(
                [
                    "sslrootcert=system: anybody can get such a certificate, so it needs"
                    f" sslmode=verify-full, not {options.mode.value}"
                ]
            )
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return True
    if options.root_cert is None:
        if verifies:
            raise ConfigError(
                [
                    f"sslrootcert: sslmode={options.mode.value} needs a root"
                    " certificate file, or verify-full with sslrootcert=system"
                ]
            )
        return False
    if not verifies and not os.path.exists(options.root_cert):
        return False
    _load_file(context, options.root_cert, "sslrootcert")
    return True


def _load_file(context: ssl.SSLContext, path: str, setting: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"{setting}: cannot use {path!r}: {_explain(error)}"]) from error


def _load_chain(context: ssl.SSLContext, cert: str, key: str | None, password: str | None) -> None:
    try:
        # A callback, as ssl would else ask the terminal for the password of an encrypted key.
        context.load_cert_chain(cert, key, password=lambda: password or "")
    except (OSError, ssl.SSLError) as error:
        where = cert if key is None else f"{cert} and {key}"
        raise ConfigError([f"certificate: cannot use {where}: {_explain(error)}"]) from error


def _explain(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not a PEM file of the expected kind, or a wrong key or password"
    return error.strerror or str(error)
