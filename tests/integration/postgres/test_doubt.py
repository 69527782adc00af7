"""One link is lost without a word of the server: what of the others its host may have lost, too."""

import time
from typing import Any

import pytest

from proxy.core.reasons import Reason
from proxy.demo.cutter import Cut
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.link import Link
from tests.integration.postgres.kit import Make, Proxied, eventually
from tests.integration.postgres.test_pool import leave
from tests.wire import PgWire

pytestmark = pytest.mark.servers

LINKS = 6
TIMEOUT_S = 1.0  # of a ping
FEW_S = 3.0  # one ping after the other would take (LINKS - 1) * TIMEOUT_S
NO_PINGS = {"ping_s": 1000.0, "ping_timeout_s": TIMEOUT_S}


def opened(proxy: Proxied, count: int = LINKS) -> list[PgWire]:
    return [proxy.wire() for _ in range(count)]


def left_idle(proxy: Proxied) -> None:
    for session in opened(proxy):
        leave(session)
    proxy.settled(idle=LINKS)


def silence_all_but_one(proxy: Proxied) -> None:
    """The path to the server is gone, of which one link only is told."""

    def act() -> None:
        age(proxy)
        first, *others = proxy.cutter.hops.values()
        for hop in others:
            hop.cut(Cut.SILENCE)
        first.cut(Cut.RST)

    proxy.call(act)


def age(proxy: Proxied) -> None:
    """The loop's clock counts milliseconds: links and losses of one are not told apart."""
    for pool in proxy.route.pools.values():
        for link in pool.links:
            link.proven_s -= 1.0


def links(proxy: Proxied) -> list[Link]:
    found: list[Link] = proxy.call(
        lambda: [link for pool in proxy.route.pools.values() for link in pool.links]
    )
    return found


@pytest.mark.parametrize("size", [LINKS, LINKS + 10])
def test_idle_links_of_the_pool_cost_one_detection(
    proxied: Make, postgres: PostgresServer, size: int
) -> None:
    proxy = proxied(postgres, pool={"warm": 0, "size": size}, options=NO_PINGS)
    left_idle(proxy)
    began_s = time.monotonic()
    silence_all_but_one(proxy)
    proxy.until("pool_link_lost")
    sessions = opened(proxy)
    assert [session.value("select 1") for session in sessions] == [b"1"] * LINKS
    lost = proxy.until("pool_link_lost", LINKS)
    assert time.monotonic() - began_s < FEW_S
    assert sorted(report["reason"] for report in lost) == sorted(
        [Reason.UPSTREAM_RESET] + [Reason.UPSTREAM_SILENT] * (LINKS - 1)
    )
    for session in sessions:
        leave(session)


def test_idle_sessions_cost_one_detection(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0}, options=NO_PINGS)
    sessions = opened(proxy)
    for number, session in enumerate(sessions):
        session.query(f"set losses.tenant = '{number}'")
    began_s = time.monotonic()
    silence_all_but_one(proxy)
    proxy.until("link_lost", LINKS)
    shown = [session.value("show losses.tenant") for session in sessions]
    assert time.monotonic() - began_s < FEW_S
    assert shown == [str(number).encode() for number in range(LINKS)]
    assert not proxy.named("error_answered")
    for session in sessions:
        leave(session)


def test_links_that_live_are_kept(proxied: Make, postgres: PostgresServer) -> None:
    """They have been asked, and that was all."""
    proxy = proxied(postgres, pool={"warm": 0}, options=NO_PINGS)
    left_idle(proxy)
    with proxy.wire() as attached:
        pids = {link.pid for link in links(proxy)}
        first, *_ = proxy.cutter.hops.values()
        before, _ = proxy.passed()
        proxy.call(lambda: (age(proxy), first.cut(Cut.FIN)))
        proxy.until("pool_link_lost")
        proxy.settled(idle=LINKS - 2, attached=1)
        pongs = 6 * (LINKS - 1)  # ReadyForQuery, also for the session
        eventually(lambda: proxy.passed()[0] >= before + pongs, proxy.passed)
        assert {link.pid for link in links(proxy)} < pids
        assert not any(proxy.route.upstream.doubts.about(link) for link in links(proxy))
        assert attached.value("select 1") == b"1"


def test_what_the_server_says_of_one_link_is_about_that_one(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"warm": 0}, options=NO_PINGS)
    left_idle(proxy)
    ended, *others = links(proxy)
    proxy.call(lambda: age(proxy))
    postgres.sql(f"select pg_terminate_backend({ended.pid})")
    (lost,) = proxy.until("pool_link_lost")
    assert lost["reason"] is Reason.UPSTREAM_FATAL
    assert not any(proxy.route.upstream.doubts.about(link) for link in others)
    assert {link.phase.name for link in others} == {"IDLE"}


def test_a_link_that_comes_back_in_doubt_is_asked_first(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"warm": 0, "size": 2}, options=NO_PINGS)
    one, two = opened(proxy, 2)
    with one, two:
        (first, second) = proxy.call(lambda: sorted(proxy.route.sessions, key=lambda s: s.number))

        def act() -> Any:
            age(proxy)
            link = second.link
            first.link.lose(Reason.UPSTREAM_RESET)
            second._client_gone(Reason.CLIENT_CLOSED)
            (pool,) = proxy.route.pools.values()
            return link, pool.counts()["idle"]

        link, idle = proxy.call(act)
        assert idle == 0
        proxy.settled(idle=1)
        assert not link.closed
        assert not proxy.route.upstream.doubts.about(link)
