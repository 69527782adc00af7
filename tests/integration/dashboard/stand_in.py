"""An admin port that says what a test tells it to: in a thread, as the browser is driven by
blocking calls."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

from aiohttp import web

from proxy.core.report import Incident
from proxy.observe import dashboard

EVERY_S = 0.25  # faster than the real one, so that tests are


class StandIn:
    """Serves the dashboard's files, `status`, and a stream of it unless `streams` is off."""

    def __init__(self, status: dict[str, Any], port: int = 0) -> None:
        self.status = status
        self.streams = True
        self.silent = False  # streams stay open and bring nothing, nobody is answered
        self.refusal = ""
        self.port = port
        self.asked: list[str] = []
        self.open_streams = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._over = asyncio.Event()
        self._incidents: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, daemon=True, name="stand-in")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def stop(self) -> None:
        """As if the process were killed: every connection ends. Again is no harm."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def tell(self, incident: Incident) -> None:
        """Send an `incident` event to whoever listens."""
        self._incidents.append(asdict(incident))

    def wait_streams(self, wanted: int) -> None:
        """Until so many streams are open."""
        deadline_s = time.monotonic() + 10
        while self.open_streams != wanted:
            assert time.monotonic() < deadline_s, f"{self.open_streams} streams are open"
            time.sleep(0.02)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/api/v1/status", self._status)
        app.router.add_get("/api/v1/events", self._events)
        for path, asset in dashboard.assets().items():
            app.router.add_get(path, _file(asset))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._over.wait()
        await runner.cleanup()

    @web.middleware
    async def _note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.asked.append(request.path)
        return await handler(request)

    async def _status(self, request: web.Request) -> web.Response:
        while self.silent:
            await asyncio.sleep(EVERY_S)
        if self.refusal:
            return web.json_response({"error": self.refusal}, status=421)
        return web.json_response(self.status)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if not self.streams:
            return web.json_response({"error": "no streams here"}, status=503)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        self.open_streams += 1
        with suppress(ConnectionResetError):  # the page was left
            while not self._over.is_set():
                if not self.silent:
                    await answer.write(_event("status", self.status))
                    for incident in self._incidents:
                        await answer.write(_event("incident", incident))
                await asyncio.sleep(EVERY_S)
        self.open_streams -= 1
        return answer


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()


def _file(asset: dashboard.Asset) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(_: web.Request) -> web.Response:
        headers = {**dashboard.HEADERS, "Content-Type": asset.content_type}
        return web.Response(body=asset.body, headers=headers)

    return serve
