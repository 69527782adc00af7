"""The virtual session: what each confirmed statement leaves, and what each kind of end undoes.

The same scripts run against a real server in tests/integration/test_restore_server.py.
"""

import gc
import sys

import pytest

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.classify import read
from proxy.postgres.protocol.fingerprint import Fingerprint
from proxy.postgres.protocol.scope import SETTINGS_BYTES_MAX
from proxy.postgres.protocol.session_state import Need, SessionState

IDLE, OPEN, FAILED = b"ITE"


class Session:
    """A session as its owner drives it. A text of several statements is one Query."""

    def __init__(self) -> None:
        self.state = SessionState()
        self.status = IDLE

    def run(self, text: str, *params: bytes | None, fail_at: int = -1) -> "Session":
        script = read(text.encode())
        for at, statement in enumerate(script.statements):
            if at == fail_at:
                self.state.errored()
                self.status = FAILED if self.status == OPEN else IDLE
                break
            tag = statement.verb.encode()
            if self.status == FAILED and tag in (b"COMMIT", b"END"):
                tag = b"ROLLBACK"
            self.state.ran(statement, tag, params or None)
            self._follow(statement.verb, text)
        self.state.ready(self.status)
        return self

    def _follow(self, verb: str, text: str) -> None:
        ends = "CHAIN" not in text and "TO" not in text
        if verb in ("BEGIN", "START"):
            self.status = OPEN
        elif verb in ("COMMIT", "END", "ABORT", "ROLLBACK"):
            self.status = IDLE if ends else OPEN

    @property
    def values(self) -> dict[bytes, bytes | None]:
        return {name: setting.value for name, setting in self.state.settings.items()}


def session(*texts: str) -> Session:
    made = Session()
    for text in texts:
        made.run(text)
    return made


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["SET a.b = 1"], {b"a.b": b"1"}),
        (["SET a.b = 1", "SET a.b = 2"], {b"a.b": b"2"}),
        (["SET a.b = 1", "RESET a.b"], {}),
        (["SET a.b = 1", "SET a.b TO DEFAULT"], {}),
        (["SET a.b = 1", "SET ROLE x", "RESET ALL"], {b"role": b"x"}),
        (["SET a.b = 1", "SET ROLE x", "DISCARD ALL"], {}),
        (["SET ROLE x", "SET SESSION AUTHORIZATION y"], {b"session_authorization": b"y"}),
        (["SET SESSION AUTHORIZATION y", "SET ROLE x", "RESET SESSION AUTHORIZATION"], {}),
        (["SET LOCAL a.b = 1"], {}),
        (["BEGIN", "SET a.b = 1", "COMMIT"], {b"a.b": b"1"}),
        (["BEGIN", "SET a.b = 1", "ROLLBACK"], {}),
        (["SET a.b = 0", "BEGIN", "SET a.b = 1", "ROLLBACK"], {b"a.b": b"0"}),
        (["BEGIN", "SET a.b = 1", "SET LOCAL a.b = 2", "COMMIT"], {b"a.b": b"1"}),
        (["BEGIN", "SET a.b = 1", "ABORT"], {}),
        (["BEGIN", "SAVEPOINT s", "SET a.b = 1", "ROLLBACK TO s", "COMMIT"], {}),
        (["BEGIN", "SAVEPOINT s", "SET a.b = 1", "RELEASE s", "COMMIT"], {b"a.b": b"1"}),
        (["BEGIN", "SET a.b = 1", "COMMIT AND CHAIN", "SET a.b = 2", "ROLLBACK"], {b"a.b": b"1"}),
        (["BEGIN", "SET a.b = 1", "ROLLBACK AND CHAIN", "SET a.c = 2", "COMMIT"], {b"a.c": b"2"}),
        (["BEGIN", "SET a.b = 1", "PREPARE TRANSACTION 'x'"], {b"a.b": b"1"}),
        (["SET a.b = 1; BEGIN; SET a.c = 2", "ROLLBACK"], {}),
        (["SET a.b = 1; COMMIT; SET a.c = 2"], {b"a.b": b"1", b"a.c": b"2"}),
        (["SELECT set_config('a.b', '1', false)"], {b"a.b": b"1"}),
        (["SELECT set_config('a.b', '1', true)"], {}),
        (["SELECT set_config('a.b', NULL, false)"], {}),
        (["SET transaction_isolation = 'serializable'"], {}),
        (["PREPARE p AS SELECT set_config('a.b', '1', false)", "EXECUTE p"], {b"a.b": b"1"}),
        (["SHOW a.b", "SELECT 1", ""], {}),
    ],
)
def test_settings(texts: list[str], values: dict[bytes, bytes]) -> None:
    made = session(*texts)
    assert made.values == values
    assert made.state.in_transaction is (made.status != IDLE)


