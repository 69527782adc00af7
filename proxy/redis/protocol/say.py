"""What the proxy itself says to a Redis client: error lines and the few replies it makes.

Two codes of our own, stable and easy to grep for: `UPSTREAMDOWN not executed` (certain) and
`UPSTREAMLOST outcome unknown` (it may have run). Never a code that makes client libraries retry
blindly, as LOADING does (reference/redis.md, section 3). No text quotes a key, value or password.
"""

from typing import Final

DOWN: Final = "UPSTREAMDOWN"
LOST: Final = "UPSTREAMLOST"
OK: Final = b"+OK\r\n"
QUEUED: Final = b"+QUEUED\r\n"
RESET: Final = b"+RESET\r\n"
NIL_ARRAY: Final = {2: b"*-1\r\n", 3: b"_\r\n"}
NIL_BULK: Final = {2: b"$-1\r\n", 3: b"_\r\n"}

NOAUTH: Final = b"-NOAUTH Authentication required.\r\n"
NOAUTH_HELLO: Final = (
    b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    b"<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
    b"RESP protocol version at the same time\r\n"
)
WRONGPASS: Final = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NOPROTO: Final = b"-NOPROTO unsupported protocol version\r\n"
BAD_PROTO: Final = b"-ERR Protocol version is not an integer or out of range\r\n"
BAD_NAME: Final = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
SYNTAX: Final = b"-ERR syntax error\r\n"
EXECABORT: Final = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
NESTED_MULTI: Final = b"-ERR MULTI calls can not be nested\r\n"
WATCH_IN_MULTI: Final = b"-ERR WATCH inside MULTI is not allowed\r\n"
TOO_MANY_CLIENTS: Final = b"-ERR max number of clients reached\r\n"
TRUST_IS_LOCAL: Final = (
    b"-NOAUTH this listener trusts only clients of its own machine; connect over loopback or a "
    b"Unix socket, or choose another auth method\r\n"
)
NO_REPLICATION: Final = (
    b"-ERR replication commands are not carried by Backstay; connect the replica to the server "
    b"directly\r\n"
)
NULL_INVALIDATE: Final = {3: b">2\r\n$10\r\ninvalidate\r\n_\r\n"}


def upstream_down(why: str) -> bytes:
    """An error line: the command was certainly not executed. `why` must hold no client data."""
    return f"-{DOWN} not executed: {why}\r\n".encode()


def upstream_lost(why: str) -> bytes:
    """An error line: the command may or may not have run, and was not sent again."""
    return f"-{LOST} outcome unknown: {why}\r\n".encode()


def error(text: str) -> bytes:
    """An error line of Redis's own making, as `ERR Protocol error: …`."""
    return b"-ERR %b\r\n" % text.encode(errors="replace")


def integer(number: int) -> bytes:
    """An integer reply."""
    return b":%d\r\n" % number


def bulk(value: bytes | None, resp: int) -> bytes:
    """A bulk string, or the version's nil."""
    return NIL_BULK[resp] if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def wrong_arity(name: str) -> bytes:
    """Redis's words for a wrong number of arguments; `name` as Redis prints it (`client|reply`)."""
    return error(f"wrong number of arguments for '{name}' command")
