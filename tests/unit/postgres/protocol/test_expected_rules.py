"""What of the server's bytes the client gets, and what they teach: one rule a test.

The named message sequences are in test_expected.py.
"""

import pytest

from proxy.postgres.protocol import expected as expected_module
from proxy.postgres.protocol import lessons as lessons_module
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.lessons import adopt, bound, only_settings
from proxy.postgres.protocol.units import Kind, Unit
from tests.unit.postgres.protocol._sequences import (
    BOUND,
    CLOSED,
    COPY_IN,
    EMPTY,
    FLUSH,
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
    p,
    pbe,
    q,
    units_of,
    z,
)
from tests.unit.postgres.protocol._talk import (
    ERROR,
    FATAL,
    NOTE,
    ROWS,
    WARNING,
    ZONE,
    Talk,
)

# ---- hold-back ----


def test_an_answer_is_held_back_until_it_is_whole() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.server(TABLE) == b""
    assert talk.expected.holding
    assert talk.server(ROW) == b""
    assert not talk.units[0].released
    assert talk.server(c("SELECT 1") + z()) == TABLE + ROW + c("SELECT 1") + z()
    assert not talk.expected.holding


def test_a_notification_in_an_answer_is_no_part_of_it() -> None:
    """It is heard at once, and the answer may still be given from the start; behind a part of the
    answer that is held back it waits with it: the order is the server's."""
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.server(NOTE + TABLE + NOTE + ROW) == NOTE
    assert not talk.units[0].released
    assert talk.server(c("SELECT 1") + z()) == TABLE + NOTE + ROW + c("SELECT 1") + z()
    talk.client(q("SELECT 2"))
    assert talk.expected.release() == ()
    assert talk.server(NOTE) == NOTE
    assert not talk.units[1].released


def test_what_is_held_back_may_be_released() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(TABLE + ROW)
    assert b"".join(talk.expected.release()) == TABLE + ROW
    assert talk.units[0].released
    assert talk.units[0].rows == 1
    assert not talk.expected.holding
    assert talk.server(ROW * 2) == ROW * 2
    assert talk.units[0].rows == 3
    assert talk.server(c("SELECT 3") + z()) == c("SELECT 3") + z()
    assert talk.expected.release() == ()


def test_released_before_anything_came_nothing_is_released() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.expected.release() == ()
    assert not talk.units[0].released
    assert talk.server(ROW) == ROW  # held back no more
    assert talk.units[0].released


def test_no_more_than_so_much_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_module, "HELD_BYTES_MAX", 2 * len(ROW))
    talk = Talk()
    talk.client(pbe("SELECT 1") + SYNC)  # read message by message
    assert talk.server(ROW) == b""
    assert talk.server(ROW) == b""
    assert talk.server(ROW * 3) == ROW * 5
    assert talk.units[0].released
    assert talk.units[0].rows == 5
    assert talk.server(ROW) == ROW
    assert talk.units[0].rows == 6


def test_a_commit_marker_that_is_released_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # INSERT … RETURNING: its rows and its CommandComplete have reached the client, then a FATAL.
    talk = Talk()
    talk.client(q("INSERT INTO t VALUES (1) RETURNING 1"))
    talk.server(TABLE + ROW + c("INSERT 0 1"))
    assert not talk.units[0].answered  # nobody has looked
    talk.expected.release()
    assert talk.units[0].answered
    monkeypatch.setattr(expected_module, "HELD_BYTES_MAX", 1)
    talk.server(z())
    talk.client(q("INSERT INTO t VALUES (1) RETURNING 1"))
    talk.server(TABLE + ROW)
    assert not talk.units[1].answered
    talk.server(c("INSERT 0 1"))
    assert talk.units[1].answered


def test_nothing_is_held_back_if_it_is_not_to_be() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"), hold=False)
    assert talk.server(TABLE + ROW) == TABLE + ROW
    assert talk.units[0].released


