"""The virtual session, and what stands in for a broken transaction."""

from proxy.redis.protocol import say
from proxy.redis.protocol.login import Credential
from proxy.redis.protocol.session_state import Broken, ReplyMode, SessionState


def fresh() -> SessionState:
    return SessionState(Credential(None, b"p"), 2, authenticated=False)


def test_reset_goes_back_to_the_beginning() -> None:
    session = fresh()
    session.authenticated, session.db, session.resp, session.name = True, 9, 3, b"x"
    session.credential, session.reply_mode, session.broken = None, ReplyMode.OFF, Broken.WATCH
    session.reset()
    assert vars(session) == vars(fresh())


def test_muting() -> None:
    session = fresh()
    assert not session.mutes()
    session.reply_mode = ReplyMode.SKIP
    assert [session.mutes(), session.mutes()] == [True, False]
    session.reply_mode = ReplyMode.OFF
    assert [session.mutes(), session.mutes()] == [True, True]


def replies(session: SessionState, text: str) -> list[bytes | None]:
    return [session.stand_in(name) for name in text.encode().split()]


def test_nothing_broken() -> None:
    session = fresh()
    session.lost_transaction(multi=False, watching=False)
    assert replies(session, "MULTI EXEC GET") == [None, None, None]


def test_a_lost_queue() -> None:
    session = fresh()
    session.lost_transaction(multi=True, watching=True)
    aborted = say.EXECABORT
    assert replies(session, "GET QUIT RESET MULTI EXEC GET") == [
        aborted, None, None, aborted, aborted, None,
    ]  # fmt: skip
    session.lost_transaction(multi=True, watching=False)
    assert replies(session, "DISCARD GET") == [say.OK, None]


def test_lost_watches() -> None:
    session = fresh()
    session.lost_transaction(multi=False, watching=True)
    assert replies(session, "GET WATCH MULTI SET MULTI WATCH EXEC GET") == [
        None, say.OK, say.OK, say.QUEUED, say.NESTED_MULTI, say.WATCH_IN_MULTI, b"*-1\r\n", None,
    ]  # fmt: skip
    session.resp = 3
    session.lost_transaction(multi=False, watching=True)
    assert replies(session, "MULTI EXEC GET") == [say.OK, b"_\r\n", None]
    session.lost_transaction(multi=False, watching=True)
    assert replies(session, "UNWATCH GET") == [say.OK, None]
    session.lost_transaction(multi=False, watching=True)
    assert replies(session, "MULTI DISCARD GET") == [say.OK, say.OK, None]
