"""How long to wait before the next try, and how many tries a second. Pure: time and chance come in.

Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): each delay is uniform between
zero and the cap, so that clients who lost the same upstream do not return in step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


class Backoff:
    """Delays between tries: none before the first, then growing up to `longest_s`."""

    __slots__ = ("_cap_s", "_longest_s", "_shortest_s", "tries")

    def __init__(self, shortest_s: float = 0.05, longest_s: float = 2.0) -> None:
        assert 0 < shortest_s <= longest_s
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._cap_s = shortest_s
        self.tries = 0

    def next_delay_s(self, rng: random.Random) -> float:
        """Seconds to wait before the next try; 0.0 for the first one since the last success."""
        self.tries += 1
        if self.tries == 1:
            return 0.0
        delay_s = rng.uniform(0.0, self._cap_s)
        self._cap_s = min(self._cap_s * 2.0, self._longest_s)
        return delay_s

    def reset(self) -> None:
        """A try succeeded."""
        self.tries = 0
        self._cap_s = self._shortest_s


class RateLimit:
    """A token bucket: `rate_per_s` on average, `burst` at once. Time must not run backwards."""

    __slots__ = ("_burst", "_filled_at_s", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: int) -> None:
        assert rate_per_s > 0
        assert burst >= 1
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = self._burst
        self._filled_at_s = float("-inf")  # full at the first use

    def take(self, now_s: float) -> bool:
        """Takes one token. False: there is none; see `wait_s`."""
        self._fill(now_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next token; 0.0 if there is one."""
        self._fill(now_s)
        return max(0.0, (1.0 - self._tokens) / self._rate_per_s)

    def _fill(self, now_s: float) -> None:
        elapsed_s = now_s - self._filled_at_s
        if elapsed_s > 0:
            self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate_per_s)
            self._filled_at_s = now_s
