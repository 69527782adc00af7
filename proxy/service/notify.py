"""What systemd is told (sd_notify(3)): ready, reloading, stopping, alive, and a line of status.

One datagram to the socket named in $NOTIFY_SOCKET; nothing happens where there is none. A manager
that does not read is not waited for.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

WATCHDOG_PARTS = 3  # fed so many times within the manager's deadline


class Notifier:
    """Talks to the manager that started us, if any."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@name" is an abstract socket; vsock: and others are for virtual machines.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._usable = path.startswith(("/", "@"))
        self.watchdog_s = _watchdog_s(environ) / WATCHDOG_PARTS if self._usable else 0.0

    def ready(self, status: str) -> None:
        """The ports are open, or the reload that `reloading` began is over."""
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """Settings are being read; `ready` follows, whatever comes of it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reading settings")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._usable:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            sock.sendto(text.encode(), self._address)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Within which time the manager wants to hear from us, 0: never."""
    text = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 1e6 if meant and text.isascii() and text.isdigit() else 0.0
