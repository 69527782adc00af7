"""Other settings for what serves: read, prepared everywhere, then taken everywhere, or nowhere."""

import asyncio
from typing import Protocol

from proxy.core.errors import ConfigError
from proxy.core.events import Events
from proxy.core.operator import Outcome
from proxy.net.clock import unix_offset_s
from proxy.service.mistakes import PlaceOf
from proxy.settings.changes import changed, restart_needed
from proxy.settings.load import Source
from proxy.settings.model import Settings


class Changes(Protocol):
    """What can be given other settings: this process, or all workers."""

    async def prepare(self, settings: Settings, place_of: PlaceOf) -> None:
        """Raises ConfigError, with nothing changed; else `commit` or `drop` follows."""

    async def commit(self) -> None: ...

    def drop(self) -> None: ...


class Reloading:
    """The settings in force, and the way to others."""

    def __init__(self, settings: Settings, source: Source | None, events: Events) -> None:
        self.settings = settings
        self.problems: list[str] = []  # of the last reload
        self.reloaded_s = 0.0  # when a reload was taken last
        self._started = settings
        self._source = source
        self.events = events
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, served: Changes) -> Outcome:
        """Read the settings again. A file with mistakes changes nothing, and each is told."""
        if self._source is None:
            return Outcome(False, "this process was started without a source of settings")
        async with self._one_at_a_time:
            try:
                settings = self._source.load()
                await served.prepare(settings, self._source.place)
            except ConfigError as error:
                self.problems = list(error.problems)
                self.events("reload_refused", level="error", problems=self.problems)
                text = "the settings cannot be used; nothing has changed"
                return Outcome(False, text, self.problems)
            await served.commit()
        self.problems = []
        self.reloaded_s = asyncio.get_running_loop().time() + unix_offset_s()
        applied = changed(self.settings, settings)
        waiting = restart_needed(self._started, settings)
        self.settings = settings
        applied = [path for path in applied if path not in waiting]
        self.events("reloaded", applied=applied, waits_for_restart=waiting)
        text = f"{len(applied)} settings applied" if applied else "nothing has changed"
        return Outcome(True, text + (f"; a restart is needed for {waiting}" if waiting else ""))
