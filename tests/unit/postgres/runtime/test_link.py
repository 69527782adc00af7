"""A link whose end comes at an awkward moment."""

import asyncio
from typing import Any

import pytest

from proxy.core.errors import UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.runtime.link import Link


class Closed:
    """What uvloop's transport does between its end and connection_lost."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    def close(self) -> None:
        raise AssertionError("closed twice")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@pytest.fixture
def link() -> Link:
    made = Link()
    made.connection_made(Closed())  # type: ignore[arg-type]
    return made


def test_bytes_for_a_closed_transport_are_counted_and_go_nowhere(link: Link) -> None:
    link.write(b"Q\0\0\0\5\0")
    assert link.given_bytes == 6


def test_a_link_may_be_closed_behind_its_transport(link: Link) -> None:
    link.close(Reason.SHUTDOWN)
    assert link.closed
    assert link.reason is Reason.SHUTDOWN


class Open:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def test_a_link_that_dies_between_two_questions_is_lost_not_a_bug() -> None:
    link = Link()
    link.connection_made(Open())  # type: ignore[arg-type]

    async def two_questions() -> None:
        await link.ask(b"S\0\0\0\4", 1, 5.0)
        await link.ask(b"S\0\0\0\4", 1, 5.0)

    def answer_and_end() -> None:  # in the same turn
        link.data_received(b"Z\0\0\0\5I")
        link.connection_lost(ConnectionResetError())

    asyncio.get_running_loop().call_soon(answer_and_end)
    with pytest.raises(UpstreamUnavailable) as caught:
        await two_questions()
    assert caught.value.reason is Reason.UPSTREAM_RESET


READY = b"Z\0\0\0\5I"
NOTES = [messages.notification_response(7, "news", str(n)) for n in range(4)]


async def test_notifications_are_for_whoever_is_attached_next() -> None:
    """Among the answers, behind the last of them in one chunk, and before it is taken over."""
    link = Link()
    link.connection_made(Open())  # type: ignore[arg-type]
    asked = asyncio.ensure_future(link.ask(b"S\0\0\0\4", 1, 5.0))
    await asyncio.sleep(0)
    link.data_received(NOTES[0] + READY + NOTES[1])
    link.data_received(NOTES[2] + NOTES[3][:9])
    assert await asked == [(ord("Z"), b"I")]
    assert link.take_rest() == NOTES[0] + NOTES[1] + NOTES[2] + NOTES[3][:9]
    assert link.take_rest() == b""


async def test_notifications_are_for_nobody_once_the_session_has_gone() -> None:
    link = Link()
    link.connection_made(Open())  # type: ignore[arg-type]
    asked = asyncio.ensure_future(link.ask(b"S\0\0\0\4", 1, 5.0))
    await asyncio.sleep(0)
    link.data_received(NOTES[0] + READY)
    await asked
    link.watch()
    link.data_received(NOTES[1])
    assert link.take_rest() == b""


async def test_the_start_of_a_message_goes_with_the_link() -> None:
    """A session had it, and the proxy asks something: the end comes before the answer."""
    link = Link()
    link.connection_made(Open())  # type: ignore[arg-type]
    link.keep_rest(NOTES[0][:7])
    asked = asyncio.ensure_future(link.ask(b"S\0\0\0\4", 1, 5.0))
    await asyncio.sleep(0)
    link.data_received(NOTES[0][7:] + READY)
    assert await asked == [(ord("Z"), b"I")]
    assert link.take_rest() == NOTES[0]
