"""The proxy of the demo: `backstay run` as users start it, a process with a settings file.

What it did is read from its log, the JSON lines that users would read.
"""

import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

from proxy.demo.child import Child, remove_folder, scratch_folder
from proxy.demo.ports import free_port

POSTGRES_PORT: Final = 6432
REDIS_PORT: Final = 6380
ADMIN_PORT: Final = 9127
STOP_S_MAX: Final = 10.0
PROBE_S_MAX: Final = 2.0

RUN_AGAIN: Final = ("resend", "read_only")  # verdicts of `link_lost` that send a unit once more


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the proxy listens on 127.0.0.1."""

    postgres: int
    redis: int
    admin: int

    @classmethod
    def choose(cls, usual: bool) -> Self:
        """The usual ports where they are free, if wanted; else any."""
        wanted = (POSTGRES_PORT, REDIS_PORT, ADMIN_PORT)
        return cls(*(port if usual and _free(port) else free_port() for port in wanted))


class Front:
    """One proxy process. `settings` is its YAML as data."""

    def __init__(self, settings: dict[str, Any], ports: Ports) -> None:
        self.ports = ports
        self.counts: Counter[str] = Counter()
        self._folder = scratch_folder()
        self._file = self._folder / "backstay.yaml"
        self._file.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
        self._file.chmod(0o600)  # the upstream's password stands in it
        self.log = self._folder / "backstay.log"
        self._read_bytes = 0
        package = str(Path(__file__).resolve().parents[2])  # also from a checkout, not installed
        self._child = Child(
            [sys.executable, "-m", "proxy", "run", "-c", str(self._file)],
            self.log,
            environment={"PYTHONPATH": os.pathsep.join([package, *_python_path()])},
        )

    def start(self) -> Self:
        """Start, and wait until it listens. Raises ServerError with the end of its log."""
        self._child.start()
        self._child.wait_ready(lambda: self.look()["started"] > 0)
        return self

    def running(self) -> bool:
        """Whether the process exists."""
        return self._child.running()

    def last_lines(self) -> str:
        """The end of its log."""
        return self._child.log_tail()

    def close(self) -> None:
        """SIGTERM, wait, remove its files."""
        self._child.end(signal.SIGTERM, STOP_S_MAX)
        remove_folder(self._folder)

    def look(self) -> Counter[str]:
        """Read what is new in the log: events by name, and `run_again` for units sent again."""
        for event in self._new_events():
            self.counts[str(event.get("event"))] += 1
            verdicts = event.get("verdicts") or ()
            self.counts["run_again"] += sum(1 for verdict in verdicts if verdict in RUN_AGAIN)
        return self.counts

    def dashboard(self) -> str | None:
        """The address of its dashboard, if it answers there."""
        address = f"http://127.0.0.1:{self.ports.admin}/"
        try:
            with urllib.request.urlopen(address, timeout=PROBE_S_MAX) as answer:
                return address if answer.status == 200 else None
        except (OSError, urllib.error.URLError):
            return None

    def _new_events(self) -> Iterator[dict[str, Any]]:
        with self.log.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may still be under way
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # not an event: a traceback of Python itself
            if isinstance(event, dict):
                yield event


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
