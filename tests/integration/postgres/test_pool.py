"""Links are shared as far as that is safe: reused, cleaned, bounded, replaced, never mixed up."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proxy.demo.cutter import Cut
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.link import Phase
from tests import wire
from tests.integration.postgres.kit import Make, Proxied, backends, eventually
from tests.wire import PgWire

pytestmark = pytest.mark.servers


def pid(session: PgWire) -> int:
    return int(session.value("select pg_backend_pid()") or 0)


def leave(session: PgWire) -> None:
    session.send(wire.TERMINATE)
    session.close()


# -- reuse


def test_a_session_that_changed_nothing_costs_no_round_trip(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire() as session:
        first = pid(session)
    proxy.settled(idle=1)
    before = proxy.passed()
    for _ in range(5):
        with proxy.wire() as session:
            assert session.key[0] == first
        proxy.settled(idle=1)
    assert proxy.passed() == before  # not a byte, either way
    with proxy.wire() as session:
        assert pid(session) == first


def test_a_new_client_takes_a_warm_link_in_the_turn_of_its_login(
    proxied: Make, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire():
        pass
    proxy.settled(idle=1)
    tasks: list[str] = []
    start = proxy.route.tasks.start

    def told(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        tasks.append(name)
        return start(work, name)

    monkeypatch.setattr(proxy.route.tasks, "start", told)
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"
        assert tasks == []
        with proxy.wire():  # no link is at hand for this one
            assert "attach" in tasks


def test_the_link_used_last_goes_out_first(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    sessions = [proxy.wire() for _ in range(3)]
    pids = [session.key[0] for session in sessions]
    for count, session in enumerate(sessions, 1):
        leave(session)
        proxy.settled(idle=count)
    again = [proxy.wire() for _ in range(3)]
    assert [session.key[0] for session in again] == pids[::-1]
    for session in again:
        leave(session)


def test_pings_do_not_change_who_goes_first(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0}, options={"ping_s": 0.2})
    sessions = [proxy.wire() for _ in range(3)]
    pids = [session.key[0] for session in sessions]
    for count, session in enumerate(sessions, 1):
        leave(session)
        proxy.settled(idle=count)
        time.sleep(0.005)  # the loop's clock counts milliseconds
    links = proxy.call(lambda: [link for pool in proxy.route.pools.values() for link in pool._idle])
    assert [link.pid for link in links] == pids
    eventually(lambda: all(link.pinged_s > link.used_s for link in links))
    (pool,) = proxy.route.pools.values()
    orders: list[list[int]] = []
    eventually(
        lambda: (
            orders.append(proxy.call(lambda: [link.pid for link in pool._idle]))
            or len(orders[-1]) == 3
        )
    )
    assert orders[-1] == pids


DIRTY: dict[str, Callable[[PgWire], object]] = {
    "set": lambda s: s.query("set work_mem = '5MB'; set app.tenant = 'x'"),
    "set_config": lambda s: s.query("select set_config('search_path', 'pg_catalog', false)"),
    "role": lambda s: s.query("set role app_trust"),
    "temp table": lambda s: s.query("create temp table gone (n int)"),
    "advisory lock": lambda s: s.query("select pg_advisory_lock(4711)"),
    "listen": lambda s: s.query("listen gossip"),
    "sql prepared": lambda s: s.query("prepare kept as select 1"),
    "prepared": lambda s: (s.send(wire.parse("select 1", "kept") + wire.SYNC), s.until_ready()),
    "held cursor": lambda s: s.query("declare c cursor with hold for select 1"),
    "open transaction": lambda s: s.query("begin; select 1"),
    "failed transaction": lambda s: s.query("begin; select 1/0"),
    "failed in between": lambda s: (s.query("begin"), s.query("nonsense")),
    "unseen": lambda s: s.query("do $$ begin perform set_config('work_mem', '6MB', false); end $$"),
}
CLEAN = """
select current_setting('work_mem') || ' ' || current_setting('search_path') || ' ' || current_user
       || ' ' || coalesce(current_setting('app.tenant', true), '')
       || (select count(*) from pg_prepared_statements)
       || (select count(*) from pg_cursors)
       || (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())
       || (select count(*) from pg_listening_channels())
       || coalesce(to_regclass('pg_temp.gone')::text, '-')
