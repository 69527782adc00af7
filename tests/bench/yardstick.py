"""What benchmarks share: CPU time of a process, rounds in turn, programs that must be there.

Figures are CPU time of the proxy process per unit of work, measured side by side in one run,
because wall-clock numbers of a shared machine lie. Nothing here decides whether a test passes.
"""

import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Budget:
    """How long a benchmark may take: rounds, and the seconds of one contestant in one round."""

    rounds: int
    seconds: float
    quick: bool = False


FULL = Budget(rounds=5, seconds=1.0)
QUICK = Budget(rounds=1, seconds=1.0, quick=True)


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that the process's living threads have used.

    The scheduler counts nanoseconds; where it does not (no CONFIG_SCHED_INFO), ticks of 10 ms.
    """
    try:
        tasks = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    except (FileNotFoundError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS_PER_S


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value that so many percent of them do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of the same round: what disturbs one round disturbs both."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True) if b)


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


def output_of(*command: str, **environment: str) -> str:
    """What the command printed, both streams."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout + done.stderr


def await_port(port: int) -> None:
    """Returns when something accepts connections there."""
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")
