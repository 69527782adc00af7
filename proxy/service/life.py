"""The life of a Backstay: start, serve, drain, stop; what signals and the service manager do to it.

    SIGHUP            other settings
    SIGTERM, SIGINT   drain: sessions end at boundaries, `drain_s` at most; a second one: now
    SIGQUIT           stop now
    SIGUSR1, SIGUSR2  pause all routes, resume them

What serves may be this process or workers behind it: here they are the same.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from proxy.core.operator import Act, Operator, Outcome
from proxy.net.tasks import TaskSet
from proxy.service.admin import Door, open_admin
from proxy.service.mistakes import PlaceOf
from proxy.service.notify import Notifier
from proxy.service.operator import Hands
from proxy.service.reloading import Changes, Reloading
from proxy.settings.model import Settings


class Served(Changes, Protocol):
    """What serves clients."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where it listens."""

    async def start(self, settings: Settings, place_of: PlaceOf) -> None:
        """Raises ConfigError for what cannot be had."""

    async def stop(self, drain_s: float) -> None:
        """Drain, then end."""

    def kill(self) -> None:
        """Cut a drain short."""

    def is_live(self) -> bool:
        """Whether everything that serves has shown itself of late."""

    def operator(self, hands: Hands) -> Operator: ...


class Life:
    """One life of what serves. Implements `Hands`."""

    def __init__(
        self, served: Served, reloading: Reloading, notifier: Notifier, door: Door
    ) -> None:
        self._served = served
        self._reloading = reloading
        self._notifier = notifier
        self._door = door
        self._events = reloading.events
        self._stop, self._now = asyncio.Event(), asyncio.Event()
        self._serving = False
        self._tasks = TaskSet(self._events)
        self._operator = served.operator(self)

    async def run(self, place_of: PlaceOf) -> None:
        """From the start to the end. Raises ConfigError for what cannot be had."""
        settings = self._reloading.settings
        admin = await open_admin(settings.admin, self._operator, self._events, self._door)
        try:
            self._on_signals()
            await self._served.start(settings, place_of)
            self._serving = True
            listeners = [*self._served.addresses, *(admin.addresses if admin else ())]
            self._events("started", listeners=listeners)
            self._notifier.ready(f"serving {', '.join(listeners)}")
            if self._notifier.watchdog_s:
                self._tasks.start(self._feed(), "feed the watchdog")
            await self._stop.wait()
        finally:
            await self._end()
            if admin is not None:
                await admin.stop()
            await self._tasks.stop()
        self._events("stopped")

    async def _end(self) -> None:
        drain_s = self._reloading.settings.drain_s
        if self._stop.is_set():
            self._events("draining", drain_s=drain_s)
            self._notifier.stopping(f"draining for {drain_s:g} s at most")
        loop = asyncio.get_running_loop()
        draining = loop.create_task(self._served.stop(drain_s))
        hurry = loop.create_task(self._now.wait())
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            self._served.kill()
        hurry.cancel()
        await draining

    async def _feed(self) -> None:
        """Only a loop that turns comes here; a worker that does not is not vouched for."""
        while True:
            if self._served.is_live():
                self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog_s)

    # -- signals

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        told: Mapping[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self._told_to_stop,
            signal.SIGINT: self._told_to_stop,
            signal.SIGQUIT: self._told_to_hurry,
            signal.SIGHUP: lambda: self._begin(self.reload, "reload"),
            signal.SIGUSR1: lambda: self._begin(lambda: self._act(Act.PAUSE), "pause"),
            signal.SIGUSR2: lambda: self._begin(lambda: self._act(Act.RESUME), "resume"),
        }
        for number, act in told.items():
            loop.add_signal_handler(number, act)

    def _begin(self, act: Callable[[], Awaitable[object]], name: str) -> None:
        async def run() -> None:
            await act()

        if self._serving and not self._stop.is_set():
            self._tasks.start(run(), name)

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._now.set()
        self._stop.set()

    def _told_to_hurry(self) -> None:
        self._now.set()
        self._stop.set()

    async def _act(self, what: Act) -> None:
        outcome = await self._operator.act(what)
        level = "info" if outcome.done else "warning"
        self._events("operator_act", level=level, act=what.value, text=outcome.text)
        if not self._stop.is_set():
            self._notifier.status(outcome.text)

    # -- hands

    async def reload(self) -> Outcome:
        """Other settings, or a word on why not."""
        self._notifier.reloading()
        try:
            outcome = await self._reloading.reload(self._served)
        finally:
            self._notifier.ready(f"serving {', '.join(self._served.addresses)}")
        return outcome

    def shutdown(self) -> None:
        """As SIGTERM."""
        self._told_to_stop()
