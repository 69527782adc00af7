"""What one client hears on its channel: each notification once, in order, and every gap is told.

The server's list says what was sent and when. Owns: that comparison. Must not know: the proxy.
"""

from dataclasses import dataclass, field

from tests.simulation.belief import Wrong
from tests.simulation.script import Unit

ENDS = frozenset(("unlisten", "discard all"))
CONTROL = frozenset(("commit", "rollback", "begin", "commit chain", "rollback chain"))


@dataclass
class Ear:
    """One session's. `sent`: number and time of each notification, in the order of commits."""

    sent: list[tuple[int, float]]
    tried: bool = False  # it has sent a LISTEN
    since_s: float | None = None  # what is sent from then on is heard, or the gap is told
    warned_s: float = -1.0
    missed: set[int] = field(default_factory=set)  # at the last answer, and nothing was said
    _heard: dict[int, None] = field(default_factory=dict)
    _last: int = -1  # place in `sent`

    def heard(self, number: int) -> None:
        """A NotificationResponse. Raises Wrong."""
        if not self.tried:
            raise Wrong(f"notification {number}, and it does not LISTEN")
        place = next((at for at, (one, _) in enumerate(self.sent) if one == number), -1)
        if place < 0:
            raise Wrong(f"notification {number} that nobody has sent")
        if place <= self._last:
            raise Wrong(f"notification {number} twice, or out of order")
        self._last = place
        self._heard[number] = None

    def warned(self, now_s: float, losses: int) -> None:
        """It was told that notifications may have been missed. Raises Wrong."""
        if not losses:
            raise Wrong("told of a gap, and no link was lost")
        self.warned_s = now_s
        self.missed.clear()

    def asks(self, unit: Unit) -> None:
        """This unit is sent."""
        verbs = {item.verb for item in unit.items}
        self.tried = self.tried or "listen" in verbs
        if verbs & ENDS:
            self.since_s = None

    def answered(self, unit: Unit, status: str, sent_s: float, now_s: float) -> None:
        """The unit's answer is whole. Raises Wrong.

        One that the proxy has finished for a server that died may come before the gap is told;
        another one behind it may not.
        """
        verbs = {item.verb for item in unit.items}
        failed = unit.count("E") > 0
        if "listen" in verbs:
            self.since_s = None if failed or status != "I" else now_s
            self.missed.clear()
        elif verbs & ENDS or self.since_s is None:
            self.since_s = None
        elif not failed and status == "I" and not verbs & CONTROL:
            from_s = max(self.since_s, self.warned_s)
            due = {one for one, at_s in self.sent if from_s < at_s < sent_s} - self._heard.keys()
            lost = self.missed & due
            self.missed = due
            if lost:
                raise Wrong(f"notifications {sorted(lost)} were not heard, and nothing was said")
