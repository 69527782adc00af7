"""The freshness lease of a partition: until when may cached replies be served?

Any reply on the tracking link to a command sent at t proves the cache current as of t, because the
server queues every invalidation before that reply (reference/redis.md, 2.7, exp 30 and 41). So hits
are allowed until t + duration and no longer: the hard bound on staleness, also while the link is
silent. Where the server tells of swapped databases (`swaps`), such a proof counts with the last
answer that showed none.
"""

from __future__ import annotations

NEVER_S = float("-inf")
FOREVER_S = float("inf")
IDLE_PING_S = 5.0
ACTIVE_S = 1.0  # a partition counts as active this long after its last hit


class Lease:
    """When the cache was last proven current, and when to prove it again."""

    __slots__ = (
        "_counted_s",
        "_fence",
        "active_until_s",
        "asked_s",
        "duration_s",
        "fresh_until_s",
        "proven_s",
        "sent_s",
        "unswapped_s",
    )

    def __init__(self, duration_s: float) -> None:
        assert duration_s > 0
        self.duration_s = duration_s
        self.fresh_until_s = NEVER_S  # read by the hit path: hits strictly before it
        self.proven_s = NEVER_S
        self.sent_s = NEVER_S  # last command sent on the tracking link
        self.active_until_s = NEVER_S
        self.unswapped_s = FOREVER_S  # no databases were swapped until then; FOREVER_S: unwatched
        self.asked_s = NEVER_S  # last question about swaps sent
        self._counted_s = NEVER_S  # the proof that counts, behind the fence
        self._fence = 0

    def change(self, duration_s: float) -> None:
        """Another bound, also for what is proven already."""
        assert duration_s > 0
        self.duration_s = duration_s
        self.fresh_until_s = min(self.fresh_until_s, self.proven_s + duration_s)

    def sent(self, now_s: float) -> None:
        """A command that will be answered leaves on the tracking link."""
        self.sent_s = now_s

    def watch_swaps(self, since_s: float) -> None:
        """From now on the lease wants `unswapped` too; known until `since_s`. FOREVER_S: not."""
        self.unswapped_s = self.asked_s = since_s
        self._renew()

    @property
    def watches_swaps(self) -> bool:
        """True if the server tells of swapped databases."""
        return self.unswapped_s != FOREVER_S

    def unswapped(self, asked_s: float) -> None:
        """The server, asked then, knew of no swap (or all entries from before are gone)."""
        if asked_s > self.unswapped_s:
            self.unswapped_s = asked_s
            self._renew()

    def proved(self, sent_s: float, number: int) -> None:
        """Command `number`, sent at `sent_s`, was answered. Proofs older than a fence do not
        count.
        """
        if sent_s > self.proven_s:
            self.proven_s = sent_s
        if number >= self._fence and sent_s > self._counted_s:
            self._counted_s = sent_s
            self._renew()

    def _renew(self) -> None:
        self.fresh_until_s = min(self._counted_s, self.unswapped_s) + self.duration_s

    def void_until(self, number: int) -> None:
        """No hits until the command `number` is answered (rule W4: the PING sent as a fence).

        A number and not a time: two commands of one loop turn share their time.
        """
        self._fence = max(self._fence, number)
        self._counted_s = self.fresh_until_s = NEVER_S

    def lost(self) -> None:
        """The link is gone: nothing is proven any more. `proven_s` stays, for the age of stale
        replies.
        """
        self._counted_s = self.fresh_until_s = NEVER_S
        self.sent_s = NEVER_S

    def wanted(self, now_s: float) -> None:
        """Somebody reads: keep the lease fresh for a while."""
        self.active_until_s = now_s + ACTIVE_S

    def next_ping_s(self, now_s: float) -> float:
        """When the next PING is due, if nothing else is sent before."""
        sent_s = self.asked_s if self.watches_swaps else self.sent_s
        if now_s < self.active_until_s:
            return sent_s + self.duration_s / 3
        return sent_s + max(IDLE_PING_S, self.duration_s / 3)

    def ping_due(self, now_s: float) -> bool:
        """True when a PING should leave now."""
        return now_s >= self.next_ping_s(now_s)