def test_a_client_that_flushes_gets_all_that_it_waits_for_at_once() -> None:
    talk = Talk()
    talk.client(pbe("SELECT 1") + FLUSH, hold=True)
    assert talk.server(PARSED + BOUND + ROW) == b""
    assert talk.server(c("SELECT 1")) == PARSED + BOUND + ROW + c("SELECT 1")
    talk.client(b() + FLUSH)
    assert talk.server(BOUND) == BOUND  # its answer has begun


def test_a_client_that_flushes_waits_no_longer_than_for_an_error() -> None:
    talk = Talk()
    talk.client(pbe("SELEC") + FLUSH, hold=True)
    assert talk.server(ERROR) == ERROR


def test_a_client_that_has_sent_its_sync_too_does_not_wait_for_the_flush_alone() -> None:
    talk = Talk()
    talk.client(p("SELECT 1") + FLUSH + SYNC, hold=True)
    assert talk.server(PARSED) == b""
    assert talk.server(z()) == PARSED + z()


def test_the_start_of_the_second_answer_is_held_back_too() -> None:
    talk = Talk()
    talk.client(q("SELECT 1") * 2)
    assert talk.server(ROWS + z() + TABLE) == ROWS + z()
    assert talk.expected.holding
    assert b"".join(talk.expected.release()) == TABLE


# ---- long messages ----


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_module, "RAW_BYTES_MIN", 64)


BIG = m.row([b"x" * 100])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("at", [5, 6, 64, 65, len(BIG) - 1])
def test_a_long_row_is_passed_on_as_it_comes(at: int) -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    assert talk.server(TABLE + BIG[:at]) == TABLE + BIG[:at]
    assert talk.expected.mid_message
    assert talk.units[0].released
    assert talk.units[0].rows == 1
    assert talk.server(BIG[at:-1]) == BIG[at:-1]
    assert talk.server(BIG[-1:] + c("SELECT 1") + z()) == BIG[-1:] + c("SELECT 1") + z()
    assert not talk.expected.mid_message


@pytest.mark.usefixtures("small")
def test_a_long_row_of_the_proxy_is_dropped_as_it_comes() -> None:
    talk = Talk()
    talk.skip(q("SELECT 1"))
    talk.client(q("SELECT 1"))
    assert talk.server(BIG[:50]) == b""
    assert not talk.expected.mid_message
    assert talk.server(BIG[50:] + z() + ROWS + z()) == ROWS + z()


@pytest.mark.usefixtures("small")
def test_a_long_notice_that_comes_unasked() -> None:
    talk = Talk()
    long = m.notice_response({"M": "x" * 100})
    assert talk.server(long[:50]) == long[:50]
    assert talk.expected.mid_message
    assert talk.server(long[50:]) == long[50:]


@pytest.mark.usefixtures("small")
def test_a_long_error_is_kept_until_it_is_whole() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"), hold=False)
    long = m.error_response({"S": "ERROR", "C": "P0001", "M": "x" * 100})
    assert talk.server(long[:50]) == b""
    assert not talk.expected.mid_message
    assert talk.server(long[50:] + z()) == long + z()


# ---- the short way ----


@pytest.mark.parametrize(
    "data",
    [ROWS, ROWS + z()[:-1], ROWS + z() + z(), ROWS + ERROR + z(), NOTE + ROWS + z(), b"Z\0\0\0\5X",
     b"Z\0\0\0\4", b"Z\0\0\0\0\0", ROWS + z() + NOTE],
)  # fmt: skip
def test_what_is_not_a_whole_answer(data: bytes) -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    before = talk.known()
    assert not talk.expected.whole_answer(data)
    assert talk.known() == before


