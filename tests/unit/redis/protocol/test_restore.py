"""What a fresh exclusive link is told."""

from proxy.redis.protocol.expected import ExclusiveState
from proxy.redis.protocol.restore import CHANNELS_PER_COMMAND_MAX, introduce, restore
from proxy.redis.protocol.session_state import SessionState
from proxy.redis.protocol.values import encode_command


def test_introduction() -> None:
    state, session = ExclusiveState(), SessionState(None, 0, authenticated=True)
    assert introduce(state, session) == b""
    session.name, session.lib_name, session.lib_version = b"app", b"lib", b"1"
    data = introduce(state, session)
    assert data.count(b"CLIENT") == len(state.expected) == 3
    for _ in range(3):
        assert not state.received(b"+OK\r\n", session)
    assert state.is_clean


def test_everything_that_lasts() -> None:
    state, session = ExclusiveState(), SessionState(None, 0, authenticated=True)
    tracking = encode_command(b"CLIENT", b"TRACKING", b"ON")
    state.kept[b"TRACKING"] = tracking
    many = CHANNELS_PER_COMMAND_MAX + 1
    for number in range(many):
        state.subscriptions[0][b"c%d" % number] = None
    state.subscriptions[1][b"p*"] = None
    data = restore(state, session)
    assert data.startswith(tracking)
    assert data.count(b"\r\nSUBSCRIBE\r\n") == 2
    assert data.count(b"\r\nPSUBSCRIBE\r\n") == 1
    assert not state.received(b"+OK\r\n", session)
    for number in range(many):
        frame = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\nc%d\r\n:%d\r\n"
        assert not state.received(frame % (len(str(number)) + 1, number, number + 1), session)
    assert not state.received(b"*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:1002\r\n", session)
    assert not state.expected
