"""python -m tests.simulation SEED [--trace]: one run.  --runs N --from SEED: many."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation import world
from tests.simulation.redis import world as redis_world

RUNS = {"postgres": world.run, "redis": redis_world.run}


def main() -> int:
    """Exit status 1 if any run went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="replay this run")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--dialect", choices=RUNS, default="postgres")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=1)
    asked = parser.parse_args()
    seeds = [asked.seed] if asked.seed is not None else range(asked.first, asked.first + asked.runs)
    run = RUNS[asked.dialect]
    began_s, seen, failed = time.perf_counter(), Counter[str](), []
    for seed in seeds:
        outcome = run(seed)
        seen += outcome.seen
        if asked.trace:
            print(*outcome.told(), sep="\n")
        if outcome.problems:
            failed.append(seed)
            print(f"seed {seed}: ", "\n    ".join(outcome.problems[:5]))
    took_s = time.perf_counter() - began_s
    print(*(f"{count:8} {name}" for name, count in sorted(seen.items())), sep="\n")
    rate = len(seeds) / took_s * 60
    print(f"{len(seeds)} runs, {rate:.0f} a minute, {len(failed)} failed: {failed[:20]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
