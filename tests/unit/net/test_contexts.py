"""libpq's sslmodes as contexts: who verifies what, who refuses what, and each bundle read once."""

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

import pytest
import trustme

from proxy.core.errors import ConfigError
from proxy.net.contexts import (
    ClientTls,
    ServerTls,
    ServerTlsMode,
    SslMode,
    client_context,
    forget_contexts,
    server_context,
)
from proxy.net.tls import PumpOptions, TlsPump
from tests.unit.net.wires import PemFiles, Recorder, over_loop, tcp_pair


@pytest.fixture
def pem(tmp_path: Path) -> PemFiles:
    return PemFiles(tmp_path)


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    forget_contexts()


async def shake(
    client: ssl.SSLContext | None, server: ssl.SSLContext | None, name: str
) -> tuple[TlsPump, TlsPump]:
    """Both pumps after the handshake. Raises the client's error."""
    assert client is not None
    assert server is not None
    near, far = tcp_pair()
    far.setblocking(False)
    near_pump = TlsPump(Recorder(), PumpOptions(client, server_hostname=name))
    far_pump = TlsPump(Recorder(), PumpOptions(server, server_side=True))
    await over_loop(near, near_pump)
    await over_loop(far, far_pump)
    try:
        await near_pump.handshaken()
    finally:
        with contextlib.suppress(OSError):
            await far_pump.handshaken()
    return near_pump, far_pump


def server(pem: PemFiles, mode: ServerTlsMode = ServerTlsMode.REQUIRE) -> ssl.SSLContext | None:
    ca = pem.ca if mode is ServerTlsMode.VERIFY_CA else None
    return server_context(ServerTls(mode=mode, cert=pem.server, client_ca=ca))


def test_disabled_is_no_context() -> None:
    assert client_context(ClientTls(mode=SslMode.DISABLE, root_cert="no such file")) is None
    assert server_context(ServerTls(mode=ServerTlsMode.DISABLE)) is None


@pytest.mark.parametrize(
    ("mode", "roots", "name", "works"),
    [
        (SslMode.ALLOW, None, "localhost", True),
        (SslMode.PREFER, None, "wrong.test", True),
        (SslMode.REQUIRE, None, "wrong.test", True),
        (SslMode.REQUIRE, "missing", "wrong.test", True),
        (SslMode.PREFER, "missing", "localhost", True),
        (SslMode.REQUIRE, "right", "wrong.test", True),
        (SslMode.REQUIRE, "other", "localhost", False),
        (SslMode.PREFER, "other", "localhost", False),
        (SslMode.VERIFY_CA, "right", "wrong.test", True),
        (SslMode.VERIFY_CA, "other", "localhost", False),
        (SslMode.VERIFY_FULL, "right", "localhost", True),
        (SslMode.VERIFY_FULL, "right", "127.0.0.1", True),
        (SslMode.VERIFY_FULL, "right", "wrong.test", False),
        (SslMode.VERIFY_FULL, "right", "127.0.0.2", False),
        (SslMode.VERIFY_FULL, "other", "localhost", False),
    ],
)
async def test_what_each_mode_verifies(
    pem: PemFiles, tmp_path: Path, mode: SslMode, roots: str | None, name: str, works: bool
) -> None:
    other = str(tmp_path / "other.pem")
    trustme.CA().cert_pem.write_to_path(other)
    files = {"right": pem.ca, "other": other, "missing": str(tmp_path / "missing.pem")}
    root_cert = files[roots] if roots else None
    context = client_context(ClientTls(mode=mode, root_cert=root_cert))
    if works:
        near, _ = await shake(context, server(pem), name)
        assert near.ssl_object.version() == "TLSv1.3"
        near.abort()
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            await shake(context, server(pem), name)


@pytest.mark.parametrize("mode", [SslMode.VERIFY_CA, SslMode.VERIFY_FULL])
def test_verifying_needs_roots(tmp_path: Path, mode: SslMode) -> None:
    with pytest.raises(ConfigError, match=f"sslmode={mode.value} needs a root"):
        client_context(ClientTls(mode=mode))
    with pytest.raises(ConfigError, match=r"cannot use '.*missing.pem': No such file"):
        client_context(ClientTls(mode=mode, root_cert=str(tmp_path / "missing.pem")))