def test_an_error_undoes_the_implicit_transaction() -> None:
    made = session("SET a.b = 0")
    made.run("SET a.b = 1; SET a.c = 2; SELECT 1/0", fail_at=2)
    assert made.values == {b"a.b": b"0"}
    made.run("SET a.b = 1; COMMIT; SET a.c = 2; SELECT 1/0", fail_at=3)
    assert made.values == {b"a.b": b"1"}


def test_an_error_in_a_block_waits_for_its_end() -> None:
    made = session("BEGIN", "SET a.b = 1", "SAVEPOINT s", "SET a.b = 2")
    made.run("SELECT 1/0", fail_at=0)
    made.run("ROLLBACK TO s")
    assert made.values == {b"a.b": b"1"}
    made.run("SELECT 1/0", fail_at=0)
    made.run("COMMIT")
    assert made.values == {}


def test_a_commit_that_fails_rolls_back() -> None:
    made = session("BEGIN", "SET a.b = 1")
    made.state.errored()
    made.state.ready(IDLE)
    assert made.values == {}
    assert not made.state.in_transaction


def test_a_block_that_ends_out_of_sight_calls_for_a_look() -> None:
    made = session("BEGIN", "SET a.b = 1")
    made.state.ready(IDLE)
    assert made.state.need is Need.NOW


def test_a_block_that_begins_out_of_sight_is_believed() -> None:
    state = SessionState()
    state.ran(read(b"SELECT 'x").statements[0], b"BEGIN")
    state.ready(OPEN)
    assert state.in_transaction


def test_the_link_is_lost_in_a_transaction() -> None:
    made = session(
        "SET a.b = 0", "LISTEN a", "BEGIN", "SET a.b = 1", "LISTEN b", "PREPARE p AS SELECT 1"
    )
    version = made.state.version
    made.state.lost_transaction()
    assert made.values == {b"a.b": b"0"}
    assert made.state.channels == (b"a",)
    assert list(made.state.sql_prepared) == [b"p"]
    assert not made.state.in_transaction
    assert made.state.version > version


