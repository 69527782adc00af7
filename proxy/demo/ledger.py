"""What one side of the demo has seen, and whether the database agrees with it.

Every write has an id of its own. Acknowledged means that the application was told so: the id must
be stored, once. An id whose write ended in an error may be stored once or not at all, and where the
error says that nothing was saved (40001), it must not be.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of one side, made by its workers."""

    statements: int = 0
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """First line of each error the application got, with how often."""
    codes: Counter[str] = field(default_factory=Counter)
    """The same by SQLSTATE, "" where there is none."""
    last_error: str = ""
    wrong: list[str] = field(default_factory=list)
    """Answers that came without an error and were not right."""
    longest_s: float = 0.0
    acknowledged: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    """Writes that ended in an error."""
    refused: set[int] = field(default_factory=set)
    """Writes that ended in an error which says that nothing was saved."""

    def failed(self, text: str, sqlstate: str) -> None:
        """The application got an error."""
        self.errors[text] += 1
        self.codes[sqlstate] += 1
        self.last_error = text


@dataclass(frozen=True, slots=True)
class Balance:
    """The ledger against the table, as numbers of ids."""

    acknowledged: int
    lost: int  # acknowledged, and not stored
    doubled: int  # stored more than once
    invented: int  # stored, and never sent, or refused with "nothing was saved"
    unknown: int  # ended in an error that leaves the outcome open
    unknown_stored: int  # of these, stored after all

    @property
    def right(self) -> bool:
        """Nothing lost, doubled or invented."""
        return not (self.lost or self.doubled or self.invented)


def balance(tally: Tally, rows: Iterable[tuple[int, int]]) -> Balance:
    """Compare with the table's rows (id, how many times it is stored)."""
    times = dict(rows)
    stored = times.keys()
    open_ids = tally.unsure - tally.refused - tally.acknowledged
    return Balance(
        acknowledged=len(tally.acknowledged),
        lost=len(tally.acknowledged - stored),
        doubled=sum(1 for count in times.values() if count > 1),
        invented=len(stored - tally.acknowledged - open_ids),
        unknown=len(open_ids),
        unknown_stored=len(open_ids & stored),
    )
