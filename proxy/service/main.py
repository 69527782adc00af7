"""The entry of `backstay run`: a loop, a log, and what serves in it."""

import asyncio
import os
import traceback
from functools import partial
from typing import Any

import uvloop

from proxy.core.events import Events
from proxy.core.reasons import Reason
from proxy.net.allocator import freeze_start, keep_freed_memory
from proxy.net.listen import ListenOptions, inherited_sockets
from proxy.observe import log
from proxy.service.admin import Door, taken
from proxy.service.handover import Handover
from proxy.service.life import Life
from proxy.service.listeners import Listeners, named
from proxy.service.mistakes import path_only
from proxy.service.notify import Notifier
from proxy.service.ports import Ports
from proxy.service.process import How, Process, configure_log
from proxy.service.reloading import Reloading
from proxy.service.routes import unreachable
from proxy.service.share import worker_count
from proxy.service.start import Start
from proxy.service.supervisor import Supervisor
from proxy.settings.model import Settings

EX_UNAVAILABLE = 69


def run(settings: Settings, start: Start) -> int:
    """Run until told to stop; the exit code. Raises ConfigError for what only starting shows."""
    keep_freed_memory()
    freeze_start()
    configure_log(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, start))


async def _serve(settings: Settings, start: Start) -> int:
    events = log.events(log.get_logger())
    if start.require_upstream:
        missing = await unreachable(settings)
        if missing:
            events("upstream_missing", level="error", routes=missing)
            return EX_UNAVAILABLE
    sharing = ListenOptions(reuse_port=True, replace=start.replace)
    given = named(sock for socks in inherited_sockets(os.environ).values() for sock in socks)
    door = Door(taken(settings.admin, given), start.replace)
    served: Process | Supervisor
    count = worker_count(settings, len(os.sched_getaffinity(0)))
    if count == 1:
        served = Process(events, How(listeners=Listeners(given), sharing=sharing))
        events = served.events
    else:
        served = Supervisor(count, Ports(given, sharing), events)
    asyncio.get_running_loop().set_exception_handler(partial(bug, events))
    served.handover = handover = Handover(served, events)
    if start.replace:
        served.take_over(handover.take)
    served.reloading = reloading = Reloading(settings, start.source, events)
    place_of = start.source.place if start.source is not None else path_only
    await Life(served, reloading, Notifier(os.environ), door).run(place_of)
    return 0


def bug(events: Events, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback: our bug. The loop closes that connection; the others go on."""
    error = context.get("exception")
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    where = [f"{frame.filename.rpartition('/proxy/')[2]}:{frame.lineno}" for frame in frames[-4:]]
    events("bug", level="error", reason=Reason.BUG, error=type(error).__name__, where=where)
