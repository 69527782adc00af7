"""As systemd starts it: ready, watched, reloading, stopping; its sockets taken over. Restarts."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer
from tests.fix_backstay import ROOT, Backstay
from tests.integration.life.load import Load, logged, returning

pytestmark = pytest.mark.servers

# The manager's part between fork and exec: descriptors from 3 on, and LISTEN_PID.
EXEC = """
import os, sys
count = int(sys.argv[1])
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(count)
os.execv(sys.executable, [sys.executable, "-m", "proxy", "run", "-c", sys.argv[2]])
"""


class Manager:
    """A service manager of our own: a notify socket, and the sockets it holds."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.file = folder / "backstay.yaml"
        self.file.write_text(yaml.safe_dump(config))
        self._log = folder / "log"
        self._path = folder / "notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._path))
        self._notify.settimeout(20)

    def start(self, socks: list[socket.socket]) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(self._path),
            "WATCHDOG_USEC": "600000",
        }
        descriptors = [sock.fileno() for sock in socks]

        def dup() -> None:
            # High first: a descriptor that is still to be moved must not be overwritten.
            high = [os.dup2(fd, 200 + index) for index, fd in enumerate(descriptors)]
            for index, fd in enumerate(high):
                os.dup2(fd, 3 + index, inheritable=True)

        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", EXEC, str(len(socks)), str(self.file)],
                env=environment,
                stderr=log,
                preexec_fn=dup,
                close_fds=False,
            )

    def hear(self, word: str) -> str:
        """The next datagram with this word; others are skipped."""
        while word not in (text := self._notify.recv(4000).decode()):
            pass
        return text

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self._notify.close()


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            sock.listen(100)
            socks.append(sock)
        yield socks


@pytest.mark.parametrize("workers", [1, 2])
def test_activation_notify_watchdog(
    tmp_path: Path, postgres: PostgresServer, listening: list[socket.socket], workers: int
) -> None:
    """Who connects while nobody runs waits in the manager's socket, and is served."""
    port, admin = (sock.getsockname()[1] for sock in listening)
    config = {
        "workers": workers,
        "postgres": [
            {
                "listen": f"127.0.0.1:{port}",
                "upstream": f"postgresql://127.0.0.1:{postgres.port}/app",
            }
        ],
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "log": {"format": "json"},
    }
    manager = Manager(tmp_path, config)
    dsn = f"postgresql://postgres:x@127.0.0.1:{port}/app"
    with contextlib.closing(manager):
        process = manager.start(listening)
        try:
            assert f"127.0.0.1:{port}" in manager.hear("READY=1")
            psycopg.connect(dsn).close()
            manager.hear("WATCHDOG=1")
            manager.hear("WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in manager.hear("RELOADING=1")
            manager.hear("READY=1")
            process.send_signal(signal.SIGTERM)
            manager.hear("STOPPING=1")
            assert process.wait(20) == 0, manager.log()
            with socket.create_connection(("127.0.0.1", port)) as waiting:
                waiting.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
                process = manager.start(listening)
                manager.hear("READY=1")
                waiting.settimeout(10)
                assert waiting.recv(1) == b"N"
        finally:
            process.terminate()
            process.wait(20)


def test_a_socket_nobody_listens_on(tmp_path: Path, listening: list[socket.socket]) -> None:
    config = {"redis": [{"listen": f"127.0.0.1:{free_port()}", "upstream": "redis://h"}]}
    config["admin"] = {"listen": []}  # type: ignore[assignment]
    manager = Manager(tmp_path, config)
    with contextlib.closing(manager):
        process = manager.start(listening)
        assert process.wait(20) == 78
        port = listening[0].getsockname()[1]
        assert f"inherited socket 127.0.0.1:{port}: no route listens there" in manager.log()


def test_restart_under_load(
    make_backstay: Callable[..., Backstay], postgres: PostgresServer, tmp_path: Path
) -> None:
    """Two processes share the ports; the old one drains: nobody is cut off, refused or reset."""
    upstream = f"postgresql://127.0.0.1:{postgres.port}/app"
    old = make_backstay(postgres=[{"upstream": upstream}], admin={"listen": []}, drain_s=10)
    refused = subprocess.run(
        [sys.executable, "-m", "proxy", "run", "-c", str(old.file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert refused.returncode == 78
    assert "Address already in use" in refused.stderr
    with Load(returning(old.dsn()), 8) as working, (tmp_path / "new.log").open("wb") as log:
        new = subprocess.Popen(
            [sys.executable, "-m", "proxy", "run", "--replace", "-c", str(old.file)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
        )
        try:
            end_s = time.monotonic() + 20
            while '"started"' not in (tmp_path / "new.log").read_text():
                assert time.monotonic() < end_s
                time.sleep(0.02)
            old.signal(signal.SIGTERM)
            logged_end = time.monotonic() + 15
            while old.running():
                assert time.monotonic() < logged_end
                time.sleep(0.02)
            working.returned(8)
            working.progress(100)
        finally:
            working.__exit__()
            new.terminate()
            new.wait(20)
    assert not working.errors
    assert '"event":"stopped"' in logged(old, "draining") or not old.running()
