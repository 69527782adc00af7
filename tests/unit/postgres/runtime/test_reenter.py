"""A link brought back to no transaction, with a server that is told to cancel meanwhile."""

import asyncio
from typing import Any

import pytest

from proxy.core.errors import UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.reenter import _roll_back

ROLLBACK = messages.query(b"ROLLBACK")
_FIELDS = b"SERROR\0C57014\0Mcanceling statement due to user request\0\0"
CANCELLED = b"E" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS + b"Z\0\0\0\5E"
DONE = b"C\0\0\0\rROLLBACK\0Z\0\0\0\5I"


class Answering:
    """A transport: the server behind it gives one of `answers` to each write; None: its end."""

    def __init__(self, link: Link, answers: list[bytes | None]) -> None:
        self.link, self.answers, self.written = link, answers, list[bytes]()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written.append(data)
        answer = self.answers.pop(0)
        loop = asyncio.get_running_loop()
        if answer is None:
            loop.call_soon(self.link.connection_lost, ConnectionResetError())
        else:
            loop.call_soon(self.link.data_received, answer)

    def abort(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def answering(*answers: bytes | None) -> tuple[Link, Answering]:
    link = Link()
    transport = Answering(link, list(answers))
    link.connection_made(transport)  # type: ignore[arg-type]
    return link, transport


@pytest.mark.parametrize("cancels", range(4))
async def test_rollback_is_asked_again_until_no_transaction_is_open(cancels: int) -> None:
    """A cancel that comes late may meet the ROLLBACK, and the next one the next."""
    link, transport = answering(*[CANCELLED] * cancels, DONE)
    await _roll_back(link)
    assert transport.written == [ROLLBACK] * (cancels + 1)
    assert transport.answers == []


async def test_the_end_of_the_link_ends_the_asking() -> None:
    link, transport = answering(CANCELLED, None)
    with pytest.raises(UpstreamUnavailable) as caught:
        await _roll_back(link)
    assert caught.value.reason is Reason.UPSTREAM_RESET
    assert transport.written == [ROLLBACK] * 2
