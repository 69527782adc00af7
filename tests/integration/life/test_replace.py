"""`run --replace`: the new process takes the old one's listening sockets over, and its cancels."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.demo.servers import PostgresServer
from tests.fix_backstay import ROOT, Backstay

pytestmark = pytest.mark.servers

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
CONNECTS = 60
ANSWER_S = 20.0

Make = Callable[..., Backstay]


@contextlib.contextmanager
def successor(old: Backstay, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has taken over from `old` as far as `--replace` goes."""
    path = folder / "new.log"
    with path.open("wb") as log:
        new = subprocess.Popen(
            [sys.executable, "-m", "proxy", "run", "--replace", "-c", str(old.file)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
        )
    try:
        end_s = time.monotonic() + ANSWER_S
        while '"event":"started"' not in path.read_text():
            assert new.poll() is None, path.read_text()
            assert time.monotonic() < end_s
            time.sleep(0.02)
        yield new
        assert new.poll() is None, path.read_text()
    finally:
        new.terminate()
        new.wait(ANSWER_S)


@pytest.fixture
def old(make_backstay: Make, postgres: PostgresServer, request: pytest.FixtureRequest) -> Backstay:
    return make_backstay(
        workers=getattr(request, "param", 1),
        postgres=[{"upstream": f"postgresql://127.0.0.1:{postgres.port}/app"}],
        admin={"listen": []},
        drain_s=10,
    )


def pids(proxy: Backstay) -> list[int]:
    """Of the process, and of its workers."""
    return [proxy.pid, *proxy.logged("worker_started", "pid")]


@pytest.mark.parametrize("old", [1, 2], indirect=True)
def test_nobody_waits_in_the_queue_of_the_old_one(old: Backstay, tmp_path: Path) -> None:
    """All connections reach a live process, also when the old one stands still and is killed."""
    with successor(old, tmp_path), contextlib.ExitStack() as stack:
        for pid in pids(old):
            os.kill(pid, signal.SIGSTOP)
        socks = [stack.enter_context(socket.socket()) for _ in range(CONNECTS)]
        for sock in socks:
            sock.settimeout(ANSWER_S)
            sock.connect(("127.0.0.1", old.port()))
            sock.sendall(SSL_REQUEST)
        for pid in reversed(pids(old)):
            os.kill(pid, signal.SIGKILL)
        assert [sock.recv(1) for sock in socks] == [b"N"] * CONNECTS


def test_connects_during_a_drain(old: Backstay, tmp_path: Path) -> None:
    """Hundreds of connects while the old one drains and ends: none is refused or reset."""
    over = threading.Event()
    answers: list[bytes] = []
    wrong: list[OSError] = []

    def connect() -> None:
        while not over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", old.port()), ANSWER_S) as sock:
                    sock.sendall(SSL_REQUEST)
                    answers.append(sock.recv(1))
            except OSError as error:
                wrong.append(error)

    threads = [threading.Thread(target=connect) for _ in range(8)]
    with successor(old, tmp_path):
        for thread in threads:
            thread.start()
        try:
            old.signal(signal.SIGTERM)
            while old.running():
                time.sleep(0.01)
            wanted = len(answers) + 100
            end_s = time.monotonic() + ANSWER_S
            while len(answers) < wanted and not wrong:
                assert time.monotonic() < end_s
                time.sleep(0.01)
        finally:
            over.set()
            for thread in threads:
                thread.join(ANSWER_S)
    assert not wrong
    assert set(answers) == {b"N"}


@pytest.mark.parametrize("old", [1, 2], indirect=True)
def test_a_cancel_finds_the_session_that_stayed_behind(old: Backstay, tmp_path: Path) -> None:
    """The old process drains; the CancelRequest can only reach the new one."""
    with psycopg.connect(old.dsn(), autocommit=True) as session, successor(old, tmp_path):
        session.execute("begin")
        session.execute("select 1")
        old.signal(signal.SIGTERM)
        end_s = time.monotonic() + ANSWER_S
        while not old.logged("draining", "event"):
            assert time.monotonic() < end_s
            time.sleep(0.01)

        def cancel() -> None:
            time.sleep(0.3)  # while it runs; a cancel that comes too early does nothing
            session.cancel_safe(timeout=10)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute("select pg_sleep(30)")
        finally:
            canceller.join(ANSWER_S)


def test_a_new_process_that_fails_takes_nothing_away(old: Backstay, tmp_path: Path) -> None:
    """It has the sockets, and dies: the old one serves on."""
    with successor(old, tmp_path) as new:
        new.kill()
        new.wait(ANSWER_S)
        for _ in range(20):
            with psycopg.connect(old.dsn(), autocommit=True) as session:
                assert session.execute("select 1").fetchone() == (1,)
        new.poll = lambda: None  # type: ignore[method-assign]
