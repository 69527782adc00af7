"""A batch: commands of one client that travel together, and the slot their replies belong to."""

from typing import TYPE_CHECKING, Protocol

from proxy.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER_S = float("inf")


class ReplyTaker(Protocol):
    """Whom replies are for: a client, or the proxy itself."""

    @property
    def closed(self) -> bool:
        """The connection is gone: replies are for nobody."""

    @property
    def whose(self) -> int:
        """The connection: takers of one connection say the same number. 0: the proxy's own."""

    @property
    def waits_behind_others(self) -> bool:
        """Earlier commands of the same connection are unanswered still."""

    def deliver(self, data: bytes) -> None:
        """Bytes of one or more replies, or a part of a large one, in order."""

    def finished(self, batch: "Batch") -> None:
        """Every reply of the batch has been delivered."""

    def complete(self, batch: "Batch", data: bytes) -> None:
        """`deliver` and `finished`: the replies, or the last of them."""

    def flush(self) -> None:
        """No more bytes in this turn: write them, go on with the next commands."""

    def close_for(self, reason: Reason) -> None:
        """The replies cannot be completed: the connection has to go."""

    def replaced(self, batch: "Batch", batches: list["Batch"]) -> None:
        """These, which are at least one, stand for the batch from now on."""

    def stall(self, batch: "Batch") -> bool:
        """Keep further commands back until the batch has finished; False if some are on the way."""


class Batch:
    """`data` holds `total` whole commands, of which `left` are unanswered.

    `canned` is a reply the proxy gives itself, in the batch's turn; nothing is sent then.
    `release` is called once, before the last reply is delivered or when there will be none.
    """

    __slots__ = (
        "attempts",
        "canned",
        "data",
        "due_s",
        "left",
        "release",
        "sent_s",
        "taker",
        "total",
    )

    def __init__(self, taker: ReplyTaker, data: bytes, total: int) -> None:
        self.taker = taker
        self.data = data
        self.total = total
        self.left = total
        self.attempts = 0
        self.sent_s = 0.0
        self.due_s = NEVER_S
        self.canned: bytes | None = None
        self.release: Callable[[], None] | None = None

    def let_go(self) -> None:
        """Calls `release`, once."""
        release, self.release = self.release, None
        if release is not None:
            release()
