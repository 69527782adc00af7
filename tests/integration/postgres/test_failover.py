"""Several hosts: the one with the wanted role is used, a dead or turned one is left."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from proxy.demo.servers import PostgresServer, Stop
from tests import wire
from tests.integration.postgres.kit import Make, Proxied, eventually
from tests.wire import PgWire

pytestmark = [pytest.mark.servers, pytest.mark.timeout(90)]

Servers = tuple[PostgresServer, PostgresServer]


@pytest.fixture
def pair(
    make_postgres: Callable[..., PostgresServer],
    make_standby: Callable[[PostgresServer], PostgresServer],
) -> Servers:
    """A primary and its standby."""
    primary = make_postgres()
    return primary, make_standby(primary)


def over(proxied: Make, servers: Servers, attrs: str, **told: Any) -> Proxied:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    url = f"postgresql://postgres@{hosts}/app?sslmode=disable&target_session_attrs={attrs}"
    return proxied(setting={"upstream": url}, **told)


def where(session: PgWire) -> int:
    return int(session.value("select inet_server_port()") or 0)


def sweep(proxy: Proxied) -> None:
    """What happens once a second, now."""
    proxy.call(lambda: proxy.route._maintain(proxy._loop.time()))


@pytest.mark.parametrize("order", [1, -1], ids=["primary first", "standby first"])
def test_roles(proxied: Make, pair: Servers, order: int) -> None:
    primary, standby = pair
    servers = pair[::order]
    wanted = {
        "any": servers[0],
        "read-write": primary,
        "primary": primary,
        "read-only": standby,
        "standby": standby,
        "prefer-standby": standby,
    }
    for attrs, server in wanted.items():
        proxy = over(proxied, servers, attrs, pool={"warm": 0})
        with proxy.wire() as session:
            assert where(session) == server.port, attrs
            sweep(proxy)
            assert where(session) == server.port, attrs
        proxy.settled(idle=1)
        sweep(proxy)
        assert proxy.counts()["idle"] == 1
    standby.stop()
    with over(proxied, servers, "prefer-standby").wire() as session:
        assert where(session) == primary.port
    proxy = over(proxied, servers, "standby", resilience={"hold_s": 0.5})
    with pytest.raises(wire.LoginRefused) as refused:
        proxy.wire()
    assert refused.value.args[0]["C"] == "57P03"


@pytest.mark.parametrize("attrs", ["read-write", "primary"])
def test_sessions_go_on_at_the_promoted_standby(proxied: Make, pair: Servers, attrs: str) -> None:
    primary, standby = pair
    proxy = over(proxied, pair, attrs)
    primary.sql("create table moved (n int)")
    sessions = [proxy.wire() for _ in range(3)]
    for number, session in enumerate(sessions):
        assert where(session) == primary.port
        session.query(f"set work_mem = '{number + 1}MB'; prepare mine as select {number}")
        session.send(wire.parse(f"select {number} + $1::int", "named") + wire.SYNC)
        session.until_ready()
    eventually(lambda: standby.sql("select to_regclass('moved') is not null") == [(True,)])
    primary.stop(Stop.KILL)
    proxy.until("link_lost", 3)
    for session in sessions:
        session.send(wire.query("insert into moved values (1); show work_mem"))
    proxy.until("upstream_down")
    standby.promote()
    for number, session in enumerate(sessions):
        assert wire.rows(session.until_ready()) == [(f"{number + 1}MB".encode(),)]
        assert where(session) == standby.port
        assert session.value("execute mine") == str(number).encode()
        session.send(wire.values("40", statement="named") + wire.execute() + wire.SYNC)
        assert wire.rows(session.until_ready()) == [(str(number + 40).encode(),)]
    assert standby.sql("select count(*) from moved") == [(3,)]
    assert proxy.named("upstream_up")
    for session in sessions:
        session.close()


def test_a_host_that_turned_read_only_is_left(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    servers = (make_postgres(), make_postgres())
    told = {"options": {"ping_s": 0.4}, "pool": {"warm": 0}}
    proxy = over(proxied, servers, "read-write", **told)
    with proxy.wire() as session, proxy.wire() as own:
        session.query("set work_mem = '5MB'")
        own.query("set default_transaction_read_only = on")
        assert where(session) == servers[0].port
        servers[0].reload(default_transaction_read_only="on")
        # The session hears of it with an answer; then it is at a boundary and goes.
        eventually(lambda: where(session) == servers[1].port)
        assert session.value("show work_mem") == b"5MB"
        assert wire.sqlstate(session.query("create table written (n int)")) is None
        assert {report["reason"] for report in proxy.until("left_host")} == {"upstream_read_only"}
        # Who chose to be read-only is not driven from host to host.
        assert where(own) == servers[0].port
        assert own.value("show default_transaction_read_only") == b"on"
    proxy.settled(idle=1)
    with proxy.wire() as session:
        assert where(session) == servers[1].port


def test_a_transaction_is_not_torn_from_its_host(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    servers = (make_postgres(), make_postgres())
    proxy = over(proxied, servers, "read-write")
    with proxy.wire() as session:
        session.query("begin; create table kept (n int)")
        servers[0].reload(default_transaction_read_only="on")
        deadline_s = time.monotonic() + 5
        while b"default_transaction_read_only" not in b"".join(session.query("select 1")):
            assert time.monotonic() < deadline_s
        assert where(session) == servers[0].port
        assert wire.tags(session.query("commit")) == ["COMMIT"]
        assert where(session) == servers[1].port
    assert servers[0].sql("select to_regclass('kept') is not null") == [(True,)]


def test_names_are_resolved_at_each_dial(
    proxied: Make,
    make_postgres: Callable[..., PostgresServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that moves to another address is followed."""
    servers = (make_postgres(), make_postgres())
    url = "postgresql://postgres@db.example.invalid:5432/app?sslmode=disable"
    proxy = proxied(setting={"upstream": url})
    now = servers[0]

    asked = type(proxy._loop).getaddrinfo

    async def getaddrinfo(self: Any, host: str, port: int, **more: Any) -> Any:
        if host != "db.example.invalid":
            return await asked(self, host, port, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", now.port))]

    monkeypatch.setattr(type(proxy._loop), "getaddrinfo", getaddrinfo)
    with proxy.wire() as session:
        session.query("set work_mem = '5MB'")
        assert where(session) == servers[0].port
        now = servers[1]
        servers[0].stop(Stop.FAST)
        assert where(session) == servers[1].port
        assert session.value("show work_mem") == b"5MB"
        # A cancel goes where the link is, wherever the name points by now.
        now = servers[0]
        session.send(wire.query("select pg_sleep(60)"))
        eventually(lambda: servers[1].sql("select 1 from pg_stat_activity where query ~ 'p.60'"))
        with PgWire.connect(proxy.address) as other:
            other.send(wire.cancel(*session.key))
            assert other.until_closed() == []
        assert wire.sqlstate(session.until_ready()) == "57014"


def test_hosts_are_shuffled_when_asked(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    servers = (make_postgres(), make_postgres())
    proxy = over(proxied, servers, "any&load_balance_hosts=random", pool={"warm": 0})
    sessions = [proxy.wire() for _ in range(12)]
    assert {where(session) for session in sessions} == {server.port for server in servers}
    for session in sessions:
        session.close()
