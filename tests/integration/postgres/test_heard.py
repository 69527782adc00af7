"""What the server says while the proxy asks something in its own name."""

import socket

import pytest

from proxy.postgres.protocol import messages
from tests import wire
from tests.integration.postgres.fake import ONE, FakePostgres, answer, log_in, read
from tests.integration.postgres.kit import Make

pytestmark = pytest.mark.servers

FIRST, SECOND, THIRD = (messages.notification_response(7, "news", str(n)) for n in range(3))


class Newsy:
    """The first `cut` bytes of the news behind the answer to "select 2", the rest around the answer
    to the proxy's next question."""

    def __init__(self, cut: int) -> None:
        self.cut = cut

    def __call__(self, fake: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        newsy = False
        while True:
            kind, body = read(sock)
            if body.startswith(b"select 2"):
                sock.sendall(ONE + FIRST[: self.cut])
                newsy = True
            elif newsy and kind in (b"S", b"Q") and not body.startswith(b"select"):
                sock.sendall(FIRST[self.cut :] + SECOND + _said(kind, body) + THIRD)
                newsy = False
            else:
                sock.sendall(_said(kind, body))


def _said(kind: bytes, body: bytes) -> bytes:
    return ONE if body.startswith(b"select") else answer(kind, body)


@pytest.mark.parametrize("cut", [0, 1, 9, len(FIRST)])
def test_news_around_an_answer_to_the_proxy_are_the_clients(cut: int, proxied: Make) -> None:
    with FakePostgres(Newsy(cut)) as fake:
        proxy = proxied(setting={"upstream": fake.url}, pool={"warm": 0}, options={"ping_s": 0.2})
        with proxy.wire() as session:
            assert wire.kinds(session.query("select 2")) == "TDCZ"
            assert [session.read_message() for _ in range(3)] == [FIRST, SECOND, THIRD]
            assert wire.kinds(session.query("select 1")) == "TDCZ"
        assert not proxy.named("link_lost")


@pytest.mark.parametrize("cut", [7, len(FIRST)])
def test_news_for_a_client_that_has_gone_are_nobodys(cut: int, proxied: Make) -> None:
    """They come before and behind the answer to what cleans its link, which another has next."""

    def chatty(_: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        while True:
            kind, body = read(sock)
            if body.startswith(b"select"):
                sock.sendall(ONE)
            elif body.startswith(b"set application_name"):
                sock.sendall(ONE + FIRST[:cut])
            else:
                sock.sendall(FIRST[cut:] + SECOND + answer(kind, body) + THIRD)

    with FakePostgres(chatty) as fake:
        proxy = proxied(setting={"upstream": fake.url}, pool={"warm": 0, "size": 1})
        with proxy.wire() as session:
            session.query("set application_name = 'a'")
        with proxy.wire() as session:
            assert wire.kinds(session.query("select 1")) == "TDCZ"
        assert fake.connections == 1
