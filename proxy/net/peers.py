"""Who is at the two ends of a connection, and what protects it: in words, for operators."""

import asyncio
import socket
from typing import Any


def peer_of(transport: asyncio.BaseTransport | None) -> tuple[str, int]:
    """(address, port) of the other side; ("unix", 0) on a Unix socket, ("", 0) if it has gone."""
    return _end(transport, "peername")


def local_of(transport: asyncio.BaseTransport | None) -> tuple[str, int]:
    """(address, port) of our side; ("unix", 0) on a Unix socket, ("", 0) if it is closed."""
    return _end(transport, "sockname")


def _end(transport: asyncio.BaseTransport | None, which: str) -> tuple[str, int]:
    if transport is None:
        return "", 0
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return "unix", 0
    name = transport.get_extra_info(which)
    if not isinstance(name, tuple) or len(name) < 2:
        return "", 0
    return str(name[0]), int(name[1])


def tls_of(transport: asyncio.BaseTransport | None) -> str:
    """The protocol and cipher, such as `TLSv1.3/TLS_AES_256_GCM_SHA384`; empty without TLS."""
    if transport is None:
        return ""
    ssl_object: Any = transport.get_extra_info("ssl_object")
    cipher = ssl_object.cipher() if ssl_object is not None else None
    return f"{cipher[1]}/{cipher[0]}" if cipher else ""