def test_file_without_certificates(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing in here")
    with pytest.raises(ConfigError, match="sslrootcert: cannot use"):
        client_context(ClientTls(mode=SslMode.REQUIRE, root_cert=str(empty)))


def test_system_roots_demand_verify_full() -> None:
    context = client_context(ClientTls(mode=SslMode.VERIFY_FULL, root_cert="system"))
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    for mode in (SslMode.ALLOW, SslMode.PREFER, SslMode.REQUIRE, SslMode.VERIFY_CA):
        with pytest.raises(ConfigError, match="needs sslmode=verify-full"):
            client_context(ClientTls(mode=mode, root_cert="system"))


def test_a_bundle_is_read_once(pem: PemFiles) -> None:
    options = ClientTls(mode=SslMode.VERIFY_FULL, root_cert=pem.ca)
    first = client_context(options)
    os.unlink(pem.ca)
    assert client_context(ClientTls(mode=SslMode.VERIFY_FULL, root_cert=pem.ca)) is first
    forget_contexts()
    with pytest.raises(ConfigError):
        client_context(options)


def test_old_protocols_and_renegotiation_are_off(pem: PemFiles) -> None:
    for context in (client_context(ClientTls(mode=SslMode.REQUIRE)), server(pem)):
        assert context is not None
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.both_loops
async def test_client_certificate(pem: PemFiles) -> None:
    options = ClientTls(
        mode=SslMode.VERIFY_FULL, root_cert=pem.ca, cert=pem.client, key=pem.client_key
    )
    near, far = await shake(
        client_context(options), server(pem, ServerTlsMode.VERIFY_CA), "localhost"
    )
    assert far.get_extra_info("peercert")
    near.abort()


@pytest.mark.both_loops
async def test_client_without_the_certificate_is_refused(pem: PemFiles) -> None:
    near, far = tcp_pair()
    far.setblocking(False)
    context = client_context(ClientTls(mode=SslMode.VERIFY_FULL, root_cert=pem.ca))
    verifying = server(pem, ServerTlsMode.VERIFY_CA)
    assert context is not None
    assert verifying is not None
    client = Recorder()
    near_pump = TlsPump(client, PumpOptions(context, server_hostname="localhost"))
    far_pump = TlsPump(Recorder(), PumpOptions(verifying, server_side=True))
    await over_loop(near, near_pump)
    await over_loop(far, far_pump)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        await far_pump.handshaken()
    # TLS 1.3: the client was done by then, and learns it from the alert.
    await asyncio.wait_for(client.lost.wait(), 5)
    assert isinstance(client.error, ssl.SSLError)


def test_key_that_does_not_belong_to_the_certificate(pem: PemFiles) -> None:
    with pytest.raises(ConfigError, match=r"certificate: cannot use .*server.pem and .*client.key"):
        server_context(ServerTls(mode=ServerTlsMode.REQUIRE, cert=pem.server, key=pem.client_key))


def test_server_needs_its_files(pem: PemFiles) -> None:
    with pytest.raises(ConfigError, match=r"tls\.cert: mode require needs a certificate"):
        server_context(ServerTls(mode=ServerTlsMode.REQUIRE))
    with pytest.raises(ConfigError, match=r"tls\.client_ca"):
        server_context(ServerTls(mode=ServerTlsMode.VERIFY_CA, cert=pem.server))


def test_encrypted_key_never_asks_the_terminal(tmp_path: Path, pem: PemFiles) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(pem.client_key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    def options(password: str | None) -> ClientTls:
        return ClientTls(
            mode=SslMode.REQUIRE, cert=pem.client, key=str(locked), key_password=password
        )

    with pytest.raises(ConfigError, match="cannot use") as caught:
        client_context(options("wrong"))
    assert "wrong" not in str(caught.value).replace("or a wrong key", "")
    with pytest.raises(ConfigError):
        client_context(options(None))
    assert client_context(options("secret")) is not None
    assert "secret" not in repr(options("secret"))


async def test_alpn(pem: PemFiles) -> None:
    client = client_context(ClientTls(mode=SslMode.REQUIRE, alpn=("postgresql",)))
    far = server_context(
        ServerTls(mode=ServerTlsMode.ALLOW, cert=pem.server, alpn=("h2", "postgresql"))
    )
    near, _ = await shake(client, far, "localhost")
    assert near.ssl_object.selected_alpn_protocol() == "postgresql"
    near.abort()
