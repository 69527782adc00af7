"""Listeners: every spec, files of dead processes, options of accepted sockets, systemd."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core.errors import ConfigError
from proxy.net.keepalive import Keepalive
from proxy.net.listen import (
    Listener,
    ListenOptions,
    inherited_sockets,
    is_local,
    listen,
    open_sockets,
    split_host_port,
    unix_path,
)
from tests.unit.net.wires import OPENED, PEERS, Recorder, turns

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]


class Accepted(Recorder):
    """Registers itself, so that the test can find it."""

    def __init__(self, made: list["Accepted"]) -> None:
        super().__init__()
        made.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        OPENED.append(transport)  # type: ignore[arg-type]
        super().connection_made(transport)


def dial(address: str) -> socket.socket:
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
    else:
        host, port = split_host_port(address)
        sock = socket.create_connection((host, port))
    PEERS.append(sock)
    return sock


async def accepted(made: list[Accepted]) -> Accepted:
    while not made:
        await asyncio.sleep(0.001)
    await made[0].made.wait()
    return made.pop()


@pytest.mark.parametrize("spec", ["127.0.0.1:0", "localhost:0", "[::1]:0", "*:0"])
async def test_tcp_specs(spec: str) -> None:
    made: list[Accepted] = []
    listener = await listen(spec, lambda: Accepted(made), ListenOptions())
    assert listener.port > 0
    (address,) = listener.addresses
    dial(address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")).sendall(b"hi")
    server = await accepted(made)
    await server.until(2)
    assert server.received == b"hi"
    assert is_local(server.transport)
    listener.close()
    listener.close()


async def test_host_with_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost is two addresses: both, on the same port; without IPv6, one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loop = asyncio.get_running_loop()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
    ]

    class Loop:
        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            return found

    monkeypatch.setattr("asyncio.get_running_loop", Loop)
    socks = await open_sockets(f"localhost:{port}", ListenOptions())
    assert [sock.getsockname()[:2] for sock in socks] == [("127.0.0.1", port), ("::1", port)]
    for sock in socks:
        sock.close()
    found[2] = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))
    socks = await open_sockets(f"localhost:{port}", ListenOptions())
    assert [sock.getsockname()[:2] for sock in socks] == [("127.0.0.1", port)]
    socks[0].close()
    found[:] = [found[2]]
    with pytest.raises(ConfigError, match="no such address on this machine"):
        await open_sockets(f"localhost:{port}", ListenOptions())


@pytest.mark.parametrize(
    "spec", ["", "5432", "host:", ":5432", "host:x", "host:65536", "::1:5432", "host:-1", "host:²"]
)
def test_specs_that_say_nothing(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"expected host:port"):
        split_host_port(spec)


async def test_port_in_use() -> None:
    first = await listen("127.0.0.1:0", Recorder, ListenOptions())
    spec = f"127.0.0.1:{first.port}"
    with pytest.raises(ConfigError, match=f"cannot listen on {spec}: Address already in use"):
        await listen(spec, Recorder, ListenOptions())
    first.close()
    again = await listen(spec, Recorder, ListenOptions())
    again.close()


async def test_unknown_host() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on no-such\.invalid:1: "):
        await listen("no-such.invalid:1", Recorder, ListenOptions())


async def test_workers_share_a_port() -> None:
    options = ListenOptions(reuse_port=True)
    first = await listen("127.0.0.1:0", Recorder, options)
    spec = f"127.0.0.1:{first.port}"
    with pytest.raises(ConfigError, match="Address already in use"):
        await listen(spec, Recorder, options)  # not by mistake
    second = await listen(spec, Recorder, replace(options, replace=True))
    assert second.port == first.port
    first.close()
    second.close()


async def test_a_unix_socket_changes_hands(tmp_path: Path) -> None:
    """Who connects reaches one or the other, and the old one leaves the new one's file alone."""
    path = str(tmp_path / "s")
    made: list[Accepted] = []
    old = await listen(path, Recorder, ListenOptions())
    options = ListenOptions(replace=True, unix_mode=0o660)
    waiting = Listener(await open_sockets(path, options), lambda: Accepted(made))
    assert waiting.addresses == [path]
    dial(path)
    assert not made
    await waiting.start(options)
    dial(path)
    await accepted(made)
    old.close()
    assert os.listdir(tmp_path) == ["s"]
    assert mode_of(path) == 0o660
    dial(path)
    await accepted(made)
    waiting.close()
    assert not os.listdir(tmp_path)


