"""The idle probe's times, and what its links tell."""

import socket
from collections.abc import Iterator

import pytest

from proxy.diagnose.facts import IdleFacts, IdleLink
from proxy.diagnose.finding import Level
from proxy.diagnose.idle import LINKS_MAX, probe, times
from proxy.diagnose.idle_rules import advice_s, idle_findings, limit_of
from proxy.diagnose.targets import PostgresTarget
from proxy.settings.load import load_text
from proxy.settings.urls import parse_postgres_url


def target(keepalive: str = "") -> PostgresTarget:
    if not keepalive:
        upstream = parse_postgres_url("postgresql://db/app")
        return PostgresTarget(name="main", upstream=upstream, source="the URL")
    text = f"postgres:\n  - upstream: postgresql://db/app\n    keepalive: {keepalive}\n"
    route = load_text(text, "f.yaml", {}).postgres[0]
    return PostgresTarget(name="main", upstream=route.upstream, source="f.yaml", route=route)


def links(*ends: tuple[float, str], keepalive: str = "", ping: str = "") -> IdleFacts:
    alone = [IdleLink(idle_s, ended) for idle_s, ended in ends]
    care = [IdleLink(99, keepalive, "keepalive"), IdleLink(99, ping, "ping")]
    return IdleFacts(alone + care, 99)


def test_times_grow() -> None:
    assert times(1) == [1]
    assert times(5) == [1, 2, 3, 5]
    assert times(100) == [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 100]
    assert times(7200)[-2:] == [6765, 7200]
    assert len(times(7200)) <= LINKS_MAX
    assert times(100, 4) == [1, 5, 34, 100]
    assert times(100, 2) == [1, 100]
    assert times(100, 1) == [100]


def test_all_lived() -> None:
    (one,) = idle_findings(target(), links((1, ""), (99, "")))
    assert one.level is Level.INFO
    assert one.measured == "Links that were idle for up to 99 s all lived."


def test_a_close_is_seen_when_it_comes() -> None:
    facts = links((34, ""), (55, ""), (60.02, "fin"), (60.05, "fin"), ping="")
    limit = limit_of(facts)
    assert limit is not None
    assert (limit.lives_s, limit.dies_s) == (55, 60.02)
    assert advice_s(limit) == 27
    (one,) = idle_findings(target("{ping_s: 25}"), facts)
    assert one.level is Level.WARNING
    assert "closed in good order (FIN) after 60 s" in one.measured
    assert "TCP keepalive each second kept one alive" in one.measured
    assert "Backstay's ping every 25 s keeps its links" in one.meaning
    assert str(one.change) == "DATABASE_URL: host and port = 127.0.0.1:6432"
    (one,) = idle_findings(target("{ping_s: 40}"), facts)
    assert str(one.change) == "f.yaml (postgres: main): keepalive = {idle_s: 15, ping_s: 27}"


def test_silence_lies_between_two_times() -> None:
    facts = links((21, ""), (34, "silence"), (55, "silence"), keepalive="silence")
    (one,) = idle_findings(target("{ping_s: 60, idle_s: 300}"), facts)
    assert one.level is Level.CRITICAL
    assert "dropped in silence: nothing comes back any more between 21 s and 34 s" in one.measured
    assert "TCP keepalive did not help; a request each second did." in one.measured
    assert "every 60 s comes too late" in one.meaning
    assert str(one.change) == "f.yaml (postgres: main): keepalive = {idle_s: 10, ping_s: 10}"


def test_a_limit_on_age() -> None:
    facts = links((8, ""), (10, "rst"), keepalive="rst", ping="rst")
    (one,) = idle_findings(target("{ping_s: 0}"), facts)
    assert "the limit is on age, not on silence" in one.measured
    assert "ping is off" in one.meaning


def test_links_that_die_at_once() -> None:
    (one,) = idle_findings(target(), links((0.5, "rst"), (0.6, "rst")))
    assert str(one.change) == "backstay.yaml: keepalive = {idle_s: 1, ping_s: 1}"


# ---- real sockets -------------------------------------------------------------------------------


class Link:
    """One end of a TCP connection on this machine, with the keepalive it was asked under."""

    def __init__(self, listener: socket.socket) -> None:
        self._ours = socket.create_connection(listener.getsockname())
        self.theirs, _ = listener.accept()
        self.keepalive: list[int] = []

    def socket(self) -> socket.socket:
        return self._ours.dup()

    def ask(self) -> tuple[str, str]:
        self.keepalive.append(self._ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        return "", ""

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_one_link_has_keepalive_and_one_is_asked_each_second(listener: socket.socket) -> None:
    made: list[Link] = []

    def opened() -> Link:
        made.append(Link(listener))
        return made[-1]

    facts = probe(opened, 1.2)
    assert [(link.care, link.ended) for link in facts.links] == [
        ("none", ""),
        ("none", ""),
        ("keepalive", ""),
        ("ping", ""),
    ]
    on_off = [[bool(value) for value in link.keepalive] for link in made]
    assert on_off == [[False], [False], [True], [False, False]]


def test_the_rest_is_closed_if_one_cannot_be_opened(listener: socket.socket) -> None:
    made: list[Link] = []

    def opened() -> Link:
        if made:
            raise ConnectionError("full")
        made.append(Link(listener))
        return made[-1]

    with pytest.raises(ConnectionError):
        probe(opened, 5.0)
    assert made[0].theirs.fileno() == -1
