"""The arithmetic of dead peers; that the options arrive is tested where sockets are made."""

import socket

import pytest

from proxy.net.keepalive import Keepalive, tune


@pytest.mark.parametrize(
    ("keepalive", "expected_ms"),
    [(Keepalive(15, 5, 3), 29_500), (Keepalive(10, 5, 3), 24_500), (Keepalive(1, 1, 1), 1_500)],
)
def test_user_timeout_is_just_below_keepalive(keepalive: Keepalive, expected_ms: int) -> None:
    assert keepalive.user_timeout_ms == expected_ms


def test_none_leaves_the_systems_defaults() -> None:
    with socket.socket() as sock:
        tune(sock, None)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