def test_channels() -> None:
    made = session("LISTEN a", "LISTEN b", "LISTEN a")
    assert made.state.channels == (b"a", b"b")
    assert made.run("UNLISTEN a").state.channels == (b"b",)
    assert made.run("UNLISTEN *").state.channels == ()
    assert session("BEGIN", "LISTEN a", "ROLLBACK").state.channels == ()


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["SELECT 1"], None),
        (["CREATE TEMP TABLE t (a int)"], "temporary tables"),
        (["CREATE TEMP TABLE t (a int)", "DISCARD TEMP"], None),
        (["BEGIN", "CREATE TEMP TABLE t (a int)", "ROLLBACK"], None),
        (["SELECT pg_advisory_lock(1)"], "advisory locks"),
        (["BEGIN", "SELECT pg_advisory_lock(1)", "ROLLBACK"], "advisory locks"),
        (["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"], "advisory locks"),
        (["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()"], None),
        (["DECLARE c CURSOR WITH HOLD FOR SELECT 1"], "WITH HOLD cursor"),
        (["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"], None),
        (["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "BEGIN", "CLOSE ALL", "ROLLBACK"], None),
        (["SELECT dblink_connect('a', 'b')"], "dblink connections"),
        (["SELECT dblink_connect('a', 'b')", "DISCARD ALL"], "dblink connections"),
        (["DO 'x'"], "a setting that code changed out of sight"),
        (["SELECT set_config(a, b, false) FROM t"], "a setting that code changed out of sight"),
        (["SELECT set_config('a.b', b, false) FROM t"], "a setting that code changed out of sight"),
        (["SELECT set_config(a, b, false) FROM t", "DISCARD ALL"], None),
        (
            ["PREPARE p AS SELECT 'a\\b'", "SET standard_conforming_strings=off"],
            "prepared statements of unclear text",
        ),
        (["SET a.b = 1", "SET ROLE x", "LISTEN a", "PREPARE p AS SELECT 1", "LOAD 'x'"], None),
    ],
)
def test_what_cannot_be_rebuilt(texts: list[str], what: str | None) -> None:
    assert session(*texts).state.unrestorable == what


def test_a_look_tells_what_is_left() -> None:
    made = session("CREATE TEMP TABLE t (a int)", "DROP TABLE t", "SELECT pg_advisory_lock(1)")
    assert made.state.need is Need.SOON
    made.state.learn(Fingerprint())
    assert made.state.need is Need.NONE
    assert made.state.unrestorable is None
    made.state.learn(Fingerprint(temp_objects=2))
    assert made.state.unrestorable == "temporary tables"
    made.state.learn(Fingerprint(advisory_locks=1))
    assert made.state.unrestorable == "advisory locks"
    made.state.learn(Fingerprint(cursors=frozenset((b"c",))))
    assert made.state.unrestorable == "WITH HOLD cursor"
    made.state.learn(Fingerprint(prepared={b"p": b"DO 'hidden'"}))
    assert made.state.unrestorable == "prepared statements of unclear text"


def test_a_look_reveals_hidden_settings() -> None:
    made = session("SET app.x = 'a'", "DO 'x'")
    assert made.state.custom_names == (b"app.x",)
    made.state.learn(Fingerprint(settings={b"jit": b"off"}, custom={b"app.x": b"b"}))
    assert made.values == {b"app.x": b"b", b"jit": b"off"}
    assert made.state.unrestorable is None


def test_a_look_in_a_transaction_teaches_nothing() -> None:
    made = session("BEGIN", "DO 'x'")
    made.state.learn(Fingerprint(settings={b"jit": b"off"}))
    assert made.state.need is Need.NOW
    assert made.values == {}


def test_a_look_costs_no_version_when_nothing_differs() -> None:
    made = session("SET a.b = 'x'", "LISTEN c")
    found = Fingerprint(custom={b"a.b": b"x"}, channels=frozenset((b"c",)))
    version = made.state.version
    made.state.learn(found)
    assert made.state.version == version


def test_hidden_settings_are_not_forgotten_by_a_look() -> None:
    """A setting this role may not see stays known by its text."""
    made = session("SET log_statement = 'all'")
    made.state.learn(Fingerprint())
    assert made.values == {b"log_statement": b"all"}


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("SELECT 1", Need.NONE),
        ("SELECT f(1)", Need.SOON),
        ("INSERT INTO t VALUES (f(1))", Need.SOON),
        ("CALL p()", Need.NOW),
        ("DO 'x'", Need.NOW),
        ("EXECUTE unknown", Need.NOW),
        ("SET a.b = 1", Need.NONE),
        ("SELECT set_config('a', b, false) FROM t", Need.NOW),
    ],
)
def test_when_a_look_is_needed(text: str, need: Need) -> None:
    assert session(text).state.need is need


