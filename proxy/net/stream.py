"""What transports ask of a protocol, as a structure: any class that has these methods will do.

asyncio looks for methods, not for a base class, and a class compiled by mypyc cannot have an
interpreted one; so `asyncio.Protocol` is named nowhere that a link or a session is meant.
"""

import asyncio
from typing import Protocol, cast


class StreamProtocol(Protocol):
    """The methods of asyncio.Protocol."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def as_asyncio(protocol: StreamProtocol) -> asyncio.Protocol:
    """The same object, for signatures of asyncio that name its base class."""
    return cast("asyncio.Protocol", protocol)


def as_transport(pump: object) -> asyncio.Transport:
    """The same object, which has the methods of asyncio.Transport (`proxy.net.tls`)."""
    return cast("asyncio.Transport", pump)
