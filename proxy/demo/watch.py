"""Where the demo prints: a few lines kept up to date on a terminal, plain lines elsewhere."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from proxy.demo import story
from proxy.demo.play import Scene

PLAIN_EVERY_S: Final = 2.0
_PAINT: Final = re.compile(r"\x1b\[\d*m")


class Terminal:
    """Writes to a stream; redraws its last lines if that is a terminal. Colours: no-color.org."""

    def __init__(self, stream: TextIO, env: Mapping[str, str] | None = None) -> None:
        env = os.environ if env is None else env
        self._stream = stream
        self._redraws = stream.isatty() and env.get("TERM") != "dumb"
        self._colours = self._redraws and not env.get("NO_COLOR")
        self._drawn = 0  # lines to go back
        self._next_s = 0.0

    def say(self, text: str) -> None:
        """A line about what is being done."""
        self._write([self._paint(text, story.DIM)])

    def begin(self, scene: Scene) -> None:
        """What this is and what to try."""
        self._write(story.introduction(scene, self._paint))

    def tick(self, scene: Scene) -> None:
        """The counts of now."""
        if self._redraws:
            back = f"\x1b[{self._drawn}F" if self._drawn else ""
            lines = [_cut(line) for line in story.panel(scene, self._paint)]
            self._stream.write(back + "".join(f"\x1b[2K{line}\n" for line in lines))
            self._stream.flush()
            self._drawn = len(lines)
        elif scene.elapsed_s >= self._next_s:
            self._next_s = scene.elapsed_s + PLAIN_EVERY_S
            self._write([story.one_line(scene)])

    def end(self, scene: Scene, problems: Sequence[str]) -> None:
        """The result."""
        self._drawn = 0
        self._write(story.result(scene, problems, self._paint))

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text

    def _write(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()


def _cut(line: str) -> str:
    """A line that wraps would make the way back too short."""
    columns = shutil.get_terminal_size().columns
    plain = _PAINT.sub("", line)
    return line if len(plain) < columns else plain[: columns - 1]