def test_objects_made_in_a_temporary_search_path_call_for_a_look() -> None:
    assert session("CREATE TABLE t (a int)").state.need is Need.NONE
    made = session("SET search_path = pg_temp", "CREATE TABLE t (a int)")
    assert made.state.need is Need.SOON


def test_parameters_of_set_config() -> None:
    made = Session()
    made.run("SELECT set_config($1, $2, $3)", b"App.X", b"v", b"f")
    made.run("SELECT set_config($1, $2, $3)", b"app.y", b"v", b"t")
    made.run("SELECT set_config('app.z', $1, false)", b"w")
    assert made.values == {b"app.x": b"v", b"app.z": b"w"}
    made.run("SELECT set_config('app.x', $1, false)", None)
    assert b"app.x" not in made.values
    made.run("SELECT set_config('app.x', $1, false)")
    assert made.values[b"app.x"] is None
    assert made.state.unrestorable == "a setting that code changed out of sight"


@pytest.mark.parametrize(
    ("tag", "need", "restorable"),
    [
        (b"SET", Need.NOW, False),
        (b"CREATE TABLE", Need.NOW, False),
        (b"DECLARE CURSOR", Need.NOW, False),
        (b"ROLLBACK", Need.NOW, False),
        (b"SELECT 1", Need.NOW, False),
        (b"DISCARD ALL", Need.NONE, True),
    ],
)
def test_tags_of_texts_that_were_not_read(tag: bytes, need: Need, restorable: bool) -> None:
    state = SessionState()
    state.ran(read(b"SELECT 'x").statements[0], tag)
    state.ready(IDLE)
    assert state.need is need
    assert (state.unrestorable is None) is restorable
    state.learn(Fingerprint())
    assert (state.unrestorable is None) is (tag != b"SET")


def test_reported_values_become_canonical_once_idle() -> None:
    made = session("SET datestyle = 'german'")
    made.state.reported(b"DateStyle", b"German, DMY")
    made.state.reported(b"TimeZone", b"UTC")
    made.state.ready(IDLE)
    assert made.values == {b"datestyle": b"German, DMY"}
    assert made.state.expected().settings == {b"datestyle": b"German, DMY"}
    made.run("BEGIN")
    made.state.reported(b"DateStyle", b"ISO, DMY")  # SET LOCAL
    made.state.ready(OPEN)
    assert made.values == {b"datestyle": b"German, DMY"}
    made.state.reported(b"DateStyle", b"German, DMY")
    made.run("COMMIT")
    assert made.values == {b"datestyle": b"German, DMY"}


def test_a_host_that_turns_read_only_is_no_setting_of_the_session() -> None:
    """A reload reports it behind a function's answer, too; the look that is due tells whose."""
    made = session("SELECT f(1)")
    assert made.state.need is not Need.NONE
    made.state.reported(b"default_transaction_read_only", b"on")
    made.state.reported(b"TimeZone", b"UTC")
    made.state.ready(IDLE)
    assert made.values == {b"timezone": b"UTC"}
    made.state.learn(Fingerprint(settings={b"default_transaction_read_only": b"on"}))
    assert made.values == {b"default_transaction_read_only": b"on"}


def test_protocol_statements() -> None:
    state = SessionState()
    state.parsed(b"", messages.parse(b"", b"SELECT 1"))
    assert state.untouched
    state.simple_query_ran()
    assert state.statements == {}
    state.parsed(b"a", messages.parse(b"a", b"SELECT 1"))
    assert not state.untouched
    state.closed(b"a")
    assert state.statements == {}


def test_too_many_statements_are_said() -> None:
    state = SessionState(max_statements_bytes=50)
    state.parsed(b"a", b"x" * 60)
    assert state.unrestorable == "too many prepared statements"
    state.closed(b"a")
    assert state.unrestorable is None


