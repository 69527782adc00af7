"""The runtime on a virtual clock and a seeded network: fixed seeds, the same trace for a seed, and
deliberate mistakes that must be found."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, SCENARIOS, mutated
from tests.simulation.scenario import PLAIN
from tests.simulation.world import run

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1, 81)
RARE = {  # the first seed tried, to save time
    "a late cancel meets the next session": 300,
    "a COPY counts as unsent behind its CopyDone": 195,
    "a half-delivered answer is sent again": 115,
    "prepared statements are not made again": 60,
    "settings are not restored": 45,
    "a gap in notifications is not told": 30,
    "notifications among the proxy's own answers are dropped": 555,
}
SEEDS_MAX = 400  # until a mistake has been found
ONCE_FOUND = (
    15,
    109,
    416,
    40028,
)  # each finds its bug again where the fix is taken away (and PLAIN scripts are as they were)
MUST_HAPPEN = {  # in SEEDS, or the runs show nothing
    *("connected", "restored", "replayed", "link_lost", "pool_link_lost", "orphans_ended"),
    *("upstream_down", "waiting", "doubt", "mid", "finish", "resend", "read_only"),
    *("cancelled_in_queue", "transaction_lost"),
}


def test_fixed_seeds_keep_every_promise() -> None:
    outcomes = [run(seed) for seed in SEEDS] + [run(seed, PLAIN) for seed in ONCE_FOUND]
    assert {one.seed: one.problems for one in outcomes if one.problems} == {}
    seen = set().union(*(one.seen for one in outcomes))
    assert MUST_HAPPEN - seen == set()


def digest(seeds: range) -> str:
    """Of the traces of these runs."""
    text = "\n".join(line for seed in seeds for line in run(seed).told())
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_seed_is_one_trace_in_every_process() -> None:
    seeds = range(200, 215)
    program = f"from tests.simulation.test_simulation import digest; print(digest({seeds!r}))"
    told = set()
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True
        )
        told.add(done.stdout.decode().strip())
    assert told == {digest(seeds)}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_mistake_is_found(name: str) -> None:
    with mutated(name):
        first = RARE.get(name, 1)
        scenario = SCENARIOS.get(name, PLAIN)
        assert any(run(seed, scenario).problems for seed in range(first, first + SEEDS_MAX))
