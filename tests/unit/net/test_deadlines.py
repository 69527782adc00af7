"""The sweeper: never early, at most one period late, and cheap however often a deadline moves."""

import asyncio
import random
from collections.abc import Callable

import pytest

from proxy.core.events import silent
from proxy.net.deadlines import Deadline, Sweeper


class FakeLoop(asyncio.SelectorEventLoop):
    """A loop whose clock moves only when told: `advance` runs what falls due."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def advance(self, to_s: float, step_s: float = 0.05) -> None:
        while self.now_s < to_s:
            self.now_s = min(to_s, self.now_s + step_s)
            self.turn()

    def turn(self, count: int = 3) -> None:
        for _ in range(count):
            self.call_soon(self.stop)
            self.run_forever()


@pytest.fixture
def loop():  # type: ignore[no-untyped-def]
    fake = FakeLoop()
    asyncio._set_running_loop(None)
    yield fake
    fake.close()


def within(loop: FakeLoop, act: Callable[[], None]) -> None:
    """Runs `act` in the loop, as callbacks do."""
    loop.call_soon(act)
    loop.turn(1)


def test_fires_once_in_time(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[float] = []
    deadline = sweeper.deadline(lambda: fired.append(loop.now_s))
    within(loop, lambda: deadline.set(1001.1))
    loop.advance(1001.09)
    assert fired == []
    loop.advance(1001.5)
    assert len(fired) == 1
    assert 1001.1 <= fired[0] <= 1001.1 + 0.25 + 0.05
    loop.advance(1100, 0.5)
    assert len(fired) == 1


def test_cleared_deadline_never_fires(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[int] = []
    deadline = sweeper.deadline(lambda: fired.append(1))
    within(loop, lambda: deadline.set(1001))
    within(loop, deadline.clear)
    loop.advance(1003)
    assert fired == []
    assert len(sweeper) == 0


def test_later_then_earlier(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[float] = []
    deadline = sweeper.deadline(lambda: fired.append(loop.now_s))
    within(loop, lambda: deadline.set(1030))
    within(loop, lambda: deadline.set(1002))
    loop.advance(1002.4)
    assert len(fired) == 1
    loop.advance(1040, 0.2)
    assert len(fired) == 1


def test_earlier_then_later(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[float] = []
    deadline = sweeper.deadline(lambda: fired.append(loop.now_s))
    within(loop, lambda: deadline.set(1002))
    within(loop, lambda: deadline.set(1010))
    loop.advance(1009.9)
    assert fired == []
    loop.advance(1010.4)
    assert len(fired) == 1


@pytest.mark.parametrize("after_s", [63.9, 64.0, 64.1, 65, 200, 3600])
def test_further_away_than_one_turn_of_the_wheel(loop: FakeLoop, after_s: float) -> None:
    sweeper = Sweeper(silent)
    fired: list[float] = []
    deadline = sweeper.deadline(lambda: fired.append(loop.now_s))
    within(loop, lambda: deadline.set(1000 + after_s))
    loop.advance(1000 + after_s - 0.01, 0.25)
    assert fired == []
    loop.advance(1000 + after_s + 0.5, 0.05)
    assert len(fired) == 1


def test_in_the_past_fires_at_the_next_sweep(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[float] = []
    deadline = sweeper.deadline(lambda: fired.append(loop.now_s))
    within(loop, lambda: deadline.set(3.0))
    loop.advance(1000.4)
    assert len(fired) == 1


def test_after_a_long_stall_everything_due_fires(loop: FakeLoop) -> None:
    """The process was stopped for minutes: the clock jumps over more than the whole wheel."""
    sweeper = Sweeper(silent)
    fired: list[int] = []
    deadlines = [sweeper.deadline(lambda n=n: fired.append(n)) for n in range(100)]
    for n, deadline in enumerate(deadlines):
        within(loop, lambda deadline=deadline, n=n: deadline.set(1001 + n))
    loop.now_s = 1000 + 500
    loop.turn(5)
    assert sorted(fired) == list(range(100))
    assert len(sweeper) == 0


def test_set_again_from_its_own_action(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[float] = []

    def act() -> None:
        fired.append(loop.now_s)
        deadline.set(loop.now_s + 1)

    deadline = sweeper.deadline(act)
    within(loop, lambda: deadline.set(1001))
    loop.advance(1006.5)
    assert 4 <= len(fired) <= 5


def test_a_deadline_that_moves_at_each_request_stays_cheap(loop: FakeLoop) -> None:
    """Long and short in turn, cleared between: what is left behind does not pile up."""
    sweeper = Sweeper(silent)
    deadline = sweeper.deadline(lambda: None)
    most = 0
    for _ in range(20_000):
        loop.now_s += 0.05
        within(loop, lambda: deadline.set(loop.now_s + 30))
        within(loop, lambda: deadline.set(loop.now_s + 0.2))
        within(loop, deadline.clear)
        most = max(most, len(sweeper))
    assert most <= 256


def test_a_crowd_does_not_hold_up_the_loop(loop: FakeLoop) -> None:
    """A thousand due at once: the loop gets its turn between the batches."""
    sweeper = Sweeper(silent)
    seen: list[object] = []
    crowd = [sweeper.deadline(lambda: seen.append("fired")) for _ in range(1200)]

    def ticking() -> None:
        seen.append("turn")
        if seen.count("fired") < 1200:
            loop.call_soon(ticking)

    within(loop, lambda: [deadline.set(1000.1) for deadline in crowd] and None)
    loop.now_s = 1000.3
    loop.call_soon(ticking)
    loop.turn(8)
    assert seen.count("fired") == 1200
    longest = max(len(run) for run in "".join(x[0] for x in map(str, seen)).split("t"))
    assert longest == 512


def test_crash_is_reported_and_the_others_fire(loop: FakeLoop) -> None:
    events: list[tuple[str, dict[str, object]]] = []

    def report(event: str, /, *, level: str = "info", **fields: object) -> None:
        events.append((event, {"level": level, **fields}))

    sweeper = Sweeper(report)
    fired: list[int] = []
    bad = sweeper.deadline(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    good = sweeper.deadline(lambda: fired.append(1))
    within(loop, lambda: bad.set(1000.1))
    within(loop, lambda: good.set(1000.1))
    loop.advance(1000.6)
    assert fired == [1]
    assert events == [
        ("deadline_crashed", {"level": "error", "reason": "bug", "error": "ZeroDivisionError"})
    ]


def test_stop(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[int] = []
    deadline = sweeper.deadline(lambda: fired.append(1))
    other = sweeper.deadline(lambda: fired.append(2))
    within(loop, lambda: deadline.set(1001))
    sweeper.stop()
    within(loop, lambda: other.set(1001))
    loop.advance(1003)
    assert fired == []


def test_stop_from_an_action(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    fired: list[int] = []

    def act() -> None:
        fired.append(1)
        sweeper.stop()

    for deadline in [sweeper.deadline(act) for _ in range(3)]:
        within(loop, lambda deadline=deadline: deadline.set(1000.1))
    loop.advance(1002)
    assert fired == [1]


def test_sleeps_when_nothing_is_set(loop: FakeLoop) -> None:
    sweeper = Sweeper(silent)
    deadline = sweeper.deadline(lambda: None)
    within(loop, lambda: deadline.set(1000.3))
    loop.advance(1001)
    assert sweeper._timer is None, "wakes up for nothing"
    within(loop, lambda: deadline.set(1002.0))
    loop.advance(1002.5)
    assert len(sweeper) == 0


def test_against_a_model(loop: FakeLoop) -> None:
    """Random sets and clears of fifty deadlines: each fires when, and only when, it should."""
    rng = random.Random(11)
    sweeper = Sweeper(silent)
    want: dict[int, float] = {}
    late: list[float] = []

    def act(n: int) -> None:
        at_s = want.pop(n)
        late.append(loop.now_s - at_s)
        assert late[-1] >= 0

    deadlines: list[Deadline] = [sweeper.deadline(lambda n=n: act(n)) for n in range(50)]

    def change() -> None:
        n = rng.randrange(50)
        if rng.random() < 0.3:
            deadlines[n].clear()
            want.pop(n, None)
        else:
            want[n] = loop.now_s + rng.choice((0.1, 1, 10, 70, 150)) * rng.random()
            deadlines[n].set(want[n])

    for _ in range(4000):
        within(loop, change)
        loop.advance(loop.now_s + 0.05)
    loop.advance(loop.now_s + 200, 0.05)
    assert not want
    assert len(late) > 1000
    assert max(late) <= 0.31


@pytest.mark.both_loops
async def test_on_real_loops() -> None:
    sweeper = Sweeper(silent, per_second=50)
    fired = asyncio.Event()
    loop = asyncio.get_running_loop()
    set_s = loop.time() + 0.05
    sweeper.deadline(fired.set).set(set_s)
    await fired.wait()
    assert loop.time() >= set_s
    sweeper.stop()
