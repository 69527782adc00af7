"""What stands behind each path of the admin port. No decision about who may ask: see `guard`."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from proxy.core.errors import LimitExceeded
from proxy.core.operator import Act, Operator, Outcome
from proxy.core.reasons import in_words
from proxy.core.report import PostgresReport, RedisReport, Report
from proxy.net.clock import unix_offset_s
from proxy.net.tasks import TaskSet
from proxy.observe import metrics
from proxy.observe.dashboard import assets
from proxy.observe.guard import ACT_PATH, Door, has_token
from proxy.observe.status import plain, status
from proxy.observe.streams import Streams

ACTS_MAX = 8  # at a time
ACT_S = 60.0  # an answer is given after this at the latest; what was asked goes on


class Pages:
    """The handlers, over an Operator."""

    def __init__(self, operator: Operator, door: Door, streams: Streams, tasks: TaskSet) -> None:
        self._operator = operator
        self._door = door
        self._streams = streams
        self._tasks = tasks
        self._assets = assets()

    def routes(self) -> list[web.RouteDef]:
        """Every path there is."""
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
            web.get("/api/v1/status", self._status),
            web.get("/api/v1/events", self._events, allow_head=False),
            web.post(ACT_PATH + "{act}", self._act),
            *(web.get(path, self._asset) for path in self._assets),
        ]

    async def _healthz(self, _: web.Request) -> web.Response:
        """The loop turns, or nobody would answer."""
        return web.json_response({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        why = not_ready(await self._operator.report())
        if why:
            return web.json_response({"error": "; ".join(why)}, status=503)
        return web.json_response({"ready": True})

    async def _metrics(self, request: web.Request) -> web.Response:
        report = await self._operator.report()
        body, content_type = metrics.text(report, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        full = request.query.get("keys") == "full"
        if full and not has_token(self._door, request.headers):
            return web.json_response(
                {"error": "keys=full needs the admin token as Authorization: Bearer …"}, status=403
            )
        report = await self._operator.report(full)
        return web.json_response(status(report, _unix_s()), dumps=compact)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._streams.serve(request)

    async def _act(self, request: web.Request) -> web.Response:
        try:
            what = Act(request.match_info["act"])
        except ValueError:
            known = ", ".join(sorted(Act))
            return web.json_response({"error": f"expected one of {known}"}, status=404)
        number = request.query.get("number", "0")
        if not (number.isascii() and number.isdigit() and len(number) <= 18):
            return web.json_response({"error": "number: expected a whole number"}, status=400)
        try:
            outcome = await self._do(what, request.query.get("route") or None, int(number))
        except LimitExceeded as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response(plain(outcome))

    async def _do(self, what: Act, route: str | None, number: int) -> Outcome:
        """Have it done. It goes on if the answer cannot wait for its end, or nobody does."""
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        async def act() -> None:
            outcome = await self._operator.act(what, route, number)
            if not done.done():
                done.set_result(outcome)

        task = self._tasks.start(act(), f"act {what}")
        waited: set[asyncio.Future[Any]] = {task, done}
        await asyncio.wait(waited, timeout=ACT_S, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if task.done():
            return Outcome(False, "Backstay met a bug of its own; see its log")
        done.cancel()
        return Outcome(False, f"still under way after {ACT_S:g} s; it goes on")

    async def _asset(self, request: web.Request) -> web.Response:
        """A file of the dashboard."""
        asset = self._assets[request.path]
        if asset.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": asset.etag})
        headers = {"ETag": asset.etag, "Content-Type": asset.content_type}
        return web.Response(body=asset.body, headers=headers)


def not_ready(report: Report) -> Sequence[str]:
    """Why no client should be sent here; nothing if all is ready."""
    why = [
        f"process {worker.pid} is {worker.state}"
        for worker in report.workers
        if worker.state != "ready"
    ]
    if report.state != "ready" and not why:
        why.append(report.state)
    routes: list[PostgresReport | RedisReport] = [*report.postgres, *report.redis]
    for route in routes:
        if route.state == "away":
            reason = f": {in_words(route.reason)}" if route.reason else ""
            why.append(f"{route.name}: the upstream is away{reason}")
        elif route.state in ("paused", "draining"):
            why.append(f"{route.name} is {route.state}")
    return why


def compact(value: object) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"))


def _unix_s() -> float:
    return asyncio.get_running_loop().time() + unix_offset_s()
