"""The whole table of reference/redis.md, section 3: each kind in each phase."""

import itertools

import pytest

from proxy.redis.protocol.verdict import (
    ATTEMPTS_MAX,
    Action,
    Circumstances,
    Kind,
    Phase,
    Transient,
    transient,
    verdict,
)

READS = (Kind.READ, Kind.BLOCKING_READ)


@pytest.mark.parametrize(("kind", "phase"), list(itertools.product(Kind, Phase)))
def test_every_cell(kind: Kind, phase: Phase) -> None:
    action = verdict(kind, phase, Circumstances())
    if phase in (Phase.WAITING, Phase.UNSENT):
        assert action is Action.SEND
    elif phase is Phase.STREAMED:
        assert action is Action.CLOSE
    else:
        assert action is (Action.SEND if kind in READS else Action.SAY_LOST)


@pytest.mark.parametrize("phase", [Phase.SENT, Phase.CUT])
@pytest.mark.parametrize(
    "given",
    [
        Circumstances(replay_reads=False),
        Circumstances(attempts=ATTEMPTS_MAX + 1),
        Circumstances(later_write=True),
    ],
)
def test_reads_that_are_not_repeated(phase: Phase, given: Circumstances) -> None:
    assert verdict(Kind.READ, phase, given) is Action.SAY_LOST
    assert verdict(Kind.READ, Phase.UNSENT, given) is Action.SEND


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        (b"LOADING", Kind.READ, Transient.RETRY), (b"LOADING", Kind.WRITE, Transient.RETRY),
        (b"MASTERDOWN", Kind.READ, Transient.RETRY), (b"MASTERDOWN", Kind.WRITE, Transient.PASS),
        (b"CLUSTERDOWN", Kind.READ, Transient.RETRY), (b"TRYAGAIN", Kind.READ, Transient.RETRY),
        (b"READONLY", Kind.WRITE, Transient.REDIAL), (b"READONLY", Kind.READ, Transient.PASS),
        (b"BUSY", Kind.READ, Transient.PASS), (b"OOM", Kind.WRITE, Transient.PASS),
        (b"NOSCRIPT", Kind.READ, Transient.PASS), (b"MISCONF", Kind.WRITE, Transient.PASS),
    ],
)  # fmt: skip
def test_transient_errors(code: bytes, kind: Kind, expected: Transient) -> None:
    assert transient(code, kind) is expected
