"""Handshakes, their answers, HELLO of clients, passwords of our own."""

import pytest

from proxy.core.errors import UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol import say
from proxy.redis.protocol.login import (
    Credential,
    Greeting,
    Hello,
    LinkIdentity,
    accepts,
    handshake,
    hello_reply,
    judge,
    parse_hello,
    server_version,
)

ADA = Credential(b"ada", b"s3cret")
HELLO3 = b"%2\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$2\r\nid\r\n:53\r\n"
NOAUTH = b"-NOAUTH HELLO must be called\r\n"
OK, PONG = b"+OK\r\n", b"+PONG\r\n"


def test_secrets_are_hidden() -> None:
    assert "s3cret" not in repr(LinkIdentity(ADA, 0, 3))
    assert ADA.name == "ada"
    assert Credential(None, b"x").name == "default"
    assert Credential(None, b"x").auth_args == (b"x",)
    assert ADA.auth_args == (b"ada", b"s3cret")


def test_handshakes() -> None:
    full = b"".join(handshake(LinkIdentity(ADA, 3, 3), b"app"))
    order = [b"AUTH", b"ada", b"HELLO", b"SELECT", b"SETNAME", b"PING"]
    assert [full.index(word) for word in order] == sorted(full.index(word) for word in order)
    assert len(handshake(LinkIdentity(None, 0, 2))) == 2


def test_a_good_login() -> None:
    greeting = judge(LinkIdentity(ADA, 3, 3), [OK, HELLO3, OK, PONG])
    assert greeting.authenticated
    assert greeting.hello == HELLO3
    assert greeting.server[b"id"] == 53
    assert server_version(greeting) == (7, 0, 15)
    assert server_version(Greeting(b"", True, {})) == (0, 0, 0)
    assert server_version(Greeting(b"", True, {b"version": b"8.1"})) == (8, 1, 0)


def test_a_stranger_at_a_guarded_server() -> None:
    greeting = judge(LinkIdentity(None, 3, 2), [NOAUTH, NOAUTH, NOAUTH])
    assert not greeting.authenticated
    with pytest.raises(UpstreamRefused) as refused:
        judge(LinkIdentity(None, 0, 3), [NOAUTH, NOAUTH])
    assert refused.value.wire == NOAUTH


def test_an_old_server_without_hello() -> None:
    unknown = b"-ERR unknown command 'HELLO'\r\n"
    greeting = judge(LinkIdentity(None, 0, 2), [unknown, PONG])
    assert greeting.authenticated
    assert greeting.hello == b""
    with pytest.raises(UpstreamRefused):
        judge(LinkIdentity(None, 0, 3), [unknown, PONG])


@pytest.mark.parametrize(
    ("identity", "replies", "wire"),
    [
        (LinkIdentity(ADA, 0, 3), [b"-WRONGPASS no\r\n", NOAUTH, NOAUTH], b"-WRONGPASS no\r\n"),
        (LinkIdentity(None, 99, 3), [HELLO3, b"-ERR DB index\r\n", PONG], b"-ERR DB index\r\n"),
    ],
)
def test_refusals_keep_the_servers_words(
    identity: LinkIdentity, replies: list[bytes], wire: bytes
) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        judge(identity, replies)
    assert refused.value.wire == wire


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([], Reason.UPSTREAM_EOF),
        ([HELLO3], Reason.UPSTREAM_EOF),
        ([b"-ERR max number of clients reached\r\n"], Reason.UPSTREAM_FULL),
        ([b"-LOADING Redis is loading\r\n", b"-LOADING x\r\n"], Reason.UPSTREAM_STARTING),
        ([HELLO3, b"-LOADING Redis is loading\r\n"], Reason.UPSTREAM_STARTING),
    ],
)
def test_waiting_may_help(replies: list[bytes], reason: Reason) -> None:
    with pytest.raises(UpstreamUnavailable) as away:
        judge(LinkIdentity(None, 0, 3), replies)
    assert away.value.reason is reason


def test_a_busy_server_is_alive() -> None:
    assert judge(LinkIdentity(None, 0, 3), [HELLO3, b"-BUSY script\r\n"]).hello == HELLO3


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("HELLO", Hello()),
        ("HELLO 3", Hello(3)),
        ("HELLO 2 SETNAME app", Hello(2, None, b"app")),
        ("HELLO 3 auth ada s3cret setname x", Hello(3, ADA, b"x")),
        ("HELLO 4", say.NOPROTO),
        ("HELLO 1", say.NOPROTO),
        ("HELLO x", say.BAD_PROTO),
        ("HELLO 03", say.BAD_PROTO),
        ("HELLO 3 AUTH ada", say.error("Syntax error in HELLO option 'AUTH'")),
        ("HELLO 3 FOO", say.error("Syntax error in HELLO option 'FOO'")),
    ],
)
def test_hello(args: str, expected: object) -> None:
    assert parse_hello(args.encode().split()) == expected


def test_hello_with_a_bad_name() -> None:
    assert parse_hello([b"HELLO", b"3", b"SETNAME", b"a b"]) == say.BAD_NAME


def test_the_id_is_replaced_once() -> None:
    assert hello_reply(HELLO3, 99) == HELLO3.replace(b":53", b":99")


def test_passwords_of_our_own() -> None:
    users = {b"default": b"d", b"ada": b"s3cret", b"empty": b""}
    assert accepts(users, ADA)
    assert accepts(users, Credential(None, b"d"))
    assert not accepts(users, Credential(b"ada", b"d"))
    assert not accepts(users, Credential(b"eve", b"d"))
    assert not accepts(users, Credential(b"eve", b""))
    assert accepts(users, Credential(b"empty", b""))
