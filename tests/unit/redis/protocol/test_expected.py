"""The books of an exclusive link: replies due, state held, and what a loss leaves."""

import pytest

from proxy.redis.protocol import say
from proxy.redis.protocol.command_table import fallback_table
from proxy.redis.protocol.expected import ExclusiveState, Expected, LossTerms, Sort
from proxy.redis.protocol.session_state import SessionState
from proxy.redis.protocol.values import encode_command

TABLE = fallback_table()
OK, QUEUED = b"+OK\r\n", b"+QUEUED\r\n"
LOST = b"-UPSTREAMLOST"


class Book:
    """A state with a session, told in words."""

    def __init__(self) -> None:
        self.state = ExclusiveState()
        self.session = SessionState(None, 0, authenticated=True)

    def sent(self, text: str, *, blocking: bool = False, muted: bool = False) -> Expected:
        args = text.encode().split()
        return self.state.sent(encode_command(*args), args, muted=muted, blocking=blocking)

    def got(self, *frames: bytes) -> list[bool]:
        return [self.state.received(frame, self.session) for frame in frames]

    def lost(self, unsent: int = 0, cut: bool = False, reads: bool = True) -> list[Expected]:
        return self.state.settle(TABLE, "gone", LossTerms(unsent, cut, reads))


def confirm(kind: str, name: str | None, count: int, sign: bytes = b"*") -> bytes:
    channel = b"$-1\r\n" if name is None else b"$%d\r\n%b\r\n" % (len(name), name.encode())
    return sign + b"3\r\n$%d\r\n%b\r\n%b:%d\r\n" % (len(kind), kind.encode(), channel, count)


def test_a_transaction() -> None:
    book = Book()
    for text in ("MULTI", "SET k v", "EXEC"):
        book.sent(text)
    assert not book.state.is_clean
    assert not book.state.lasts
    assert book.got(OK, QUEUED, b"*1\r\n+OK\r\n") == [True] * 3
    assert book.state.is_clean


def test_multi_and_watch_last_until_exec_or_discard() -> None:
    book = Book()
    book.sent("WATCH k")
    book.sent("MULTI")
    book.got(OK, OK)
    assert book.state.lasts
    book.sent("DISCARD")
    book.got(OK)
    assert book.state.is_clean
    book.sent("WATCH k")
    book.sent("UNWATCH")
    book.got(OK, OK)
    assert book.state.is_clean
    book.sent("MULTI")
    book.got(b"-NOPERM no\r\n")
    assert book.state.is_clean


def test_behind_a_multi_that_was_refused_each_command_is_one_of_its_own() -> None:
    book = Book()
    book.sent("MULTI")
    entry = book.sent("SELECT 3")
    book.state.give_effect(entry, lambda session: setattr(session, "db", 3))
    write = book.sent("SET k v")
    book.sent("EXEC")
    book.sent("MULTI")
    book.sent("SET k w")
    book.got(b"-NOPERM no\r\n", OK)
    assert book.session.db == 3, "it was not queued"
    assert write.sort is Sort.PLAIN
    assert book.state.multi, "the second one"
    outcome = book.lost()
    assert outcome[0].canned is not None
    assert outcome[0].canned.startswith(LOST), "it may have run: nothing was queued"
    book = Book()
    book.sent("MULTI")
    entry = book.sent("SELECT 4")
    book.state.give_effect(entry, lambda session: setattr(session, "db", 4))
    book.got(b"-NOPERM no\r\n", b"-ERR no\r\n")
    assert (book.session.db, book.state.multi) == (0, False)


def test_what_is_restored_and_refused_is_known() -> None:
    for name in (b"SUBSCRIBE", b"CLIENT"):
        book = Book()
        book.state.own(b"a name", b"")
        book.state.own(b"what lasts", name)
        assert book.got(b"-ERR unknown\r\n") == [False]
        assert not book.state.broken
        assert book.got(b"-NOPERM no\r\n") == [False]
        assert book.state.broken


def test_effects_inside_a_transaction_come_with_exec() -> None:
    book = Book()
    book.sent("MULTI")
    for db in (3, 4):
        entry = book.sent(f"SELECT {db}")
        book.state.give_effect(entry, lambda session, db=db: setattr(session, "db", db))
    book.sent("EXEC")
    book.got(OK, QUEUED, QUEUED)
    assert book.session.db == 0
    book.got(b"*2\r\n+OK\r\n-ERR no\r\n")
    assert book.session.db == 3
    entry = book.sent("SELECT 5")
    book.state.give_effect(entry, lambda session: setattr(session, "db", 5))
    book.got(b"-ERR no\r\n")
    assert book.session.db == 3
    book.sent("MULTI")
    entry = book.sent("SELECT 6")
    book.state.give_effect(entry, lambda session: setattr(session, "db", 6))
    book.sent("EXEC")
    book.got(OK, QUEUED, b"*1\r\n$1000\r\nhead of a reply too large")
    assert book.session.db == 3


