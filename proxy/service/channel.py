"""The talk between the parent and a worker: questions and answers over a socket pair, both ways.

Frames are a length of four bytes and JSON. Everything is bounded: a frame in bytes, questions under
way in number. The end of the channel is the end of the other side.
"""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

from proxy.core.errors import ConfigError, LimitExceeded, ProxyError
from proxy.core.events import Events
from proxy.core.reasons import Reason
from proxy.net.tasks import TaskSet

FRAME_BYTES_MAX = 256 << 20  # SHOW CLIENTS of hundreds of thousands
ASKS_MAX = 1000
_LENGTH = struct.Struct(">I")

Body = dict[str, Any]
Handler = Callable[[str, Body], Awaitable[Body]]


class ChannelClosed(ProxyError):
    """The other side has gone."""

    def __init__(self) -> None:
        super().__init__("the other process has gone", Reason.SHUTDOWN)


class Channel(asyncio.Protocol):
    """One end. `answer` takes (kind, body) of a question and returns the body of its answer."""

    def __init__(self, answer: Handler, events: Events, on_end: Callable[[], None]) -> None:
        self._answer = answer
        self._on_end = on_end
        self._tasks = TaskSet(events, ASKS_MAX)
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._asked: dict[int, asyncio.Future[Body]] = {}
        self._number = 0
        self.heard_s = asyncio.get_running_loop().time()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard_s = asyncio.get_running_loop().time()
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > FRAME_BYTES_MAX:
                self.close()
                return
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            frame = json.loads(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            self._took(frame)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ChannelClosed())
        self._asked.clear()
        self._on_end()

    # -- asking

    async def ask(self, kind: str, body: Body | None = None) -> Body:
        """The other side's answer. Raises ConfigError if it said so, ChannelClosed, LimitExceeded.

        Waits as long as it takes: who cannot, uses asyncio.timeout.
        """
        if len(self._asked) >= ASKS_MAX:
            raise LimitExceeded(f"{ASKS_MAX} questions are under way", Reason.LIMIT)
        self._number += 1
        number = self._number
        future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._send({"ask": number, "kind": kind, "body": body or {}})
            answer = await future
        finally:
            self._asked.pop(number, None)
        if "problems" in answer:
            raise ConfigError(answer["problems"])
        return answer

    def close(self) -> None:
        """End the talk."""
        if self._transport is not None:
            self._transport.close()

    async def stop(self) -> None:
        """End the talk, and what is being answered."""
        await self._tasks.stop()
        self.close()

    # -- within

    def _send(self, frame: Body) -> None:
        if self._transport is None or self._transport.is_closing():
            raise ChannelClosed
        data = json.dumps(frame, separators=(",", ":")).encode()
        if len(data) > FRAME_BYTES_MAX:
            raise LimitExceeded(f"more than {FRAME_BYTES_MAX} bytes to tell", Reason.LIMIT)
        self._transport.write(_LENGTH.pack(len(data)) + data)

    def _took(self, frame: Body) -> None:
        if "ask" in frame:
            try:
                self._tasks.start(self._reply(frame), f"answer {frame['kind']}")
            except LimitExceeded:
                self._send({"re": frame["ask"], "body": {"problems": ["too much is under way"]}})
            return
        future = self._asked.get(frame["re"])
        if future is not None and not future.done():
            future.set_result(frame["body"])

    async def _reply(self, frame: Body) -> None:
        try:
            body = await self._answer(frame["kind"], frame["body"])
        except ConfigError as error:
            body = {"problems": list(error.problems)}
        try:
            self._send({"re": frame["ask"], "body": body})
        except ChannelClosed:
            return
