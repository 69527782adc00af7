"""What this process tells about itself: its routes' reports, and the state of the process.

Owns: the meter (a timer that measures how late the loop is) and the counting of bugs.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy import __version__
from proxy.core.events import Events
from proxy.core.histogram import Histogram
from proxy.core.reasons import Reason
from proxy.core.report import Incident, Report, WorkerReport
from proxy.net.clock import unix_offset_s
from proxy.observe import log
from proxy.observe.incidents import Incidents
from proxy.postgres.runtime import report as postgres_report
from proxy.redis.runtime import report as redis_report
from proxy.service.routes import Routes

LAG_EVERY_S = 0.1
RECENT_S = 60.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc/self")


class Meter:
    """Measures the process. Make it on the running loop; `start`, and `stop` in the end."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.state = "starting"
        self.bugs = 0
        self.loop_lag = Histogram()
        self._recent, self._before = Histogram(), Histogram()  # of this minute, of the last one
        self._minute_s = 0.0
        self._loop = asyncio.get_running_loop()
        self.started_s = self._loop.time() + unix_offset_s()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin to measure how late the loop is."""
        # Not the loop's own clock: uvloop's stands still within a turn, in whole milliseconds.
        self._due_s = time.perf_counter() + LAG_EVERY_S
        self._timer = self._loop.call_later(LAG_EVERY_S, self._tick)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now_s = time.perf_counter()
        lag_s = max(0.0, now_s - self._due_s)
        if now_s - self._minute_s > RECENT_S:
            self._minute_s = now_s
            self._recent, self._before = Histogram(), self._recent
        self.loop_lag.observe(lag_s)
        self._recent.observe(lag_s)
        self.start()

    def _recent_lag(self) -> Histogram:
        both = Histogram(self._recent.counts, self._recent.sum_s, self._recent.max_s)
        both.add(self._before)
        return both

    def event(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        """A sink of the runtimes' events: counts our own bugs."""
        if fields.get("reason") is Reason.BUG and level == "error":
            self.bugs += 1

    def report(self) -> WorkerReport:
        """The process as it is now. Memory and descriptors are 0 where there is no /proc."""
        return WorkerReport(
            number=self.number,
            pid=os.getpid(),
            state=self.state,
            started_s=self.started_s,
            loop_lag=self.loop_lag,
            recent_lag=self._recent_lag(),
            cpu_s=time.process_time(),
            rss_bytes=_rss_bytes(),
            open_fds=_open_fds(),
            tasks=len(asyncio.all_tasks(self._loop)),
            bugs=self.bugs,
            log_lines_dropped=log.lines_dropped(),
        )


class IncidentLog:
    """The incidents of this process, with its clock."""

    def __init__(self, meter: Meter) -> None:
        self._loop = asyncio.get_running_loop()
        self._incidents = Incidents(f"{int(meter.started_s):x}-{meter.number}-")

    def event(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        """A sink of the runtimes' events."""
        self._incidents.event(self._now_s(), event, fields)

    def list(self) -> Sequence[Incident]:
        """The last ones, the newest first."""
        return self._incidents.list(self._now_s())

    def _now_s(self) -> float:
        return self._loop.time() + unix_offset_s()


def _rss_bytes() -> int:
    try:
        return int((_PROC / "statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _open_fds() -> int:
    try:
        return len(os.listdir(_PROC / "fd")) - 1  # without the one that lists
    except OSError:
        return 0


def fan_out(*sinks: Events) -> Events:
    """A sink that passes each event on to all of these."""

    def pass_on(event: str, /, *, level: str = "info", **fields: object) -> None:
        for sink in sinks:
            sink(event, level=level, **fields)

    return pass_on


def report(
    routes: Routes,
    meter: Meter,
    incidents: Callable[[], Sequence[Incident]],
    full_keys: bool = False,
) -> Report:
    """The report of this process."""
    made = Report(
        version=__version__,
        state=meter.state,
        workers=[meter.report()],
        postgres=[postgres_report.report(route) for route in routes.postgres],
        redis=[redis_report.report(route, full_keys) for route in routes.redis],
        incidents=list(incidents()),
    )
    for postgres in made.postgres:
        postgres.listen = routes.listening(postgres.name)
    for redis in made.redis:
        redis.listen = routes.listening(redis.name)
    return made
