"""Round trips, measured one connection at a time so that targets do not disturb each other."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from proxy.diagnose.facts import Latency

SAMPLES_MAX = 200
SAMPLES_MIN = 5
BUDGET_S = 3.0

_alone = threading.Lock()


Guard = Callable[[], AbstractContextManager[None]]


def latencies(asks: Sequence[Callable[[], object]], guards: Sequence[Guard] = ()) -> list[Latency]:
    """One summary for each; they take turns, so that weather on the path is shared fairly.

    Up to SAMPLES_MAX round trips each, in BUDGET_S together, SAMPLES_MIN in any case. What an ask
    raises comes out. The guards bound the time; they are entered when it is this target's turn.
    """
    samples: list[list[float]] = [[] for _ in asks]
    with _alone, ExitStack() as stack:
        for guard in guards:
            stack.enter_context(guard())
        for ask in asks:
            ask()  # the first one fills caches, and is not counted
        until_s = time.perf_counter() + BUDGET_S
        for turn in range(SAMPLES_MAX):
            if turn >= SAMPLES_MIN and time.perf_counter() > until_s:
                break
            for ask, taken in zip(asks, samples, strict=True):
                began_s = time.perf_counter()
                ask()
                taken.append(time.perf_counter() - began_s)
    return [Latency.of(taken) for taken in samples]
