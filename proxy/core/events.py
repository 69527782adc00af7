"""How the runtimes report: one structured event per connect, loss, restore, replay, refusal, hold.

The runtimes know this protocol only; `observe.log` implements it. Field values must never hold
passwords, bind values, keys or SQL literals (design, promise 8).
"""

from typing import Protocol


class Events(Protocol):
    """A sink for events. Must not raise and must not block."""

    def __call__(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        """Record one event: a stable snake_case name and its fields."""


def silent(event: str, /, *, level: str = "info", **fields: object) -> None:
    """A sink that keeps nothing (for tests and tools)."""
