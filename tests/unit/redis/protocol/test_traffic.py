"""Flights in order, and who may join them."""

import pytest

from proxy.redis.protocol import flights
from proxy.redis.protocol.cacheable import plan, request
from proxy.redis.protocol.flights import Flight
from proxy.redis.protocol.traffic import Traffic

GET_A = request([b"GET", b"a"])


def launched(traffic: Traffic, *words: bytes) -> Flight:
    number = traffic.number + 1
    if words:
        found = plan(words)
        assert found is not None
        flight, _ = flights.single(number, 0.0, found, hash_ttls=False)
    else:
        flight, _ = flights.check(number, 0.0)
    traffic.left(flight)
    return flight


def land(traffic: Traffic, flight: Flight) -> None:
    traffic.answered(flight)
    flight.at = len(flight.steps)
    traffic.landed(flight)


def test_numbers_follow_each_other() -> None:
    traffic = Traffic()
    first, second = launched(traffic), launched(traffic)
    assert (first.number, second.number) == (1, 2)
    assert traffic.head is first
    assert list(traffic) == [first, second]
    land(traffic, first)
    assert traffic.done_number == 1
    assert traffic.head is second
    with pytest.raises(AssertionError):
        traffic.left(first)


def test_joining_needs_the_same_read_and_no_older_instant() -> None:
    traffic = Traffic()
    flight = launched(traffic, b"GET", b"a")
    assert traffic.join(GET_A, 0) is flight
    assert traffic.join(GET_A, flight.number) is flight
    assert traffic.join(GET_A, flight.number + 1) is None
    assert traffic.join(request([b"GET", b"b"]), 0) is None


def test_nobody_joins_an_answered_or_detached_flight() -> None:
    traffic = Traffic()
    flight = launched(traffic, b"GET", b"a")
    traffic.unjoin(flight)
    assert traffic.join(GET_A, 0) is None
    newer = launched(traffic, b"GET", b"a")
    traffic.unjoin(flight)  # the older one has no say over the newer
    assert traffic.join(GET_A, 0) is newer
    land(traffic, flight)
    assert traffic.join(GET_A, 0) is newer
    land(traffic, newer)
    assert traffic.join(GET_A, 0) is None
    launched(traffic, b"GET", b"a")
    traffic.unjoin_all()
    assert traffic.join(GET_A, 0) is None


def test_flights_of_a_key_until_it_was_read() -> None:
    traffic = Traffic()
    one, two = launched(traffic, b"GET", b"a"), launched(traffic, b"STRLEN", b"a")
    assert traffic.by_key[b"a"] == [one, two]
    traffic.answered(one)
    assert traffic.by_key[b"a"] == [two]
    one.at = len(one.steps)
    traffic.landed(one)
    traffic.answered(two)
    assert b"a" not in traffic.by_key


def test_the_newest_flight_is_ridden_unless_answered_or_too_old() -> None:
    traffic = Traffic()
    assert traffic.newest(0) is None
    flight = launched(traffic, b"GET", b"a")
    assert traffic.newest(0) is flight
    assert traffic.newest(flight.number + 1) is None
    traffic.answered(flight)
    assert traffic.newest(0) is None


def test_loss_forgets_the_flights_and_counts_them_as_done() -> None:
    traffic = Traffic()
    one, two = launched(traffic, b"GET", b"a"), launched(traffic)
    assert traffic.lost() == (one, two)
    assert len(traffic) == 0
    assert traffic.head is None
    assert traffic.done_number == 2
    assert b"a" not in traffic.by_key
    assert traffic.join(GET_A, 0) is None
