"""The admin port: health, metrics, status, events, acts and the dashboard, beside the data path.

Runs in the process's own loop with aiohttp, and so it is kept small: at most CONNECTIONS_MAX
connections, each closed when it has asked nothing for IDLE_S, small requests, no bodies. What it
tells comes from the Operator; who is answered is `guard`'s to decide.

Owns: listening, connections, middleware. Must not know: routes, workers, how a report is made.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from proxy.core.events import Events
from proxy.core.operator import Operator
from proxy.core.reasons import Reason
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.net.tasks import TaskSet
from proxy.observe.dashboard import HEADERS
from proxy.observe.guard import Asked, Door, refusal
from proxy.observe.pages import ACTS_MAX, Pages
from proxy.observe.streams import Streams

CONNECTIONS_MAX = 64
IDLE_S = 15.0  # a connection that asks nothing is closed, also one that sends half a request
BODY_BYTES_MAX = 1024
HEAD_BYTES_MAX = 8190
STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class AdminOptions:
    """Addresses as `net.listen` takes them, the token ("" for none), more names for Host."""

    listen: Sequence[str]
    token: str = field(default="", repr=False)
    hosts: Sequence[str] = ()
    unix_mode: int = 0o660  # of a Unix socket: whoever may open it may read
    given: Mapping[str, socket.socket] = field(default_factory=dict)  # opened by systemd
    replace: bool = False  # share the port with the process that is to be replaced


class Admin:
    """Make it on the running loop; `start`, and `stop` in the end."""

    def __init__(self, operator: Operator, options: AdminOptions, events: Events) -> None:
        self._options = options
        self._events = events
        self._door = Door(options.token, _names(options))
        self._tasks = TaskSet(events, tasks_max=ACTS_MAX + 2)
        self._streams = Streams(operator, self._tasks)
        self._pages = Pages(operator, self._door, self._streams, self._tasks)
        self._runner: web.AppRunner | None = None
        self._listeners: list[Listener] = []
        self._connections: dict[asyncio.BaseProtocol, _Connection] = {}

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        return [address for listener in self._listeners for address in listener.addresses]

    async def start(self) -> None:
        """Listen. Raises ConfigError where that is not possible, with nothing left open."""
        if not self._options.listen:
            return
        app = web.Application(middlewares=[self._middleware], client_max_size=BODY_BYTES_MAX)
        app.on_response_prepare.append(_add_headers)
        app.add_routes(self._pages.routes())
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=IDLE_S,
            lingering_time=1.0,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            shutdown_timeout=STOP_S,
        )
        await self._runner.setup()
        options = ListenOptions(
            backlog=CONNECTIONS_MAX,
            unix_mode=self._options.unix_mode,
            reuse_port=True,
            replace=self._options.replace,
        )
        try:
            for address in self._options.listen:
                given = self._options.given.get(address, address)
                self._listeners.append(await listen(given, self._connection, options))
        except BaseException:
            await self.stop()
            raise
        self._tasks.start(self._sweep(), "sweep admin connections")

    async def stop(self) -> None:
        """Close everything."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._streams.close()
        await self._tasks.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- connections

    def _connection(self) -> asyncio.Protocol:
        """The protocol of a new connection; one that hangs up if there are too many."""
        assert self._runner is not None
        server = self._runner.server
        if server is None or (len(server.connections) >= CONNECTIONS_MAX and not self._make_room()):
            return _HangUp()
        protocol: Any = server()
        self._connections[protocol] = _Connection(asyncio.get_running_loop().time())
        made: asyncio.Protocol = protocol
        return made

    def _make_room(self) -> bool:
        """The connection that has asked nothing for longest goes: whoever comes now asks."""
        assert self._runner is not None and self._runner.server is not None
        known = self._connections
        idle = [p for p in self._runner.server.connections if p in known and not known[p].busy]
        if not idle:
            return False
        oldest = min(idle, key=lambda protocol: known[protocol].since_s)
        del known[oldest]
        oldest.force_close()
        return True

    async def _sweep(self) -> None:
        """Connections that ask nothing go, so that they do not use up the places."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(IDLE_S / 4)
            assert self._runner is not None and self._runner.server is not None
            open_now = set(self._runner.server.connections)
            for protocol, connection in list(self._connections.items()):
                idle = not connection.busy and loop.time() - connection.since_s > IDLE_S
                if protocol not in open_now:
                    # One that is not open yet is younger than this.
                    if idle:
                        del self._connections[protocol]
                elif idle:
                    cast("Any", protocol).force_close()
                    del self._connections[protocol]

    # -- requests

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        connection = self._connections.get(request.protocol)
        if connection is not None:
            connection.busy = True
        try:
            return await self._answer(request, handler)
        finally:
            if connection is not None:
                connection.busy = False
                connection.since_s = asyncio.get_running_loop().time()

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        asked = Asked(request.method, request.path, request.headers, _over_unix(request))
        refused = refusal(self._door, asked)
        if refused is not None:
            return failure(refused.status, refused.text)
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            return failure(error.status, error.reason.lower())
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # our bug: it ends this request only
            self._events(
                "bug", level="error", reason=Reason.BUG, error=type(error).__name__, where="admin"
            )
            return failure(500, "Backstay met a bug of its own; see its log")
        return response


@dataclass(slots=True)
class _Connection:
    since_s: float  # of its beginning, or of its last answer
    busy: bool = False  # a request is being answered


class _HangUp(asyncio.Protocol):
    """For connections that are one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def failure(status: int, text: str) -> web.Response:
    """An answer that says what went wrong."""
    return web.json_response({"error": text}, status=status)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "Backstay"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _over_unix(request: web.Request) -> bool:
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return not isinstance(name, tuple)


def _names(options: AdminOptions) -> frozenset[str]:
    """The names that stand in the settings, without ports."""
    listened = [text.rpartition(":")[0] for text in options.listen if "/" not in text]
    return frozenset(name.lower() for name in (*listened, *options.hosts) if name not in ("", "*"))
