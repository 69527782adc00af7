"""The promise of the cache against a simulated Redis, and the mutation gate: no law is
decoration.
"""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.redis.protocol.insight import Bypassed
from tests.property.cache_history import violations
from tests.property.cache_mutants import CALM, ELSEWHERE, MUTANTS, READERS, SLOW, Mutant
from tests.property.cache_world import Weather, World

STORM = Weather(seconds=2.0, stalls=2.0, cuts=1.0, data_cuts=2.0)
SEEDS_MAX = 24


RUN_ONE = """
from tests.property.test_cache_model import STORM, ran
for op in ran(4, STORM).history:
    print(op.client, op.batch, op.argv, op.reply, op.source, op.completed_s)
"""


def ran(seed: int, weather: Weather) -> World:
    world = World(seed, weather)
    world.run()
    return world


@pytest.mark.parametrize("seed", range(8))
def test_the_promise_holds_in_a_storm(seed: int) -> None:
    assert violations(ran(seed, STORM)) == {}


def test_a_seed_gives_the_same_world_in_every_process() -> None:
    """Else what failed once could not be run again."""
    path = os.pathsep.join(sys.path)
    told = set()
    for number in (1, 2):
        process = {**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": path}
        words = [sys.executable, "-c", RUN_ONE]
        done = subprocess.run(words, env=process, capture_output=True, check=True, timeout=50)
        told.add(done.stdout)
    assert len(told) == 1
    assert told != {b""}


@pytest.mark.parametrize("weather", [CALM, SLOW, ELSEWHERE, READERS], ids=str)
def test_the_promise_holds_in_the_weather_that_catches_the_mutants(weather: Weather) -> None:
    for seed in (100, 101):
        assert violations(ran(seed, replace(weather, seconds=2.0))) == {}


@pytest.mark.parametrize("slow", [0.3, 1.0, 5.0])
def test_linearizable_when_every_write_goes_through_the_proxy(slow: float) -> None:
    alone = replace(
        SLOW,
        external_writes=0.0,
        script_share=0.0,
        cuts=1.0,
        stalls=1.0,
        slow_tracking=slow,
        seconds=1.5,
    )
    for seed in range(2):
        world = ran(seed, alone)
        assert sum(op.source == "hit" for op in world.history) > 10
        assert violations(world) == {}


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
)
@given(
    seed=st.integers(0, 1 << 40),
    slow=st.sampled_from([0.2, 1.0, 4.0]),
    batch_max=st.integers(1, 6),
    read_share=st.sampled_from([0.5, 0.8, 0.97]),
    lease_s=st.sampled_from([0.02, 0.05, 0.3]),
)
def test_the_promise_holds_in_any_weather(
    seed: int, slow: float, batch_max: int, read_share: float, lease_s: float
) -> None:
    weather = replace(
        STORM,
        seconds=1.0,
        slow_tracking=slow,
        batch_max=batch_max,
        read_share=read_share,
        lease_s=lease_s,
    )
    assert violations(ran(seed, weather)) == {}


def test_the_storm_reaches_every_path() -> None:
    sources: Counter[str] = Counter()
    bypassed: set[Bypassed] = set()
    torn = coalesced = 0
    for seed in range(3):
        world = ran(seed, STORM)
        sources += Counter(op.source for op in world.history)
        bypassed |= set(world.partitions.insight.bypassed)
        torn += world.partitions.insight.torn_refetches
        coalesced += world.partitions.insight.coalesced
    assert min(sources[one] for one in ("hit", "T", "D", "lost")) > 0, sources
    assert bypassed >= {
        Bypassed.BARRIER,
        Bypassed.NO_LINK,
        Bypassed.STALLED,
        Bypassed.TOO_LATE,
    }
    assert torn > 0
    assert coalesced > 0


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_without_the_rule_its_check_fails(mutant: Mutant) -> None:
    for seed in range(SEEDS_MAX):
        world = World(seed, mutant.weather, mutant.cache)
        world.run()
        if mutant.check in violations(world):
            return
    pytest.fail(f"{mutant.rule}: {mutant.check} held over {SEEDS_MAX} seeds")
