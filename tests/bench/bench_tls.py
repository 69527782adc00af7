"""User CPU time of TLS per small exchange: plain, the pump, and uvloop's own TLS.

    python -m tests.bench.bench_tls [seconds per run]

One process under test holds N links to a TLS server (a second process) and plays ping-pong over
each: what a proxy does upstream. Its own CPU time is read, not the clock, so a busy machine
disturbs little. Bulk: one direction, 64 KiB writes.
"""

import asyncio
import multiprocessing
import resource
import socket
import ssl
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import uvloop

from proxy.net.allocator import keep_freed_memory
from proxy.net.tls import PumpOptions, TlsPump

LINKS = 16
ROUNDS = 9
QUERY = b"Q\0\0\0\x0dSELECT 1\0"
ANSWER = b"T" + b"\0" * 32 + b"D" + b"\0" * 11 + b"C" + b"\0" * 13 + b"Z\0\0\0\x05I"


class Server(asyncio.Protocol):
    """Answers each query; sends bulk for ever when asked with B."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.bulk = False
        self.paused = False

    def data_received(self, data: bytes) -> None:
        if data[:1] == b"B":
            self.bulk = True
            self.pour()
        else:
            self.transport.write(ANSWER)

    def pour(self) -> None:
        block = b"x" * 65_536
        while not self.paused and not self.transport.is_closing():
            self.transport.write(block)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.bulk:
            asyncio.get_running_loop().call_soon(self.pour)


class Client(asyncio.Protocol):
    """Sends the next query when the answer is whole."""

    transport: Any

    def __init__(self) -> None:
        self.exchanges = 0
        self.bytes = 0
        self.missing = 0
        self.bulk = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def start(self) -> None:
        self.missing = len(ANSWER)
        self.transport.write(b"B" if self.bulk else QUERY)

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if self.bulk:
            return
        self.missing -= len(data)
        if self.missing == 0:
            self.exchanges += 1
            self.start()


def contexts(directory: str, server_side: bool) -> ssl.SSLContext:
    kind = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(kind)
    if server_side:
        context.load_cert_chain(f"{directory}/server.pem")
    else:
        context.load_verify_locations(f"{directory}/ca.pem")
    return context


def serve(directory: str, ports: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = contexts(directory, server_side=True)
        plain = await loop.create_server(Server, "127.0.0.1", 0)
        tls = await loop.create_server(
            lambda: TlsPump(Server(), PumpOptions(context, server_side=True)), "127.0.0.1", 0
        )
        ports.send([server.sockets[0].getsockname()[1] for server in (plain, tls)])
        await asyncio.Event().wait()

    uvloop.run(main())


async def connect(how: str, port: int, context: ssl.SSLContext) -> Client:
    loop = asyncio.get_running_loop()
    client = Client()
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    if how == "pump":
        pump = TlsPump(client, PumpOptions(context, server_hostname="localhost"))
        await loop.create_connection(lambda: pump, sock=sock)
        await pump.handshaken()
    elif how == "own":
        await loop.create_connection(
            lambda: client, sock=sock, ssl=context, server_hostname="localhost"
        )
    else:
        await loop.create_connection(lambda: client, sock=sock)
    return client


@dataclass(frozen=True)
class Cost:
    """CPU time per unit of work: an exchange, or a megabyte. Microseconds."""

    user_us: float
    system_us: float

    @property
    def total_us(self) -> float:
        return self.user_us + self.system_us


async def measure(how: str, port: int, context: ssl.SSLContext, seconds: float, bulk: bool) -> Cost:
    clients = [await connect(how, port, context) for _ in range(1 if bulk else LINKS)]
    for client in clients:
        client.bulk = bulk
        client.start()
    await asyncio.sleep(0.1)
    count_before = sum(client.bytes if bulk else client.exchanges for client in clients)
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    count: float = sum(client.bytes if bulk else client.exchanges for client in clients)
    count -= count_before
    for client in clients:
        client.transport.abort()
    count = count / 1e6 if bulk else count
    return Cost(
        (after.ru_utime - before.ru_utime) / count * 1e6,
        (after.ru_stime - before.ru_stime) / count * 1e6,
    )


def run(directory: str, ports: list[int], seconds: float, loop_factory: Callable[[], Any]) -> None:
    """Rounds in turn, so that the noise of the machine meets all alike; medians are printed."""
    context = contexts(directory, server_side=False)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        for bulk in (False, True):
            costs: dict[str, list[Cost]] = {"plain": [], "pump": [], "own": []}
            for _ in range(ROUNDS):
                for how, results in costs.items():
                    port = ports[0] if how == "plain" else ports[1]
                    results.append(runner.run(measure(how, port, context, seconds, bulk)))
            for how, results in costs.items():
                user, total = (
                    statistics.median(cost.user_us for cost in results),
                    statistics.median(cost.total_us for cost in results),
                )
                unit = "µs/MB" if bulk else "µs/exchange"
                print(f"{how:6} {user:8.2f} user  {total:8.2f} user and system  {unit}")


def main() -> None:
    keep_freed_memory()  # as the proxy does
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.4
    with tempfile.TemporaryDirectory() as directory:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(Path(directory) / "ca.pem"))
        pem = ca.issue_cert("localhost").private_key_and_cert_chain_pem
        pem.write_to_path(str(Path(directory) / "server.pem"))
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(directory, theirs), daemon=True)
        server.start()
        try:
            run(directory, ours.recv(), seconds, uvloop.new_event_loop)
        finally:
            server.kill()
            server.join()


if __name__ == "__main__":
    main()
