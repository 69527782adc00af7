"""The fault hop itself: transparent when idle, and each fault exactly what it says."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from proxy.demo.certificates import TlsFiles
from proxy.demo.cutter import Cut, Cutter, Direction, FlowPlan, Plan, Target, TlsStart

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]

PAYLOAD = bytes(range(256)) * 4096


class Echo:
    """A server that sends back what it gets, half closes after its client, and remembers ends."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.ended = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            self.ends.append("eof")
        except ConnectionError:
            self.ends.append("reset")
        finally:
            self.ended.set()
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    await server.start()
    yield server
    await server.close()


def to(server: Echo) -> Target:
    return Target(address=("127.0.0.1", server.port))


async def connect(cutter: Cutter) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", cutter.port)


async def test_transparent_both_ways_and_half_close(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        writer.write(PAYLOAD)
        writer.write_eof()
        assert await reader.read() == PAYLOAD
        writer.close()
        await cutter.idle()
        assert echo.ends == ["eof"]
        assert cutter.counters["to_client_bytes"] == len(PAYLOAD)
        assert cutter.counters["to_server_bytes"] == len(PAYLOAD)
        assert not cutter.history


@pytest.mark.parametrize(
    ("cut", "client_sees", "server_sees"),
    [
        (Cut.FIN, b"", "eof"),
        (Cut.TLS_ABORT, b"\x17\x03\x03\x00\x50\x00\x00\x00", "eof"),
        (Cut.RST, ConnectionResetError, "reset"),
    ],
)
async def test_cut_of_an_idle_connection(
    echo: Echo, cut: Cut, client_sees: object, server_sees: str
) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        assert cutter.cut_all(cut) == 1
        if isinstance(client_sees, bytes):
            assert await reader.read() == client_sees
        else:
            with pytest.raises(ConnectionResetError):
                await reader.read()
        await echo.ended.wait()
        assert echo.ends == [server_sees]
        assert cutter.history[0].cut is cut
        writer.close()
        await cutter.idle()


@pytest.mark.parametrize("cut", [Cut.FIN, Cut.RST])
@pytest.mark.parametrize("count", [1, 7, 4096, 100_000])
async def test_exactly_n_bytes_pass_before_the_cut(echo: Echo, cut: Cut, count: int) -> None:
    plan = Plan(to_client=FlowPlan(cut_after_bytes=count, cut=cut))
    async with Cutter(to(echo), plan=plan) as cutter:
        reader, writer = await connect(cutter)
        writer.write(PAYLOAD[:200_000])
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65536):
                received += data
        # After a reset the reader may drop what it had not delivered, never more than that.
        assert received == PAYLOAD[: len(received)]
        assert len(received) <= count
        if cut is Cut.FIN:
            assert len(received) == count
        assert cutter.history[0].to_client_bytes == count
        writer.close()


