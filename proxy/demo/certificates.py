"""Throw-away certificates for the demo and the tests: one authority, server and client leaves."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority, a server's certificate with key, a client's with key."""

    ca: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path

    def server_context(self) -> ssl.SSLContext:
        """A context that presents the server certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A context that trusts only the authority and checks host names."""
        return ssl.create_default_context(cafile=str(self.ca))


def make_tls(folder: Path, client_name: str = "app_cert") -> TlsFiles:
    """Issue for `localhost` and the loopback addresses; `client_name` is the client's CN."""
    import trustme  # only in the `demo` extra

    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    client = authority.issue_cert(f"{client_name}@client.invalid", common_name=client_name)
    files = TlsFiles(
        ca=folder / "ca.pem",
        certificate=folder / "server.pem",
        key=folder / "server.key",
        client_certificate=folder / "client.pem",
        client_key=folder / "client.key",
    )
    authority.cert_pem.write_to_path(str(files.ca))
    files.certificate.write_bytes(b"".join(p.bytes() for p in server.cert_chain_pems))
    files.client_certificate.write_bytes(b"".join(p.bytes() for p in client.cert_chain_pems))
    for key, leaf in ((files.key, server), (files.client_key, client)):
        key.touch(0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
    return files
