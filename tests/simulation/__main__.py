"""python -m tests.simulation SEED [--trace]: one run.  --runs N --from SEED: many.

Many are shared out among --jobs processes; what is found is the same with any number of them.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

from tests.simulation.many import RUNS, Runs, one_by_one, shared_out

INTERRUPTED = 128 + signal.SIGINT


def in_processes(dialect: str, seeds: range, jobs: int) -> Runs:
    """These runs, behind a line that says where they are made."""
    with shared_out(dialect, seeds, jobs) as runs:
        print(f"{len(seeds)} runs of {dialect} from seed {seeds[0]} in {jobs} processes")
        sys.stdout.flush()
        yield from runs


def tell(runs: Runs, began_s: float) -> int:
    """Print what went wrong and, at the end, what was seen. Returns the exit status."""
    done, seen, failed, status = 0, Counter[str](), list[int](), 0
    try:
        with closing(runs):
            for told in (one for some in runs for one in some):
                done += 1
                seen += told.seen
                if told.problems:
                    failed.append(told.seed)
                    print(f"seed {told.seed}: ", "\n    ".join(told.problems[:5]), flush=True)
    except KeyboardInterrupt:
        status = INTERRUPTED
        print("interrupted")
    except BrokenProcessPool as error:
        status = 1
        print(f"a process died behind the first {done} runs, or in one of the next: {error}")
    rate = done / (time.perf_counter() - began_s) * 60
    print(*(f"{count:8} {name}" for name, count in sorted(seen.items())), sep="\n")
    print(f"{done} runs, {rate:.0f} a minute, {len(failed)} failed: {failed[:20]}")
    return status or bool(failed)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 if any run went wrong, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="replay this run")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--dialect", choices=RUNS, default="postgres")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--from", dest="first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    asked = parser.parse_args(arguments)
    began_s = time.perf_counter()
    seeds = range(asked.first, asked.first + asked.runs)
    if asked.seed is not None:
        seeds = range(asked.seed, asked.seed + 1)
    jobs = min(asked.jobs, len(seeds))
    if asked.trace or jobs < 2:
        return tell(one_by_one(asked.dialect, seeds, asked.trace), began_s)
    return tell(in_processes(asked.dialect, seeds, jobs), began_s)


if __name__ == "__main__":
    sys.exit(main())
