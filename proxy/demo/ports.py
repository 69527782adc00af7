"""Ports for servers and listeners that must keep their number across a restart.

Numbers come from below the kernel's ephemeral range: a port the kernel hands out by itself could be
taken by an outgoing connection while the server on it is down, and even connect to itself. Each
number is locked with flock for the life of this process, so parallel test runs do not meet.
"""

import errno
import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

FIRST_PORT: Final = 15_000
LAST_PORT: Final = 32_000

_held: list[int] = []  # descriptors whose locks live as long as the process
_next_port = FIRST_PORT + os.getpid() * 37 % (LAST_PORT - FIRST_PORT)


def free_port() -> int:
    """A TCP port free on 127.0.0.1 now, never handed out twice while this process lives.

    Raises OSError (EADDRINUSE) when the whole range is taken.
    """
    global _next_port
    for _ in range(FIRST_PORT, LAST_PORT):
        port = _next_port
        _next_port = port + 1 if port + 1 < LAST_PORT else FIRST_PORT
        if _bindable(port) and _lock(port):
            return port
    raise OSError(errno.EADDRINUSE, f"no free port between {FIRST_PORT} and {LAST_PORT}")


def _bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do, so that a port with closed connections in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _lock(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"backstay-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _held.append(descriptor)
    return True
