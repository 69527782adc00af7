"""Ends what a network test left open, also a failed one."""

import contextlib
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.unit.net import wires


@pytest_asyncio.fixture(autouse=True)
async def end_of_test() -> AsyncIterator[None]:
    """uvloop's close() waits for ever for a transport that was left with unsent bytes."""
    yield
    for transport in wires.OPENED:
        transport.abort()
    wires.OPENED.clear()
    for peer in wires.PEERS:
        with contextlib.suppress(OSError):  # it may belong to a transport that closed it
            peer.close()
    wires.PEERS.clear()
    await wires.turns()
