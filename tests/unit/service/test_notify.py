"""What the service manager is told: a real socket, by path and abstract, or nobody."""

import os
import socket
from pathlib import Path

import pytest

from proxy.service.notify import Notifier


def heard(sock: socket.socket) -> list[str]:
    return sock.recv(1000).decode().split("\n")


@pytest.mark.parametrize("abstract", [False, True])
def test_words(tmp_path: Path, abstract: bool) -> None:
    name = f"@backstay-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(2)
        notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"})
        assert notifier.watchdog_s == pytest.approx(1.0)
        notifier.ready("serving")
        assert heard(manager) == ["READY=1", "STATUS=serving", f"MAINPID={os.getpid()}"]
        notifier.reloading()
        first, second, _ = heard(manager)
        assert first == "RELOADING=1"
        assert second.startswith("MONOTONIC_USEC=")
        assert int(second.partition("=")[2]) > 0
        notifier.stopping("bye")
        assert heard(manager) == ["STOPPING=1", "STATUS=bye"]
        notifier.alive()
        assert heard(manager) == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/no/such/place"}]
)
def test_nobody_listens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.ready("x")
    notifier.alive()


def test_another_process_is_watched() -> None:
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    assert Notifier(environ).watchdog_s == 0
