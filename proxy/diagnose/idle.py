"""Links left idle for growing times: after how many seconds does the path kill them, and how.

Each link is opened, logged in, and left alone for a time of its own; then it is asked something.
One more is kept alive by TCP keepalive, one by a request each second: they show what helps. FIN and
RST are seen when they come, silence when the link is asked.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from proxy.diagnose.facts import IdleFacts, IdleLink
from proxy.diagnose.threads import side_by_side

FIRST_S = (1.0, 2.0)
LINKS_MAX = 20
LINKS_MIN = 4
CARES = ("keepalive", "ping")
CARE_S = 1.0


class ProbeLink(Protocol):
    """One logged-in connection."""

    def socket(self) -> socket.socket:
        """A duplicate of its socket; the caller closes it."""

    def ask(self) -> tuple[str, str]:
        """The smallest round trip. ("", ""), or (fin | rst | silence, the server's last words)."""

    def close(self) -> None:
        """Let go."""


Open = Callable[[], ProbeLink]


def times(until_s: float, links_max: int = LINKS_MAX) -> list[float]:
    """1, 2, 3, 5, 8, 13 … s, and `until_s` itself as the last; thinned out to `links_max`."""
    one, two = FIRST_S
    steps = [one]
    while two < until_s:
        steps.append(two)
        one, two = two, one + two
    steps = [step for step in steps if step < until_s] + [until_s]
    if len(steps) <= links_max:
        return steps
    stride = (len(steps) - 1) / max(1, links_max - 1)
    return sorted({steps[len(steps) - 1 - round(n * stride)] for n in range(links_max)})


def probe(open_link: Open, until_s: float, links_max: int = LINKS_MAX) -> IdleFacts:
    """Open the links, wait, and say how each of them fared. What opening raises comes out."""
    with contextlib.ExitStack() as stack:
        works = []
        for idle_s, care in (
            *((idle_s, "none") for idle_s in times(until_s, links_max - len(CARES))),
            *((until_s, care) for care in CARES),
        ):
            link = open_link()
            stack.callback(link.close)
            works.append(partial(_leave, link, idle_s, care))
        return IdleFacts(side_by_side(works), until_s)


def _leave(link: ProbeLink, idle_s: float, care: str) -> IdleLink:
    """Leave the link alone and tell how it fared."""
    began_s = time.monotonic()
    with link.socket() as watched:
        if watched.family != socket.AF_UNIX:
            _set_keepalive(watched, care == "keepalive")
        while True:
            past_s = time.monotonic() - began_s
            wait_s = max(0.0, idle_s - past_s)
            ready = select.select(
                [watched], [], [], min(wait_s, CARE_S) if care == "ping" else wait_s
            )
            past_s = time.monotonic() - began_s
            ended, words = _peek(watched) if ready[0] else ("", "")
            if (
                ended != "rst"
            ):  # a reset is the end of the matter; the error is gone once it is read
                asked, words = link.ask()
                ended = asked or ended
            if ended or past_s >= idle_s:
                return IdleLink(round(past_s, 2), ended, care, words)
            if care != "ping":
                began_s = time.monotonic()  # the server said something: the silence begins anew


def _set_keepalive(watched: socket.socket, on: bool) -> None:
    watched.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(on))
    if on:
        watched.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(CARE_S))
        watched.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, int(CARE_S))


def _peek(watched: socket.socket) -> tuple[str, str]:
    """(fin | rst | "", ""): what came in; "" for bytes, which the link itself has to read."""
    try:
        return ("" if watched.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) else "fin"), ""
    except BlockingIOError:
        return "", ""
    except OSError:
        return "rst", ""
