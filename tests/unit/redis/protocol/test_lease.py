"""The lease: what proves, how long it holds, when to ask again."""

import pytest

from proxy.redis.protocol.lease import IDLE_PING_S, Lease


def test_nothing_is_fresh_before_the_first_proof() -> None:
    assert Lease(0.5).fresh_until_s == float("-inf")


def test_a_proof_counts_from_the_sending() -> None:
    lease = Lease(0.5)
    lease.proved(10.0, 1)
    assert lease.fresh_until_s == 10.5
    assert lease.proven_s == 10.0


def test_an_older_proof_does_not_shorten() -> None:
    lease = Lease(0.5)
    lease.proved(10.0, 2)
    lease.proved(9.0, 1)
    assert lease.fresh_until_s == 10.5
    assert lease.proven_s == 10.0


def test_a_fence_voids_until_its_own_flight_is_answered() -> None:
    lease = Lease(0.5)
    lease.proved(10.0, 4)
    lease.void_until(6)
    assert lease.fresh_until_s == float("-inf")
    lease.proved(10.2, 5)  # sent before the fence, even if at the same time
    assert lease.fresh_until_s == float("-inf")
    lease.proved(10.2, 6)
    assert lease.fresh_until_s == 10.7


def test_an_older_fence_does_not_replace_a_newer() -> None:
    lease = Lease(0.5)
    lease.void_until(6)
    lease.void_until(0)
    lease.proved(1.0, 5)
    assert lease.fresh_until_s == float("-inf")


def test_loss_ends_freshness_and_keeps_the_last_proof_for_the_age_of_stale_replies() -> None:
    lease = Lease(0.5)
    lease.proved(10.0, 1)
    lease.lost()
    assert lease.fresh_until_s == float("-inf")
    assert lease.proven_s == 10.0


@pytest.mark.parametrize(
    ("wanted_s", "now_s", "due"),
    [
        (100.0, 100.19, False),  # active: every third of the lease
        (100.0, 100.21, True),
        (99.0, 100.21, False),  # nobody reads: rarely
        (99.0, 100.0 + IDLE_PING_S, True),
    ],
)
def test_when_a_ping_is_due(wanted_s: float, now_s: float, due: bool) -> None:
    lease = Lease(0.6)
    lease.sent(100.0)
    lease.wanted(wanted_s)
    assert lease.ping_due(now_s) is due


def test_a_long_lease_needs_no_more_pings_when_idle_than_when_active() -> None:
    lease = Lease(60.0)
    lease.sent(0.0)
    assert lease.next_ping_s(1.0) == 20.0
