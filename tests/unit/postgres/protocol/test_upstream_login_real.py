"""Our login at a real PostgreSQL: every method, channel binding, and a client's recovered key."""

import socket
from typing import Any

import pytest

from proxy.core.errors import UpstreamRefused
from proxy.demo.certificates import TlsFiles
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol import scram
from proxy.postgres.protocol.cert_hash import server_end_point
from proxy.postgres.protocol.client_login import Credentials, password_credentials
from proxy.postgres.protocol.scram import ChannelBinding
from proxy.postgres.protocol.upstream_login import LoginRequest, LoginResult, UpstreamLogin

pytestmark = pytest.mark.servers
RANDOM = b"r" * 18


def knock(
    server: PostgresServer, user: str, tls: TlsFiles | None = None, **more: Any
) -> LoginResult:
    """Log in at a real server over TCP, with TLS if files are given."""
    password = more.pop("password", ROLE_PASSWORDS.get(user, "").encode())
    more = {
        "database": b"app",
        "credentials": password_credentials(b"s" * 32, password),
        **more,
    }
    with socket.create_connection(("127.0.0.1", server.port), 10) as link:
        wrapped = link
        if tls is not None:
            link.sendall(m.ssl_request())
            assert link.recv(1) == b"S"
            wrapped = tls.client_context().wrap_socket(link, server_hostname="localhost")
            der = wrapped.getpeercert(binary_form=True)
            assert der
            more = {"cert_hash": server_end_point(der), **more}
        with wrapped:
            login = UpstreamLogin(LoginRequest(user=user.encode(), **more), RANDOM)
            wrapped.sendall(login.start())
            while login.result is None:
                data = wrapped.recv(65536)
                assert data, "closed"
                wrapped.sendall(login.feed(data))
            wrapped.sendall(m.terminate())
    return login.result


@pytest.mark.parametrize("user", ["app_trust", "app_password", "app_md5", "app_scram"])
def test_real_server(postgres: PostgresServer, user: str):
    result = knock(postgres, user, cleartext_allowed=True)
    assert result.params[b"server_encoding"] == b"UTF8"
    assert result.pid > 0
    assert len(result.secret) == 4
    assert not result.bound


@pytest.mark.parametrize("user", ["app_password", "app_md5", "app_scram"])
def test_real_server_refuses_a_wrong_password(postgres: PostgresServer, user: str):
    with pytest.raises(UpstreamRefused) as caught:
        knock(postgres, user, password=b"wrong", cleartext_allowed=True)
    fields = m.error_fields(caught.value.wire[5:])
    assert fields["C"] == "28P01"
    assert fields["M"] == f'password authentication failed for user "{user}"'


def test_real_server_without_the_database(postgres: PostgresServer):
    with pytest.raises(UpstreamRefused) as caught:
        knock(postgres, "app_trust", database=b"nowhere")
    assert m.error_fields(caught.value.wire[5:])["C"] == "3D000"


def test_real_server_negotiates_the_protocol(postgres: PostgresServer):
    result = knock(postgres, "app_trust", minor=2)
    newest = 2 if int(result.params[b"server_version"].split(b".")[0]) >= 18 else 0
    assert result.minor == newest
    assert len(result.secret) == (32 if newest else 4)


def test_real_server_binds_to_the_channel(postgres: PostgresServer, tls_files: TlsFiles):
    if postgres.options.tls is None:
        pytest.skip("this PostgreSQL was built without TLS")
    result = knock(postgres, "app_tls", tls_files, channel_binding=ChannelBinding.REQUIRE)
    assert result.bound
    result = knock(postgres, "app_tls", tls_files, channel_binding=ChannelBinding.DISABLE)
    assert not result.bound
    with pytest.raises(UpstreamRefused) as caught:  # bound to a certificate that it does not have
        knock(postgres, "app_tls", tls_files, cert_hash=b"h" * 32)
    assert b"channel binding check failed" in caught.value.wire
    with pytest.raises(UpstreamRefused) as caught:  # "y": as if somebody had hidden PLUS from us
        knock_without_plus(postgres, tls_files)
    assert b"channel binding negotiation error" in caught.value.wire


def knock_without_plus(postgres: PostgresServer, tls_files: TlsFiles) -> None:
    real = scram.choose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scram, "choose", lambda _, *rest: real([scram.MECHANISM], *rest))
        knock(postgres, "app_tls", tls_files)


def test_a_clients_proof_logs_in_at_a_real_server(postgres: PostgresServer):
    """The whole way: verifier from pg_authid, a client proves itself to us, its key logs us in."""
    rows = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_scram'")
    verifier = scram.parse_verifier(rows[0][0])
    assert verifier
    password = ROLE_PASSWORDS["app_scram"].encode()
    salted = scram.salted_password(password, verifier.salt, verifier.iterations)
    client = scram.ClientExchange(scram.Choice(scram.MECHANISM, b"n,,", b""), RANDOM)
    ours = scram.ServerExchange(verifier, b"b" * 18, None)
    client.read_first(ours.first(scram.MECHANISM, client.first()))
    ours.final(client.final(scram.keys_from(salted, verifier.salt, verifier.iterations)))
    result = knock(postgres, "app_scram", credentials=Credentials(None, ours.keys, b""))
    assert result.pid > 0
