"""Faults of the network itself, made by the kernel: in a network namespace of the campaign's own.

As root the campaign starts itself again in a new namespace (`unshare --net`), whose only device is
a loopback of its own: dropped segments and killed sockets there are nobody else's. What the hops
cannot do: a hop's silence is still acknowledged by its kernel, a dropped segment is not.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

INSIDE = "BACKSTAY_CAMPAIGN_NETWORK"
TOOLS = ("unshare", "ip", "nft", "ss")
TOOL_S_MAX = 10.0

_TABLE = """table inet campaign {
  chain faults {
    type filter hook input priority 0;
  }
}
"""


class NetworkError(Exception):
    """This machine does not let us; the text says why."""


def enter(module: str, words: Sequence[str]) -> str:
    """Run this module again in a namespace of its own (does not return), or say why not.

    "" means: this is the run inside.
    """
    if os.environ.get(INSIDE):
        return _prepare()
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a network namespace needs root"
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        _run(["unshare", "--net", "true"])
    except NetworkError as error:
        return str(error)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", module, *words])


def _prepare() -> str:
    try:
        _run(["ip", "link", "set", "lo", "up"])
        _run(["nft", "-f", "-"], _TABLE)
    except NetworkError as error:
        return str(error)
    return ""


class Network:
    """Breaks TCP between whoever is at these ports and everybody else."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ", ".join(map(str, sorted(ports)))

    @contextmanager
    def dropping(self) -> Iterator[None]:
        """Segments in both directions vanish meanwhile, also those that would tell of it."""
        rules = [
            f"add rule inet campaign faults tcp {side} {{ {self._ports} }} drop"
            for side in ("dport", "sport")
        ]
        _run(["nft", "-f", "-"], "\n".join(rules) + "\n")
        try:
            yield
        finally:
            _run(["nft", "flush", "chain", "inet", "campaign", "faults"])

    def kill_sockets(self) -> int:
        """The kernel destroys the proxy's ends (ECONNABORTED here, RST there); how many."""
        ports = " or ".join(f"dport = :{port}" for port in self._ports.split(", "))
        killed = _run(["ss", "-K", "-H", "-t", "-n", "state", "established", f"( {ports} )"])
        return len(killed.splitlines())


def _run(words: list[str], given: str = "") -> str:
    try:
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, timeout=TOOL_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        raise NetworkError(f"{words[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