def test_when_an_answer_cannot_take_the_short_way() -> None:
    answer = ROWS + z()
    talk = Talk()
    assert not talk.expected.whole_answer(answer)  # nothing is owed
    talk.client(q("SELECT 1"))
    assert talk.expected.whole_answer(answer)
    assert not talk.expected.inflight
    talk.client(q("SELECT 1") * 2)
    assert not talk.expected.whole_answer(answer)  # two are
    for make in (
        lambda talk: talk.client(pbe("SELECT 1") + SYNC),  # its ParseComplete is not there
        lambda talk: talk.skip(q("SELECT 1")),
        lambda talk: setattr(_one(talk), "read_only", True),
        lambda talk: setattr(_one(talk), "on_done", print),
        lambda talk: (_one(talk), talk.server(ROW)),
        lambda talk: (_one(talk), talk.server(b"D")),
    ):
        talk = Talk()
        make(talk)
        assert not talk.expected.whole_answer(answer)


@pytest.mark.parametrize("name", ["", "s"])
def test_the_short_way_learns_what_the_long_one_does(name: str) -> None:
    short, long = Talk(), Talk()
    for talk in (short, long):
        talk.client(pbe("SELECT 1", name) + SYNC)
    answer = PARSED + BOUND + ROWS + z()
    assert short.expected.whole_answer(answer)
    assert b"".join(long.expected.feed(answer)) == answer
    assert short.known() == long.known()
    assert name.encode() in short.expected.state.statements
    for talk in (short, long):  # nothing is watched any more
        talk.client(q("SELECT 1"))
        assert talk.expected.whole_answer(ROWS + z())


def _one(talk: Talk) -> Unit:
    talk.client(q("SELECT 1"))
    return talk.units[0]


# ---- what answers teach ----


def test_a_statement_exists_once_its_parse_is_complete() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    assert talk.state.statements == {}
    talk.server(PARSED)
    assert talk.state.statements == {b"s": p("SELECT 1", "s")}
    talk.client(close("s") + SYNC)
    talk.server(z() + CLOSED + z())
    assert talk.state.statements == {}


def test_a_statement_that_did_not_come_to_be_is_what_it_was() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    talk.server(PARSED + z())
    old = talk.gatherer.names[b"s"]
    talk.client(p("DELETE FROM t", "s") + p("SELECT 2", "t") + SYNC)
    assert talk.gatherer.names[b"s"] is not old
    talk.server(error("42P05") + z())
    assert talk.gatherer.names == {b"s": old}


def test_a_parse_that_was_too_long_to_keep() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    talk.server(PARSED + z())
    unit = Unit(Kind.BATCH)
    unit.parses = [(b"s", b"")]
    talk.expected.push(unit, False)
    talk.server(PARSED + z())
    assert talk.state.statements == {}


def test_what_is_missing_on_a_new_link() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + p("SELECT 2", "t") + SYNC)
    talk.server(PARSED * 2 + z())
    assert talk.expected.missing == set()
    assert talk.expected.lost() == []
    assert talk.expected.missing == {b"s", b"t"}
    talk.client(p("SELECT 3", "t") + SYNC)
    talk.server(PARSED + z())
    assert talk.expected.missing == {b"s"}
    talk.client(close("s") + SYNC)
    talk.server(CLOSED + z())
    assert talk.expected.missing == set()


def test_statements_at_the_front_that_failed_are_missing_still() -> None:
    # P(s) P(t) B E S, the second of our own fails: only s is on the link.
    talk = Talk()
    talk.client(p("SELECT 1", "s") + p("SELECT 2", "t") + p("SELECT 3", "u") + SYNC)
    talk.server(PARSED * 3 + z())
    talk.expected.missing = {b"s", b"t"}
    talk.inject(b"s", b"t")
    talk.client(b("s") + e() + b("u") + e() + SYNC)
    assert talk.server(PARSED + ERROR + z()) == ERROR + z()
    assert talk.expected.missing == {b"t"}


