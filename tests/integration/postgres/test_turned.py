"""A host turns read-only: what is known of it is used, so that no session is refused twice, and
none at all where the proxy had heard of it before."""

import socket
import threading
from collections.abc import Callable

import pytest

from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.session import Session
from tests import wire
from tests.integration.postgres.fake import ONE, FakePostgres, answer, failure, log_in, read
from tests.integration.postgres.kit import Make, Proxied, eventually
from tests.integration.postgres.test_failover import over, where
from tests.integration.postgres.test_pool import leave
from tests.wire import PgWire, message, zero

pytestmark = [pytest.mark.servers, pytest.mark.timeout(90)]

Servers = tuple[PostgresServer, PostgresServer]
QUIET = {"pool": {"warm": 0}, "options": {"ping_s": 1000.0}}  # nobody asks but for a reason
WRITE = "create table written (n int)"
ON = message(b"S", zero("default_transaction_read_only") + zero("on"))


@pytest.fixture
def pair(make_postgres: Callable[..., PostgresServer]) -> Servers:
    """Two that take writes, as if each were the other's standby when it does not."""
    return make_postgres(), make_postgres()


def turn(server: PostgresServer) -> None:
    """Its backends hear of it with their next statement: each has been sent its signal."""
    server.reload(default_transaction_read_only="on")
    eventually(lambda: server.sql("show default_transaction_read_only") == [("on",)])


def refusal(session: PgWire) -> str | None:
    return wire.sqlstate(session.query(WRITE))


def the_session(proxy: Proxied) -> Session:
    (session,) = proxy.call(lambda: list(proxy.route.sessions))
    assert isinstance(session, Session)
    return session


def test_one_refusal_is_all_however_many_links_wait_in_the_pool(
    proxied: Make, pair: Servers
) -> None:
    proxy = over(proxied, pair, "read-write", **QUIET)
    session, *others = [proxy.wire() for _ in range(4)]
    for other in others:
        leave(other)
    proxy.settled(idle=3, attached=1)
    turn(pair[0])
    with session:
        assert [refusal(session), refusal(session)] == ["25006", None]
        assert where(session) == pair[1].port
        proxy.settled(links=1)


def test_other_sessions_leave_before_they_are_refused(proxied: Make, pair: Servers) -> None:
    proxy = over(proxied, pair, "read-write", **QUIET)
    with proxy.wire() as first, proxy.wire() as second, proxy.wire() as bound:
        bound.query("create temp table mine (n int)")
        turn(pair[0])
        assert refusal(first) == "25006"
        proxy.until("left_host", 2)
        assert refusal(second) is None
        assert where(bound) == pair[0].port


def test_a_doubt_of_before_does_not_hide_it(proxied: Make, pair: Servers) -> None:
    """The one that hears of it has not been asked since a link was lost; the other one has."""
    proxy = over(proxied, pair, "read-write", **QUIET)
    with proxy.wire() as busy, proxy.wire() as asked:
        turn(pair[0])

        def act() -> None:
            now_s = proxy._loop.time()
            first, second = sorted(proxy.route.sessions, key=lambda one: one.number)
            assert first.link is not None
            assert second.link is not None
            assert first.link.host is not None
            first.link.proven_s, second.link.proven_s = now_s - 1.0, now_s
            proxy.route.upstream.doubts._since_s[first.link.host] = now_s
            first.data_received(wire.query("select 1"))  # so that it is not asked before

        proxy.call(act)
        busy.until_ready()
        proxy.until("left_host", 2)
        assert refusal(asked) is None


def test_a_session_that_hears_of_it_by_a_ping_leaves(proxied: Make, pair: Servers) -> None:
    proxy = over(proxied, pair, "read-write", **QUIET)
    with proxy.wire() as session:
        turn(pair[0])
        proxy.call(the_session(proxy).look)
        proxy.until("left_host")
        assert refusal(session) is None
        assert where(session) == pair[1].port


def test_what_comes_during_that_ping_goes_to_the_other_host(proxied: Make, pair: Servers) -> None:
    proxy = over(proxied, pair, "read-write", **QUIET)
    with proxy.wire() as session:
        turn(pair[0])
        asking = the_session(proxy)

        def act() -> None:
            asking.look()
            asking.data_received(wire.query(WRITE))

        proxy.call(act)
        assert wire.sqlstate(session.until_ready()) is None
        assert where(session) == pair[1].port


def test_a_session_is_not_restored_on_a_link_that_says_so(proxied: Make, pair: Servers) -> None:
    proxy = over(proxied, pair, "read-write", **QUIET)
    with proxy.wire() as session:
        session.query("set work_mem = '5MB'")
        leave(proxy.wire())
        proxy.settled(idle=1, attached=1)
        pair[0].sql("select pg_terminate_backend(%s)", session.key[0])
        proxy.until("link_lost")
        turn(pair[0])
        assert refusal(session) is None
        assert (where(session), session.value("show work_mem")) == (pair[1].port, b"5MB")
        assert len(proxy.named("restored")) == 1


def test_the_upstream_is_looked_for_while_nobody_has_room_to_dial(
    proxied: Make, pair: Servers
) -> None:
    """A session that is bound to the host holds the only link, and others wait for that one: not
    for an upstream which is back."""
    proxy = over(proxied, pair, "read-write", **{**QUIET, "pool": {"warm": 0, "size": 1}})
    with proxy.wire() as bound:
        bound.query("create temp table mine (n int)")
        for server in pair:
            turn(server)
        with proxy.wire_started("app_trust"):
            proxy.until("upstream_down")
            waiting = proxy.wire_started()
            eventually(lambda: proxy.counts()["waiting"] == 2)
        pools = proxy.route.pools
        eventually(lambda: not proxy.call(lambda: any(one.dialing for one in pools.values())))
        pair[1].reload(default_transaction_read_only="off")
        with waiting:
            proxy.until("upstream_up")


def test_what_the_first_of_a_pipeline_says_is_not_forgotten_behind_the_last(proxied: Make) -> None:
    """The last answer, in a chunk of its own, says nothing that would be looked at."""
    go = threading.Event()

    def turning(server: FakePostgres, sock: socket.socket) -> None:
        if server.connections > 1:
            return
        log_in(sock)
        while True:
            kind, body = read(sock)
            if b"first" in body:
                sock.sendall(ONE[:-6] + ON + ONE[-6:])
            elif b"create" in body:
                sock.sendall(failure("25006", "read-only", "ERROR") + ONE[-6:])
            else:
                assert b"last" not in body or go.wait(10)
                sock.sendall(answer(kind, body))

    def good(_: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        while True:
            sock.sendall(answer(*read(sock)))

    with FakePostgres(turning) as old, FakePostgres(good) as new:
        hosts = f"127.0.0.1:{old.port},127.0.0.1:{new.port}"
        query = "sslmode=disable&target_session_attrs=read-write"
        url = f"postgresql://postgres@{hosts}/app?{query}"
        proxy = proxied(setting={"upstream": url}, **QUIET)
        with proxy.wire() as session:
            session.send(wire.query("select first") + wire.query("select last"))
            session.until_ready()
            go.set()
            session.until_ready()
            assert refusal(session) is None
            assert (old.connections, new.connections) == (2, 1)
