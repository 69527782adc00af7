"""One of several workers: a process that serves, told what to do by its parent over a channel.

Started by the supervisor as `python -m proxy.service.worker CHANNEL SOCKETS` (two descriptors). It
ends when it is told to, or, drained, when the parent has gone.
"""

import asyncio
import base64
import pickle
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvloop

from proxy.core.events import Events
from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report
from proxy.net.allocator import freeze_start, keep_freed_memory
from proxy.net.listen import ListenOptions, UnixSocket
from proxy.observe import log
from proxy.postgres.protocol.keys import CancelKey
from proxy.service.channel import Body, Channel, ChannelClosed
from proxy.service.handover import Lent
from proxy.service.listeners import Listeners
from proxy.service.main import bug
from proxy.service.mistakes import SettingPath
from proxy.service.packed import pack, unpack
from proxy.service.process import How, Process
from proxy.service.share import shared
from proxy.settings import shown
from proxy.settings.model import Settings

SOCKETS_MAX = 64
NAME_BYTES_MAX = 256


class ParentOperator:
    """All workers, as seen through the parent: what a console in this worker asks."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker

    async def report(self, full_keys: bool = False) -> Report:
        """Of all workers, merged."""
        answer = await self._worker.channel.ask("report", {"full_keys": full_keys})
        return unpack(Report, answer["report"])

    async def detail(self) -> Detail:
        """Every client and link of all workers."""
        answer = await self._worker.channel.ask("detail")
        return unpack(Detail, answer["detail"])

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        """In all workers."""
        body = {"what": what.value, "route": route, "number": number}
        return unpack(Outcome, (await self._worker.channel.ask("act", body))["outcome"])

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        """As the file has them, before they were shared out."""
        return shown.rows(self._worker.whole)


class Worker:
    """What the parent's questions do here."""

    def __init__(self, sockets: socket.socket, events: Events) -> None:
        self.channel: Channel
        self.whole: Settings
        self.over = asyncio.Event()
        self.process: Process | None = None
        self._events = events
        self._sockets = sockets
        self._index = self._count = 0
        self._stopping: asyncio.Task[None] | None = None

    async def answer(self, kind: str, body: Body) -> Body:
        """One question of the parent. Raises ConfigError."""
        if kind == "start":
            return await self._start(body)
        process = self.process
        assert process is not None, "start comes first"
        match kind:
            case "prepare":
                process.routes.listeners.given = self._given(body["sockets"])
                self._whole_next = _settings(body)
                mine = shared(self._whole_next, self._index, self._count)
                await process.prepare(mine, _marked)
            case "commit":
                await process.commit()
                self.whole = self._whole_next
                process.mind_cancels(self._cancel_elsewhere)
            case "drop":
                process.drop()
            case "report":
                return {"report": pack(process.report(body["full_keys"]))}
            case "detail":
                return {"detail": pack(process.detail())}
            case "act":
                what = Act(body["what"])
                outcome = await process.act(what, body["route"], body["number"])
                return {"outcome": pack(outcome)}
            case "cancel":
                await process.cancel_here(CancelKey(body["pid"], bytes.fromhex(body["secret"])))
            case "lend":
                return {"sockets": self._lend(process, body["wanted"])}
            case "keep":
                process.keep()
            case "stop":
                self.stop(body["drain_s"])
            case "kill":
                process.kill()
        return {}

    async def _start(self, body: Body) -> Body:
        self._index, self._count = body["index"], body["count"]
        number = self._index + 1
        self.whole = _settings(body)
        listeners = Listeners(self._given(body["sockets"]), drains=body["drains"])
        adopted = self._adopted(body["adopted"])

        async def take_over(_: Sequence[str]) -> Lent:
            listeners.take_over = None
            return adopted

        listeners.take_over = take_over
        sharing = ListenOptions(reuse_port=True, replace=True)
        events = _numbered(self._events, number)
        process = Process(events, How(number=number, listeners=listeners, sharing=sharing))
        process.routes.operator = ParentOperator(self)
        process.routes.worker = (self._index, self._count)
        asyncio.get_running_loop().set_exception_handler(partial(bug, process.events))
        await process.start(shared(self.whole, self._index, self._count), _marked)
        process.mind_cancels(self._cancel_elsewhere)
        self.process = process
        return {"addresses": process.addresses}

    def _given(self, count: int) -> dict[str, socket.socket]:
        """Sockets that the parent has sent ahead."""
        given: dict[str, socket.socket] = {}
        for _ in range(count):
            name, descriptors, _, _ = socket.recv_fds(self._sockets, NAME_BYTES_MAX, 1)
            sock = UnixSocket(fileno=descriptors[0])
            sock.path = name.decode()
            given[sock.path] = sock
        return given

    def _adopted(self, count: int) -> Lent:
        """TCP sockets that listen already, sent ahead by the parent: our part of them."""
        adopted: Lent = {}
        for _ in range(count):
            name, descriptors, _, _ = socket.recv_fds(self._sockets, NAME_BYTES_MAX, 1)
            sock = socket.socket(fileno=descriptors[0])
            adopted.setdefault(name.decode(), []).append(sock)
        return adopted

    def _lend(self, process: Process, wanted: Sequence[str]) -> int:
        """Sends the parent our sockets at these addresses; how many."""
        lent = [(n, s) for n, socks in process.routes.listeners.lend(wanted).items() for s in socks]
        for name, sock in lent:
            with sock:
                socket.send_fds(self._sockets, [name.encode()], [sock.fileno()])
        return len(lent)

    # -- cancels

    async def _cancel_elsewhere(self, key: CancelKey) -> None:
        """A key of no session here: the parent asks the others."""
        try:
            await self.channel.ask("cancel", {"pid": key.pid, "secret": key.secret.hex()})
        except ChannelClosed:
            return

    # -- the end

    def stop(self, drain_s: float) -> None:
        """Drain, then end; once."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop(drain_s))

    async def _stop(self, drain_s: float) -> None:
        try:
            if self.process is not None:
                await self.process.stop(drain_s)
        finally:
            self.over.set()

    def parent_gone(self) -> None:
        """The channel has ended: nobody looks after this worker any more."""
        if self._stopping is None and self.process is not None:
            self._events("parent_gone", level="error")
        self.stop(self.whole.drain_s if self.process is not None else 0.0)


def _settings(body: Body) -> Settings:
    # Made by our own parent for us alone: what it has checked is what is used here.
    made: Settings = pickle.loads(base64.b64decode(body["settings"]))
    return made


def _marked(path: SettingPath) -> str:
    """A place that only the parent can name: it has the file."""
    return f"\0{base64.b64encode(repr(path).encode()).decode()}\0"


def _numbered(events: Events, number: int) -> Events:
    """Events say which worker they come from."""

    def numbered(event: str, /, *, level: str = "info", **fields: object) -> None:
        events(event, level=level, worker=number, **fields)

    return numbered


async def _serve(channel: int, sockets: int) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, lambda: None)  # the parent decides, and tells us
    events = log.events(log.get_logger())
    worker = Worker(socket.socket(fileno=sockets), events)

    def make() -> Channel:
        worker.channel = Channel(worker.answer, events, worker.parent_gone)
        return worker.channel

    await loop.create_connection(make, sock=socket.socket(fileno=channel))
    await worker.over.wait()
    await worker.channel.stop()


def main(arguments: Sequence[str]) -> None:
    """Serve until told to end."""
    channel, sockets, level, form = int(arguments[0]), int(arguments[1]), *arguments[2:4]
    keep_freed_memory()
    freeze_start()
    told: Any = log.LogOptions(level=level, format=form)
    log.configure(told)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(channel, sockets))


if __name__ == "__main__":
    main(sys.argv[1:])
