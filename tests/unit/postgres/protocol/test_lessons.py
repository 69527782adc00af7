"""What a unit's answers teach, lesson by lesson; how they come together is in test_expected*.py."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import lessons
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.expected import Expected
from proxy.postgres.protocol.parameters import UNKNOWN
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.statement import Opaque
from proxy.postgres.protocol.units import Kind, Unit
from tests.unit.postgres.protocol._sequences import (
    BOUND,
    CLOSED,
    EMPTY,
    FLUSH,
    NO_DATA,
    PARSED,
    ROW,
    SUSPENDED,
    SYNC,
    TABLE,
    b,
    c,
    call,
    close,
    e,
    error,
    gatherer,
    notice,
    p,
    pbe,
    q,
    units_of,
    z,
)


def one(data: bytes) -> Unit:
    (unit,) = units_of(data)
    return unit


def owner() -> Expected:
    return Expected(SessionState(), gatherer())


def gathered(expected: Expected, data: bytes) -> Unit:
    """The unit of these bytes, its names known to the owner's own gatherer."""
    (unit,) = units_of(data, expected.gatherer)
    return unit


# ---- the statement behind a CommandComplete ----


def test_the_completions_of_a_query_are_its_statements_in_order() -> None:
    unit = one(q("SET a.b = 1; SELECT 1"))
    assert [lessons.executed(unit, at)[0].verb for at in (0, 1)] == ["SET", "SELECT"]
    assert lessons.executed(unit, 2) == (lessons.UNKNOWN, b"")


def test_the_completions_of_a_batch_are_its_executes_with_their_values() -> None:
    bind = b("s", "", b"a.b", b"1")
    unit = one(p("SELECT set_config($1, $2, false)", "s") + bind + e() + pbe("SELECT 1") + SYNC)
    first, kept = lessons.executed(unit, 0)
    assert (first.verb, kept) == ("SELECT", bind)
    assert lessons.executed(unit, 1)[1] == b""  # plain: its values teach nothing
    assert lessons.executed(unit, 2) == (lessons.UNKNOWN, b"")


@pytest.mark.parametrize(
    "data",
    [
        call(),
        e("p") + SYNC,  # a portal nobody has seen
        SYNC,  # nothing was executed
        pbe("") + SYNC,  # a text without a statement has no CommandComplete
    ],
)
def test_a_completion_of_nobody_knows_what(data: bytes) -> None:
    assert lessons.executed(one(data), 0)[0] is lessons.UNKNOWN


def test_a_query_in_a_batch_that_runs_several_is_not_told_apart() -> None:
    unit = one(pbe("SELECT 1") + q("SET a.b = 1; SELECT 2"))
    assert lessons.executed(unit, 0)[0].verb == "SELECT"
    assert lessons.executed(unit, 1)[0] is lessons.UNKNOWN


def test_what_is_unknown_may_have_done_anything_to_the_session() -> None:
    assert lessons.UNKNOWN.opaque is Opaque.STRONG
    assert not lessons.UNKNOWN.plain


# ---- bound values ----


def raw_bind(formats: list[int], *values: bytes) -> bytes:
    body = b"p\0s\0" + len(formats).to_bytes(2) + b"".join(f.to_bytes(2) for f in formats)
    body += len(values).to_bytes(2)
    body += b"".join(len(value).to_bytes(4) + value for value in values) + b"\0\0"
    return m.message(b"B", body)


@pytest.mark.parametrize(
    ("bind", "values"),
    [
        (b"", None),
        (b("s"), ()),
        (b("s", "p", b"x", b""), (b"x", b"")),
        (m.bind("p", "s", [None, b"y"]), (None, b"y")),
        (raw_bind([0], b"x", b"y"), (b"x", b"y")),
        (raw_bind([0, 0], b"x", b"y"), (b"x", b"y")),
        (raw_bind([1], b"x", b"y"), (b"x", b"y")),  # binary, of the type that the server chooses:
        (raw_bind([0, 1], b"x", b"y"), (b"x", b"y")),  # text, where set_config wants text
    ],
)
def test_bound_values(bind: bytes, values: tuple[bytes | None, ...] | None) -> None:
    assert lessons.bound(bind, {b"s": p("SELECT 1", "s")}) == values


