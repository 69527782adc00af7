"""A raw asynchronous Redis client: commands out, whole replies in as raw bytes."""

import asyncio
import contextlib
import ssl
from typing import Self

from tests.wire_redis import command, reply_end

DEADLINE_S = 10.0


class Closed(Exception):
    """The peer closed; `rest` is an incomplete reply."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(f"closed with {len(rest)} bytes of a reply")
        self.rest = rest


class AsyncWire:
    """One connection. Reads raise TimeoutError after DEADLINE_S, Closed at the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, host: str, port: int, tls: ssl.SSLContext | None = None) -> Self:
        name = "localhost" if tls else None
        return cls(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=name))

    @classmethod
    async def connect_unix(cls, path: str) -> Self:
        return cls(*await asyncio.open_unix_connection(path))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, deadline_s: float = DEADLINE_S) -> bytes:
        async with asyncio.timeout(deadline_s):
            while True:
                end = reply_end(self._buffer) if self._buffer else None
                if end is not None:
                    raw = bytes(self._buffer[:end])
                    del self._buffer[:end]
                    return raw
                data = await self._more()
                if not data:
                    raise Closed(bytes(self._buffer))
                self._buffer += data

    async def _more(self) -> bytes:
        try:
            return await self.reader.read(262144)
        except ConnectionError:
            return b""

    async def replies(self, count: int) -> list[bytes]:
        return [await self.read() for _ in range(count)]

    async def ask(self, *words: str | bytes | int) -> bytes:
        self.send(command(*words))
        return await self.read()

    async def is_quiet(self, seconds: float = 0.05) -> bool:
        try:
            await self.read(seconds)
        except TimeoutError:
            return True
        return False

    async def until_closed(self) -> bytes:
        """Everything up to the peer's end."""
        async with asyncio.timeout(DEADLINE_S):
            data = bytes(self._buffer)
            self._buffer.clear()
            while more := await self._more():
                data += more
            return data

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()
