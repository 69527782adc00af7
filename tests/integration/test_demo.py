"""`backstay demo` on real servers: says 0 when all is well, and finds it out when it is not."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.child import descendants
from proxy.demo.play import Options, Scene, play
from proxy.demo.strikes import Striker

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(150)]


class Quiet:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.scene: Scene | None = None
        self.problems: Sequence[str] = ()

    def say(self, text: str) -> None:
        pass

    def begin(self, scene: Scene) -> None:
        self.scene = scene

    def tick(self, scene: Scene) -> None:
        pass

    def end(self, scene: Scene, problems: Sequence[str]) -> None:
        self.problems = problems


def start(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_once_is_faultless() -> None:
    process = start("--once", "--seed", "11")
    output, _ = process.communicate(timeout=140)
    assert process.returncode == 0, output
    verdict = output.splitlines()[-1]
    told = re.fullmatch(r"direct: (\d+) errors?, through Backstay: 0", verdict)
    assert told, output
    assert int(told[1]) > 5, "the strikes did nothing to the direct side"
    assert "server restart" in output
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/$", output, re.MULTILINE)


async def test_every_kind_of_strike_comes_about() -> None:
    watch = Quiet()
    code = await play(Options(seconds=12, seed=3, cut_every_s=0.5, usual_ports=False), watch)
    assert code == 0, watch.problems
    assert watch.scene is not None
    striker = watch.scene.striker
    assert striker.skipped == []
    assert {"reset", "server restart", "terminate in a write", "close in a read"} <= set(
        striker.done
    )
    tally = watch.scene.through.tally
    assert tally.errors.total() == len(tally.wrong) == 0
    assert watch.scene.counts["run_again"] > 0
    assert watch.scene.counts["restored"] >= 8
    assert len(tally.acknowledged) > 50
    cache = watch.scene.cache
    assert cache.links_cut > 8
    # 2 of 28 reads of a request, and the one that looks for a write, each anew after a cut.
    assert cache.through.tally.upstream_reads < cache.through.tally.reads / 4
    assert cache.through.tally.request_ms < cache.direct.tally.request_ms / 3


@pytest.mark.parametrize(
    ("resilience", "word"),
    [({"replay": "off"}, "result interrupted|rolled back"), ({"hold_s": 0}, "waited 0 s|0 s")],
)
async def test_a_weaker_proxy_is_found_out(resilience: dict[str, Any], word: str) -> None:
    watch = Quiet()
    options = Options(seconds=8, cut_every_s=0.5, usual_ports=False, resilience=resilience)
    assert await play(options, watch) == 1
    assert re.search(word, "\n".join(watch.problems)), watch.problems


async def test_strikes_anywhere_give_honest_errors_and_a_right_ledger() -> None:
    watch = Quiet()
    options = Options(seconds=10, cut_every_s=0.3, anywhere=True, usual_ports=False)
    assert await play(options, watch) == 0, watch.problems
    assert watch.scene is not None
    assert watch.scene.through.tally.codes["08007"] > 0
    assert watch.scene.balances["backstay"].unknown > 0


async def test_a_proxy_that_dies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Quiet()
    real = Striker.run

    async def run(self: Striker, *words: Any) -> None:
        assert watch.scene is not None
        watch.scene.front._child.kill_tree()
        await real(self, *words)

    monkeypatch.setattr(Striker, "run", run)
    assert await play(Options(seconds=3, usual_ports=False), watch) == 1
    assert "ended by itself" in watch.problems[0]


def test_an_interrupt_ends_everything_in_order() -> None:
    with start("--seconds", "60") as process:
        assert process.stdout is not None
        shown = ""
        for line in process.stdout:
            if "through Backstay:" in line:
                break
            if told := re.search(r"dashboard: (http\S+)", line):
                with urllib.request.urlopen(told[1]) as page:
                    shown = page.read().decode()
        assert "<title>Backstay</title>" in shown
        family = descendants(process.pid)
        assert len(family) > 2
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert "through Backstay: 0" in output.splitlines()[-1]
    deadline_s = time.monotonic() + 10
    while any(map(_alive, family)):
        assert time.monotonic() < deadline_s, "processes are left behind"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