def test_subscriptions() -> None:
    book = Book()
    book.sent("SUBSCRIBE a b")
    book.sent("PSUBSCRIBE p*")
    assert book.got(confirm("subscribe", "a", 1), confirm("subscribe", "b", 2)) == [True, True]
    assert book.got(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n") == [True]
    assert len(book.state.expected) == 1
    book.got(confirm("psubscribe", "p*", 3))
    book.sent("PING")
    assert book.got(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n") == [True]
    assert not book.state.expected
    book.sent("UNSUBSCRIBE")
    book.got(confirm("unsubscribe", "a", 2), confirm("unsubscribe", "b", 1))
    assert not book.state.expected
    assert book.state.subscribed
    book.sent("PUNSUBSCRIBE p*")
    book.got(confirm("punsubscribe", "p*", 0))
    assert book.state.is_clean


def test_unsubscribing_from_nothing_is_one_frame() -> None:
    book = Book()
    book.sent("UNSUBSCRIBE")
    assert book.got(confirm("unsubscribe", None, 0)) == [True]
    assert book.state.is_clean


def test_pushes_answer_nothing() -> None:
    book = Book()
    book.sent("GET k")
    assert book.got(b">2\r\n$10\r\ninvalidate\r\n_\r\n") == [True]
    assert book.got(confirm("sunsubscribe", "s", 0, b">")) == [True]
    assert len(book.state.expected) == 1
    assert book.got(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n") == [True]  # an LRANGE, say
    assert book.state.is_clean
    assert book.got(b"+monitored\r\n") == [True]


def test_own_and_muted_replies_are_dropped() -> None:
    book = Book()
    book.state.own(b"x")
    book.sent("INCR n", muted=True)
    assert book.got(b"+PONG\r\n", b":1\r\n") == [False, False]


def test_release_is_called_once() -> None:
    book, calls = Book(), []
    book.sent("SET k v").release = lambda: calls.append(1)
    book.got(OK)
    book.sent("SET k v").release = lambda: calls.append(2)
    book.lost()
    assert calls == [1, 2]


def test_subscribing_inside_multi_cannot_be_followed() -> None:
    book = Book()
    book.sent("MULTI")
    book.sent("SUBSCRIBE a")
    assert book.state.opaque
    other = Book()
    other.sent("MONITOR")
    assert other.state.opaque


def canned(outcome: list[Expected]) -> list[bytes | None]:
    return [entry.canned and entry.canned.split(b" ")[0] for entry in outcome]


def test_loss_of_an_open_transaction() -> None:
    book = Book()
    for text in ("MULTI", "SET k v", "GET k"):
        book.sent(text)
    assert [entry.canned for entry in book.lost()] == [OK, say.EXECABORT, say.EXECABORT]
    assert book.state.multi
    book.state.forget_transaction()
    assert book.state.is_clean


def test_loss_after_exec() -> None:
    book = Book()
    for text in ("MULTI", "SET k v", "EXEC", "GET k"):
        book.sent(text)
    assert canned(book.lost()) == [OK, QUEUED, LOST, None]
    for text in ("MULTI", "SET k v", "EXEC"):
        book.sent(text)
    assert canned(book.lost(unsent=1)) == [OK, QUEUED, b"-EXECABORT"]
    for text in ("MULTI", "SET k v", "DISCARD"):
        book.sent(text)
    assert canned(book.lost()) == [OK, QUEUED, OK]


def test_loss_of_other_commands() -> None:
    book = Book()
    book.sent("GET k")
    book.sent("SET k v")
    assert canned(book.lost()) == [LOST, LOST]
    book.sent("SUBSCRIBE c")
    book.sent("BLPOP q 0", blocking=True)
    assert canned(book.lost()) == [None, LOST]
    book.sent("XREAD BLOCK 0 STREAMS x 1-1", blocking=True)
    assert canned(book.lost(cut=True)) == [None]
    book.sent("XREAD BLOCK 0 STREAMS x $", blocking=True)
    assert canned(book.lost()) == [LOST]
    book.sent("WAIT 1 0")
    assert canned(book.lost()) == [LOST]
    book.sent("GET k")
    assert canned(book.lost(reads=False)) == [LOST]
    book.state.own(b"x")
    book.sent("INCR n", muted=True)
    assert book.lost() == []
    book.sent("GET k")
    book.state.expected.append(Expected(Sort.PLAIN, b"", b"", canned=OK))
    assert canned(book.lost()) == [None, OK]


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("UNSUBSCRIBE", confirm("unsubscribe", "b", 1), "UNSUBSCRIBE"),  # of all that is left
        ("UNSUBSCRIBE b x a", confirm("unsubscribe", "b", 1), "UNSUBSCRIBE x a"),
        ("PSUBSCRIBE p* q*", confirm("psubscribe", "p*", 3), "PSUBSCRIBE q*"),
        ("subscribe c c", confirm("subscribe", "c", 3), "SUBSCRIBE c"),
    ],
)
def test_loss_between_two_confirmations(text: str, first: bytes, rest: str) -> None:
    book = Book()
    book.sent("SUBSCRIBE a b")
    book.got(confirm("subscribe", "a", 1), confirm("subscribe", "b", 2))
    book.sent(text)
    assert book.got(first) == [True]
    for _ in range(2):  # the second time nothing has come in between
        (left,) = book.lost(cut=True)
        assert left.request == encode_command(*rest.encode().split())
        book.state.expected.append(left)
