"""The loss table of reference/redis.md, section 3, walked against the verdicts, row by row."""

from itertools import product

import pytest

from proxy.redis.protocol.command_table import fallback_table
from proxy.redis.protocol.expected import ExclusiveState, LossTerms
from proxy.redis.protocol.values import encode_command
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

TABLE = fallback_table()
SEND, LOST, CLOSE = Action.SEND, Action.SAY_LOST, Action.CLOSE
M0, M1, M2, M3 = Phase.WAITING, Phase.UNSENT, Phase.SENT, Phase.CUT
FIRST = Circumstances()

# ---- the columns M0 to M3 ----

# Class, its commands (name and subcommand), and what M0, M1, M2, M3 say. M0's UPSTREAMDOWN is the
# hold's end, which is the runtime's clock and not this table.
ROWS = {
    "pure reads": (Kind.READ, b"GET MGET HGETALL LRANGE ZRANGE XRANGE EXISTS STRLEN", SEND),
    "reads of time or chance": (Kind.READ, b"SCAN HSCAN SSCAN ZSCAN TTL PTTL SRANDMEMBER", SEND),
    "idempotent writes": (Kind.WRITE, b"SET DEL SADD HSET EXPIREAT", LOST),
    "other writes": (
        Kind.WRITE,
        b"INCR LPUSH APPEND XADD SPOP GETDEL GETEX GETSET PUBLISH EVAL FCALL XREADGROUP",
        LOST,
    ),
    "scripts": (Kind.WRITE, b"EVALSHA", LOST),
    "scripts that only read": (Kind.READ, b"EVALSHA_RO EVAL_RO FCALL_RO", SEND),
    "admin": (Kind.WRITE, b"SHUTDOWN FAILOVER FLUSHALL DEBUG", LOST),
    "no command known": (Kind.WRITE, b"NO.SUCH", LOST),
}
CELLS = [(kind, name, sent) for kind, names, sent in ROWS.values() for name in names.split()]


@pytest.mark.parametrize(("kind", "name", "sent"), CELLS)
def test_a_row_for_each_command(kind: Kind, name: bytes, sent: Action) -> None:
    assert TABLE.repeatable(name) is (kind is Kind.READ)
    assert TABLE.repeatable(name.lower()) is (kind is Kind.READ)
    assert [verdict(kind, phase, FIRST) for phase in (M0, M1, M2, M3)] == [SEND, SEND, sent, sent]


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (Kind.BLOCKING, LOST),  # the element may be popped and lost (exp 50)
        (Kind.BLOCKING_READ, SEND),
    ],
)
def test_rows_of_waits(kind: Kind, sent: Action) -> None:
    assert [verdict(kind, phase, FIRST) for phase in (M0, M1, M2, M3)] == [SEND, SEND, sent, sent]


@pytest.mark.parametrize("kind", Kind)
def test_a_client_with_half_a_reply_is_closed(kind: Kind) -> None:
    for given in every_circumstance():
        assert verdict(kind, Phase.STREAMED, given) is CLOSE


def every_circumstance() -> list[Circumstances]:
    attempts = range(ATTEMPTS_MAX + 2)
    return [Circumstances(*each) for each in product((True, False), attempts, (True, False))]


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.BLOCKING])
@pytest.mark.parametrize("phase", [M2, M3])
def test_what_may_have_changed_something_is_never_sent_again(kind: Kind, phase: Phase) -> None:
    assert {verdict(kind, phase, given) for given in every_circumstance()} == {LOST}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("phase", [M0, M1])
def test_what_never_left_is_sent_whatever_it_is(kind: Kind, phase: Phase) -> None:
    assert {verdict(kind, phase, given) for given in every_circumstance()} == {SEND}


@pytest.mark.parametrize("kind", [Kind.READ, Kind.BLOCKING_READ])
@pytest.mark.parametrize("phase", [M2, M3])
def test_a_read_is_sent_again_so_many_times_and_only_if_it_may(kind: Kind, phase: Phase) -> None:
    for given in every_circumstance():
        may = given.replay_reads and not given.later_write and given.attempts <= ATTEMPTS_MAX
        assert verdict(kind, phase, given) is (SEND if may else LOST), given


def test_a_read_is_sent_three_times_at_most() -> None:
    sent = 1
    while verdict(Kind.READ, M2, Circumstances(attempts=sent)) is SEND:
        sent += 1
    assert sent == 3


# ---- the rows of sessions: what has a link of its own ----

LOST_LINE = "UPSTREAMLOST"  # stands for the line, whatever it says behind its code
AGAIN = None

