"""Cancel keys: sizes per protocol version, the worker's place, the way back."""

import pytest

from proxy.postgres.protocol import keys, messages
from proxy.postgres.protocol.startup import CancelRequest, read_first

RANDOM = bytes(range(100, 132))


@pytest.mark.parametrize(("minor", "size"), [(0, 4), (1, 4), (2, 32)])
def test_size_follows_the_protocol(minor: int, size: int):
    key = keys.make(7, RANDOM, minor)
    assert key.secret == RANDOM[:size]
    assert messages.read_backend_key(key.message()[5:]) == (7, key.secret)


@pytest.mark.parametrize("minor", [0, 2])
@pytest.mark.parametrize("worker", [0, 1, 255])
def test_a_cancel_finds_its_worker_and_its_key(minor: int, worker: int):
    key = keys.make(2**32 - 1, RANDOM, minor, worker)
    request = read_first(messages.cancel_request(key.pid, key.secret))
    assert isinstance(request, CancelRequest)
    assert keys.worker_of(request) == worker
    assert {key: "session"}[keys.of_request(request)] == "session"
    assert key.secret[1:] == RANDOM[1 : len(key.secret)]


def test_keys_differ_by_pid_and_by_chance():
    other = bytes(reversed(RANDOM))
    assert len({keys.make(1, RANDOM, 0), keys.make(2, RANDOM, 0), keys.make(1, other, 0)}) == 3


def test_negative_pid_of_an_odd_upstream_fits():
    assert keys.make(-1, RANDOM, 0).pid == 2**32 - 1


@pytest.mark.parametrize(
    ("random_bytes", "worker"), [(RANDOM[:-1], None), (RANDOM, 256), (RANDOM, -1)]
)
def test_our_own_mistakes(random_bytes: bytes, worker: int | None):
    with pytest.raises(AssertionError):
        keys.make(1, random_bytes, 0, worker)


def test_repr_hides_the_secret():
    assert "secret" not in repr(keys.make(1, RANDOM, 2))