def test_bound_values_of_types_that_the_client_names() -> None:
    number = {b"s": m.parse(b"s", b"SELECT set_config('a', $1::text, false)", (23,))}
    assert lessons.bound(raw_bind([1], b"\0\0\0\7"), number) == (UNKNOWN,)
    assert lessons.bound(raw_bind([0], b"7"), number) == (b"7",)
    assert lessons.bound(raw_bind([1], b"7"), {}) == (UNKNOWN,)  # closed meanwhile
    assert lessons.bound(raw_bind([0], b"7"), {}) == (b"7",)


# ---- names that come to be, and go ----


def test_each_parse_complete_makes_the_next_statement() -> None:
    expected = owner()
    unit = gathered(expected, p("SELECT 1", "a") + p("SELECT 2", "b") + SYNC)
    expected.missing, expected.unsure = {b"a", b"b"}, frozenset({b"a", b"b"})
    lessons.parsed(expected, unit)
    assert expected.state.statements == {b"a": p("SELECT 1", "a")}
    assert expected.missing == expected.unsure == {b"b"}
    lessons.parsed(expected, unit)
    assert list(expected.state.statements) == [b"a", b"b"]
    with pytest.raises(PeerProtocolError) as caught:
        lessons.parsed(expected, unit)
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL


def test_a_parse_that_was_not_kept_forgets_what_had_its_name() -> None:
    expected = owner()
    lessons.parsed(expected, gathered(expected, p("SELECT 1", "a") + SYNC))
    unit = Unit(Kind.BATCH)
    unit.parses = [(b"a", b"")]
    lessons.parsed(expected, unit)
    assert expected.state.statements == {}


def test_each_close_complete_ends_the_next_statement_or_portal() -> None:
    expected = owner()
    lessons.parsed(expected, gathered(expected, p("SELECT 1", "a") + SYNC))
    expected.missing = {b"a"}
    unit = gathered(expected, close("a", b"P") + close("a") + SYNC)
    lessons.closed(expected, unit)  # of a portal
    assert list(expected.state.statements) == [b"a"]
    assert expected.missing == {b"a"}
    lessons.closed(expected, unit)
    assert expected.state.statements == {}
    assert expected.missing == set()
    with pytest.raises(PeerProtocolError) as caught:
        lessons.closed(expected, unit)
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL


def test_after_an_error_names_mean_what_they_meant() -> None:
    expected = owner()
    lessons.parsed(expected, gathered(expected, p("SELECT 1", "a") + SYNC))
    old = expected.gatherer.names[b"a"]
    unit = gathered(expected, p("SELECT 2", "b") + p("DROP TABLE t", "a") + p("X", "c") + SYNC)
    lessons.parsed(expected, unit)  # b came to be, then the error
    lessons.unlearn(expected, unit)
    assert set(expected.gatherer.names) == {b"a", b"b"}
    assert expected.gatherer.names[b"a"] == old


def test_after_an_error_what_stood_at_the_front_is_missing_again() -> None:
    expected = owner()
    for text in ("a", "b"):
        lessons.parsed(expected, gathered(expected, p("SELECT 1", text) + SYNC))
    unit = gathered(expected, b("a") + e() + SYNC)
    unit.injected, unit.parses_seen = {0: b"a", 1: b"b", 2: b"closed since"}, 1
    lessons.unlearn(expected, unit)
    assert expected.missing == {b"b"}


def test_what_was_to_be_prepared_when_the_link_died_counts_as_prepared() -> None:
    expected = owner()
    unit = one(p("SELECT 1", "a") + p("SELECT 2") + SYNC)
    lessons.adopt(expected, unit)
    assert expected.state.statements == {b"a": p("SELECT 1", "a"), b"": p("SELECT 2")}
    assert expected.gatherer.names == {
        b"a": expected.gatherer.script_of(p("SELECT 1", "a")),
        b"": expected.gatherer.script_of(p("SELECT 2")),
    }
    assert expected.missing == {b"a", b""}
    assert expected.unsure == {b"a"}  # the unnamed one can be made again at any time


def test_what_the_server_refused_is_not_adopted() -> None:
    expected = owner()
    unit = one(p("SELEC 1", "a") + SYNC)
    unit.errored = True
    lessons.adopt(expected, unit)
    assert expected.state.statements == {}


