"""Server-sent events: whoever listens gets the newest, and harms nobody by not listening."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Incident, Report
from proxy.net.tasks import TaskSet
from proxy.observe import streams
from proxy.observe.streams import STREAMS_MAX, Streams

INCIDENT = Incident("1-0-1", "main", "postgres", "upstream_reset", "db:5432", "", 10.0, losses=1)


class Canned:
    """An operator with a report to be set."""

    def __init__(self) -> None:
        self.made = 0
        self.now = Report("1")

    async def report(self, full_keys: bool = False) -> Report:
        self.made += 1
        return self.now

    async def detail(self) -> Detail:
        raise NotImplementedError

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        raise NotImplementedError

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        return []


class Scene:
    def __init__(self, operator: Canned, served: Streams, port: int) -> None:
        self.operator = operator
        self.served = served
        self.port = port
        self.listeners: list[Listener] = []

    async def listen(self, receive_bytes: int = 0) -> "Listener":
        sock = socket.socket()
        if receive_bytes:  # before the connect, as it is the window that is offered
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 24)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        self.listeners.append(Listener(reader, writer, int(head.split()[1])))
        return self.listeners[-1]

    async def close(self) -> None:
        self.served.close()
        for listener in self.listeners:
            listener.writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await listener.writer.wait_closed()


class Listener:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: int
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.status = status

    async def next(self) -> tuple[str, Any]:
        """The next event."""
        async with asyncio.timeout(10):
            name = ""
            while True:
                line = (await self.reader.readuntil(b"\n")).strip()
                if line.startswith(b"event: "):
                    name = line[7:].decode()
                elif line.startswith(b"data: "):
                    return name, json.loads(line[6:])

    async def until(self, name: str) -> Any:
        while True:
            found, data = await self.next()
            if found == name:
                return data

    async def ended(self) -> None:
        """Until the server has hung up."""
        async with asyncio.timeout(10):
            while await self.reader.read(1 << 20):
                pass


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(streams, "EVERY_S", 0.02)
    operator = Canned()
    faults: list[str] = []

    def told(event: str, /, *, level: str = "info", **fields: object) -> None:
        faults.append(event)

    tasks = TaskSet(told)
    served = Streams(operator, tasks)
    app = web.Application()
    app.router.add_get("/", served.serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made = Scene(operator, served, runner.addresses[0][1])
    yield made
    await made.close()
    await runner.cleanup()
    await tasks.stop()
    assert not faults


async def test_everybody_is_sent_the_same_status_made_once(scene: Scene) -> None:
    first = await scene.listen()
    await first.until("status")
    others = [await scene.listen() for _ in range(4)]
    for other in others:
        await other.until("status")
    made = scene.operator.made
    for _ in range(5):
        for one in (first, *others):
            await one.until("status")
    assert scene.operator.made - made <= 10, "one for all, not one each"


async def test_an_incident_is_told_when_it_changes_and_not_again(scene: Scene) -> None:
    listener = await scene.listen()
    await listener.until("status")
    scene.operator.now = Report("1", incidents=[INCIDENT])
    assert (await listener.until("incident"))["ended_s"] is None
    for _ in range(3):
        assert (await listener.next())[0] == "status"
    scene.operator.now = Report("1", incidents=[replace(INCIDENT, ended_s=11.0)])
    assert (await listener.until("incident"))["ended_s"] == 11.0


async def test_nothing_is_made_for_nobody(scene: Scene) -> None:
    listener = await scene.listen()
    await listener.until("status")
    listener.writer.close()
    async with asyncio.timeout(10):
        while len(scene.served):
            await asyncio.sleep(0.01)
        made = -1
        while made != scene.operator.made:  # the turn that was under way
            made = scene.operator.made
            await asyncio.sleep(5 * streams.EVERY_S)


async def test_who_does_not_read_is_dropped_and_holds_up_nobody(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "WRITE_S_MAX", 0.3)
    words = "x" * 100_000
    scene.operator.now = Report("1", incidents=[replace(INCIDENT, last_words=words)])
    asleep = await scene.listen(receive_bytes=4096)
    asleep.reader._transport.pause_reading()  # type: ignore[attr-defined]
    awake = await scene.listen()
    assert len(scene.served) == 2
    async with asyncio.timeout(20):
        while len(scene.served) == 2:
            await awake.next()
    assert await awake.until("status")
    asleep.reader._transport.resume_reading()  # type: ignore[attr-defined]
    await asleep.ended()


def test_what_was_not_read_is_kept_once() -> None:
    """A listener that missed a hundred statuses gets the newest one."""
    stream = streams._Stream()
    for number in range(100):
        stream.status = b"%d" % number
        stream.incidents["a"] = b"a%d" % number
        stream.incidents["b"] = b"b%d" % number
    assert stream.take() == b"99a99b99"
    assert stream.take() == b""


async def test_one_too_many_is_told_so(scene: Scene) -> None:
    listeners = [await scene.listen() for _ in range(STREAMS_MAX)]
    refused = await scene.listen()
    assert refused.status == 503
    listeners[0].writer.close()
    async with asyncio.timeout(10):
        while len(scene.served) == STREAMS_MAX:
            await asyncio.sleep(0.01)
    again = await scene.listen()
    assert again.status == 200
    await again.until("status")


async def test_the_end_of_the_proxy_ends_them(scene: Scene) -> None:
    listener = await scene.listen()
    await listener.until("status")
    scene.served.close()
    async with asyncio.timeout(10):
        await listener.reader.readuntil(b"\r\n0\r\n\r\n")  # the last chunk
    assert (await scene.listen()).status == 503
