"""Cancel keys of our own: what BackendKeyData tells a client, and CancelRequest brings back.

The process id is the one of the backend at login (people look it up in pg_stat_activity); the
secret is ours, so a key outlives the link. Source: PostgreSQL documentation, "BackendKeyData".
"""

from dataclasses import dataclass, field

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.startup import CancelRequest

RANDOM_BYTES = 32
"""How many random bytes `make` takes; protocol 3.0 has room for the first 4 only."""

SECRET_BYTES_3_0 = 4
SECRET_BYTES_3_2 = 32
WORKERS_MAX = 256


@dataclass(frozen=True, slots=True)
class CancelKey:
    """A key as a dictionary key. Equal to what `of_request` makes of the client's CancelRequest."""

    pid: int
    secret: bytes = field(repr=False)

    def message(self) -> bytes:
        """BackendKeyData for the client."""
        return messages.backend_key_data(self.pid, self.secret)


def make(pid: int, random_bytes: bytes, minor: int, worker: int | None = None) -> CancelKey:
    """A new key for a session of protocol 3.`minor`, from RANDOM_BYTES random bytes.

    With `worker` (0 to 255) the first byte of the secret names the process that owns the session,
    so that any process can pass a cancel on. Without it the byte is random too: a secret of 4
    bytes has none to spare.
    """
    assert len(random_bytes) == RANDOM_BYTES, len(random_bytes)
    assert worker is None or 0 <= worker < WORKERS_MAX, worker
    secret = random_bytes[: SECRET_BYTES_3_2 if minor >= 2 else SECRET_BYTES_3_0]
    if worker is not None:
        secret = bytes((worker,)) + secret[1:]
    return CancelKey(pid & 0xFFFFFFFF, secret)


def of_request(request: CancelRequest) -> CancelKey:
    """The key that a client sent back."""
    return CancelKey(request.pid, request.secret)


def worker_of(request: CancelRequest) -> int:
    """Which process made the key; only meaningful if all processes make keys with `worker`."""
    return request.secret[0]