def test_adopting_the_statements_of_a_unit_that_was_refused() -> None:
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC)
    talk.server(PARSED + z())
    talk.expected.lost()
    (unit,) = units_of(p("SELECT 2", "t") + p("SELECT 3") + p("SELECT 4", "s") + SYNC)
    adopt(talk.expected, unit)
    adopt(talk.expected, Unit(Kind.QUERY))
    unnamed = {b"": p("SELECT 3")}
    assert talk.state.statements == unnamed | {
        b"s": p("SELECT 1", "s"),
        b"t": p("SELECT 2", "t"),
    }
    assert talk.expected.unsure == {b"s", b"t"}
    assert talk.expected.missing == {b"", b"s", b"t"}
    talk.client(p("SELECT 5", "t") + SYNC)
    talk.server(PARSED + z())
    assert talk.expected.unsure == {b"s"}
    assert talk.expected.missing == {b"", b"s"}


def test_what_was_delivered_is_not_adopted() -> None:
    talk = Talk()
    (unit,) = units_of(p("SELECT 2", "t") + FLUSH + SYNC)
    unit.released = True
    adopt(talk.expected, unit)
    assert talk.state.statements == {}


def test_the_unit_that_names_a_portal_meanwhile_keeps_it() -> None:
    # Two batches in one go, the second one cut behind its Bind when the first is answered.
    talk = Talk()
    talk.client(p("SELECT 1", "s") + SYNC + b("s"))
    talk.server(PARSED + z())
    assert talk.gatherer.portals
    talk.client(e() + SYNC)
    assert talk.units[1].scripts() != (None,)
    talk.server(BOUND + ROWS + z())
    assert not talk.gatherer.portals


def test_settings_count_once_they_are_confirmed() -> None:
    talk = Talk()
    talk.client(q("SET a.b = 'x'"))
    assert not talk.state.settings
    talk.server(c("SET") + z())
    assert list(talk.state.settings) == [b"a.b"]


@pytest.mark.parametrize(
    ("text", "answers", "names"),
    [
        ("SET a.b = 1; SET c.d = 2", c("SET") * 2, [b"a.b", b"c.d"]),
        ("SET a.b = 1; SELECT 1; SET c.d = 2", c("SET") + ROWS + c("SET"), [b"a.b", b"c.d"]),
        ("SELECT 1; SET a.b = 1", ROWS + c("SET"), [b"a.b"]),
        ("SET a.b = 1; SELEC", c("SET") + ERROR, []),
    ],
)
def test_each_command_complete_confirms_its_statement(
    text: str, answers: bytes, names: list[bytes]
) -> None:
    talk = Talk()
    talk.client(q(text))
    talk.server(answers + z())
    assert list(talk.state.settings) == names


def test_each_command_complete_of_a_batch_confirms_its_statement() -> None:
    talk = Talk()
    talk.client(
        p("SELECT set_config($1, $2, false)", "f") + b("f", "", b"a.b", b"1") + e()
        + b("f", "", b"c.d", b"2") + e() + pbe("") + pbe("SET e.f = 3") + SYNC
    )  # fmt: skip
    talk.server(PARSED + (BOUND + ROWS) * 2 + PARSED + BOUND + EMPTY + PARSED + BOUND + c("SET"))
    talk.server(z())
    assert list(talk.state.settings) == [b"a.b", b"c.d", b"e.f"]


def test_a_portal_in_two_goes_counts_twice() -> None:
    talk = Talk()
    talk.client(p("SET a.b = 1") + b() + m.execute("", 1) + e() + SYNC)
    talk.server(PARSED + BOUND + SUSPENDED)
    assert not talk.state.settings
    talk.server(c("SET") + z())
    assert list(talk.state.settings) == [b"a.b"]


def test_an_execute_of_nobody_knows_what_makes_the_session_opaque() -> None:
    for data in (e("p") + SYNC, pbe("SELECT 1") + q("SELECT 1; SELECT 2")):
        talk = Talk()
        talk.client(data)
        talk.server(ROWS)
        talk.server(ROWS)
        talk.server(ROWS)
        talk.server(z())
        assert talk.state.opaque


