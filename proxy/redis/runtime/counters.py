"""What a route counts. Compiled with the hot path, which counts every command."""

from dataclasses import dataclass, fields


@dataclass
class Counters:
    """Plain counts since the start; all only grow, but `clients`."""

    clients: int = 0
    commands: int = 0  # read from clients
    clients_total: int = 0
    clients_refused: int = 0
    clients_too_slow: int = 0
    protocol_errors: int = 0
    links_opened: int = 0
    links_lost: int = 0
    dials_failed: int = 0
    logins_refused: int = 0
    absorbed: int = 0  # clients whose link was lost and replaced, and who were told no error
    resent: int = 0  # commands sent again after a loss
    retried: int = 0  # commands tried again after LOADING and the like
    unknown: int = 0  # UPSTREAMLOST: commands whose outcome could not be known
    not_executed: int = 0  # UPSTREAMDOWN: commands held until their time was over
    hold_refused: int = 0  # UPSTREAMDOWN: the hold queue was full
    exclusive_taken: int = 0
    resubscribed: int = 0  # sessions whose subscriptions went over to another link
    muted: int = 0

    def as_dict(self) -> dict[str, int]:
        """Name to count."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
