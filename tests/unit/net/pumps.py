"""Pairs of TLS pumps, and a pump with a blocking server at the other end."""

import asyncio
import ssl
from typing import Any

from proxy.net.tls import PumpOptions, TlsPump
from tests.unit.net.wires import BlockingTls, Recorder, certificates, over_loop, tcp_pair

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def client_options(**changes: Any) -> PumpOptions:
    context = certificates().client_context()
    return PumpOptions(context, **{"server_hostname": "localhost", **changes})


def server_options(**changes: Any) -> PumpOptions:
    return PumpOptions(certificates().server_context(), **{"server_side": True, **changes})


def fixed(options: PumpOptions, version: ssl.TLSVersion) -> PumpOptions:
    options.context.minimum_version = options.context.maximum_version = version
    return options


class Two:
    """A client pump and a server pump, connected and shaken."""

    def __init__(self) -> None:
        self.client, self.server = Recorder(), Recorder()

    async def open(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, **options: Any) -> "Two":
        near, far = tcp_pair()
        far.setblocking(False)
        self.near = TlsPump(self.client, fixed(client_options(**options), version))
        self.far = TlsPump(self.server, server_options())
        await over_loop(near, self.near)
        await over_loop(far, self.far)
        await self.near.handshaken()
        await self.far.handshaken()
        return self

    async def close(self) -> None:
        self.near.close()
        await self.client.lost.wait()
        await self.server.lost.wait()


async def client_of_blocking_server(
    protocol: Recorder, **options: Any
) -> tuple[TlsPump, BlockingTls]:
    ours, peer = tcp_pair()
    pump = TlsPump(protocol, client_options(**options))
    await over_loop(ours, pump)
    far = BlockingTls(peer, certificates().server_context())
    await asyncio.to_thread(far.handshake)
    await pump.handshaken()
    return pump, far