def test_adopting_does_not_replace_what_has_the_name() -> None:
    expected = owner()
    lessons.parsed(expected, gathered(expected, p("SELECT 1", "a") + SYNC))
    lessons.adopt(expected, one(p("SELECT 2", "a") + SYNC))
    assert expected.state.statements == {b"a": p("SELECT 1", "a")}
    assert expected.unsure == {b"a"}


def test_what_the_client_has_seen_answered_or_nobody_kept_is_not_adopted() -> None:
    expected = owner()
    seen = one(p("SELECT 1", "a") + SYNC)
    seen.released = True
    lost = Unit(Kind.BATCH)
    lost.parses = [(b"b", b"")]
    for unit in (seen, lost, one(q("SELECT 1"))):
        lessons.adopt(expected, unit)
    assert expected.state.statements == {}
    assert expected.missing == expected.unsure == set()


# ---- transactions that may be begun again ----


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("BEGIN", True),
        ("BEGIN; SET LOCAL a.b = 1", True),
        ("SET TRANSACTION READ ONLY", True),
        ("SAVEPOINT s", False),
        ("COMMIT", False),
        ("ROLLBACK", False),
        ("SELECT 1", False),
        ("BEGIN; INSERT INTO t VALUES (1)", False),
        ("", False),
    ],
)
def test_only_settings_are_run_again(text: str, yes: bool) -> None:
    assert lessons.only_settings(one(q(text))) is yes
    assert lessons.only_settings(one(pbe(text) + SYNC)) is yes


def test_what_was_not_read_is_not_run_again() -> None:
    assert not lessons.only_settings(one(call()))


# ---- last words ----


@pytest.mark.parametrize(
    ("sqlstate", "severity", "yes"),
    [
        ("57P01", "WARNING", True),
        ("57P02", "WARNING", True),
        ("57P03", "WARNING", True),
        ("57P04", "WARNING", False),
        ("01000", "WARNING", False),
        ("57P01", "NOTICE", False),
    ],
)
def test_a_farewell(sqlstate: str, severity: str, yes: bool) -> None:
    fields = lessons.farewell(notice(sqlstate, severity)[5:])
    assert (fields is not None) is yes
    if fields is not None:
        assert fields["C"] == sqlstate


def test_a_farewell_in_another_language_is_told_by_its_code() -> None:
    spoken = m.notice_response({"S": "WARNUNG", "V": "WARNING", "C": "57P02", "M": "x"})
    assert lessons.farewell(spoken[5:]) is not None
    only_spoken = m.notice_response({"S": "WARNUNG", "C": "57P02", "M": "x"})
    assert lessons.farewell(only_spoken[5:]) is None


# ---- what a flush waits for ----


@pytest.mark.parametrize(
    ("said", "count"),
    [
        (b"", 0),
        (PARSED + BOUND + CLOSED, 3),
        (m.parameter_description() + NO_DATA, 1),  # one Describe: two messages, one end
        (m.parameter_description() + TABLE, 1),
        (ROW * 5 + c("SELECT 5"), 1),
        (EMPTY + SUSPENDED, 2),
        (notice() + error() + z(), 0),
    ],
)
def test_how_many_messages_are_answered(said: bytes, count: int) -> None:
    assert lessons.replies_in([said]) == count
    assert lessons.replies_in([said, PARSED]) == count + 1


def test_a_flush_is_over_when_all_before_it_is_answered() -> None:
    unit = one(p("SELECT 1") + b() + FLUSH)
    unit.held = (PARSED,)
    assert not lessons.flush_is_over(unit)
    unit.held = (PARSED, BOUND)
    assert lessons.flush_is_over(unit)
    unit.held, unit.replies = (BOUND,), 1  # the first has reached the client before
    assert lessons.flush_is_over(unit)


def test_a_flush_is_over_with_an_error() -> None:
    unit = one(p("SELEC") + b() + FLUSH)
    unit.held, unit.errored = (error(),), True
    assert lessons.flush_is_over(unit)


def test_behind_a_flush_comes_the_sync_and_its_answer_is_waited_for() -> None:
    unit = one(p("SELECT 1") + FLUSH + SYNC)
    unit.held = (PARSED,)
    assert not lessons.flush_is_over(unit)
