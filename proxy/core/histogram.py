"""Durations counted into fixed buckets: mergeable over processes, one bisection to record. Pure."""

from bisect import bisect_left
from collections.abc import Sequence

# Upper bounds in seconds, 50 µs to 60 s: a query on the same machine as well as a long outage.
BOUNDS_S = (
    *(0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


class Histogram:
    """`counts[i]`: durations of at most `BOUNDS_S[i]` (and above the bound before); the last one:
    longer than all bounds."""

    __slots__ = ("counts", "max_s", "sum_s")

    def __init__(
        self, counts: Sequence[int] | None = None, sum_s: float = 0.0, max_s: float = 0.0
    ) -> None:
        self.counts = list(counts) if counts is not None else [0] * (len(BOUNDS_S) + 1)
        assert len(self.counts) == len(BOUNDS_S) + 1
        self.sum_s = sum_s
        self.max_s = max_s

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        if seconds > self.max_s:
            self.max_s = seconds

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    def add(self, other: "Histogram") -> None:
        """Count everything the other one has counted, too."""
        self.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    def quantile_s(self, share: float) -> float:
        """The duration that `share` (0 to 1) of all do not exceed, interpolated in its bucket.

        0.0 if nothing was counted. Never above `max_s`.
        """
        wanted = share * self.count
        if not wanted:
            return 0.0
        below = 0
        for index, count in enumerate(self.counts):
            if below + count >= wanted:
                low = BOUNDS_S[index - 1] if index else 0.0
                high = BOUNDS_S[index] if index < len(BOUNDS_S) else self.max_s
                return min(low + (high - low) * (wanted - below) / count, self.max_s)
            below += count
        return self.max_s