async def test_reset_comes_after_the_bytes_before_it(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        hop = await cutter.hop(0)
        hop.cut_after(Direction.TO_CLIENT, 5, Cut.RST)
        writer.write(b"0123456789")
        assert await reader.readexactly(5) == b"01234"
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_cut_towards_the_server(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        hop = await cutter.hop(0)
        hop.cut_after(Direction.TO_SERVER, 3, Cut.FIN)
        writer.write(b"abcdef")
        await echo.ended.wait()
        assert hop.to_server.passed_bytes == 3
        assert await reader.read() in {b"", b"abc"}
        writer.close()


async def test_silence_keeps_both_sockets_open(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        hop = await cutter.hop(0)
        writer.write(b"a")
        assert await reader.read(1) == b"a"
        cutter.cut_all(Cut.SILENCE)
        writer.write(b"b" * 1000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert hop.to_server.swallowed_bytes == 1000
        writer.close()
        await writer.wait_closed()
        assert not echo.ended.is_set()
        assert 0 in cutter.hops


async def test_half_close_leaves_the_other_direction(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        hop = await cutter.hop(0)
        writer.write(b"a")
        assert await reader.read(1) == b"a"
        hop.cut(Cut.HALF_CLOSE, Direction.TO_CLIENT)
        assert await reader.read() == b""
        writer.write(b"more")
        await hop.to_server.passed(5)
        writer.close()


async def test_a_tls_abort_behind_a_half_close(echo: Echo) -> None:
    """There is nobody left to be told a broken record."""
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        hop = await cutter.hop(0)
        hop.cut(Cut.HALF_CLOSE, Direction.TO_CLIENT)
        assert await reader.read() == b""
        hop.cut(Cut.TLS_ABORT)
        await echo.ended.wait()
        writer.close()
        await cutter.idle()


async def test_delay_and_rate(echo: Echo) -> None:
    loop = asyncio.get_running_loop()
    plan = Plan(
        to_client=FlowPlan(delay_s=0.05),
        to_server=FlowPlan(delay_s=0.05, rate_bytes_s=1_000_000),
    )
    async with Cutter(to(echo), plan=plan) as cutter:
        reader, writer = await connect(cutter)
        start_s = loop.time()
        writer.write(b"x" * 100_000)
        await reader.readexactly(100_000)
        assert 0.2 <= loop.time() - start_s < 2
        writer.close()


async def test_pieces_arrive_one_by_one(echo: Echo) -> None:
    plan = Plan(to_client=FlowPlan(piece_bytes=3), to_server=FlowPlan(piece_bytes=1))
    async with Cutter(to(echo), plan=plan) as cutter:
        reader, writer = await connect(cutter)
        sizes = []
        writer.write(PAYLOAD[:300])
        while sum(sizes) < 300:
            sizes.append(len(await reader.read(65536)))
        writer.close()
    assert len(sizes) > 30


async def test_refuse_and_accept_again_on_the_same_port(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        writer.write(b"a")
        await reader.readexactly(1)
        await cutter.refuse()
        with pytest.raises(ConnectionRefusedError):
            await connect(cutter)
        writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
        await cutter.accept()
        _, second = await connect(cutter)
        await cutter.accepted(2)
        writer.close()
        second.close()


async def test_mute_accepts_and_says_nothing(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        cutter.plans.append(Plan(mute=True))
        reader, writer = await connect(cutter)
        writer.write(b"a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert cutter.counters["muted"] == 1
        reader2, writer2 = await connect(cutter)
        writer2.write(b"a")
        assert await reader2.readexactly(1) == b"a"
        writer.close()
        writer2.close()


async def test_same_seed_same_cuts(echo: Echo) -> None:
    def strokes(cutter: Cutter) -> list[tuple[int, Cut]]:
        return [(stroke.hop, stroke.cut) for stroke in cutter.history]

    async def run(seed: int) -> list[tuple[int, Cut]]:
        async with Cutter(to(echo), seed=seed) as cutter:
            writers = []
            for number in range(8):
                writers.append((await connect(cutter))[1])
                await cutter.accepted(number + 1)
            cutter.cut_some([Cut.FIN, Cut.RST], share=0.5)
            for writer in writers:
                writer.close()
            return strokes(cutter)

    first, again, other = await run(1), await run(1), await run(2)
    assert first == again
    assert first != other


async def test_cut_every(echo: Echo) -> None:
    async with Cutter(to(echo)) as cutter:
        cutter.cut_every(0.02)
        for number in range(3):
            _, writer = await connect(cutter)
            hop = await cutter.hop(number)
            await hop.closed.wait()
            writer.close()
        cutter.cut_every(0)
        assert len(cutter.history) == 3


async def test_dial_failure_closes_the_client(echo: Echo) -> None:
    await echo.close()
    async with Cutter(to(echo)) as cutter:
        reader, writer = await connect(cutter)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert cutter.counters["dial_failed"] == 1
        writer.close()


async def test_server_reset_reaches_the_client(echo: Echo) -> None:
    """A reset of the real server is a reset for the client too, not an orderly end."""
    async with (
        Cutter(to(echo)) as inner,
        Cutter(Target(address=("127.0.0.1", inner.port))) as outer,
    ):
        reader, writer = await connect(outer)
        writer.write(b"a")
        await reader.readexactly(1)
        inner.cut_all(Cut.RST)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("start", list(TlsStart))
async def test_tls_towards_both_sides(echo: Echo, tls_files: TlsFiles, start: TlsStart) -> None:
    """Two cutters back to back: one adds TLS towards its server, the other takes it off."""
    inner_target = Target(
        address=("127.0.0.1", echo.port),
        client_tls=tls_files.server_context(),
        client_tls_start=start,
    )
    async with Cutter(inner_target) as inner:
        outer_target = Target(
            address=("127.0.0.1", inner.port), tls=tls_files.client_context(), tls_start=start
        )
        async with Cutter(outer_target) as outer:
            reader, writer = await connect(outer)
            writer.write(PAYLOAD)
            assert await reader.readexactly(len(PAYLOAD)) == PAYLOAD
            hop = await inner.hop(0)
            hop.cut_after(Direction.TO_CLIENT, 3, Cut.FIN)
            writer.write(b"abcdef")
            assert await reader.readexactly(3) == b"abc"
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
