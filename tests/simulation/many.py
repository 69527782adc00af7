"""Many runs of the simulation, in this process or shared out among several.

Owns: processes, their end, runs that die. Must not know: what a run does, how it is told.
"""

import signal
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from tests.simulation import world
from tests.simulation.redis import world as redis_world
from tests.simulation.world import Outcome

RUNS = {"postgres": world.run, "redis": redis_world.run}
CHUNK_MAX = 20  # seeds that a process takes at a time: about half a second


@dataclass
class Told:
    """What is kept of a run: all but its trace."""

    seed: int
    problems: list[str]
    seen: Counter[str]


Runs = Generator[list[Told], None, None]  # to be closed if they are not all awaited


def attempt(dialect: str, seed: int) -> Outcome:
    """The run of this seed. One that dies with an exception is one that went wrong."""
    try:
        return RUNS[dialect](seed)
    except Exception as error:
        *_, where = traceback.extract_tb(error.__traceback__)
        text = f"died at {where.filename}:{where.lineno}: {type(error).__name__}: {error}"
        return Outcome(seed, [text])


def take(dialect: str, seeds: range) -> list[Told]:
    """These runs, one after the other."""
    outcomes = (attempt(dialect, seed) for seed in seeds)
    return [Told(one.seed, one.problems, one.seen) for one in outcomes]


def _begin_process() -> None:
    """In each process: Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def shared_out(dialect: str, seeds: range, jobs: int) -> Iterator[Iterator[list[Told]]]:
    """These runs in so many processes, which have been started, in the order of their seeds.

    The iterator raises BrokenProcessPool at the first chunk not known when a process has died.
    """
    size = max(1, min(CHUNK_MAX, len(seeds) // jobs))
    chunks = [seeds[at : at + size] for at in range(0, len(seeds), size)]
    # Spawned: nothing of this process (a loop, a thread of the pool) is in them by accident.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin_process)
    try:
        waiting = _submitted(pool, dialect, chunks)
        yield (future.result() for future in waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, dialect: str, chunks: list[range]
) -> list[Future[list[Told]]]:
    """The first ones start the processes, which inherit that they hear no Ctrl-C."""
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return [pool.submit(take, dialect, chunk) for chunk in chunks]
    finally:
        signal.signal(signal.SIGINT, heard)


def one_by_one(dialect: str, seeds: range, trace: bool) -> Runs:
    """These runs in this process, with what happened in each if that is asked for."""
    for seed in seeds:
        outcome = attempt(dialect, seed)
        if trace:
            print(*outcome.told(), sep="\n")
        yield [Told(seed, outcome.problems, outcome.seen)]
