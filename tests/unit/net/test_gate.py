"""The gate of a route: its clock, and what it tells whoever waits."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.core.reasons import Reason
from proxy.net.gate import Gate


class Clock:
    """Stands where it is put."""

    now_s = 100.0


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> "tuple[Gate, Clock]":
    clock = Clock()
    made = Gate()
    monkeypatch.setattr(made, "_loop", _LoopAt(asyncio.get_running_loop(), clock))
    return made, clock


class _LoopAt:
    """The loop, but for its clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._clock = clock
        self.create_future = loop.create_future

    def time(self) -> float:
        return self._clock.now_s


async def test_the_clock_stands_still_while_the_gate_is_shut(gate: tuple[Gate, Clock]) -> None:
    one, clock = gate
    began_s = one.clock_s()
    clock.now_s += 1
    one.shut(Reason.PAUSED)
    clock.now_s += 50
    assert one.clock_s() - began_s == 1
    one.shut(Reason.KILLED)  # again: it has been shut since the first time
    clock.now_s += 50
    assert one.clock_s() - began_s == 1
    one.open()
    assert one.clock_s() - began_s == 1
    clock.now_s += 2
    assert one.clock_s() - began_s == 3
    one.open()  # it is
    assert one.clock_s() - began_s == 3


async def test_the_last_reason_counts_until_it_opens(gate: tuple[Gate, Clock]) -> None:
    one, _ = gate
    assert not one.is_shut
    one.shut(Reason.PAUSED)
    one.shut(Reason.KILLED)
    assert one.shut_for is Reason.KILLED
    one.open()
    assert one.shut_for is None
    await asyncio.wait_for(one.opened(), 1)


@pytest.mark.parametrize("tell", [Gate.link_gone, Gate.open])
async def test_whoever_waits_for_a_change_hears_of_it(
    gate: tuple[Gate, Clock], tell: "Callable[[Gate], None]"
) -> None:
    one, _ = gate
    one.shut(Reason.PAUSED)
    waiting = [asyncio.ensure_future(one.change()) for _ in range(2)]
    opened = asyncio.ensure_future(one.opened())
    await asyncio.sleep(0)
    assert not any(task.done() for task in (*waiting, opened))
    tell(one)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    one.open()
    await asyncio.wait_for(opened, 1)
