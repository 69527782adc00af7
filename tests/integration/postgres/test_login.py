"""Logins: who asks for what, whose words the client hears, what nobody learns."""

import socket
import statistics
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pytest

from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from proxy.postgres.runtime.options import AuthOptions
from tests import wire
from tests.integration.postgres.kit import Make, backends, eventually
from tests.wire import PgWire

pytestmark = pytest.mark.servers

PASSTHROUGH: Mapping[str, Any] = {"auth": {"method": "passthrough"}}


def refusal(proxy: Any, user: str, password: str, **parameters: str) -> dict[str, str]:
    """The fields of the error that ends a login."""
    with pytest.raises(wire.LoginRefused) as refused:
        proxy.wire(user, password=password, **parameters)
    fields: dict[str, str] = refused.value.args[0]
    return fields


def direct(server: PostgresServer, user: str, password: str, **parameters: str) -> dict[str, str]:
    with pytest.raises(wire.LoginRefused) as refused:
        PgWire.session(("127.0.0.1", server.port), user, password, **parameters)
    fields: dict[str, str] = refused.value.args[0]
    return fields


# -- passthrough


@pytest.mark.parametrize("user", ["postgres", "app_trust", "app_password", "app_md5", "app_scram"])
def test_passthrough_answers_whatever_the_server_asks(
    proxied: Make, postgres: PostgresServer, user: str
) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH)
    with proxy.wire(user) as session:
        assert session.value("select session_user") == user.encode()
    with proxy.connect(user) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("user", ["app_password", "app_md5", "app_scram", "nobody_at_all"])
def test_a_wrong_password_is_answered_by_the_server(
    proxied: Make, postgres: PostgresServer, user: str
) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH)
    assert refusal(proxy, user, "wrong") == direct(postgres, user, "wrong")
    assert proxy.counts() == {}  # a pool for nothing is not kept


def test_other_refusals_are_the_servers_own(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH)
    password = ROLE_PASSWORDS["app_scram"]
    theirs = direct(postgres, "app_scram", password, database="nowhere")
    assert theirs["C"] == "3D000"
    assert refusal(proxy, "app_scram", password, database="nowhere") == theirs
    theirs = direct(postgres, "app_scram", password, options="-c nonsense=1")
    assert refusal(proxy, "app_scram", password, options="-c nonsense=1") == theirs
    theirs = direct(postgres, "app_scram", password, no_such_setting="1")
    assert refusal(proxy, "app_scram", password, no_such_setting="1") == theirs


def test_another_password_never_gets_the_firsts_links(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH)
    with proxy.wire("app_scram"):
        pass
    proxy.settled(idle=1)
    assert refusal(proxy, "app_scram", "wrong")["C"] == "28P01"
    with proxy.wire("app_scram") as session:
        assert session.value("select 1") == b"1"


def test_a_password_does_not_cross_the_network_in_clear(
    proxied: Make, postgres: PostgresServer
) -> None:
    address = _own_address()
    # The settings refuse this already; the runtime does not rely on it.
    told = {"listen": f"{address}:0", **scram(app_scram="x")}
    proxy = proxied(postgres, setting=told, options={"auth": AuthOptions(method="passthrough")})
    with PgWire.connect((address, proxy.port)) as client:
        answer = client.login("secret", user="app_scram", database="app")
    assert wire.sqlstate(answer) == "28000"
    assert "in clear" in wire.error_fields(answer[-1])["M"]


def _own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has loopback only")
        address: str = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has loopback only")
    return address


# -- scram-sha-256


def scram(**users: str) -> dict[str, Any]:
    return {"auth": {"method": "scram-sha-256", "users": users}}


def test_scram_with_the_password_of_the_url(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, user="app_md5:md5-Pa55%25word", setting={"auth": None})
    with proxy.wire("app_md5") as session:
        assert session.value("select session_user") == b"app_md5"
    assert refusal(proxy, "app_md5", "wrong")["C"] == "28P01"
    assert refusal(proxy, "app_scram", ROLE_PASSWORDS["app_scram"])["C"] == "28P01"


