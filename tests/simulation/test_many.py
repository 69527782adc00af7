"""Many runs at once: told in the order of their seeds, whatever happens to one or to all."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from tests.simulation import __main__ as program
from tests.simulation import many
from tests.simulation.world import Outcome

ROOT = Path(__file__).resolve().parents[2]
ENDS_S = 60.0  # for processes that have been told to end, on a machine that is busy
STARTED = b"100000 runs of redis from seed 1 in 2 processes\n"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status, and what was printed but for the rate."""
    status = program.main(list(arguments))
    return status, re.sub(r"\d+ a minute", "", capsys.readouterr().out)


@contextmanager
def started() -> Iterator[subprocess.Popen[bytes]]:
    """More runs than anybody waits for, in two processes that have been started."""
    arguments = ["--dialect", "redis", "--runs", "100000", "--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == STARTED
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Processes that this one has started, the first first."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("dialect", many.RUNS)
def test_two_processes_tell_what_one_tells(
    dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--dialect", dialect, "--runs", "13", "--from", "40"]
    alone = told(capsys, *wanted, "--jobs", "1")
    status, text = told(capsys, *wanted, "--jobs", "2")
    head, _, rest = text.partition("\n")
    assert head == f"13 runs of {dialect} from seed 40 in 2 processes"
    assert (status, rest) == alone
    assert "13 runs, , 0 failed: []" in rest


def test_a_run_that_dies_is_named_and_the_others_are_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(seed: int) -> Outcome:
        if seed == 4:
            raise ZeroDivisionError("of four")
        return Outcome(seed, ["wrong"] if seed == 2 else [])

    with mock.patch.dict(many.RUNS, postgres=run):
        status, text = told(capsys, "--runs", "5", "--jobs", "1")
    assert status == 1
    wrong, died, end = [line for line in text.splitlines() if line]
    assert wrong == "seed 2:  wrong"
    assert re.fullmatch(r"seed 4:  died at .*test_many.py:\d+: ZeroDivisionError: of four", died)
    assert end == "5 runs, , 2 failed: [2, 4]"


def test_an_interrupt_ends_all_processes_without_a_word_of_theirs() -> None:
    with started() as process:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        out, words = process.communicate(timeout=ENDS_S)
    assert process.returncode == program.INTERRUPTED
    assert words == b""
    assert out.startswith(b"interrupted\n") or b"\ninterrupted\n" in out
    assert b" a minute, 0 failed: []" in out


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the processes")
def test_a_process_that_is_killed_fails_the_runs() -> None:
    with started() as process:
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        out, _ = process.communicate(timeout=ENDS_S)
    assert process.returncode == 1
    assert b"a process died behind the first" in out
