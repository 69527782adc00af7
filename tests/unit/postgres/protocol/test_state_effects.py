"""What each effect does to a session, one by one; `test_session_state` has them in transactions."""

import typing

import pytest

from proxy.postgres.protocol import effects as e
from proxy.postgres.protocol.session_state import Need, SessionState
from proxy.postgres.protocol.statement import Class, Statement

SAMPLES: dict[type, object] = {
    e.SetVariable: e.SetVariable(b"work_mem", b"1MB", b"SET work_mem = '1MB'"),
    e.SetConfig: e.SetConfig(b"app.tenant", b"7", False),
    e.UnknownSetConfig: e.UnknownSetConfig(None, False),
    e.ResetVariable: e.ResetVariable(b"datestyle"),
    e.ResetAll: e.ResetAll(),
    e.Listen: e.Listen(b"new"),
    e.Unlisten: e.Unlisten(b"old"),
    e.PrepareSql: e.PrepareSql(b"p", b"PREPARE p AS SELECT 1"),
    e.Deallocate: e.Deallocate(None),
    e.CreateTemp: e.CreateTemp(),
    e.HoldCursor: e.HoldCursor(b"c"),
    e.CloseCursor: e.CloseCursor(b"held"),
    e.AdvisoryLock: e.AdvisoryLock(),
    e.AdvisoryUnlock: e.AdvisoryUnlock(),
    e.AdvisoryUnlockAll: e.AdvisoryUnlockAll(),
    e.UsesSequence: e.UsesSequence(),
    e.DiscardSequences: e.DiscardSequences(),
    e.DiscardTemp: e.DiscardTemp(),
    e.DiscardAll: e.DiscardAll(),
    e.LoadLibrary: e.LoadLibrary(b"LOAD 'x'"),
    e.Drops: e.Drops(),
    e.Unrestorable: e.Unrestorable("a connection of its own"),
}


def ran(state: SessionState, *effects: typing.Any) -> None:
    state.ran(Statement(Class.SETTING, "TEST", effects=effects), b"TEST")
    state.ready(b"I"[0])


def full() -> SessionState:
    """A session that has something of everything that effects can take away."""
    state = SessionState()
    ran(state, e.SetVariable(b"datestyle", b"ISO, DMY", b""), e.Listen(b"old"))
    ran(state, e.PrepareSql(b"q", b"PREPARE q AS SELECT 2"), e.HoldCursor(b"held"))
    state.locks = state.sequences = True
    return state


def looks(state: SessionState) -> tuple[object, ...]:
    scope = state.committed
    return (
        *(scope, state.need, state.locks, state.sequences, state.libraries, state.retire),
        *(tuple(state.sql_prepared), state.unrestorable),
    )


def test_every_effect_has_a_sample() -> None:
    assert SAMPLES.keys() == set(typing.get_args(e.Effect))


@pytest.mark.parametrize("effect", SAMPLES.values(), ids=lambda effect: type(effect).__name__)
def test_every_effect_shows(effect: object) -> None:
    state = full()
    if isinstance(effect, e.UsesSequence):
        state.sequences = False
    if isinstance(effect, e.AdvisoryLock):
        state.locks = False
    if isinstance(effect, e.DiscardTemp | e.Drops):
        ran(state, e.CreateTemp())
    before = looks(state)
    ran(state, effect)
    assert looks(state) != before


def test_discard_all_leaves_what_the_server_keeps() -> None:
    state = full()
    ran(state, e.LoadLibrary(b"LOAD 'x'"), e.Unrestorable("dblink connections"))
    ran(state, e.DiscardAll())
    assert state.libraries == (b"LOAD 'x'",)
    assert state.unrestorable == "dblink connections"
    assert not state.settings
    assert not state.channels
    assert not state.sql_prepared
    assert (state.locks, state.sequences, state.need) == (False, False, Need.NONE)
    assert not state.untouched
