"""Where the demo prints: redrawn on a terminal, plain lines elsewhere, colours as asked for."""

import io
import os

import pytest

from proxy.demo.watch import Terminal
from tests.unit.demo.scenes import scene


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines_now_and_then() -> None:
    stream = io.StringIO()
    watch = Terminal(stream, {})
    made = scene()
    for tenth in range(50):
        made.elapsed_s = tenth / 10
        watch.tick(made)
    lines = stream.getvalue().splitlines()
    assert [line[:6] for line in lines] == ["   0 s", "   2 s", "   4 s"]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_is_redrawn_in_place() -> None:
    stream = Tty()
    watch = Terminal(stream, {"TERM": "xterm"})
    made = scene()
    watch.tick(made)
    height = stream.getvalue().count("\n")
    watch.tick(made)
    assert f"\x1b[{height}F" in stream.getvalue()
    watch.end(made, [])
    assert stream.getvalue().count("F\x1b[2K") == 1


@pytest.mark.parametrize(
    ("env", "colours", "redraws"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),  # no-color.org: empty does not count
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_colours_and_redrawing(env: dict[str, str], colours: bool, redraws: bool) -> None:
    stream = Tty()
    watch = Terminal(stream, env)
    watch.tick(scene())
    watch.end(scene(), [])
    assert ("\x1b[32m" in stream.getvalue()) is colours
    assert ("\x1b[2K" in stream.getvalue()) is redraws


def test_no_line_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((30, 24)))
    stream = Tty()
    Terminal(stream, {"TERM": "xterm"}).tick(scene())
    lines = stream.getvalue().replace("\x1b[2K", "").splitlines()
    assert max(map(len, lines)) < 30


def test_introduction_and_progress_are_written() -> None:
    stream = io.StringIO()
    watch = Terminal(stream, {})
    watch.say("starting PostgreSQL …")
    watch.begin(scene())
    assert stream.getvalue().startswith("starting PostgreSQL …\n")
    assert "Backstay demo: PostgreSQL 17.10 over TLS" in stream.getvalue()
