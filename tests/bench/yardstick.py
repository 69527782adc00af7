"""What benchmarks share: CPU time of a process, medians of ratios, a table.

Figures are CPU time of the proxy process per unit of work, measured side by side in one run,
because wall-clock numbers of a shared machine lie. Nothing here decides whether a test passes.
"""

import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that the process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS_PER_S


@dataclass
class Series:
    """One kind of work: microseconds of CPU per unit, by contestant, one figure a round."""

    work: str
    required: float
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, us_per_unit: float) -> None:
        self.rounds.setdefault(name, []).append(us_per_unit)

    def row(self, ours: str, theirs: str) -> str:
        """The medians, and the median of the ratios of the same round."""
        mine, yard = self.rounds[ours], self.rounds[theirs]
        ratio = statistics.median(a / b for a, b in zip(mine, yard, strict=True) if b)
        return (
            f"{self.work:44} {statistics.median(mine):9.1f} {statistics.median(yard):9.1f}"
            f" {ratio:6.2f}x   required {self.required:.2f}x"
        )


def save(path: Path | None, found: object) -> None:
    """Figures for tools, if a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n")


def measured(pid: int, work: Callable[[], int]) -> float:
    """Microseconds of the process's CPU per unit; `work` returns how many units it did."""
    before_s = cpu_s(pid)
    units = work()
    return (cpu_s(pid) - before_s) / max(units, 1) * 1e6


def need(program: str) -> str:
    """The path of a program, or a clear end."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        raise SystemExit(f"{program} is not installed: make servers")
    return found


def output_of(*command: str) -> str:
    """What the command printed, both streams."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