# Commands in a row, the phase of the last one, and what takes the place of each.
SESSIONS: dict[str, tuple[list[bytes], Phase, list[bytes | str | None]]] = {
    "blocking pop": ([b"BLPOP k 0"], M2, [LOST_LINE]),
    "blocking pop cut": ([b"BLPOP k 0"], M3, [LOST_LINE]),
    "blocking pop unsent": ([b"BLPOP k 0"], M1, [AGAIN]),
    "blocking move": ([b"BLMOVE a b LEFT RIGHT 0"], M2, [LOST_LINE]),
    "XREAD explicit id": ([b"XREAD BLOCK 0 STREAMS s 1-1"], M2, [AGAIN]),
    "XREAD explicit id cut": ([b"XREAD BLOCK 0 STREAMS s 1-1"], M3, [AGAIN]),
    "XREAD $": ([b"XREAD BLOCK 0 STREAMS s $"], M2, [LOST_LINE]),
    "XREAD $ unsent": ([b"XREAD BLOCK 0 STREAMS s $"], M1, [AGAIN]),
    "XREAD +": ([b"XREAD BLOCK 0 STREAMS s +"], M2, [LOST_LINE]),
    "XREADGROUP": ([b"XREADGROUP GROUP g c BLOCK 0 STREAMS s >"], M2, [LOST_LINE]),
    "WATCH": ([b"WATCH k"], M2, [AGAIN]),
    "MULTI": ([b"MULTI"], M2, [b"+OK\r\n"]),
    "MULTI queue": (
        [b"MULTI", b"INCR k"],
        M2,
        [b"+OK\r\n", b"-EXECABORT Transaction discarded because of previous errors.\r\n"],
    ),
    "EXEC unsent": (
        [b"MULTI", b"INCR k", b"EXEC"],
        M1,
        [
            b"+OK\r\n",
            b"+QUEUED\r\n",
            b"-EXECABORT Transaction discarded because of previous errors.\r\n",
        ],
    ),
    "EXEC sent": ([b"MULTI", b"INCR k", b"EXEC"], M2, [b"+OK\r\n", b"+QUEUED\r\n", LOST_LINE]),
    "EXEC of reads sent": ([b"MULTI", b"GET k", b"EXEC"], M2,
                           [b"+OK\r\n", b"+QUEUED\r\n", LOST_LINE]),
    "DISCARD": ([b"MULTI", b"INCR k", b"DISCARD"], M2, [b"+OK\r\n", b"+QUEUED\r\n", b"+OK\r\n"]),
    "SUBSCRIBE": ([b"SUBSCRIBE a b"], M2, [AGAIN]),
    "SUBSCRIBE cut": ([b"PSUBSCRIBE a*"], M3, [AGAIN]),
    "WAIT": ([b"WAIT 1 0"], M2, [LOST_LINE]),
    "WAITAOF": ([b"WAITAOF 1 0 0"], M2, [LOST_LINE]),
    "SELECT": ([b"SELECT 1"], M2, [AGAIN]),
    "a read behind a write": ([b"INCR k", b"GET k"], M2, [LOST_LINE, AGAIN]),
    "a read before a write": ([b"GET k", b"INCR k"], M2, [LOST_LINE, LOST_LINE]),
    "a read before a write unsent": ([b"GET k", b"INCR k"], M1, [AGAIN, AGAIN]),
}  # fmt: skip
_BLOCKING = (b"BLPOP", b"BLMOVE", b"XREAD", b"XREADGROUP")


@pytest.mark.parametrize("name", SESSIONS)
def test_a_row_for_each_state_of_a_session(name: str) -> None:
    commands, phase, wanted = SESSIONS[name]
    state = ExclusiveState()
    request = b""
    for command in commands:
        args = command.split()
        request = encode_command(*args)
        state.sent(request, args, muted=False, blocking=args[0] in _BLOCKING)
    unsent_bytes = len(request) if phase is M1 else 0
    terms = LossTerms(unsent_bytes, cut=phase is M3, replay_reads=True)
    canned = [entry.canned for entry in state.settle(TABLE, "the link was lost", terms)]
    assert len(canned) == len(wanted)
    for got, want in zip(canned, wanted, strict=True):
        if want == LOST_LINE:
            assert got is not None
            assert got.startswith(b"-UPSTREAMLOST outcome unknown: the link was lost")
        else:
            assert got == want


# ---- the column of transient error replies ----

NOT_EXECUTED_NOW = (b"LOADING", b"MASTERDOWN", b"TRYAGAIN", b"CLUSTERDOWN")


@pytest.mark.parametrize("code", NOT_EXECUTED_NOW)
def test_a_read_is_tried_again_a_little_later(code: bytes) -> None:
    assert transient(code, Kind.READ) is Transient.RETRY


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.BLOCKING])
@pytest.mark.parametrize("code", NOT_EXECUTED_NOW)
def test_anything_else_only_while_the_server_loads(code: bytes, kind: Kind) -> None:
    wanted = Transient.RETRY if code == b"LOADING" else Transient.PASS
    assert transient(code, kind) is wanted


def test_a_write_refused_by_a_replica_looks_for_the_primary() -> None:
    assert transient(b"READONLY", Kind.WRITE) is Transient.REDIAL
    assert transient(b"READONLY", Kind.READ) is Transient.PASS


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "code",
    b"ERR BUSY OOM NOREPLICAS MISCONF NOSCRIPT UNBLOCKED WRONGTYPE NOPERM loading".split(),
)
def test_every_other_error_passes_unchanged(code: bytes, kind: Kind) -> None:
    assert transient(code, kind) is Transient.PASS