@pytest.mark.parametrize("user", ["app_password", "app_md5", "app_scram"])
def test_scram_with_listed_passwords(proxied: Make, postgres: PostgresServer, user: str) -> None:
    proxy = proxied(postgres, setting=scram(**{user: ROLE_PASSWORDS[user]}))
    with proxy.wire(user) as session:
        assert session.value("select session_user") == user.encode()
    with proxy.connect(user) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_scram_with_the_servers_verifier(proxied: Make, postgres: PostgresServer) -> None:
    sql = "select rolname, rolpassword from pg_authid where rolname like 'app_%'"
    stored = {name: secret for name, secret in postgres.sql(sql) if secret}
    assert stored["app_scram"].startswith("SCRAM-SHA-256$")
    proxy = proxied(
        postgres, setting=scram(app_scram=stored["app_scram"], app_password=stored["app_password"])
    )
    with proxy.wire("app_scram") as session:  # the ClientKey was in the client's proof
        assert session.value("select session_user") == b"app_scram"
    # The server asks this one in clear, and a verifier has no answer to that.
    fields = refusal(proxy, "app_password", ROLE_PASSWORDS["app_password"])
    assert fields["C"] == "28000"
    assert "only a SCRAM verifier is stored" in fields["M"]


def test_nothing_tells_who_exists(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, setting=scram(app_scram=ROLE_PASSWORDS["app_scram"]))
    known = refusal(proxy, "app_scram", "wrong")
    unknown = refusal(proxy, "app_other", "wrong")
    assert {**known, "M": known["M"].replace("app_scram", "app_other")} == unknown

    def challenge(user: str) -> tuple[float, bytes]:
        with PgWire.connect(proxy.address) as client:
            client.send(wire.startup(user=user, database="app"))
            client.read_message()
            first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO"
            started_s = time.perf_counter()
            body = wire.zero("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first
            client.send(wire.message(b"p", body))
            raw = client.read_message()
            return time.perf_counter() - started_s, raw[9:].split(b",", 1)[1]

    # The same salt each time, the same shape, and no difference in time that shows.
    seen = {user: [challenge(user) for _ in range(15)] for user in ("app_scram", "app_other")}
    for answers in seen.values():
        assert len({answer for _, answer in answers}) == 1
    shapes = {user: len(answers[0][1]) for user, answers in seen.items()}
    assert len(set(shapes.values())) == 1
    middle = {u: statistics.median(t for t, _ in answers) for u, answers in seen.items()}
    assert abs(middle["app_scram"] - middle["app_other"]) < 0.005


# -- trust


def test_trust_asks_nothing_and_uses_the_urls_password(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, user="app_md5:md5-Pa55%25word")
    with PgWire.connect(proxy.address) as client:
        answer = client.login(user="app_md5", database="app")
        assert wire.kinds(answer)[:2] == "RS"
        assert client.value("select session_user") == b"app_md5"
    fields = refusal(proxy, "app_scram", "")
    assert fields["C"] == "28000"
    assert "none is set" in fields["M"]


# -- the protocol


def test_version_3_2_through_libpq(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    options = {"min_protocol_version": "3.2", "max_protocol_version": "3.2"}
    with proxy.connect(**options) as connection:
        assert connection.pgconn.full_protocol_version == 30002
        assert connection.execute("select 1").fetchone() == (1,)
        connection.execute("begin")
        connection.cancel_safe()
        assert connection.execute("select 2").fetchone() == (2,)


def test_a_3_2_key_is_long(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with PgWire.connect(proxy.address) as client:
        client.login(version=wire.PROTOCOL_3_2, user="postgres", database="app")
        assert len(client.key[1]) == 32
        client.send(wire.query("select pg_sleep(60)"))
        eventually(lambda: backends(postgres, "query like '%sleep(60)' and state = 'active'"))
        with PgWire.connect(proxy.address) as other:
            other.send(wire.cancel(*client.key))
            assert other.until_closed() == []
        assert wire.sqlstate(client.until_ready()) == "57014"


def test_newer_versions_and_unknown_options_are_negotiated(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres)
    with PgWire.connect(proxy.address) as client:
        answer = client.login(
            version=196608 + 9, user="postgres", database="app", **{"_pq_.shiny": "1"}
        )
        assert answer[0][:1] == b"v"
        assert answer[0][5:] == struct.pack("!II", 196610, 1) + b"_pq_.shiny\0"
        assert answer[-1] == b"Z\0\0\0\5I"
    with PgWire.connect(proxy.address) as client:
        answer = client.login(version=2 << 16, user="postgres")
        assert wire.sqlstate(answer) == "0A000"


def test_encryption_that_is_not_there_is_declined(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with PgWire.connect(proxy.address) as client:
        for request in (wire.GSSENC_REQUEST, wire.SSL_REQUEST):
            client.send(request)
            assert client.sock.recv(10) == b"N"
        assert client.login(user="postgres", database="app")[-1] == b"Z\0\0\0\5I"


@pytest.mark.parametrize("request_", [wire.SSL_REQUEST, wire.GSSENC_REQUEST])
def test_bytes_behind_a_request_for_encryption_are_refused(
    proxied: Make, postgres: PostgresServer, request_: bytes
) -> None:
    proxy = proxied(postgres)
    with PgWire.connect(proxy.address) as client:
        client.send(request_ + wire.startup(user="postgres", database="app"))
        answer = client.until_closed()
    assert wire.sqlstate(answer) == "08P01"
    assert "received unencrypted data" in wire.error_fields(answer[0])["M"]


def test_replication_is_refused_in_clear_words(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    fields = refusal(proxy, "postgres", "any", replication="database")
    assert fields["C"] == "0A000"
    assert "replication connections do not pass through Backstay" in fields["M"]


# -- time and number


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        wire.startup(user="app_scram", database="app")[:9],
        wire.startup(user="app_scram", database="app"),
        wire.startup(user="app_scram", database="app") + b"p\0\0\0\x20half",
    ],
    ids=["nothing", "half a packet", "no password", "half a password"],
)
def test_whoever_takes_too_long_is_sent_away(
    proxied: Make, postgres: PostgresServer, sent: bytes
) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH, pool={"login_timeout_s": 0.3})
    with PgWire.connect(proxy.address) as client:
        client.send(sent)
        answer = client.until_closed()
    assert wire.sqlstate(answer) == "57014"
    assert "login not finished within 0.3 s" in wire.error_fields(answer[-1])["M"]
    assert proxy.until("refused")[0]["reason"] == "login_timeout"


def test_a_drip_does_not_prolong_the_login(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH, pool={"login_timeout_s": 0.5})
    packet = wire.startup(user="app_scram", database="app", application_name="x" * 100)
    started_s = time.monotonic()
    with PgWire.connect(proxy.address) as client:
        with pytest.raises((wire.WireClosed, OSError)):
            for at in range(len(packet)):
                client.send(packet[at : at + 1])
                time.sleep(0.02)
            client.until_closed()
            raise AssertionError("not reached before the packet was whole")
        assert time.monotonic() - started_s < 2.5


def test_the_server_that_is_full_says_so_itself(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres(settings={"max_connections": "6", "superuser_reserved_connections": "3"})
    proxy = proxied(server, setting=PASSTHROUGH, resilience={"hold_s": 2.0})
    taken = [psycopg.connect(server.dsn("app_scram")) for _ in range(3)]
    theirs = direct(server, "app_scram", ROLE_PASSWORDS["app_scram"])
    assert theirs["C"] == "53300"
    assert refusal(proxy, "app_scram", ROLE_PASSWORDS["app_scram"]) == theirs
    attempts = server.log_text().count("remaining connection slots")
    assert attempts <= 6  # it backs off: one try at once, others half a second apart or more
    for connection in taken:
        connection.close()
    with proxy.wire("app_scram") as session:
        assert session.value("select 1") == b"1"


def test_more_logins_at_a_time_than_clients_are_bounded(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH, pool={"clients": 2})
    slow = [PgWire.connect(proxy.address) for _ in range(3)]
    for client in slow:  # all have got past the first look at the number of clients
        client.send(wire.startup(user="app_trust", database="app"))
        assert client.read_message()[:1] == b"R"
    ends = []
    for client in slow:
        client.send(wire.message(b"p", b"any\0"))
        ends.append(client.until(b"Z") if len(ends) < 2 else client.until_closed())
    assert wire.sqlstate(ends[-1]) == "53300"
    crowd = [PgWire.connect(proxy.address) for _ in range(110)]
    eventually(lambda: len(proxy.named("refused")) >= 9)
    assert proxy.named("refused")[-1]["reason"] == "too_many_clients"
    assert proxy.call(lambda: len(proxy.route.entries)) <= 102
    for client in [*crowd, *slow]:
        client.close()
