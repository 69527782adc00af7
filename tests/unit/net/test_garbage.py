"""An ended connection is freed at once: a TLS link is some 16 KiB, and the collector of cycles
comes to those that have lived for a while only when there are thousands of them.
"""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from proxy.core.errors import ProxyError
from proxy.net.dial import TlsOptions, adopt
from proxy.net.tls import TlsPump
from tests.unit.net.pumps import Two, client_options, server_options
from tests.unit.net.wires import Recorder, certificates, over_loop, reset, tcp_pair, turns

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def cycles() -> Counter[str]:
    """What only the collector of cycles would free, of our own and of ssl, by type."""
    gc.garbage.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    names = Counter(f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage)
    gc.garbage.clear()
    return Counter({name: n for name, n in names.items() if name.startswith(("proxy.", "_ssl"))})


async def closed() -> None:
    two = await Two().open()
    two.near.write(b"bye")
    await two.close()


async def cut() -> None:
    two = await Two().open()
    two.near.abort()
    await two.client.lost.wait()
    await two.server.lost.wait()


async def upgraded() -> None:
    ours, peer = tcp_pair()
    peer.setblocking(False)
    near, far = Recorder(), Recorder()
    ready: list[Exception | None] = []
    raw = await over_loop(peer, far)
    pump = TlsPump.upgrade(raw, far, server_options(on_ready=ready.append))
    far.transport = pump
    near_pump = TlsPump(near, client_options())
    await over_loop(ours, near_pump)
    await near_pump.handshaken()
    await pump.handshaken()
    near_pump.close()
    await near.lost.wait()
    await far.lost.wait()


async def refused() -> None:
    ours, peer = tcp_pair()
    peer.sendall(b"not TLS at all, whatever it is")
    with pytest.raises(ProxyError):
        await adopt(ours, Recorder, TlsOptions(certificates().client_context(), "localhost"))
    peer.close()


async def stranger() -> None:
    ours, peer = tcp_pair()
    ready: list[Exception | None] = []
    link = Recorder()
    raw = await over_loop(ours, link)
    link.transport = TlsPump.upgrade(raw, link, server_options(on_ready=ready.append))
    peer.sendall(b"not TLS at all, whatever it is")
    await link.lost.wait()
    assert len(ready) == 1
    link.error = None  # the recorder's own, with its traceback
    peer.close()


async def reset_at_once() -> None:
    ours, peer = tcp_pair()
    reset(peer)
    with pytest.raises(ProxyError):
        await adopt(ours, Recorder, TlsOptions(certificates().client_context(), "localhost"))


async def silent() -> None:
    ours, peer = tcp_pair()
    options = TlsOptions(certificates().client_context(), "localhost", 0.02)
    with pytest.raises(ProxyError):
        await adopt(ours, Recorder, options)
    peer.close()


@pytest.mark.parametrize("end", [closed, cut, upgraded, refused, stranger, reset_at_once, silent])
async def test_nothing_of_an_ended_connection_waits_for_the_collector(
    end: Callable[[], Awaitable[None]],
) -> None:
    await end()
    await turns(5)
    assert cycles() == Counter()