async def test_what_never_started_leaves_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    old = await listen(path, Recorder, ListenOptions())
    for spec in (path, str(tmp_path / "other"), "127.0.0.1:0"):
        options = ListenOptions(replace=True)
        Listener(await open_sockets(spec, options), Recorder).close()
    assert os.listdir(tmp_path) == ["s"]
    old.close()


async def test_a_listener_serves_another_route() -> None:
    first: list[Accepted] = []
    second: list[Accepted] = []
    listener = await listen("127.0.0.1:0", lambda: Accepted(first), ListenOptions())
    listener.retarget(lambda: Accepted(second))
    dial(listener.addresses[0])
    await accepted(second)
    assert not first
    listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="options are inherited from the listener")
async def test_accepted_sockets_have_the_options() -> None:
    made: list[Accepted] = []
    options = ListenOptions(keepalive=Keepalive(idle_s=11, interval_s=3, count=4))
    listener = await listen("127.0.0.1:0", lambda: Accepted(made), options)
    dial(listener.addresses[0])
    sock = (await accepted(made)).transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 11
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 22_500
    listener.close()


async def test_close_leaves_the_sessions() -> None:
    made: list[Accepted] = []
    listener = await listen("127.0.0.1:0", lambda: Accepted(made), ListenOptions())
    address = listener.addresses[0]
    client = dial(address)
    server = await accepted(made)
    listener.close()
    await turns(5)
    with pytest.raises(ConnectionRefusedError):
        dial(address)
    client.sendall(b"still here")
    await server.until(10)
    server.transport.write(b"me too")
    assert client.recv(10) == b"me too"


@pytest.mark.parametrize("unix", [False, True])
async def test_those_already_in_the_queue_are_served(tmp_path: Path, unix: bool) -> None:
    """They see an open connection: a reset would be an error of ours."""
    made: list[Accepted] = []
    spec = str(tmp_path / "s") if unix else "127.0.0.1:0"
    listener = await listen(spec, lambda: Accepted(made), ListenOptions())
    clients = [dial(listener.addresses[0]) for _ in range(3)]
    listener.close()  # in the same turn: the loop has accepted nobody yet
    for client in clients:
        client.sendall(b"hi")
    while len(made) < 3:
        await asyncio.sleep(0.001)
    for server in made:
        await server.until(2)
        server.transport.write(b"served")
    for client in clients:
        assert client.recv(10) == b"served"


# ---- Unix sockets --------------------------------------------------------------------------------


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_directory(tmp_path: Path, slash: str) -> None:
    made: list[Accepted] = []
    options = ListenOptions(unix_name=".s.PGSQL.6432", unix_mode=0o660)
    listener = await listen(f"{tmp_path}{slash}", lambda: Accepted(made), options)
    path = str(tmp_path / ".s.PGSQL.6432")
    assert listener.addresses == [path]
    assert mode_of(path) == 0o660
    dial(path).sendall(b"hi")
    server = await accepted(made)
    await server.until(2)
    assert is_local(server.transport)
    listener.close()
    assert not os.path.exists(path)


def test_unix_path(tmp_path: Path) -> None:
    assert unix_path(f"{tmp_path}/mine", "name") == f"{tmp_path}/mine"
    assert unix_path("/no/such/directory/", "name") == "/no/such/directory/name"


async def test_mode_is_exact_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        listener = await listen(str(tmp_path / "s"), Recorder, ListenOptions(unix_mode=0o666))
    finally:
        os.umask(old)
    assert mode_of(str(tmp_path / "s")) == 0o666
    listener.close()


async def test_file_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    made: list[Accepted] = []
    listener = await listen(path, lambda: Accepted(made), ListenOptions())
    dial(path)
    await accepted(made)
    listener.close()


