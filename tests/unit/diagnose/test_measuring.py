"""Sampling, threads and the steps of a dial, without a server."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.diagnose import sampling
from proxy.diagnose.facts import Latency
from proxy.diagnose.reach import Place, Unreachable, reach, resolve
from proxy.diagnose.threads import side_by_side, within


def test_quantiles() -> None:
    one = Latency.of([0.003])
    assert (one.samples, one.p50_s, one.p99_s, one.max_s) == (1, 0.003, 0.003, 0.003)
    many = Latency.of([n / 1000 for n in range(200, 0, -1)])
    assert (many.p50_s, many.p99_s, many.max_s) == (0.1, 0.199, 0.2)


def test_ways_take_turns() -> None:
    calls: list[str] = []
    one, two = sampling.latencies([lambda: calls.append("a"), lambda: calls.append("b")])
    assert calls[2:] == ["a", "b"] * sampling.SAMPLES_MAX  # behind one of each to warm up
    assert one.samples == two.samples == sampling.SAMPLES_MAX


def test_a_slow_way_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "BUDGET_S", 0.05)
    (one,) = sampling.latencies([lambda: time.sleep(0.03)])
    assert one.samples == sampling.SAMPLES_MIN
    assert one.p50_s >= 0.03


def test_guards_are_entered_in_turn() -> None:
    """A bound on time must not run while another target is being measured."""
    inside = 0
    most = 0

    @contextlib.contextmanager
    def guard() -> Iterator[None]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        yield
        inside -= 1

    def measure() -> None:
        sampling.latencies([lambda: time.sleep(0.0001)], [guard])

    side_by_side([measure] * 4)
    assert (inside, most) == (0, 1)


def test_side_by_side() -> None:
    barrier = threading.Barrier(3)

    def work() -> int:
        return barrier.wait(5)

    assert sorted(side_by_side([work] * 3)) == [0, 1, 2]
    assert side_by_side([lambda: 1, lambda: 2]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: 1, lambda: 1 // 0])


def test_within() -> None:
    assert within(lambda: 3, 5) == 3
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 // 0, 5)
    stop = threading.Event()
    with pytest.raises(TimeoutError):
        within(lambda: stop.wait(5), 0.01)
    stop.set()


def test_names_that_get_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    real = socket.getaddrinfo

    def hanging(host: str, port: int, family: int = 0, *rest: int, **named: int) -> object:
        if rest:  # the question whether it is a number
            return real(host, port, family, *rest)
        return stop.wait(5)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    with pytest.raises(Unreachable) as caught:
        resolve(Place("db.example.com", 5432), 0.01)
    stop.set()
    assert caught.value.failure.stage == "dns"
    assert caught.value.failure.reason == "timeout"


def test_an_address_is_not_asked_for() -> None:
    assert resolve(Place("127.0.0.1", 1), 1) == (["127.0.0.1"], None)
    assert resolve(Place("name.invalid", 1, hostaddr="::1"), 1) == (["::1"], None)


def test_sockets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(Unreachable) as caught:
        reach(Place(path=str(path)), 1)
    assert caught.value.failure.reason == "refused"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert reach(Place(path=str(path)), 1).dns_s is None
