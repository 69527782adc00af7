"""A finding: what was measured, what it means, and the one setting to change. Pure, no secrets."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad it is. CRITICAL makes the command exit with 1."""

    CRITICAL = "critical"
    """Something does not work, is about to stop working, or shows secrets to the network."""
    WARNING = "warning"
    """It works, and will hurt."""
    INFO = "info"
    """Worth knowing, or a choice to make with open eyes."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to set: `place` is a file or program, `key` a setting of it, `value` what to write."""

    place: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.key}" + (f" = {self.value}" if self.value else "")


@dataclass(frozen=True, slots=True)
class Number:
    """The number behind a finding, for machines. `unit`: s, %, bytes, or what is counted."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of advice. `check` is a stable name such as `postgres.connections`."""

    level: Level
    check: str
    measured: str
    """One sentence with the number in it."""
    meaning: str
    change: Change | None = None
    number: Number | None = None


_ORDER = list(Level)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; otherwise as they came."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.level))