@pytest.mark.parametrize("backlog", [5, 0])
async def test_file_of_a_living_process_is_respected(tmp_path: Path, backlog: int) -> None:
    """Also when its backlog is full: it is alive."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(path)
        alive.listen(backlog)
        for _ in range(backlog == 0 and 3):
            waiting = socket.socket(socket.AF_UNIX)
            PEERS.append(waiting)
            waiting.setblocking(False)
            waiting.connect_ex(path)
        with pytest.raises(ConfigError, match="Address already in use"):
            await listen(path, Recorder, ListenOptions())
        assert os.path.exists(path)


async def test_other_files_are_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigError, match="cannot listen on"):
        await listen(str(path), Recorder, ListenOptions())
    assert path.read_text() == "data"


async def test_successor_keeps_its_file(tmp_path: Path) -> None:
    """A restart with overlap: the old process must not remove the new one's file."""
    path = str(tmp_path / "s")
    old = await listen(path, Recorder, ListenOptions())
    os.rename(path, path + ".old")
    new = await listen(path, Recorder, ListenOptions())
    old.close()
    assert os.path.exists(path)
    new.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize("path", ["/no/such/directory/s", "/tmp/" + "x" * 200])
async def test_unusable_path(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on /"):
        await listen(path, Recorder, ListenOptions())


# ---- who is local --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peername", "local"),
    [
        (("127.0.0.1", 1), True),
        (("127.9.9.9", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("::ffff:10.0.0.1", 1, 0, 0), False),
        (("10.0.0.1", 1), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (("localhost", 1), False),
        (None, False),
        ("", False),
    ],
)
def test_is_local(peername: object, local: bool) -> None:
    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return peername if name == "peername" else default

    assert is_local(Transport()) is local


# ---- systemd -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_PID": "me", "LISTEN_FDS": "x"},
        {"LISTEN_PID": "me", "LISTEN_FDS": "-1"},
        {"LISTEN_PID": "me"},
    ],
)
def test_nothing_inherited(environ: dict[str, str]) -> None:
    if environ.get("LISTEN_PID") == "me":
        environ = {**environ, "LISTEN_PID": str(os.getpid())}
    assert inherited_sockets(environ) == {}


def test_too_many_inherited() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "65"})


CHILD = """
import asyncio, os, sys
from proxy.net.listen import ListenOptions, inherited_sockets, listen

class Hello(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()

async def main():
    os.environ["LISTEN_PID"] = str(os.getpid())
    found = inherited_sockets(os.environ)
    print({name: len(socks) for name, socks in found.items()}, flush=True)
    for socks in found.values():
        for sock in socks:
            assert not sock.get_inheritable()
            listener = await listen(sock, Hello, ListenOptions())
            print(listener.addresses[0], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    listener.close()

asyncio.run(main())
"""


def test_inherited_sockets_serve(tmp_path: Path) -> None:
    """As systemd does it: descriptors from 3 on, names, the file left to systemd."""
    path = str(tmp_path / "s")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind(path)
        for sock in (tcp, unix):
            sock.listen(5)
        environ = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "postgres:redis"}
        script = (
            f"exec 3<&{tcp.fileno()} 4<&{unix.fileno()};"
            f' exec {sys.executable} -X dev -W error -c "$CHILD"'
        )
        child = subprocess.Popen(
            ["bash", "-c", script],
            env={**environ, "CHILD": CHILD, "PYTHONPATH": os.getcwd()},
            pass_fds=(tcp.fileno(), unix.fileno()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "{'postgres': 1, 'redis': 1}\n"
            assert child.stdout.readline() == f"127.0.0.1:{tcp.getsockname()[1]}\n"
            assert child.stdout.readline() == f"{path}\n"
            for address in (tcp.getsockname(), path):
                with socket.socket(socket.AF_UNIX if address == path else socket.AF_INET) as client:
                    client.connect(address)
                    assert client.recv(10) == b"hello"
            child.communicate("", timeout=10)
            assert child.returncode == 0
        finally:
            child.kill()
            child.wait()
    assert os.path.exists(path)


def test_descriptor_that_is_no_socket() -> None:
    code = (
        "import os; from proxy.net.listen import inherited_sockets as f;"
        "from proxy.core.errors import ConfigError\n"
        "os.dup2(os.open('/dev/null', 0), 3)\n"
        "try: f({'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'})\n"
        "except ConfigError as e: print(e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert "descriptor 3: " in done.stdout
