"""What the process tells of itself: the delay of its loop, of the whole life and of late."""

import time

import pytest

from proxy.core.reasons import Reason
from proxy.service import report
from proxy.service.report import Meter


class Clock:
    """Stands in for the process's clock, and the loop's delay."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def perf_counter(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return time.process_time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(report, "time", made)
    return made


def pass_by(meter: Meter, clock: Clock, seconds: float, late_s: float) -> None:
    """So long, with a timer that is always so late."""
    for _ in range(round(seconds / report.LAG_EVERY_S)):
        clock.now_s += report.LAG_EVERY_S + late_s
        meter._tick()
        meter.stop()


async def test_what_is_long_over_is_not_recent(clock: Clock) -> None:
    meter = Meter()
    meter.start()
    meter.stop()
    pass_by(meter, clock, 20.0, late_s=0.4)
    told = meter.report()
    assert told.recent_lag.quantile_s(0.99) == pytest.approx(0.4, abs=0.1)
    assert told.recent_lag.count == 200
    pass_by(meter, clock, 60.0, late_s=0.0)
    assert meter.report().recent_lag.max_s == pytest.approx(0.4), "not forgotten at once"
    pass_by(meter, clock, 70.0, late_s=0.0)
    told = meter.report()
    assert told.recent_lag.max_s == pytest.approx(0.0, abs=1e-6)
    assert told.loop_lag.max_s == pytest.approx(0.4), "the whole life"
    assert told.loop_lag.count == 1500


async def test_a_report_is_a_copy(clock: Clock) -> None:
    meter = Meter()
    before = meter.report().recent_lag
    meter.start()
    meter.stop()
    pass_by(meter, clock, 1.0, late_s=0.1)
    assert before.count == 0
    assert meter.report().recent_lag.count == 10


async def test_only_our_own_bugs_are_counted() -> None:
    meter = Meter()
    meter.event("session_ended", level="error", reason=Reason.BUG)
    meter.event("session_ended", level="error", reason=Reason.UPSTREAM_EOF)
    meter.event("link_lost", level="info", reason=Reason.BUG)
    assert meter.report().bugs == 1
