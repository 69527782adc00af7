"""A read sent again in a read-only transaction of the proxy's own, and cancels that come late.

A cancel meets whatever runs when it arrives: the proxy's BEGIN, and the read would run unguarded;
its COMMIT, and the client would go on in a transaction that it knows nothing of.
"""

import socket
import threading
from collections.abc import Callable

import pytest

from proxy.demo.servers import PostgresServer
from tests import wire
from tests.integration.postgres.fake import IDLE, ONE, FakePostgres, answer, failure, log_in, read
from tests.integration.postgres.kit import Make, Proxied, backends, eventually
from tests.wire import PgWire, message, zero

pytestmark = pytest.mark.servers

READ = "select work()"
CLEANING = "SET SESSION AUTHORIZATION DEFAULT"  # when the session has gone
COPY = "copy ledger from stdin"
ROWS = {b"d": "(rows)", b"c": "(rows end)"}
CANCELLED = failure("57014", "canceling statement due to user request", "ERROR")
OPEN, FAILED = message(b"Z", b"T"), message(b"Z", b"E")


class Server:
    """Its first connection dies of the read; on others the statements `met` are cancelled.

    `heard`: the statements of those others, in order, without the proxy's questions.
    """

    def __init__(self, *met: str) -> None:
        self.met = list(met)
        self.heard: list[str] = []
        self.status = IDLE

    def __call__(self, fake: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        while True:
            kind, body = read(sock)
            text = ROWS.get(kind) or (body.rstrip(b"\0").decode() if kind == b"Q" else "")
            if fake.connections == 1 and text == READ:
                return
            if not text or "pg_backend_pid" in text:
                sock.sendall(answer(kind, body).replace(IDLE, self.status))
                continue
            if not text.startswith(CLEANING):
                self.heard.append(text)
            sock.sendall(self.said(text))

    def said(self, text: str) -> bytes:
        if text in self.met:
            self.met.remove(text)
            self.status = FAILED if self.status != IDLE else IDLE
            return CANCELLED + self.status
        if self.status == FAILED and text not in ("COMMIT", "ROLLBACK"):
            return failure("25P02", "current transaction is aborted", "ERROR") + FAILED
        if text in ("BEGIN READ ONLY", "COMMIT", "ROLLBACK"):
            self.status = OPEN if text.startswith("BEGIN") else IDLE
            return message(b"C", zero(text.partition(" ")[0])) + self.status
        return ONE.replace(IDLE, self.status)


Play = Callable[[Server], tuple[Proxied, PgWire]]


@pytest.fixture
def play(proxied: Make, request: pytest.FixtureRequest) -> Play:
    """A session in front of that server."""

    def started(server: Server) -> tuple[Proxied, PgWire]:
        fake = FakePostgres(server)
        request.addfinalizer(lambda: fake.__exit__())
        proxy = proxied(setting={"upstream": fake.url}, pool={"warm": 0})
        return proxy, proxy.wire()

    return started


def heard(server: Server, wanted: list[str]) -> None:
    """Sooner or later, and nothing else."""
    eventually(lambda: server.heard == wanted, lambda: server.heard)


def test_as_it_is(play: Play) -> None:
    server = Server()
    _, session = play(server)
    with session:
        assert wire.kinds(session.query(READ)) == "TDCZ"
        assert wire.kinds(session.query("select 2")) == "TDCZ"
    heard(server, ["BEGIN READ ONLY", READ, "COMMIT", "select 2"])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_commit_is_cancelled(play: Play, times: int) -> None:
    """The client has its answer and is in no transaction: nor is its link, before it goes on."""
    server = Server("COMMIT", *["ROLLBACK"] * (times - 1))
    _, session = play(server)
    with session:
        session.send(wire.query(READ) + wire.query("select 2"))
        answers = session.until_ready(2)
        assert wire.kinds(answers) == "TDCZTDCZ"
        assert {said[5:] for said in answers if said[:1] == b"Z"} == {b"I"}
    first = ["BEGIN READ ONLY", READ, "COMMIT", *["ROLLBACK"] * times]
    heard(server, [*first, "BEGIN READ ONLY", "select 2", "COMMIT"])


def test_the_begin_is_cancelled(play: Play) -> None:
    """The read goes out when the transaction is open, and not before."""
    server = Server("BEGIN READ ONLY", "BEGIN READ ONLY")
    _, session = play(server)
    with session:
        assert wire.kinds(session.query(READ)) == "TDCZ"
    heard(server, ["BEGIN READ ONLY"] * 3 + [READ, "COMMIT"])


def test_a_server_that_opens_none(play: Play) -> None:
    """The read's first run may have written: nobody knows, and the client is told so."""
    server = Server(*["BEGIN READ ONLY"] * 5)
    _, session = play(server)
    with session:
        said = session.query(READ)
        assert wire.sqlstate(said) == "08007"
        assert said[-1] == IDLE
        assert wire.kinds(session.query("select 2")) == "TDCZ"
    heard(server, ["BEGIN READ ONLY"] * 5 + ["select 2"])


def test_the_read_is_cancelled(play: Play) -> None:
    server = Server(READ)
    _, session = play(server)
    with session:
        said = session.query(READ)
        assert wire.sqlstate(said) == "57014"
        assert said[-1] == IDLE
        assert wire.kinds(session.query("select 2")) == "TDCZ"
    assert server.heard[:4] == ["BEGIN READ ONLY", READ, "COMMIT", "select 2"]


class SlowToCommit(Server):
    """Its COMMIT takes until it is let go; it hears the rows of a COPY, too."""

    def __init__(self) -> None:
        super().__init__()
        self.may_commit = threading.Event()

    def said(self, text: str) -> bytes:
        if text == "COMMIT":
            assert self.may_commit.wait(10)
        if text == COPY:
            return message(b"G", b"\0\0\1\0\0")
        if text == "(rows end)":
            return message(b"C", zero("COPY 1")) + self.status
        return b"" if text == "(rows)" else super().said(text)


def test_rows_wait_behind_their_copy(play: Play) -> None:
    """COPY waits for the read's COMMIT, and its rows, sent blindly, for the COPY."""
    server = SlowToCommit()
    proxy, session = play(server)
    with session:
        assert wire.kinds(session.query(READ)) == "TDCZ"
        session.send(wire.query(COPY) + wire.copy_data(b"1\n") + message(b"c"))
        eventually(lambda: any(proxy.call(lambda: [one.waits for one in proxy.route.sessions])))
        server.may_commit.set()
        assert wire.kinds(session.until_ready()) == "GCZ"
    copied = [COPY, "(rows)", "(rows end)"]
    heard(server, ["BEGIN READ ONLY", READ, "COMMIT", *copied])


def prepare(session: PgWire, name: str, text: str) -> None:
    session.send(wire.parse(text, name) + wire.SYNC)
    assert wire.kinds(session.until_ready()) == "1Z"


def test_a_statement_that_cannot_be_made_again_fails_nothing_else(
    proxied: Make, postgres: PostgresServer
) -> None:
    """EXECUTE may name any of them, so all are made again: outside of the read's transaction."""
    postgres.sql("create table gone (n int)")
    proxy = proxied(postgres)
    with proxy.wire() as session:
        prepare(session, "good", "select 1 from pg_sleep(0.5)")
        prepare(session, "bad", "select n from gone")
        postgres.sql("drop table gone")
        session.send(wire.query("execute good"))
        eventually(lambda: backends(postgres, "query = 'execute good' and state = 'active'"))
        proxy.cut()
        assert wire.rows(session.until_ready()) == [(b"1",)]
        assert proxy.named("replayed")[0]["certificate"] == "read_only"


def test_a_statement_that_was_not_made_again_is_tried_again(
    proxied: Make, postgres: PostgresServer
) -> None:
    """What met its Parse has passed (a cancel that came late, a table that was away)."""
    postgres.sql("create table away (n int)")
    proxy = proxied(postgres)
    with proxy.wire() as session:
        prepare(session, "counts", "select count(*) from away")
        postgres.sql("drop table away")
        proxy.cut()
        proxy.until("link_lost")
        assert wire.sqlstate(session.query("execute counts")) == "26000"
        postgres.sql("create table away (n int)")
        assert session.value("execute counts") == b"0"
    postgres.sql("drop table away")
