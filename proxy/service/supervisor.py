"""The parent of several workers: starts them, looks after them, speaks for them. Serves nobody.

It holds the ports (bound, not listening), so that they stay ours while a worker is replaced, and
hands Unix sockets and systemd's to the workers. What an operator asks is asked of all of them.
"""

import ast
import asyncio
import base64
import contextlib
import os
import pickle
import re
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from proxy.core.errors import ConfigError, ProxyError
from proxy.core.events import Events
from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report, WorkerReport, merged
from proxy.net.owner import disown
from proxy.net.tasks import TaskSet
from proxy.postgres.protocol.keys import CancelKey
from proxy.service.channel import Body, Channel
from proxy.service.handover import NAME_BYTES_MAX, Handover, Lent
from proxy.service.listeners import TakeOver
from proxy.service.mistakes import PlaceOf, path_only
from proxy.service.operator import Hands
from proxy.service.packed import pack, unpack
from proxy.service.ports import Ports
from proxy.service.share import told
from proxy.settings import shown
from proxy.settings.model import Settings

if TYPE_CHECKING:
    from proxy.service.reloading import Reloading

START_S = 30.0  # for a worker to open its listeners
ANSWER_S = 5.0  # for a report
ASK_EVERY_S = 1.0
SILENT_S = 10.0  # a worker whose loop stands still for so long is replaced
AGAIN_S = (0.1, 5.0)  # back-off between the deaths of a worker
WELL_S = 10.0  # one that lived so long begins the back-off anew
GRACE_S = 5.0  # behind drain_s, before a worker is killed
_MARK = re.compile("\0([A-Za-z0-9+/=]*)\0")