"""


@pytest.mark.parametrize("how", DIRTY)
def test_a_used_link_is_like_a_new_one(proxied: Make, postgres: PostgresServer, how: str) -> None:
    proxy = proxied(postgres, pool={"size": 1})
    with proxy.wire() as session:
        expected, first = session.value(CLEAN), pid(session)
    with proxy.wire() as session:
        assert pid(session) == first
        DIRTY[how](session)
        leave(session)
    with proxy.wire() as session:
        assert session.value(CLEAN) == expected
        if how != "unseen":  # of which no cleaning can be sure
            assert pid(session) == first
        assert session.query("select 1")[-1] == b"Z\0\0\0\5I"


def test_a_link_that_cannot_be_cleaned_is_replaced(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"size": 1})
    with proxy.wire() as session:
        first = pid(session)
        session.query("load 'plpgsql'")
        leave(session)
    with proxy.wire() as session:
        assert pid(session) != first


# -- never shared


def test_nothing_is_shared_between_identities(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    who = [
        proxy.wire(),
        proxy.wire("app_trust"),
        proxy.wire(database="postgres"),
        proxy.wire(application_name="other"),
        proxy.wire(options="-c work_mem=5MB"),
    ]
    pids = {pid(session) for session in who}
    assert len(pids) == len(who)
    for session in who:
        leave(session)
    proxy.settled(idle=len(who))
    with proxy.wire(application_name="other") as session:
        assert session.value("show application_name") == b"other"
        assert session.key[0] in pids
        session.query("set application_name = 'changed'; reset all")
        assert session.value("show application_name") == b"other"
    with proxy.wire(options="-c work_mem=5MB") as session:
        assert session.value("show work_mem") == b"5MB"
    with proxy.wire("app_trust") as session:
        assert session.value("select session_user") == b"app_trust"


# -- bounds


def queued(proxy: Proxied, names: list[str], order: list[str]) -> list[threading.Thread]:
    """Sessions that wait in this order; each notes its name when it is served, and leaves."""
    threads = []
    for number, name in enumerate(names, 1):

        def run(name: str = name) -> None:
            with proxy.wire(application_name=name.rstrip("0123456789")) as session:
                order.append(name)
                session.query("select 1")
                leave(session)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        proxy.settled(waiting=number)
    return threads


def test_the_size_bounds_links_and_the_line_is_served_in_order(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"size": 1})
    holder = proxy.wire(application_name="a")
    order: list[str] = []
    threads = queued(proxy, ["a1", "a2", "a3", "a4"], order)
    assert proxy.counts()["links"] == 1
    assert order == []
    leave(holder)
    for thread in threads:
        thread.join(10)
    assert order == ["a1", "a2", "a3", "a4"]


def test_whoever_needs_another_kind_of_link_keeps_its_place(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"size": 1})
    holder = proxy.wire(application_name="a")
    order: list[str] = []
    threads = queued(proxy, ["b1", "a1", "a2"], order)
    leave(holder)
    for thread in threads:
        thread.join(10)
    assert order == ["b1", "a1", "a2"]


def test_an_idle_link_makes_room_for_other_start_options(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"size": 2, "warm": 0})
    leave(proxy.wire(application_name="a"))
    proxy.settled(idle=1)
    with proxy.wire(application_name="b"), proxy.wire(application_name="b"):
        assert proxy.counts() == {"links": 2, "idle": 0, "attached": 2, "opening": 0, "waiting": 0}


def test_no_link_in_time_is_told(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"size": 1}, resilience={"hold_s": 0.6, "notice_s": 0.2})
    with proxy.wire(), pytest.raises(wire.LoginRefused) as refused:
        proxy.wire()
    fields = refused.value.args[0]
    assert fields["C"] == "53300"
    assert "all 1 links are taken, waited 0.6 s" in fields["M"]
    assert proxy.named("session_ended")[-1]["reason"] == "pool_timeout"


def test_clients_beyond_the_bound_are_refused(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"clients": 2})
    with proxy.wire(), proxy.wire():
        with pytest.raises(wire.LoginRefused) as refused:
            proxy.wire()
        assert refused.value.args[0]["C"] == "53300"
        assert "2 are connected" in refused.value.args[0]["M"]
    eventually(lambda: not proxy.route.sessions)
    leave(proxy.wire())


# -- growing old


def test_warm_links_are_kept_and_replaced(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 2}, options={"ping_s": 0.4})
    with proxy.wire():
        proxy.settled(idle=2, attached=1)
        assert proxy.cut() == 3
        proxy.until("link_lost")
        proxy.settled(idle=2)
    proxy.settled(idle=2)


def test_a_warm_link_that_is_refused_is_not_asked_for_again(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres()
    proxy = proxied(server, setting={"auth": {"method": "passthrough"}}, options={"ping_s": 0.2})
    with proxy.wire("app_scram"):
        proxy.settled(idle=1, attached=1)
        server.sql("alter role app_scram password 'changed'")
        for link in proxy.call(lambda: [k for p in proxy.route.pools.values() for k in p._idle]):
            server.sql("select pg_terminate_backend(%s)", link.pid)
        eventually(lambda: server.log_text().count('failed for user "app_scram"') == 1)
        time.sleep(0.5)  # ten sweeps
        assert server.log_text().count('failed for user "app_scram"') == 1


def test_what_is_idle_for_long_goes(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"idle_s": 0.3, "warm": 1}, options={"ping_s": 0.4})
    sessions = [proxy.wire() for _ in range(3)]
    for session in sessions:
        leave(session)
    proxy.settled(links=1, idle=1)


def test_links_have_a_lifetime(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"lifetime_s": 0.5}, options={"ping_s": 0.4})
    with proxy.wire() as session:
        first = session.key[0]
        time.sleep(0.7)
        assert pid(session) == first  # not while it is used
    eventually(lambda: not backends(postgres, f"pid = {first}"))
    with proxy.wire() as session:
        assert pid(session) != first


def test_idle_links_are_pinged(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, options={"ping_s": 0.2, "ping_timeout_s": 0.5})
    leave(proxy.wire())
    proxy.settled(idle=1, links=1)
    before = proxy.passed()[1]
    eventually(lambda: proxy.passed()[1] >= before + 10)  # two Syncs
    (link,) = proxy.call(lambda: [k for p in proxy.route.pools.values() for k in p._links])
    proxy.cut(Cut.SILENCE)
    eventually(lambda: link.closed)
    assert link.reason == "upstream_silent"
    proxy.settled(idle=1)  # a new one, as one is to be warm
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"


def test_a_closed_idle_link_is_noticed_at_once(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    leave(proxy.wire())
    proxy.settled(idle=1)
    (link,) = proxy.call(lambda: list(next(iter(proxy.route.pools.values()))._idle))
    started_s = time.monotonic()
    proxy.cut(Cut.FIN)
    eventually(lambda: link.phase is Phase.CLOSED)
    assert time.monotonic() - started_s < 0.5
    assert proxy.counts()["links"] == 0
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"
    assert proxy.named("link_lost") == []


# -- clients that vanish


VANISHING: dict[str, Callable[[PgWire], object]] = {
    "idle": lambda s: s.query("select 1"),
    "in a transaction": lambda s: s.query("begin; create table vanished (n int)"),
    "in a query": lambda s: s.send(wire.query("select pg_sleep(0.4)")),
    "in a long query": lambda s: s.send(wire.query("select pg_sleep(600)")),
    "behind a flush": lambda s: s.send(wire.run("select pg_sleep(600)") + wire.FLUSH),
    "in a copy": lambda s: (s.send(wire.query("copy vanish from stdin")), s.until(b"G")),
    "in a result": lambda s: s.send(
        wire.query("select repeat('x', 1000) from generate_series(1, 100000)")
    ),
    "in a message": lambda s: s.send(wire.query("select 1")[:-3]),
}


@pytest.mark.timeout(50)
@pytest.mark.parametrize("how", VANISHING)
def test_a_client_that_vanishes_leaves_nothing(
    proxied: Make, make_postgres: Callable[..., PostgresServer], how: str
) -> None:
    server = make_postgres()
    server.sql("create table vanish (n int)")
    proxy = proxied(server, pool={"size": 1, "warm": 0})
    session = proxy.wire()
    VANISHING[how](session)
    time.sleep(0.1)
    session.close()
    with proxy.wire() as other:
        assert other.value("select count(*) from pg_locks where relation >= 16384") == b"0"
        eventually(lambda: len(backends(server)) == 1, lambda: backends(server))
        assert other.value("select to_regclass('vanished') is null") == b"t"


def test_a_session_that_cannot_read_fast_slows_the_server(
    proxied: Make, postgres: PostgresServer
) -> None:
    """What is on its way lies in the kernel's buffers (72 MB, where tcp_rmem allows 32 MiB)."""
    proxy = proxied(postgres)
    with proxy.wire() as session:
        session.send(wire.query("select repeat('x', 10000) from generate_series(1, 15000)"))
        session.read_message()
        time.sleep(0.5)
        assert proxy.passed()[0] < 80_000_000
        (client,) = proxy.call(lambda: [one.transport for one in proxy.route.sessions])
        assert proxy.call(lambda: client.get_write_buffer_size()) < 1_000_000
        assert len(wire.rows(session.until_ready())) == 15_000


def test_a_wait_that_was_given_up_does_not_lose_the_link(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"size": 1})
    holder = proxy.wire()
    for _ in range(3):  # clients that leave the line
        waiting = PgWire.connect(proxy.address)
        waiting.send(wire.startup(user="postgres", database="app"))
        proxy.settled(waiting=1)
        waiting.close()
        proxy.settled(waiting=0)
    leave(holder)
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"