def test_more_answers_than_statements_make_the_session_opaque() -> None:
    # A text that was not read counts as one statement.
    talk = Talk()
    talk.client(q("SET a.b = 1"))
    talk.server(c("SET") + c("SET") + z())
    assert talk.state.opaque


def test_a_write_is_noted() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(ROWS + z())
    assert not talk.state.wrote
    talk.client(q("INSERT INTO t VALUES (1)"))
    talk.server(c("INSERT 0 1") + z())
    assert talk.state.wrote


def test_a_setting_that_the_server_reports() -> None:
    talk = Talk()
    talk.client(q("SET TimeZone = 'utc'"))
    talk.server(c("SET") + ZONE + z())
    assert talk.expected.client_params == talk.expected.link_params == {b"TimeZone": b"UTC"}
    assert talk.expected.learned
    talk = Talk()
    talk.skip(q("SET TimeZone = 'utc'"))
    talk.server(c("SET") + ZONE + z())
    assert talk.expected.client_params == {}
    assert talk.expected.link_params == {b"TimeZone": b"UTC"}


def test_only_reports_on_what_the_client_runs_correct_its_settings() -> None:
    talk = Talk()
    talk.client(q("SET TimeZone = 'utc'"))
    talk.server(c("SET") + z())
    before = talk.state.settings
    talk.skip(q("SELECT 1"))
    talk.server(ZONE + ROWS + z() + ZONE)
    talk.client(q("SELECT 1"))
    talk.server(ROWS + z())
    assert talk.state.settings == before
    talk.client(q("SELECT 1"))
    talk.server(ROWS + ZONE + z())
    assert talk.state.settings != before


def test_what_the_proxy_runs_teaches_nothing() -> None:
    talk = Talk()
    talk.skip(q("SET a.b = 1"))
    talk.client(q("SET c.d = 1"))
    talk.server(c("SET") + z() + c("SET") + z())
    assert list(talk.state.settings) == [b"c.d"]


def test_a_copy_is_over_when_it_has_failed() -> None:
    for end in (ERROR, c("COPY 1")):
        talk = Talk()
        talk.client(q("COPY t FROM STDIN"))
        assert not talk.units[0].copying
        talk.server(COPY_IN)
        assert talk.units[0].copying
        assert talk.units[0].pieces is None
        talk.server(end)
        assert not talk.units[0].copying


def test_last_words() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(TABLE + FATAL)
    assert talk.expected.fatal is not None
    assert talk.expected.fatal["C"] == "57P01"
    assert talk.expected.fatal_wire == FATAL
    assert not talk.units[0].errored
    talk = Talk()
    talk.server(WARNING)
    assert talk.expected.warning is not None
    assert talk.expected.warning["C"] == "57P01"
    assert talk.expected.fatal is None  # no certificate: it may strike behind a commit


def test_an_old_server_says_its_severity_in_words() -> None:
    talk = Talk()
    talk.server(m.notice_response({"S": "WARNING", "C": "57P02", "M": "bye"}))
    assert talk.expected.warning is not None


# ---- units that run read-only ----


def read_only(talk: Talk) -> Unit:
    talk.client(q("SELECT f()"))
    talk.units[-1].read_only = True
    talk.expected.on_refused_read_only = lambda: b"refused"
    return talk.units[0]


def test_a_read_only_unit_ends_outside_of_a_transaction() -> None:
    talk = Talk()
    read_only(talk)
    assert talk.server(ROWS + z("T")) == ROWS + z("I")
    assert talk.expected.status == ord("I")
    assert talk.expected.prologue is None
    read_only(talk)
    assert talk.server(z("T")) == z("I")


def test_a_read_only_unit_that_fails_for_itself() -> None:
    talk = Talk()
    read_only(talk)
    assert talk.server(ERROR + z("E")) == ERROR + z("I")


