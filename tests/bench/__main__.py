"""Every benchmark in one run, with one closing table: `make bench`, or python -m tests.bench.

--quick         one short round of each: under two minutes, and only a hint
--only WORD     rows whose name has this word
--out FOLDER    where bench.json and bench.svg go (full form: docs; else bench-results)
"""

import argparse
import datetime
import platform
from pathlib import Path

from proxy.postgres.protocol.framing import COMPILED
from tests.bench import bench_postgres, bench_recovery, bench_redis
from tests.bench.chart import svg
from tests.bench.figures import Row, Run, commit, machine, table
from tests.bench.yardstick import FULL, QUICK, Budget


def measure(budget: Budget, only: str) -> list[Row]:
    """All rows; each is shown as soon as it is there."""
    rows: list[Row] = []
    for bench in (bench_postgres, bench_recovery, bench_redis):
        for row in bench.rows(budget, only):
            rows.append(row)
            shown = f"{row.judged:.2f}" + ("x" if row.ratio is not None else f" {row.unit}")
            print(f"  {row.name}: {shown} {row.verdict}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="a hint, in under two minutes")
    parser.add_argument("--only", default="", help="rows whose name has this word")
    parser.add_argument("--out", type=Path, help="where bench.json and bench.svg go")
    given = parser.parse_args()
    budget = QUICK if given.quick else FULL
    print(f"{machine()}; Backstay {'compiled' if COMPILED else 'interpreted'}", flush=True)
    today, ran = datetime.datetime.now(datetime.UTC).date().isoformat(), commit()
    rows = measure(budget, given.only)
    run = Run(today, ran, machine(), platform.python_version(), budget.rounds, tuple(rows))
    whole = not (given.quick or given.only)
    folder = given.out or Path("docs" if whole else "bench-results")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(run.as_json())
    (folder / "bench.svg").write_text(svg(run))
    print(f"\n{table(rows)}\n\nin {folder}: bench.json, bench.svg", flush=True)


if __name__ == "__main__":
    main()
