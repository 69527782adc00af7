"""redis-py connections, and the steps of opening one timed by hand.

redis-py does not tell its steps apart, so the times come from a login of our own, in the same
words: AUTH, SELECT, PING.
"""

import socket
import ssl
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.diagnose.facts import ConnectTimes, Failure
from proxy.diagnose.postgres_link import CannotConnect
from proxy.diagnose.reach import Unreachable, Way, dial, dial_unix
from proxy.settings.urls import RedisUpstream

ANSWER_S_MAX = 10.0

Client = Any  # redis-py's stubs do not know which commands answer what


def client(upstream: RedisUpstream, timeout_s: float, **options: object) -> Client:
    """A redis-py client with one connection, that does not retry."""
    told: dict[str, Any] = {
        "username": upstream.user,
        "password": upstream.password,
        "db": upstream.db,
        "socket_connect_timeout": timeout_s,
        "socket_timeout": ANSWER_S_MAX,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": True,
        "encoding_errors": "replace",
        "protocol": 2,
        "max_connections": 1,
        **options,
    }
    if upstream.path is not None:
        return redis.Redis(unix_socket_path=upstream.path, **told)
    if upstream.tls:
        told |= {
            "ssl": True,
            "ssl_cert_reqs": upstream.ssl_cert_reqs,
            "ssl_check_hostname": upstream.ssl_check_hostname,
            "ssl_ca_certs": upstream.ssl_ca_certs,
            "ssl_certfile": upstream.ssl_certfile,
            "ssl_keyfile": upstream.ssl_keyfile,
            "ssl_password": upstream.ssl_password,
        }
    return redis.Redis(host=upstream.host or "", port=upstream.port, **told)


def connect(
    upstream: RedisUpstream, way: Way, timeout_s: float
) -> tuple[Client, ConnectTimes | None]:
    """A client that has answered PING, and what each step takes. Raises CannotConnect."""
    made = client(upstream, timeout_s)
    began_s = time.perf_counter()
    try:
        made.ping()
    except redis.RedisError as error:
        made.close()
        raise CannotConnect(failure(error, upstream, time.perf_counter() - began_s)) from None
    try:
        return made, _timed(upstream, way, timeout_s)
    except (OSError, Unreachable):
        return made, None  # it worked a moment ago: one measurement less


def _timed(upstream: RedisUpstream, way: Way, timeout_s: float) -> ConnectTimes:
    tls_s = None
    if upstream.path is not None:
        link, tcp_s = dial_unix(upstream.path, timeout_s)
    else:
        link, tcp_s = dial(way.address, upstream.port, timeout_s)
    with link:
        if upstream.tls:
            began_s = time.perf_counter()
            link = _context(upstream).wrap_socket(link, server_hostname=upstream.host)
            tls_s = time.perf_counter() - began_s
        with link:
            began_s = time.perf_counter()
            _log_in(link, upstream)
            return ConnectTimes(way.dns_s, tcp_s, tls_s, time.perf_counter() - began_s)


def _context(upstream: RedisUpstream) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=upstream.ssl_ca_certs)
    context.check_hostname = upstream.verify == "full"
    if upstream.verify == "none":
        context.verify_mode = ssl.CERT_NONE
    if upstream.ssl_certfile is not None:
        context.load_cert_chain(upstream.ssl_certfile, upstream.ssl_keyfile, upstream.ssl_password)
    return context


def _log_in(link: socket.socket, upstream: RedisUpstream) -> None:
    commands = [["PING"]]
    if upstream.db:
        commands.insert(0, ["SELECT", str(upstream.db)])
    if upstream.password is not None:
        user = [upstream.user] if upstream.user is not None else []
        commands.insert(0, ["AUTH", *user, upstream.password])
    for words in commands:  # one after another, as drivers do it
        parts = [word.encode() for word in words]
        link.sendall(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)
        )
        answer = b""
        while not answer.endswith(b"\r\n"):
            data = link.recv(4096)
            if not data:
                raise ConnectionError("closed in the login")
            answer += data


_FAILURES = (
    ("UPSTREAMDOWN", "login", "away"),  # Backstay's own: it quotes what it met itself
    ("Connection refused", "tcp", "refused"),
    ("WRONGPASS", "login", "password"),
    ("NOAUTH", "login", "password"),
    ("invalid username-password", "login", "password"),
    ("Authentication required", "login", "password"),
    ("without any password configured", "login", "password"),
    ("NOPERM", "login", "permission"),
    ("has no permissions", "login", "permission"),
    ("max number of clients", "login", "full"),
    ("loading the dataset", "login", "starting"),
    ("certificate verify failed", "tls", "certificate"),
    ("closed", "login", "closed"),
    ("reset by peer", "login", "closed"),
)


def failure(error: redis.RedisError, upstream: RedisUpstream, after_s: float) -> Failure:
    """Why redis-py could not connect, told apart by the words of the error."""
    text = " ".join(str(error).split())
    for secret in (upstream.password, upstream.ssl_password):
        if secret:
            text = text.replace(secret, "***")
    if isinstance(error, redis.TimeoutError):
        return Failure("login", "timeout", "no answer to the login or PING", after_s)
    for words, stage, reason in _FAILURES:
        if words in text:
            return Failure(stage, reason, text[:300], after_s)
    return Failure("login", "other", text[:300], after_s)
