"""What a PostgreSQL route counts: plain ints, read by metrics, the demo and the tests."""

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Bytes between Backstay and the server, without those of TLS."""

    sent: int = 0
    received: int = 0


@dataclass(slots=True)
class Counters:
    """All since the start of the process."""

    clients: int = 0  # logged in
    units: int = 0  # of sessions that have ended: requests answered (`report` adds the others)
    logins_refused: int = 0
    sessions_refused: int = 0  # ended by the proxy, with a reason
    losses: int = 0  # links that died under a session
    idle_losses: int = 0  # ... that died in the pool
    restores: int = 0  # sessions attached again
    absorbed: int = 0  # ... whose client was answered no error for it: it has seen nothing
    replayed_read_only: int = 0  # certificate RO
    resent_fatal: int = 0  # certificate FT
    resent_unsent: int = 0  # certificate NS
    resent_harmless: int = 0  # BEGIN, settings, transactions begun again
    doubts: int = 0  # 08007
    rolled_back: int = 0  # 40001
    interrupted: int = 0  # 08006
    state_lost: int = 0  # sessions ended for state that cannot be rebuilt
    holds_noticed: int = 0  # sessions that waited long enough to be told
    cancels: int = 0
