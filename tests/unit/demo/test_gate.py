"""The gate: strikes wait for those in the middle of work, and hold back those to come."""

import asyncio

import pytest

from proxy.demo.gate import Gate, Risk


async def _spin() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Worker:
    """Enters a section, and leaves it when told to."""

    def __init__(self, gate: Gate, risk: Risk) -> None:
        self.inside = False
        self.leave = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(gate, risk))

    async def _run(self, gate: Gate, risk: Risk) -> None:
        async with gate.section(risk):
            self.inside = True
            await self.leave.wait()
        self.inside = False


class Strike:
    """Closes the gate, and opens it when told to."""

    def __init__(self, gate: Gate, lowest: Risk) -> None:
        self.on = False
        self.over = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(gate, lowest))

    async def _run(self, gate: Gate, lowest: Risk) -> None:
        async with gate.closed(lowest, 10):
            self.on = True
            await self.over.wait()
        self.on = False


async def _end(*things: Worker | Strike) -> None:
    for thing in things:
        (thing.leave if isinstance(thing, Worker) else thing.over).set()
    await asyncio.gather(*(thing.task for thing in things))


@pytest.mark.parametrize(
    ("risk", "lowest", "waits"),
    [
        (Risk.WRITE, Risk.WRITE, True),
        (Risk.TRANSACTION, Risk.WRITE, True),
        (Risk.TRANSACTION, Risk.TRANSACTION, True),
        (Risk.WRITE, Risk.TRANSACTION, False),
    ],
)
async def test_strike_waits_for_those_it_would_break(risk: Risk, lowest: Risk, waits: bool) -> None:
    gate = Gate()
    workers = [Worker(gate, risk), Worker(gate, risk)]
    await _spin()
    strike = Strike(gate, lowest)
    await _spin()
    assert strike.on is not waits
    workers[0].leave.set()
    await _spin()
    assert strike.on is not waits  # the other one is still inside
    workers[1].leave.set()
    await _spin()
    assert strike.on
    await _end(strike, *workers)


@pytest.mark.parametrize(
    ("risk", "lowest", "waits"),
    [
        (Risk.WRITE, Risk.WRITE, True),
        (Risk.TRANSACTION, Risk.WRITE, True),
        (Risk.TRANSACTION, Risk.TRANSACTION, True),
        (Risk.WRITE, Risk.TRANSACTION, False),
    ],
)
async def test_nobody_enters_during_a_strike(risk: Risk, lowest: Risk, waits: bool) -> None:
    gate = Gate()
    strike = Strike(gate, lowest)
    await _spin()
    worker = Worker(gate, risk)
    await _spin()
    assert worker.inside is not waits
    strike.over.set()
    await _spin()
    assert worker.inside
    await _end(strike, worker)


async def test_nobody_enters_while_a_strike_waits() -> None:
    """Else a strike could wait for ever."""
    gate = Gate()
    first = Worker(gate, Risk.WRITE)
    await _spin()
    strike = Strike(gate, Risk.WRITE)
    await _spin()
    second = Worker(gate, Risk.WRITE)
    first.leave.set()
    await _spin()
    assert strike.on
    assert not second.inside
    await _end(strike, first, second)


async def test_a_strike_gives_up_and_opens_again() -> None:
    gate = Gate()
    worker = Worker(gate, Risk.WRITE)
    await _spin()
    with pytest.raises(TimeoutError):
        async with gate.closed(Risk.WRITE, 0.01):
            pytest.fail("somebody is inside")
    second = Worker(gate, Risk.WRITE)
    await _spin()
    assert second.inside
    await _end(worker, second)


async def test_an_error_inside_leaves_the_section() -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError):
        async with gate.section(Risk.TRANSACTION):
            raise ZeroDivisionError
    async with gate.closed(Risk.WRITE, 0.5):
        pass


async def test_open_always() -> None:
    gate = Gate(open_always=True)
    worker = Worker(gate, Risk.TRANSACTION)
    await _spin()
    strike = Strike(gate, Risk.WRITE)
    second = Worker(gate, Risk.TRANSACTION)
    await _spin()
    assert worker.inside
    assert strike.on
    assert second.inside
    await _end(strike, worker, second)
