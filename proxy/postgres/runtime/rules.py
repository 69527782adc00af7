"""How clients of a route log in, made from its options. Slow where there are many passwords."""

import secrets
import ssl

from proxy.net.contexts import ServerTlsMode, server_context
from proxy.postgres.protocol.cert_hash import server_end_point
from proxy.postgres.protocol.client_login import LoginRules, Method, UserSecret, user_secret
from proxy.postgres.runtime.options import RouteOptions

_SALT_BYTES = 16
_PROCESS_SECRET = secrets.token_bytes(32)


def login_rules(
    options: RouteOptions,
    before: tuple[RouteOptions, LoginRules] | None = None,
    *,
    check: bool = True,
) -> LoginRules:
    """The rules. `before`: of the same route, so that only new passwords are worked out.

    `check`: False where the caller has seen to the certificate.

    Takes about 2 ms for each. Raises ConfigError for a certificate that cannot be used.
    """
    texts = _texts(options)
    known = _texts(before[0]) if before is not None else {}
    users: dict[bytes, UserSecret] = {}
    for name, text in texts.items():
        if before is not None and known.get(name) == text:
            users[name] = before[1].users[name]
        else:
            users[name] = user_secret(text.decode(), secrets.token_bytes(_SALT_BYTES))
    cert_hash = None
    if options.tls is not None and options.tls.mode is not ServerTlsMode.DISABLE:
        if check:
            server_context(options.tls)  # a bad certificate is found now
        cert_hash = _certificate_hash(options.tls.cert)
    return LoginRules(
        method=Method(options.auth.method),
        process_secret=_PROCESS_SECRET,
        users=users,
        cert_hash=cert_hash,
    )


def _texts(options: RouteOptions) -> dict[bytes, bytes]:
    """Name to password or verifier; the URL's own user is one of them."""
    texts = dict(options.auth.users)
    upstream = options.upstream
    if upstream.user is not None and upstream.password is not None:
        texts.setdefault(upstream.user, upstream.password)
    return texts


def _certificate_hash(path: str | None) -> bytes | None:
    """Channel binding data of the first certificate in a PEM file."""
    if path is None:
        return None
    with open(path, encoding="ascii", errors="ignore") as file:
        text = file.read()
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.find(begin)
    if start < 0:
        return None
    stop = text.index(end, start) + len(end)
    return server_end_point(ssl.PEM_cert_to_DER_cert(text[start:stop]))