@pytest.mark.parametrize("released", [False, True])
def test_a_read_only_unit_that_writes(released: bool) -> None:
    talk = Talk()
    read_only(talk)
    start = talk.server(TABLE)
    if released:
        start += b"".join(talk.expected.release())
    assert start + talk.server(error("25006") + z("E")) == TABLE + b"refused" + z("I")
    assert talk.units[0].errored


def test_a_write_that_fails_read_only_is_told_as_it_is() -> None:
    # 25006 of a unit that the client itself runs read-only.
    talk = Talk()
    talk.client(q("INSERT INTO t VALUES (1)"))
    assert talk.server(error("25006") + z()) == error("25006") + z()
    read_only(talk)
    talk.expected.on_refused_read_only = None
    assert talk.server(error("25006") + z()) == error("25006") + z()


# ---- losing the link ----


def test_a_loss_returns_what_was_owed() -> None:
    talk = Talk()
    talk.client(q("SELECT 1") + pbe("SELECT 1") + SYNC)
    talk.server(TABLE + b"D\0")
    units = talk.expected.lost()
    assert units == talk.units
    assert not talk.expected.inflight
    assert not talk.expected.holding
    # Nothing of the old link is left: the next one starts on a message.
    talk.client(q("SELECT 1"))
    assert talk.expected.whole_answer(ROWS + z())


@pytest.mark.usefixtures("small")
def test_a_loss_in_the_middle_of_a_message() -> None:
    talk = Talk()
    talk.client(q("SELECT 1"))
    talk.server(BIG[:50])
    assert talk.expected.mid_message
    talk.expected.lost()
    assert not talk.expected.mid_message


def test_a_callback_when_an_answer_is_whole() -> None:
    talk = Talk()
    done: list[int] = []
    talk.skip(q("SELECT 1")).on_done = done.append
    talk.server(ROWS + z("T"))
    assert done == [ord("T")]


# ---- the prologue ----


@pytest.mark.parametrize(
    ("data", "yes"),
    [
        (q("BEGIN"), True),
        (q("START TRANSACTION ISOLATION LEVEL SERIALIZABLE"), True),
        (q("SET a.b = 1"), True),
        (q("SET LOCAL a.b = 1"), True),
        (q("SELECT set_config('a.b', '1', true)"), True),
        (q("BEGIN; SET LOCAL a.b = 1"), True),
        (pbe("BEGIN") + pbe("SET LOCAL a.b = 1") + SYNC, True),
        (p("SELECT 1") + SYNC, True),
        (q("SELECT 1"), False),
        (q("COMMIT"), False),
        (q("SAVEPOINT s"), False),
        (q("COMMIT; BEGIN"), False),
        (q("BEGIN; SELECT 1"), False),
        (q(""), False),
        (pbe("BEGIN") + pbe("SELECT 1") + SYNC, False),
        (e("p") + SYNC, False),
        (call(), False),
    ],
)
def test_only_settings(data: bytes, yes: bool) -> None:
    (unit,) = units_of(data)
    assert only_settings(unit) is yes


def test_a_prologue_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = q("SET LOCAL a.b = 1")
    monkeypatch.setattr(lessons_module, "PROLOGUE_BYTES_MAX", len(q("BEGIN") + setting))
    talk = Talk()
    talk.client(q("BEGIN") + setting)
    talk.server(c("BEGIN") + z("T") + c("SET") + z("T"))
    assert talk.expected.prologue == talk.units
    talk.client(setting)
    talk.server(c("SET") + z("T"))
    assert talk.expected.prologue is None


def test_a_begin_that_is_not_kept_is_no_prologue() -> None:
    talk = Talk()
    talk.client(q("BEGIN"))
    talk.units[0].pieces = None
    talk.server(c("BEGIN") + z("T"))
    assert talk.expected.prologue is None


# ---- bound values ----


def test_the_values_of_a_bind() -> None:
    assert bound(b"", {}) is None
    assert bound(b("s", "p", b"x", b"y"), {}) == (b"x", b"y")
    assert bound(m.bind("p", "s", [b"x", None]), {}) == (b"x", None)