class Child:
    """One worker process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.sockets: socket.socket | None = None
        self.adopts: list[tuple[str, socket.socket]] = []  # its part of what was taken over
        self.ready = False

    async def ask(self, kind: str, body: Body | None = None) -> Body:
        """As Channel.ask. Raises ProxyError when it has gone."""
        assert self.channel is not None
        return await self.channel.ask(kind, body)

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def hand_over(self, shared: Mapping[str, socket.socket]) -> int:
        """Send sockets ahead of a question that counts them."""
        assert self.sockets is not None
        for name, sock in shared.items():
            socket.send_fds(self.sockets, [name.encode()], [sock.fileno()])
        return len(shared)

    def hand_adopted(self) -> int:
        """Send what it is to adopt; ours are closed, so that nobody waits in vain for us."""
        assert self.sockets is not None
        adopts, self.adopts = self.adopts, []
        for name, sock in adopts:
            with sock:
                socket.send_fds(self.sockets, [name.encode()], [sock.fileno()])
        return len(adopts)

    async def lend(self, wanted: Sequence[str]) -> list[tuple[str, socket.socket]]:
        """Its listening sockets at these addresses. Raises ProxyError when it has gone."""
        count = (await self.ask("lend", {"wanted": list(wanted)}))["sockets"]
        assert self.sockets is not None
        lent = []
        for _ in range(count):
            name, descriptors, _, _ = socket.recv_fds(self.sockets, NAME_BYTES_MAX, 1)
            lent.append((name.decode(), socket.socket(fileno=descriptors[0])))
        return lent

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    def forget(self) -> None:
        self.ready = False
        if self.channel is not None:
            self.channel.close()
        if self.sockets is not None:
            self.sockets.close()


class Supervisor:
    """See the module. What serves, in the sense of `life.Served`."""

    def __init__(self, count: int, ports: Ports, events: Events) -> None:
        self.reloading: Reloading | None = None
        self._count = count
        self._ports = ports
        self._events = events
        self._children = [Child(number) for number in range(1, count + 1)]
        self._tasks = TaskSet(events)
        self._settings: Settings | None = None
        self._next: Settings | None = None
        self._shut: dict[str | None, Act] = {}  # what a worker that comes later must be told
        self._stopping = False
        self.hands: Hands | None = None
        self.handover: Handover | None = None
        self._ask_to_take: TakeOver | None = None

    @property
    def addresses(self) -> Sequence[str]:
        return self._ports.addresses

    def operator(self, hands: Hands) -> "Supervisor":
        """Itself."""
        self.hands = hands
        return self

    # -- life

    async def start(self, settings: Settings, place_of: PlaceOf = path_only) -> None:
        """All workers, or ConfigError with none left."""
        settings = await self._ports.prepare(settings, place_of)
        unmatched = self._ports.unmatched()
        if unmatched:
            raise ConfigError(
                [f"inherited socket {name}: no route listens there" for name in unmatched]
            )
        self._ports.commit()
        self._settings = settings
        await self._adopt()
        self._events("limits_shared", workers=self._count, parts=told(settings, self._count))
        starts = [self._launch(child) for child in self._children]
        results = await asyncio.gather(*starts, return_exceptions=True)
        failed = [error for error in results if isinstance(error, BaseException)]
        if failed:
            for child in self._children:
                child.signal(signal.SIGKILL)
            raise _as_config_error(failed, place_of)
        for child in self._children:
            self._tasks.start(self._look_after(child), f"look after worker {child.number}")
        self._tasks.start(self._ask_all_how_they_are(), "ask the workers how they are")
        if self.handover is not None:
            self.handover.open()

    async def _adopt(self) -> None:
        """Each worker's part of the sockets of the process that is replaced."""
        if self._ask_to_take is None:
            return
        tcp = [address for address in self._ports.addresses if "/" not in address]
        for name, socks in (await self._ask_to_take(tcp)).items():
            for index, sock in enumerate(socks):
                self._children[index % self._count].adopts.append((name, sock))

    async def _launch(self, child: Child) -> None:
        """Start one, and have it serve. Raises ConfigError, ProxyError, OSError, TimeoutError."""
        assert self._settings is not None
        ours, theirs = socket.socketpair()
        sockets, their_sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, their_sockets:
            fds = (theirs.fileno(), their_sockets.fileno())
            log = self._settings.log
            child.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy.service.worker", str(fds[0]), str(fds[1])),
                *(log.level, log.format),
                pass_fds=fds,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C is for the parent, who tells the workers
            )
        child.sockets = sockets
        loop = asyncio.get_running_loop()

        def make() -> Channel:
            child.channel = Channel(self._asked_by(child), self._events, lambda: None)
            return child.channel

        try:
            await loop.create_connection(make, sock=ours)
        finally:
            disown(ours)
        async with asyncio.timeout(START_S):
            body = {
                "index": child.number - 1,
                "count": self._count,
                "settings": _packed(self._settings),
                "sockets": child.hand_over(self._ports.shared),
                "adopted": child.hand_adopted(),
                "drains": self._ports.drains,
            }
            await child.ask("start", body)
        child.ready = True
        self._events("worker_started", worker=child.number, pid=child.pid)
        for route, act in self._shut.items():
            body = {"what": act.value, "route": route, "number": 0}
            self._tasks.start(_quietly(child.ask("act", body)), "shut a new worker")

    async def _look_after(self, child: Child) -> None:
        """Replace it whenever it dies."""
        loop = asyncio.get_running_loop()
        pause_s = AGAIN_S[0]
        while True:
            began_s = loop.time()
            assert child.process is not None
            code = await child.process.wait()
            child.forget()
            if self._stopping:
                return
            pause_s = AGAIN_S[0] if loop.time() - began_s > WELL_S else pause_s
            self._events(
                "worker_died", level="error", worker=child.number, pid=child.pid, code=code
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_S[1])
            try:
                await self._launch(child)
            except (ConfigError, ProxyError, OSError, TimeoutError) as error:
                self._events(
                    "worker_failed",
                    level="error",
                    worker=child.number,
                    error=type(error).__name__,
                    problems=getattr(error, "problems", []),
                )
                child.signal(signal.SIGKILL)

    async def _ask_all_how_they_are(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            for child in self._ready():
                assert child.channel is not None
                if loop.time() - child.channel.heard_s > SILENT_S:
                    self._events("worker_stuck", level="error", worker=child.number, pid=child.pid)
                    child.signal(signal.SIGKILL)
                else:
                    self._tasks.start(_quietly(child.ask("ping")), "ping a worker")

    def is_live(self) -> bool:
        """False while one that serves has not been heard for too long."""
        now_s = asyncio.get_running_loop().time()
        heard = [child.channel.heard_s for child in self._ready() if child.channel is not None]
        return all(now_s - heard_s <= SILENT_S for heard_s in heard)

    async def stop(self, drain_s: float) -> None:
        """All drain, then end; who does not is killed."""
        self._stopping = True
        if self.handover is not None:
            self.handover.close()
        self._ports.unlink()
        body = {"drain_s": drain_s}
        await asyncio.gather(*(_quietly(child.ask("stop", body)) for child in self._ready()))
        waits = [child.process.wait() for child in self._children if child.process is not None]
        try:
            async with asyncio.timeout(drain_s + GRACE_S):
                await asyncio.gather(*waits)
        except TimeoutError:
            for child in self._children:
                child.signal(signal.SIGKILL)
        await self._tasks.stop()
        for child in self._children:
            child.forget()
        self._ports.close()
        if self.handover is not None:
            await self.handover.stop()

    def kill(self) -> None:
        """Cut the drain short."""
        for child in self._children:
            if child.ready:
                self._tasks.start(_quietly(child.ask("kill")), "kill a worker's sessions")
            else:
                child.signal(signal.SIGKILL)

    def _ready(self) -> list[Child]:
        return [child for child in self._children if child.ready]

    # -- other settings

    async def prepare(self, settings: Settings, place_of: PlaceOf = path_only) -> None:
        """In every worker, or in none. Raises ConfigError."""
        self._next = await self._ports.prepare(settings, place_of)
        packed = _packed(self._next)
        asked = []
        for child in self._ready():
            sockets = child.hand_over(self._ports.shared_next)
            asked.append(child.ask("prepare", {"settings": packed, "sockets": sockets}))
        results = await asyncio.gather(*asked, return_exceptions=True)
        failed = [error for error in results if isinstance(error, ConfigError)]
        if failed:
            self.drop()
            await asyncio.gather(*(_quietly(child.ask("drop")) for child in self._ready()))
            raise _as_config_error(failed, place_of)

    async def commit(self) -> None:
        """In every worker. One that dies over it comes back with the new settings."""
        self._settings, self._next = self._next, None
        self._ports.commit()
        await asyncio.gather(*(_quietly(child.ask("commit")) for child in self._ready()))
        self._ports.close_old()

    def drop(self) -> None:
        """What was prepared is not wanted."""
        self._next = None
        self._ports.drop()

    # -- Operator

    async def report(self, full_keys: bool = False) -> Report:
        """All workers, added up. One that does not answer in time is missing."""
        answers = await self._ask_all("report", {"full_keys": full_keys})
        reports = [unpack(Report, answer["report"]) for answer in answers]
        made = merged(reports) if reports else Report(state="starting")
        known = {worker.number for worker in made.workers}
        made.workers += [
            WorkerReport(child.number, child.pid, "starting")
            for child in self._children
            if child.number not in known
        ]
        made.workers.sort(key=lambda worker: worker.number)
        if self._stopping:
            made.state = "draining"
        if self.reloading is not None:
            made.reloaded_s = self.reloading.reloaded_s
            made.reload_problems = list(self.reloading.problems)
        return made

    async def detail(self) -> Detail:
        """Every client and link of all workers."""
        parts = [unpack(Detail, answer["detail"]) for answer in await self._ask_all("detail")]
        return Detail(
            [row for part in parts for row in part.sessions],
            [row for part in parts for row in part.links],
        )

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        """In all workers; done when it is done in all of them."""
        assert self.hands is not None
        if what is Act.RELOAD:
            return await self.hands.reload()
        if what is Act.SHUTDOWN:
            self.hands.shutdown()
            return Outcome(True, "draining, then stopping")
        if what in (Act.PAUSE, Act.KILL):
            self._shut[route] = what
        elif what is Act.RESUME:
            self._shut = {} if route is None else self._without(route)
        body = {"what": what.value, "route": route, "number": number}
        asked = (child.ask("act", body) for child in self._ready())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        outcomes = [unpack(Outcome, a["outcome"]) for a in answers if isinstance(a, dict)]
        if not outcomes:
            return Outcome(False, "no worker is ready")
        if what is Act.KILL_CLIENT:
            return next((one for one in outcomes if one.done), outcomes[0])
        return next((one for one in outcomes if not one.done), outcomes[0])

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        """Every setting in force, secrets hidden."""
        assert self._settings is not None
        return shown.rows(self._settings)

    def _without(self, route: str) -> dict[str | None, Act]:
        """What stays shut when one route is resumed."""
        assert self._settings is not None
        names = [one.name for one in self._settings.postgres]
        names += [one.name for one in self._settings.redis]
        shut = dict(self._shut)
        if None in shut:  # all were: from now on all but this one are
            act = shut.pop(None)
            shut |= dict.fromkeys(names, act)
        shut.pop(route, None)
        return shut

    async def _ask_all(self, kind: str, body: Body | None = None) -> list[Body]:
        async def one(child: Child) -> Body | None:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await child.ask(kind, body)
            except (ProxyError, ConfigError, TimeoutError):
                return None

        answers = await asyncio.gather(*(one(child) for child in self._ready()))
        return [answer for answer in answers if answer is not None]

    # -- questions of the workers

    def _asked_by(self, asking: Child) -> "Answering":
        return Answering(self, asking)

    async def cancel(self, body: Body, asking: Child) -> None:
        """A key that `asking` does not know: whose is it?"""
        others = [child for child in self._ready() if child is not asking]
        asked = [_quietly(child.ask("cancel", body)) for child in others]
        if self.handover is not None:
            asked.append(
                self.handover.cancel(CancelKey(body["pid"], bytes.fromhex(body["secret"])))
            )
        await asyncio.gather(*asked)

    # -- the process that is replaced, the one that replaces

    def take_over(self, ask: TakeOver) -> None:
        """At the start: take the sockets of whoever listens on our ports."""
        self._ask_to_take = ask

    async def lend(self, wanted: Sequence[str]) -> Lent:
        """As `handover.Side`."""
        lent: Lent = {}
        for child in self._ready():
            with contextlib.suppress(ProxyError, OSError):
                for name, sock in await child.lend(wanted):
                    lent.setdefault(name, []).append(sock)
        return lent

    def keep(self) -> None:
        """As `handover.Side`."""
        for child in self._ready():
            self._tasks.start(_quietly(child.ask("keep")), "keep the sockets")

    async def cancel_here(self, key: CancelKey) -> None:
        """As `handover.Side`: one of the workers may know the key."""
        body = {"pid": key.pid, "secret": key.secret.hex()}
        await asyncio.gather(*(_quietly(child.ask("cancel", body)) for child in self._ready()))


class Answering:
    """Answers what one worker asks of the parent."""

    def __init__(self, supervisor: Supervisor, child: Child) -> None:
        self._supervisor = supervisor
        self._child = child

    async def __call__(self, kind: str, body: Body) -> Body:
        supervisor = self._supervisor
        match kind:
            case "report":
                return {"report": pack(await supervisor.report(body["full_keys"]))}
            case "detail":
                return {"detail": pack(await supervisor.detail())}
            case "act":
                what = Act(body["what"])
                return {"outcome": pack(await supervisor.act(what, body["route"], body["number"]))}
            case "cancel":
                await supervisor.cancel(body, self._child)
        return {}


async def _quietly(asked: "asyncio.Future[Body] | object") -> None:
    """A worker that dies is noticed elsewhere."""
    try:
        await asked  # type: ignore[misc]
    except (ProxyError, ConfigError):
        return


def _packed(settings: Settings) -> str:
    return base64.b64encode(pickle.dumps(settings)).decode()


def _environment() -> dict[str, str]:
    """Ours, without what the service manager meant for this process alone."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS")
    return {name: value for name, value in os.environ.items() if name not in ours}


def _as_config_error(failed: Iterable[BaseException], place_of: PlaceOf) -> ConfigError:
    """What workers could not do, each said once, with the places that only we can name."""
    problems: list[str] = []
    for error in failed:
        if isinstance(error, ConfigError):
            problems += error.problems
        else:
            problems.append(f"a worker did not start: {type(error).__name__}")

    def named(found: "re.Match[str]") -> str:
        return place_of(ast.literal_eval(base64.b64decode(found[1]).decode()))

    return ConfigError(list(dict.fromkeys(_MARK.sub(named, text) for text in problems)))