def test_too_many_settings_are_said() -> None:
    state = SessionState()
    big = "x" * (SETTINGS_BYTES_MAX // 4)
    for at in range(3):
        state.ran(read(f"SET a.b{at} = '{big}'".encode()).statements[0], b"SET")
    assert state.unrestorable == "too many settings"
    state.ran(read(b"RESET ALL").statements[0], b"RESET")
    assert state.unrestorable is None


@pytest.mark.parametrize(
    ("texts", "untouched", "opaque", "retire"),
    [
        ([], True, False, False),
        (["SELECT 1", "BEGIN", "SHOW x", "COMMIT"], True, False, False),
        (["SET LOCAL a.b = 1"], True, False, False),
        (["SELECT f(1)"], False, True, False),
        (["INSERT INTO t VALUES (1)"], False, True, False),
        (["SET a.b = 1"], False, False, False),
        (["SET a.b = 1", "DISCARD ALL"], True, False, False),
        (["DO 'x'", "DISCARD ALL"], True, False, False),
        (["SELECT nextval('s')"], False, True, False),
        (["LOAD 'x'"], False, True, True),
        (["LOAD 'x'", "DISCARD ALL"], False, False, True),
        (["SELECT dblink_connect('a', 'b')"], False, True, True),
    ],
)
def test_what_a_link_is_after_the_session(
    texts: list[str], untouched: bool, opaque: bool, retire: bool
) -> None:
    state = session(*texts).state
    assert (state.untouched, state.opaque, state.retire) == (untouched, opaque, retire)


def test_sequences_are_remembered() -> None:
    made = session("SELECT nextval('s')")
    assert made.state.sequences
    assert not made.run("DISCARD SEQUENCES").state.sequences


def test_settings_made_under_a_role_know_it() -> None:
    made = session("SET a.b = 1", "SET ROLE x", "SET a.c = 2")
    assert {n: s.in_role for n, s in made.state.settings.items()} == {
        b"a.b": False,
        b"role": False,
        b"a.c": True,
    }


def test_expected() -> None:
    made = session(
        "SET a.b = 'x'",
        "SET SESSION AUTHORIZATION y",
        "SET ROLE z",
        "LISTEN c",
        "PREPARE p AS SELECT 1",
        "SET TIME ZONE INTERVAL '1' HOUR",
    )
    expected = made.state.expected()
    assert expected.settings == {}
    assert expected.names == {b"a.b", b"session_authorization", b"role", b"timezone"}
    assert expected.custom == {b"a.b": b"x"}
    assert expected.channels == {b"c"}
    assert expected.prepared == {b"p": b"PREPARE p AS SELECT 1"}
    assert (expected.role, expected.session_user) == (b"z", b"y")


def test_a_commit_that_was_not_read_commits() -> None:
    made = session("BEGIN", "SET a.b = 1")
    made.state.ran(read(b"SELECT 'x").statements[0], b"COMMIT")
    made.state.lost_transaction()
    assert made.values == {b"a.b": b"1"}


def test_what_was_not_there_need_not_be_looked_for() -> None:
    made = session("SELECT pg_advisory_unlock(1)", "DROP TABLE t", "LOAD 'x'", "LOAD 'x'")
    assert made.state.need is Need.NONE
    assert made.state.libraries == (b"LOAD 'x'",)


def test_each_change_counts_as_a_version() -> None:
    made = Session()
    assert made.state.version == 0
    made.run("SELECT 1")
    made.run("BEGIN")
    made.run("COMMIT")
    assert made.state.version == 0
    seen = {0}
    for text in ("SET a.b = 1", "LISTEN a", "PREPARE p AS SELECT 1", "DEALLOCATE p", "RESET a.b"):
        made.run(text)
        assert made.state.version not in seen
        seen.add(made.state.version)


def test_values_do_not_show() -> None:
    assert "secret" not in repr(session("SET a.b = 'secret'").state)


def test_an_idle_session_is_small() -> None:
    state = SessionState()
    seen: set[int] = set()
    size, todo = 0, [state]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        size += sys.getsizeof(thing)
        todo += gc.get_referents(thing)
    assert size < 2048
