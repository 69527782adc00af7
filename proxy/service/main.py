"""One process of Backstay: start, serve, drain, stop.

    start   routes are made, listeners opened; a taken port or a bad certificate ends here
    serve   until SIGTERM or SIGINT
    drain   no new clients; sessions end at their next boundary, `drain_s` at most
    stop    what is left is ended

A second signal skips the rest of the drain.
"""

import asyncio
import random
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from proxy.core.errors import ConfigError
from proxy.core.events import Events
from proxy.core.operator import Outcome
from proxy.core.reasons import Reason
from proxy.net.allocator import keep_freed_memory
from proxy.observe import log
from proxy.service.admin import open_admin
from proxy.service.operator import Hands, LocalOperator
from proxy.service.postgres_options import console_options
from proxy.service.report import IncidentLog, Meter, fan_out, report
from proxy.service.routes import Routes, unreachable
from proxy.settings.model import Settings

EX_UNAVAILABLE = 69


def run(
    settings: Settings,
    require_upstream: bool = False,
    reload: Callable[[], Settings] | None = None,
) -> int:
    """Run until told to stop; the exit code. Raises ConfigError for what only starting shows.

    `reload` reads the settings again, for SIGHUP.
    """
    keep_freed_memory()
    _configure_log(settings)
    current = Current(settings, log.events(log.get_logger()), reload)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(current, require_upstream))


def _configure_log(settings: Settings) -> None:
    told = settings.log
    log.configure(log.LogOptions(level=told.level, format=told.format, sql=told.sql))


class Current:
    """The settings in force, and the way to read them again."""

    def __init__(
        self, settings: Settings, events: Events, reload: Callable[[], Settings] | None
    ) -> None:
        self.settings = settings
        self._started = settings
        self._events = events
        self._reload = reload

    def reload(self) -> Outcome:
        """SIGHUP: `log` and `drain_s` are in force at once; what else changed is said to wait.

        A file with mistakes changes nothing, and each of its mistakes is told.
        """
        if self._reload is None:
            return Outcome(False, "this process was started without a settings file")
        try:
            settings = self._reload()
        except ConfigError as error:
            self._events("reload_refused", level="error", problems=error.problems)
            return Outcome(False, "the settings have mistakes; nothing changed", error.problems)
        self.settings = settings
        _configure_log(settings)
        waiting = [name for name in _AT_RESTART if self._differs(name)]
        self._events("reloaded", applied=["log", "drain_s"], waits_for_restart=waiting)
        return Outcome(True, "reloaded" + (f"; {waiting} waits for a restart" if waiting else ""))

    def _differs(self, name: str) -> bool:
        return bool(getattr(self.settings, name) != getattr(self._started, name))


_AT_RESTART = ("postgres", "redis", "admin", "workers")


async def _serve(current: Current, require_upstream: bool) -> int:
    settings = current.settings
    loop = asyncio.get_running_loop()
    meter = Meter()
    incidents = IncidentLog(meter)
    events = fan_out(log.events(log.get_logger()), meter.event, incidents.event)
    loop.set_exception_handler(partial(_bug, events))
    routes = Routes(settings, events, random.Random())
    if require_upstream:
        missing = await unreachable(settings)
        if missing:
            events("upstream_missing", level="error", routes=missing)
            return EX_UNAVAILABLE
    stop = asyncio.Event()
    now = asyncio.Event()
    _on_signals(stop, now)
    told = partial(report, routes, meter, incidents.list)
    operator = LocalOperator(Hands(told, current.reload, stop.set))
    loop.add_signal_handler(signal.SIGHUP, operator.reload)
    for route in routes.postgres:
        route.console.open(operator, console_options(settings.admin))
    admin = await open_admin(settings.admin, operator, events)
    try:
        await routes.start()
    except BaseException:
        if admin is not None:
            await admin.stop()
        raise
    meter.start()
    meter.state = "ready"
    listeners = [*routes.addresses, *(admin.addresses if admin is not None else ())]
    events("started", listeners=listeners)
    try:
        await stop.wait()
        meter.state = "draining"
        events("draining", drain_s=current.settings.drain_s)
    finally:
        await _stop(routes, current.settings.drain_s, now)
        if admin is not None:
            await admin.stop()
        meter.stop()
    events("stopped")
    return 0


def _bug(events: Events, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback: our bug. The loop closes that connection; the others go on."""
    error = context.get("exception")
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    where = [f"{frame.filename.rpartition('/proxy/')[2]}:{frame.lineno}" for frame in frames[-4:]]
    events("bug", level="error", reason=Reason.BUG, error=type(error).__name__, where=where)


def _on_signals(stop: asyncio.Event, now: asyncio.Event) -> None:
    """SIGTERM and SIGINT: first drain, then stop at once."""

    def told() -> None:
        if stop.is_set():
            now.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)


async def _stop(routes: Routes, drain_s: float, now: asyncio.Event) -> None:
    """Drain, unless told to hurry."""
    loop = asyncio.get_running_loop()
    draining = loop.create_task(routes.stop(drain_s))
    hurry = loop.create_task(now.wait())
    await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        routes.kill()
    hurry.cancel()
    await draining
