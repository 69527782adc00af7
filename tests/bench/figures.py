"""What a benchmark found: rows, the closing table, and the JSON that docs/bench.json is.

    {"date", "commit", "machine", "python", "compiled", "rounds",
     "rows": [{"name", "unit", "ours", "yardstick", "beside", "ratio", "required", "goal",
               "at_least", "holds", "others": {name: figure},
               "latency_us": {name: [p50, p99]}}]}

`ratio` is ours / yardstick, of rates where `at_least`, else of costs. Without a yardstick it is
null, and `ours` itself is held against `required` and `goal`.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proxy.postgres.protocol.framing import COMPILED


@dataclass(frozen=True)
class Target:
    """What a figure has to be, and what it should be. `at_least`: higher is better."""

    required: float | None = None
    goal: float | None = None
    at_least: bool = False

    def holds(self, found: float) -> bool | None:
        """Whether the figure is good enough; None if nothing is asked."""
        return None if self.required is None else self._reaches(found, self.required)

    def reaches_goal(self, found: float) -> bool:
        return self.goal is not None and self._reaches(found, self.goal)

    def _reaches(self, found: float, wanted: float) -> bool:
        return found >= wanted if self.at_least else found <= wanted


@dataclass(frozen=True)
class Row:
    """One kind of work. `beside`: who the yardstick is; `others`: who else ran it, same unit."""

    name: str
    unit: str
    ours: float
    target: Target
    beside: str = ""
    yardstick: float | None = None
    ratio: float | None = None
    others: dict[str, float] = field(default_factory=dict)
    latency_us: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def judged(self) -> float:
        """The figure that the target is about."""
        return self.ours if self.ratio is None else self.ratio

    @property
    def cost(self) -> float | None:
        """Ours in units of the yardstick's, lower is better; None without a yardstick."""
        if self.ratio is None:
            return None
        return 1 / self.ratio if self.target.at_least else self.ratio

    @property
    def cost_required(self) -> float | None:
        """The same of what is required."""
        if self.ratio is None or self.target.required is None:
            return None
        return 1 / self.target.required if self.target.at_least else self.target.required

    @property
    def verdict(self) -> str:
        """In one word: goal, yes, no, or nothing."""
        holds = self.target.holds(self.judged)
        if holds and self.target.reaches_goal(self.judged):
            return "goal"
        return {True: "yes", False: "NO", None: ""}[holds]

    def as_json(self) -> dict[str, object]:
        """The row of docs/bench.json."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": _rounded(self.ours),
            "yardstick": _rounded(self.yardstick),
            "beside": self.beside or None,
            "ratio": _rounded(self.ratio),
            **asdict(self.target),
            "holds": self.target.holds(self.judged),
            "others": {name: _rounded(value) for name, value in self.others.items()},
            "latency_us": {
                name: [round(p50), round(p99)] for name, (p50, p99) in self.latency_us.items()
            },
        }


@dataclass(frozen=True)
class Run:
    """One run: when, of what, on what, and what it found."""

    date: str
    commit: str
    machine: str
    python: str
    rounds: int
    rows: tuple[Row, ...]
    compiled: bool = COMPILED

    def as_json(self) -> str:
        """The text of docs/bench.json."""
        head = {name: value for name, value in vars(self).items() if name != "rows"}
        return json.dumps({**head, "rows": [row.as_json() for row in self.rows]}, indent=1) + "\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _wanted(value: float | None, row: Row) -> str:
    if value is None:
        return ""
    sign = ">=" if row.target.at_least else "<="
    return f"{sign} {value:.2f}x" if row.ratio is not None else f"{sign} {_number(value)}"


def _latencies(row: Row) -> str:
    """p50/p99 in milliseconds, of each who has them."""
    return ", ".join(
        f"{name} {p50 / 1e3:.2f}/{p99 / 1e3:.2f}" for name, (p50, p99) in row.latency_us.items()
    )


_HEAD = (
    "work", "unit", "backstay", "yardstick", "", "ratio", "required", "goal", "holds",
    "ms, p50/p99",
)  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The closing table, a line for each row."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = []
    for line in lines:
        cells = [
            cell.rjust(width) if column in (2, 3, 5, 6, 7) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _cells(row: Row) -> tuple[str, ...]:
    others = "".join(f", {name} {_number(value)}" for name, value in row.others.items())
    return (
        row.name, row.unit, _number(row.ours), _number(row.yardstick), row.beside + others,
        "" if row.ratio is None else f"{row.ratio:.2f}x", _wanted(row.target.required, row),
        _wanted(row.target.goal, row), row.verdict, _latencies(row),
    )  # fmt: skip


def machine() -> str:
    """What the run ran on, without names: CPUs and kernel."""
    model = platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{os.cpu_count()} x {model}, {platform.system()} {kernel}"


def commit() -> str:
    """The commit that ran, with a + if files differ from it; empty outside a repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "proxy", "setup.py")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
