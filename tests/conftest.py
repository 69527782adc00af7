"""Fixtures for every test; the fixtures themselves are in fix_*.py, one concern each."""

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.postgres.protocol import framing

# fix_cutter first: the others import it, and pytest rewrites only what is not imported yet.
pytest_plugins = [
    "tests.fix_cutter",
    "tests.fix_servers",
    "tests.fix_backstay",
    "tests.fix_bouncer",
]

if os.environ.get("BACKSTAY_EXPECT") == "compiled":
    assert framing.COMPILED, f"{framing.__file__} is not compiled"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# A coroutine is cancelled where it hangs, so much before pytest-timeout ends the whole process:
# that one's signal is lost inside uvloop, and its thread method cannot say which await it was.
CANCEL_EARLIER_S = 5.0


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """uvloop, as in production; tests marked `both_loops` run on plain asyncio as well."""
    factories: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop}
    if item.get_closest_marker("both_loops"):
        factories["asyncio"] = asyncio.new_event_loop
    return factories


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first; and every coroutine test gets a deadline of its own."""
    items.sort(key=lambda item: item.get_closest_marker("starts_first") is None)
    default_s = float(config.getoption("timeout") or config.getini("timeout"))
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("timeout")
            limit_s = float(marker.args[0]) if marker else default_s
            item.obj = _bounded(item.obj, max(1.0, limit_s - CANCEL_EARLIER_S))


def _bounded(
    test: Callable[..., Coroutine[Any, Any, None]], seconds_max: float
) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(seconds_max):
            await test(*args, **kwargs)

    return run
