"""An upstream that is itself a pooler: recognised, said once, and nothing breaks through it."""

import shutil
import threading
from collections.abc import Callable

import pytest

from proxy.demo.servers import PostgresServer
from tests import wire
from tests.fix_bouncer import Bouncer, MakeBouncer
from tests.integration.postgres.kit import Make, backends, eventually
from tests.wire import PgWire

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer"),
]
MODES = ["transaction", "session"]


def upstream(bouncer: Bouncer) -> dict[str, str]:
    return {"upstream": f"postgresql://postgres@127.0.0.1:{bouncer.port}/app?sslmode=disable"}


@pytest.mark.parametrize("mode", MODES)
def test_it_is_said_once_and_plain_work_goes_on(
    proxied: Make,
    make_postgres: Callable[..., PostgresServer],
    make_bouncer: MakeBouncer,
    mode: str,
) -> None:
    server = make_postgres(settings={"log_statement": "all"})
    bouncer = make_bouncer(server, mode)
    proxy = proxied(setting=upstream(bouncer), options={"ping_s": 0.3})
    with proxy.wire() as session, proxy.wire() as other:
        session.query("create table work (n int)")
        for client in (session, other):
            _plain_work(client)
        assert session.value("select count(*) from work") == b"10"
    (said,) = proxy.named("upstream_is_pooler")
    assert said["level"] == "warning"
    assert "settings may not stick" in said["meaning"]
    proxy.call(lambda: proxy.route._maintain(proxy._loop.time()))
    proxy.settled(attached=0)
    asked = server.log_text()
    assert "insert into work" in asked
    assert "_backstay" not in asked
    assert "pg_my_temp_schema" not in asked


def _plain_work(client: PgWire) -> None:
    assert wire.tags(client.query("begin; insert into work values (1); commit")) == [
        "BEGIN",
        "INSERT 0 1",
        "COMMIT",
    ]
    assert wire.rows(client.extended("select $1::int + 1", "41")) == [(b"42",)]
    client.query("begin")
    client.query("set local work_mem = '5MB'")
    assert client.value("show work_mem") == b"5MB"
    assert client.query("rollback")[-1] == b"Z\0\0\0\5I"
    client.send(wire.query("copy work from stdin"))
    client.until(b"G")
    client.send(wire.copy_data(b"2\n3\n") + wire.COPY_DONE)
    assert wire.tags(client.until_ready()) == ["COPY 2"]
    assert wire.tags(client.query("do $$ begin insert into work values (4); end $$")) == ["DO"]
    assert wire.sqlstate(client.query("select 1/0")) == "22012"
    client.query("set search_path = public")
    assert wire.tags(client.query("insert into work select 5")) == ["INSERT 0 1"]


@pytest.mark.parametrize("mode", MODES)
def test_its_last_words_prove_nothing(
    proxied: Make,
    make_postgres: Callable[..., PostgresServer],
    make_bouncer: MakeBouncer,
    mode: str,
) -> None:
    server = make_postgres()
    server.sql("create table written (n int)")
    proxy = proxied(setting=upstream(make_bouncer(server, mode)))
    with proxy.wire() as session:
        session.send(wire.query("insert into written select 1 from pg_sleep(30)"))
        _terminate(server, "insert")
        assert wire.sqlstate(session.until_ready()) == "08007"
        assert proxy.route.counters.resent_fatal == 0
        assert proxy.route.counters.doubts == 1
        # A read is certified by itself, and runs again.
        session.send(wire.query("select count(*) from pg_sleep(0.7)"))
        _terminate(server, "select count")
        assert wire.rows(session.until_ready()) == [(b"1",)]
        assert proxy.route.counters.replayed_read_only == 1


def _terminate(server: PostgresServer, begins: str) -> None:
    """End the backend that runs this, once it does."""
    where = f"query like '{begins}%' and state = 'active'"
    eventually(lambda: backends(server, where))
    for pid, _, _ in backends(server, where):
        server.sql("select pg_terminate_backend(%s)", pid)


@pytest.mark.parametrize("mode", MODES)
def test_its_restart(
    proxied: Make,
    make_postgres: Callable[..., PostgresServer],
    make_bouncer: MakeBouncer,
    mode: str,
) -> None:
    server = make_postgres(settings={"log_statement": "all"})
    bouncer = make_bouncer(server, mode)
    proxy = proxied(setting=upstream(bouncer))
    with proxy.wire() as session:
        session.query("set work_mem = '5MB'")
        bouncer.restart()
        proxy.until("link_lost")
        assert session.value("show work_mem") == b"5MB"
        assert wire.rows(session.extended("select $1::int", "7")) == [(b"7",)]
    assert "_backstay_fp" not in server.log_text()


def test_cancel_goes_through(
    proxied: Make, postgres: PostgresServer, make_bouncer: MakeBouncer
) -> None:
    proxy = proxied(setting=upstream(make_bouncer(postgres, "transaction")))
    with proxy.wire() as session:
        timer = threading.Timer(0.3, lambda: _cancel(proxy.address, session.key))
        timer.start()
        assert wire.sqlstate(session.query("select pg_sleep(30)")) == "57014"
        timer.join()


def _cancel(address: tuple[str, int], key: tuple[int, bytes]) -> None:
    with PgWire.connect(address) as other:
        other.send(wire.cancel(*key))
        other.until_closed()


def test_a_pooler_that_waits_for_its_server(
    proxied: Make, make_postgres: Callable[..., PostgresServer], make_bouncer: MakeBouncer
) -> None:
    """What PgBouncer says of an outage behind it is an outage for us, too."""
    server = make_postgres()
    bouncer = make_bouncer(server, "transaction")
    proxy = proxied(setting=upstream(bouncer), pool={"warm": 0})
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"
        server.stop()
        session.send(wire.query("select 2"))
        threading.Timer(1.0, server.start).start()
        assert wire.rows(session.until_ready()) == [(b"2",)]
