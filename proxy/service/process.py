"""One process that serves clients: its routes, its meter, and what can be done to it.

Used by the process that does everything itself, and in each of several workers. Must not know:
signals, files, who asks.
"""

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from proxy.core.events import Events
from proxy.core.numbers import link_number, session_number
from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report
from proxy.net.listen import ListenOptions
from proxy.observe import log
from proxy.postgres.protocol.keys import CancelKey
from proxy.postgres.runtime import control as postgres_control
from proxy.postgres.runtime import detail as postgres_detail
from proxy.postgres.runtime.route import PostgresRoute
from proxy.redis.runtime import control as redis_control
from proxy.redis.runtime import detail as redis_detail
from proxy.redis.runtime.route import RedisRoute
from proxy.service.listeners import Listeners, TakeOver
from proxy.service.mistakes import PlaceOf, path_only
from proxy.service.operator import Hands, LocalOperator
from proxy.service.report import IncidentLog, Meter, fan_out, report
from proxy.service.routes import Change, Routes
from proxy.settings.model import Settings

if TYPE_CHECKING:
    from proxy.service.handover import Handover
    from proxy.service.reloading import Reloading

Route = PostgresRoute | RedisRoute
SHARED = ListenOptions(reuse_port=True)


@dataclass(frozen=True, slots=True)
class How:
    """How a process is started. `number`: of the worker, 0 where there is but one process."""

    number: int = 0
    listeners: Listeners | None = None
    sharing: ListenOptions = SHARED


