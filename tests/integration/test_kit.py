"""The kit against the real servers: every login, every way to stop, both raw clients."""

import struct
import time
from collections.abc import Callable

import pytest

from proxy.demo.certificates import TlsFiles
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer, RedisServer, Stop
from tests import wire
from tests.wire import PgWire, WireClosed
from tests.wire_redis import RedisWire, command

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("user", ["app_trust", "app_password", "app_md5", "app_scram"])
@pytest.mark.parametrize("version", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
def test_every_login_method(postgres: PostgresServer, user: str, version: int) -> None:
    with PgWire.connect(("127.0.0.1", postgres.port)) as client:
        answer = client.login(ROLE_PASSWORDS[user], version, user=user, database="app")
        assert answer[-1] == b"Z\0\0\0\5I"
        assert client.value("SELECT current_user") == user.encode()
        assert client.key[0] == int(client.value("SELECT pg_backend_pid()") or 0)


def test_wrong_password_is_the_servers_own_error(postgres: PostgresServer) -> None:
    with PgWire.connect(postgres.socket_folder / f".s.PGSQL.{postgres.port}") as client:
        answer = client.login("wrong", user="app_scram", database="app")
        assert wire.sqlstate(answer) == "28P01"


def test_tls_login_and_cancel(postgres: PostgresServer, tls_files: TlsFiles) -> None:
    address = ("127.0.0.1", postgres.port)
    with PgWire.connect(address) as client:
        assert client.request_tls(tls_files.client_context()) == b"S"
        client.login(ROLE_PASSWORDS["app_tls"], user="app_tls", database="app")
        client.send(wire.query("SELECT pg_sleep(30)"))
        active = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        while not postgres.sql(active):  # one that comes before the query is ignored
            pass
        with PgWire.connect(address) as second:
            second.send(wire.cancel(*client.key))
            assert second.until_closed() == []
        assert wire.sqlstate(client.until_ready()) == "57014"


def test_chopped_is_the_same(postgres: PostgresServer) -> None:
    with PgWire.session(("127.0.0.1", postgres.port)) as client:
        whole = client.extended("SELECT $1::int + 1", "41")
        client.chop_bytes = 1
        assert client.extended("SELECT $1::int + 1", "41") == whole
        assert wire.rows(whole) == [(b"42",)]
        assert wire.kinds(whole) == "12TDCZ"


@pytest.mark.parametrize("how", list(Stop))
def test_restart_on_the_same_port(make_postgres: Callable[..., PostgresServer], how: Stop) -> None:
    server = make_postgres()
    address = ("127.0.0.1", server.port)
    client = PgWire.session(address)
    client.query("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
    if how is Stop.SMART:
        client.send(wire.TERMINATE)  # it would wait for us
        assert client.until_closed() == []
    server.restart(how)
    if how is Stop.FAST:
        assert wire.sqlstate(client.until_closed()) == "57P01"
    if how is Stop.KILL:
        assert _last_words(client) == []
    client.close()
    assert server.sql("SELECT count(*) FROM kept") == [(1,)]


def _last_words(client: PgWire) -> list[bytes]:
    try:
        return client.until_closed()  # the kernel closes an idle socket with FIN …
    except WireClosed as closed:
        return [closed.rest] if closed.rest else []  # … and one with unread bytes by a reset


def test_standby_follows_and_takes_over(
    make_postgres: Callable[..., PostgresServer],
    make_standby: Callable[[PostgresServer], PostgresServer],
) -> None:
    primary = make_postgres()
    standby = make_standby(primary)
    primary.sql("CREATE TABLE followed (n int)")
    while not primary.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"):
        time.sleep(0.02)
    assert standby.sql("SELECT pg_is_in_recovery()") == [(True,)]
    primary.stop(Stop.FAST)  # waits until the standby has everything
    standby.promote()
    standby.sql("INSERT INTO followed VALUES (1)")
    assert standby.sql("SELECT count(*) FROM followed") == [(1,)]


def test_frozen_server_says_nothing_and_recovers(
    make_postgres: Callable[..., PostgresServer],
) -> None:
    server = make_postgres()
    with PgWire.session(("127.0.0.1", server.port)) as client:
        server.freeze()
        client.send(wire.query("SELECT 1"))
        with pytest.raises(TimeoutError):
            client.read_message(0.1)
        server.thaw()
        assert wire.rows(client.until_ready()) == [(b"1",)]


def test_function_call(postgres: PostgresServer) -> None:
    with PgWire.session(("127.0.0.1", postgres.port)) as client:
        client.send(wire.function_call(177, [struct.pack("!i", 40), struct.pack("!i", 2)]))
        answer = client.until_ready()
        assert wire.kinds(answer) == "VZ"
        assert answer[0][9:] == struct.pack("!i", 42)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_raw_replies(redis: RedisServer, protocol: int) -> None:
    with RedisWire.connect(("127.0.0.1", redis.port)) as client:
        hello = client.ask("HELLO", protocol)
        assert hello[:1] == (b"%" if protocol == 3 else b"*")
        client.chop_bytes = 1
        assert client.ask("ECHO", b"\r\n\0x") == b"$4\r\n\r\n\0x\r\n"
        client.send(command("GET", "kit:missing") + b"PING\r\n" + command("NOSUCH"))
        missing, pong, error = client.replies(3)
        assert missing == (b"_\r\n" if protocol == 3 else b"$-1\r\n")
        assert pong == b"+PONG\r\n"
        assert error.startswith(b"-ERR unknown command")
        assert client.quiet()


def test_redis_tls_and_acl(redis_tls_port: int, tls_files: TlsFiles) -> None:
    with RedisWire.connect(("127.0.0.1", redis_tls_port)) as client:
        client.start_tls(tls_files.client_context())
        assert client.ask("AUTH", "reader", "wrong").startswith(b"-WRONGPASS")
        assert client.ask("AUTH", "reader", "reader-Pa55word") == b"+OK\r\n"
        assert client.ask("SET", "a", "b").startswith(b"-NOPERM")


@pytest.mark.parametrize("persistent", [True, False])
def test_redis_kill_and_restart(make_redis: Callable[..., RedisServer], persistent: bool) -> None:
    server = make_redis(persistent=persistent)
    with RedisWire.connect(("127.0.0.1", server.port)) as client:
        assert client.ask("SET", "a", "1") == b"+OK\r\n"
        server.restart(kill=True)
    with RedisWire.connect(("127.0.0.1", server.port)) as client:
        assert client.ask("GET", "a") == (b"$1\r\n1\r\n" if persistent else b"$-1\r\n")
