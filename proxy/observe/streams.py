"""Server-sent events: the status every second, incidents as they change, to at most STREAMS_MAX.

One task makes the status once for all listeners, and only while there is one. A listener that reads
slowly misses statuses and gets the newest one; one that does not read at all is dropped.

Source: HTML Living Standard, "Server-sent events".
"""

import asyncio
import json
from typing import Any

from aiohttp import web

from proxy.core.operator import Operator
from proxy.core.report import Incident
from proxy.net.clock import unix_offset_s
from proxy.net.tasks import TaskSet
from proxy.observe.status import plain, status

STREAMS_MAX = 16
EVERY_S = 1.0
HEARTBEAT_S = 15.0
WRITE_S_MAX = 10.0  # a listener that takes nothing for so long is dropped


class Streams:
    """All listeners."""

    def __init__(self, operator: Operator, tasks: TaskSet) -> None:
        self._operator = operator
        self._tasks = tasks
        self._streams: set[_Stream] = set()
        self._told: dict[str, dict[str, Any]] = {}  # incidents as they were last told, by id
        self._running = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._streams)

    def close(self) -> None:
        """End them all."""
        self._closed = True
        for stream in self._streams:
            stream.end()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One listener, until it leaves or the proxy ends."""
        if len(self._streams) >= STREAMS_MAX or self._closed:
            text = f"at most {STREAMS_MAX} may listen at a time"
            return web.json_response({"error": text}, status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers["Cache-Control"] = "no-store"
        stream = _Stream()
        self._streams.add(stream)
        try:
            await response.prepare(request)
            if not self._running:
                self._running = True
                self._tasks.start(self._run(), "status for listeners")
            else:
                stream.status = await self._status()
                stream.wake.set()
            await _write_all(response, stream)
        finally:
            self._streams.discard(stream)
        return response

    async def _run(self) -> None:
        """While somebody listens."""
        loop = asyncio.get_running_loop()
        try:
            while self._streams and not self._closed:
                started_s = loop.time()
                text = await self._status()
                for stream in self._streams:
                    stream.status = text
                    stream.wake.set()
                await asyncio.sleep(max(0.0, EVERY_S - (loop.time() - started_s)))
        finally:
            self._running = False

    async def _status(self) -> bytes:
        """The status as an event; what changed about incidents is passed on as well."""
        report = await self._operator.report()
        self._tell_incidents(report.incidents)
        return _event("status", status(report, asyncio.get_running_loop().time() + unix_offset_s()))

    def _tell_incidents(self, incidents: list[Incident]) -> None:
        now = {incident.id: plain(incident) for incident in incidents}
        for name, incident in now.items():
            if self._told.get(name) != incident:
                text = _event("incident", incident)
                for stream in self._streams:
                    stream.incidents[name] = text
        self._told = now


class _Stream:
    """What one listener has not been sent: the newest status, and each incident's newest state."""

    def __init__(self) -> None:
        self.status = b""
        self.incidents: dict[str, bytes] = {}
        self.wake = asyncio.Event()
        self.over = False

    def take(self) -> bytes:
        """All of it."""
        self.wake.clear()
        text = self.status + b"".join(self.incidents.values())
        self.status = b""
        self.incidents.clear()
        return text

    def end(self) -> None:
        """No more."""
        self.over = True
        self.wake.set()


async def _write_all(response: web.StreamResponse, stream: _Stream) -> None:
    while not stream.over:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await stream.wake.wait()
        except TimeoutError:
            text = b":\n\n"
        else:
            text = stream.take()
        try:
            async with asyncio.timeout(WRITE_S_MAX):
                await response.write(text)
        except (ConnectionError, TimeoutError):
            return


def _event(name: str, data: object) -> bytes:
    text = json.dumps(data, separators=(",", ":"))  # has no line breaks
    return f"event: {name}\ndata: {text}\n\n".encode()