class Process:
    """See the module. Make it on the running loop; `start`, then `stop`, once."""

    def __init__(self, events: Events, how: How) -> None:
        self.meter = Meter(how.number)
        self.number = how.number
        if how.number:
            session_number.begin(how.number)
            link_number.begin(how.number)
        self.incidents = IncidentLog(self.meter)
        self.events = fan_out(events, self.meter.event, self.incidents.event)
        listeners = how.listeners or Listeners()
        self.routes = Routes(self.events, random.Random(), listeners, how.sharing)
        self.handover: Handover | None = None  # None in a worker: its parent has it
        self.reloading: Reloading | None = None  # what there was to say of reloads
        self._change: Change | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        return self.routes.listeners.addresses

    def operator(self, hands: Hands) -> LocalOperator:
        """The process as an operator sees it."""
        operator = LocalOperator(self, hands)
        self.routes.operator = operator
        return operator

    def is_live(self) -> bool:
        """Whoever asks this does so in the loop that serves."""
        return True

    # -- life

    async def start(self, settings: Settings, place_of: PlaceOf = path_only) -> None:
        """Serve by these settings. Raises ConfigError for what cannot be had."""
        configure_log(settings)
        await self.routes.start(settings, place_of)
        if self.handover is not None:
            self.routes.listeners.take_over = None
            self.mind_cancels(self.handover.cancel)
            self.handover.open()
        self.meter.start()
        self.meter.state = "ready"

    async def stop(self, drain_s: float) -> None:
        """Drain, then end."""
        self.meter.state = "draining"
        if self.handover is not None:
            self.handover.close()
        await self.routes.stop(drain_s)
        if self.handover is not None:
            await self.handover.stop()
        self.meter.stop()

    def kill(self) -> None:
        """End all sessions now: a drain is cut short."""
        self.routes.kill()

    # -- other settings

    async def prepare(self, settings: Settings, place_of: PlaceOf = path_only) -> None:
        """Everything that may fail. Raises ConfigError, with nothing changed; else `commit`."""
        self.drop()
        self._change = await self.routes.prepare(settings, place_of)

    async def commit(self) -> None:
        """What was prepared is in force when this returns."""
        change, self._change = self._change, None
        assert change is not None, "prepare comes first"
        await self.routes.commit(change)
        if self.handover is not None:
            self.mind_cancels(self.handover.cancel)
        configure_log(change.settings)

    def drop(self) -> None:
        """What was prepared is not wanted."""
        change, self._change = self._change, None
        if change is not None:
            change.drop()

    # -- other processes, on the same ports

    def take_over(self, ask: TakeOver) -> None:
        """At the start: take the sockets of whoever listens on our ports."""
        self.routes.listeners.take_over = ask

    async def lend(self, wanted: Sequence[str]) -> dict[str, list[socket.socket]]:
        """As `handover.Side`."""
        return self.routes.listeners.lend(wanted)

    def keep(self) -> None:
        """As `handover.Side`."""
        self.routes.listeners.keep()

    def mind_cancels(self, elsewhere: Callable[[CancelKey], Coroutine[Any, Any, None]]) -> None:
        """Keys of no session here are told to `elsewhere`."""
        for route in self.routes.postgres:
            route.cancel_elsewhere = elsewhere

    async def cancel_here(self, key: CancelKey) -> None:
        """Returns when the server has been told, if the key is that of a session here."""
        for route in self.routes.postgres:
            if route.knows(key):
                task = route.cancel(key)
                if task is not None:
                    await asyncio.wait({task})
                return

    # -- looking

    def report(self, full_keys: bool = False) -> Report:
        """What the process tells about itself."""
        made = report(self.routes, self.meter, self.incidents.list, full_keys)
        routes = self._all()
        if made.state == "ready" and routes and all(route.gate.is_shut for route in routes):
            made.state = made.workers[0].state = "paused"
        if self.reloading is not None:
            made.reloaded_s = self.reloading.reloaded_s
            made.reload_problems = list(self.reloading.problems)
        return made

    def detail(self) -> Detail:
        """Every client and link."""
        parts = [postgres_detail.rows(route) for route in self.routes.postgres]
        parts += [redis_detail.rows(route) for route in self.routes.redis]
        number = self.number
        return Detail(
            [replace(row, worker=number) for part in parts for row in part.sessions],
            [replace(row, worker=number) for part in parts for row in part.links],
        )

    # -- acting

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        """What concerns the routes of this process. PAUSE returns when the last link has gone."""
        if what is Act.KILL_CLIENT:
            killed = any(_kill_client(one, number) for one in self._all())
            text = f"client {number} was ended" if killed else f"there is no client {number}"
            return Outcome(killed, text)
        chosen = [one for one in self._all() if route in (None, one.options.name)]
        if not chosen:
            return Outcome(False, f"there is no route {route!r}")
        names = ", ".join(one.options.name for one in chosen)
        match what:
            case Act.PAUSE:
                done = await asyncio.gather(*(_pause(one) for one in chosen))
                text = "paused" if all(done) else "resumed before all had paused"
                return Outcome(all(done), f"{text}: {names}")
            case Act.RESUME:
                for one in chosen:
                    _resume(one)
                return Outcome(True, f"resumed: {names}")
            case Act.RECONNECT:
                for one in chosen:
                    _reconnect(one)
                return Outcome(True, f"reconnecting at the next boundaries: {names}")
            case Act.KILL:
                total = sum(_kill(one) for one in chosen)
                return Outcome(True, f"ended {total} sessions: {names}")
            case _:
                return Outcome(False, f"{what} is not a matter of routes")

    def _all(self) -> list[Route]:
        return [*self.routes.postgres, *self.routes.redis]


def configure_log(settings: Settings) -> None:
    """The log is as the settings say."""
    told = settings.log
    log.configure(log.LogOptions(level=told.level, format=told.format, sql=told.sql))


# Each dialect has its own way; what it is called is the same.


def _pause(route: Route) -> Coroutine[Any, Any, bool]:
    if isinstance(route, PostgresRoute):
        return postgres_control.pause(route)
    return redis_control.pause(route)


def _resume(route: Route) -> None:
    if isinstance(route, PostgresRoute):
        postgres_control.resume(route)
    else:
        redis_control.resume(route)


def _reconnect(route: Route) -> None:
    if isinstance(route, PostgresRoute):
        postgres_control.reconnect(route)
    else:
        redis_control.reconnect(route)


def _kill(route: Route) -> int:
    if isinstance(route, PostgresRoute):
        return postgres_control.kill(route)
    return redis_control.kill(route)


def _kill_client(route: Route, number: int) -> bool:
    if isinstance(route, PostgresRoute):
        return postgres_control.kill_client(route, number)
    return redis_control.kill_client(route, number)
