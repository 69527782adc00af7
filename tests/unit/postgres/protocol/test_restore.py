"""Restoration and cleaning as messages. Real servers: tests/integration/test_restore_server.py."""

import pytest

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.classify import read
from proxy.postgres.protocol.restore import cleaning, restoration
from proxy.postgres.protocol.session_state import SessionState

IDLE, OPEN, FAILED = b"ITE"


def state_after(*texts: str) -> SessionState:
    state = SessionState()
    open_block = False
    for text in texts:
        (statement,) = read(text.encode()).statements
        state.ran(statement, statement.verb.encode())
        open_block = statement.verb == "BEGIN" or (open_block and statement.verb != "COMMIT")
        state.ready(OPEN if open_block else IDLE)
    return state


def split(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and body of each message."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big") + 1
        assert size <= len(data)
        found.append((data[:1], data[5:size]))
        data = data[size:]
    return found


def readies(data: bytes) -> int:
    return sum(kind in (b"Q", b"S") for kind, _ in split(data))


def order(*texts: str) -> list[bytes]:
    """What is restored, in order: names of values, and texts."""
    what = restoration(state_after(*texts))
    assert what.readies == readies(what.messages)
    found = []
    for kind, body in split(what.messages):
        if kind == b"B":
            name = messages.bind_params(body)[0]
            assert name is not None
            found.append(name)
        elif kind == b"Q":
            found.append(body[:-1])
    return found


def test_nothing_to_restore() -> None:
    what = restoration(SessionState())
    assert (what.messages, what.readies, what.listens) == (b"", 0, False)


def test_one_unit_for_all_values() -> None:
    what = restoration(state_after("SET a.b = 'x'", "SET work_mem = '1MB'"))
    kinds = b"".join(kind for kind, _ in split(what.messages))
    assert kinds == b"PBEBECS"
    assert what.readies == 1
    binds = [body for kind, body in split(what.messages) if kind == b"B"]
    assert [messages.bind_params(b) for b in binds] == [[b"a.b", b"x"], [b"work_mem", b"1MB"]]


def test_values_are_bound_never_written_into_text() -> None:
    what = restoration(state_after("SET a.b = '''; DROP TABLE t; --'"))
    texts = [body for kind, body in split(what.messages) if kind in (b"P", b"Q")]
    assert all(b"DROP" not in text for text in texts)


def test_order() -> None:
    assert order(
        "LISTEN a",
        "PREPARE p AS SELECT 1",
        "SET statement_timeout = 1",
        "SET ROLE x",
        "SET a.later = 1",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION y",
        "SET ROLE z",
        "SET a.last = 1",
        "LOAD 'lib'",
        "SET NAMES 'LATIN1'",
    ) == [
        b"LOAD 'lib'",
        b"client_encoding",
        b"session_authorization",
        b"role",
        b"a.later",
        b"a.last",
        b"statement_timeout",
        b"PREPARE p AS SELECT 1",
        b'LISTEN "a"',
    ]


def test_settings_of_the_login_role_come_before_the_role() -> None:
    assert order("SET a.b = 1", "SET ROLE x", "SET a.c = 2") == [b"a.b", b"role", b"a.c"]


def test_what_has_no_value_is_said_in_the_clients_words() -> None:
    zone = "SET TIME ZONE INTERVAL '1' HOUR"
    assert order("SET a.b = 1", zone, "SET a.c = 2") == [b"a.b", zone.encode(), b"a.c"]


def test_what_nobody_knows_is_left_out() -> None:
    """Such a state is unrestorable; the caller says so."""
    state = state_after("SELECT set_config('a.b', c, false) FROM t")
    assert state.unrestorable
    assert restoration(state).messages == b""


def test_channels_in_one_query() -> None:
    what = restoration(state_after("LISTEN a", 'LISTEN "B""c"'))
    assert split(what.messages) == [(b"Q", b'LISTEN "a"; LISTEN "B""c"\0')]
    assert what.listens


def test_values_do_not_show() -> None:
    assert "secret" not in repr(restoration(state_after("SET a.b = 'secret'")))


def texts(state: SessionState, status: int = IDLE) -> list[bytes]:
    what = cleaning(state, status)
    if what is None:
        return []
    found = split(what.messages)
    assert what.readies == len(found)
    assert {kind for kind, _ in found} == {b"Q"}
    return [body[:-1] for _, body in found]


@pytest.mark.parametrize(
    ("ran", "cleaned"),
    [
        ([], []),
        (["SELECT 1"], []),
        (["SET a.b = 1", "RESET a.b"], []),
        (["SET a.b = 1"], [b"RESET ALL"]),
        (["SET ROLE x"], [b"SET SESSION AUTHORIZATION DEFAULT; RESET ROLE"]),
        (["PREPARE p AS SELECT 1"], [b"DEALLOCATE ALL"]),
        (["LISTEN a"], [b"UNLISTEN *"]),
        (["LISTEN a", "SET a.b = 1", "UNLISTEN a"], [b"RESET ALL"]),
        (["SET a.b = 1", "LISTEN a"], [b"RESET ALL; UNLISTEN *"]),
        (["BEGIN"], [b"ROLLBACK"]),
        (["BEGIN", "SET a.b = 1"], [b"ROLLBACK"]),
        (["SET a.b = 1", "BEGIN"], [b"ROLLBACK", b"RESET ALL"]),
        (["SET a.b = 1", "DISCARD ALL"], []),
    ],
)
def test_cleaning_takes_away_what_is_there(ran: list[str], cleaned: list[bytes]) -> None:
    assert texts(state_after(*ran)) == cleaned


def test_the_links_own_status_counts() -> None:
    assert texts(SessionState(), FAILED) == [b"ROLLBACK"]


def test_statements_of_the_protocol_are_deallocated() -> None:
    state = SessionState()
    state.parsed(b"", b"x")
    assert cleaning(state) is None
    state.parsed(b"a", b"x")
    assert texts(state) == [b"DEALLOCATE ALL"]


@pytest.mark.parametrize(
    "ran",
    [
        ["SELECT f(1)"],
        ["INSERT INTO t VALUES (1)"],
        ["DO 'x'"],
        ["SELECT set_config(a, b, false) FROM t"],
        ["CREATE TEMP TABLE t (a int)"],
        ["SELECT pg_advisory_lock(1)"],
        ["DECLARE c CURSOR WITH HOLD FOR SELECT 1"],
        ["SELECT nextval('s')"],
    ],
)
def test_cleaning_takes_away_everything_after_code_out_of_sight(ran: list[str]) -> None:
    (text,) = texts(state_after(*ran))
    assert text.count(b";") == 8
    for part in (b"RESET ALL", b"UNLISTEN *", b"DISCARD TEMP", b"pg_advisory_unlock_all()"):
        assert part in text


def test_a_plain_write_counts_as_code_out_of_sight() -> None:
    state = SessionState()
    state.wrote = True
    assert len(texts(state)) == 1
