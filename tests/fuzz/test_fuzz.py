"""Damaged streams into the cores: only documented outcomes, bounded memory.

Seeded and bounded by number, so that a failure names its run: `TARGETS[name](mutated(...))` with
the seed in the message. BACKSTAY_FULL=1 runs FULL times as many.
"""

import os
import random
import tracemalloc
from collections import Counter

import pytest

from tests.fuzz.seeds import SEEDS, mutated
from tests.fuzz.targets import TARGETS

FULL = 50
RUNS = 4_000 * (FULL if os.environ.get("BACKSTAY_FULL") else 1)
MEMORY_BYTES_MAX = 8 << 20  # of one run: streams are small, whatever lengths they promise


@pytest.mark.timeout(900 if os.environ.get("BACKSTAY_FULL") else 60)
@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_outcomes(name: str) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(RUNS):
        rng = random.Random(seed)
        data = mutated(SEEDS[name], rng)
        try:
            outcomes[TARGETS[name](data, rng)] += 1
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}, {data[:200]!r}") from error
    print(f"fuzz {name}: {dict(outcomes)}")
    assert outcomes["fed"] > RUNS / 100, "nothing gets through: the damage is too great"
    assert outcomes["fault"] > RUNS / 100, "nothing is found wrong: the damage is too small"


@pytest.mark.parametrize("name", TARGETS)
def test_memory_is_bounded(name: str) -> None:
    tracemalloc.start()
    try:
        for seed in range(60):
            rng = random.Random(seed)
            data = mutated(SEEDS[name], rng)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            TARGETS[name](data, rng)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < MEMORY_BYTES_MAX, f"{name}, seed {seed}"
    finally:
        tracemalloc.stop()
