"""SHOW CLIENTS and SHOW SERVERS: a row per session and link that says what the server says."""

import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.core.operator import Detail
from proxy.demo.certificates import TlsFiles
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.detail import rows
from tests.integration.postgres.kit import Make, Proxied, backends, eventually

pytestmark = pytest.mark.servers


def unix_s() -> float:
    return datetime.now(UTC).timestamp()


def detail(proxy: Proxied) -> Detail:
    found: Detail = proxy.call(lambda: rows(proxy.route))
    return found


def test_a_row_names_the_client_its_link_and_its_backend(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    began_s = unix_s()
    with proxy.connect(application_name="shop") as client:
        client.execute("prepare one as select 1")
        client.execute("begin")
        client.execute("select 1")
        found = detail(proxy)
        (session,), (link,) = found.sessions, found.links
        assert (session.user, session.database) == ("postgres", "app")
        assert (session.kind, session.route, session.application) == ("postgres", "main", "shop")
        assert session.state == "active"  # in a transaction
        own = client.pgconn.socket
        assert (session.address, session.port) == ("127.0.0.1", _local_port(own))
        assert began_s - 1 < session.connected_s <= unix_s()
        assert session.waited_s == 0.0
        assert (session.link, link.session) == (link.id, session.id)
        assert session.prepared == link.prepared == 1
        assert session.tls == link.tls == ""
        assert link.state == "active"
        assert link.pid in {pid for pid, _, _ in backends(postgres)}
        assert began_s - 1 < link.opened_s <= unix_s()
        assert link.address == "127.0.0.1"
        assert link.local_port > 0
        client.execute("commit")
        eventually(lambda: detail(proxy).sessions[0].state == "idle")
    proxy.settled(idle=1)
    found = detail(proxy)
    assert not found.sessions
    assert [(row.state, row.session) for row in found.links] == [("idle", 0)]


def _local_port(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_who_waits_for_a_link_is_shown_waiting(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"size": 1, "warm": 0})
    first = proxy.connect()
    number = detail(proxy).sessions[0].id
    assert detail(proxy).links[0].session == number
    joined = threading.Thread(target=lambda: proxy.wire().close())
    joined.start()
    eventually(lambda: len(detail(proxy).sessions) == 2)
    waiting = detail(proxy).sessions[1]
    assert (waiting.state, waiting.link) == ("waiting", 0)
    eventually(lambda: detail(proxy).sessions[1].waited_s > waiting.waited_s)
    first.close()
    joined.join()


def test_a_unix_socket_and_tls_are_told(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, tmp_path: Path
) -> None:
    tls = {"mode": "allow", "cert": str(tls_files.certificate), "key": str(tls_files.key)}
    proxy = proxied(
        postgres,
        query="sslmode=require",
        setting={"listen": ["127.0.0.1:0", str(tmp_path)], "tls": tls},
    )
    with (
        proxy.connect(host=str(tmp_path), port=6432),
        proxy.connect(sslmode="require"),
    ):
        sessions = {row.address: row for row in detail(proxy).sessions}
        assert set(sessions) == {"unix", "127.0.0.1"}
        assert sessions["unix"].tls == ""
        assert sessions["127.0.0.1"].tls.startswith("TLSv1.3/TLS_")
        assert all(row.tls.startswith("TLSv1.") for row in detail(proxy).links)
