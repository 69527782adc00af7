"""Session state against a real server: track it, rebuild it elsewhere, compare; clean it, compare.

The comparison is the server's own: the fingerprint, and all of pg_settings.
"""

from collections.abc import Iterator

import pytest

from proxy.demo.servers import PostgresServer
from proxy.postgres.protocol import fingerprint
from proxy.postgres.protocol.fingerprint import Fingerprint, Identity
from proxy.postgres.protocol.session_state import Need, SessionState
from tests import wire
from tests.integration.state_kit import Step, Tracked, clean, look, objects, restore, settings
from tests.wire import PgWire

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def address(postgres: PostgresServer) -> Iterator[tuple[str, int]]:
    """The shared server with the kit's roles and functions in it."""
    place = ("127.0.0.1", postgres.port)
    with objects(place):
        yield place


RESTORABLE: dict[str, list[Step]] = {
    "nothing": ["SELECT 1"],
    "search_path": ["SET search_path TO public, pg_catalog"],
    "search_path quoted": ['SET search_path = "$user", "Odd, ""Name""", public'],
    "search_path literal": ["SET search_path TO 'a, b', c"],
    "search_path empty": ["SET search_path TO ''"],
    "search_path by set_config": ["SELECT pg_catalog.set_config('search_path', '', false)"],
    "SET SCHEMA": ["SET SCHEMA 'restore_s'"],
    "SET SESSION": ["SET SESSION work_mem TO '9MB'"],
    "units": ["SET work_mem = '9MB'", "SET statement_timeout = '90s'", "SET lock_timeout=1000"],
    "numbers": ["SET random_page_cost = 1.5", "SET seq_page_cost TO 2e0", "SET geqo_seed = +.5"],
    "negative number": ["SET log_min_duration_statement = -1"],
    "booleans": ["SET jit = off", "SET enable_seqscan TO false", "SET geqo = 'no'"],
    "enum": ["SET bytea_output = escape", "SET client_min_messages TO warning"],
    "custom": ["SET app.tenant = '42'"],
    "custom, quotes": ["SET app.tenant = 'it''s $1 \"x\" \\'", "SET app.empty = ''"],
    "custom, words": ["SET App.Tenant TO Some_Word", 'SET app."Q" TO "Quoted Word"'],
    "custom, E string": [r"SET app.tenant = E'a\\b\'c\n'"],
    "custom, dollars": ["SET app.tenant = 'x'", "SELECT set_config('app.b', $$it's$$, false)"],
    "custom by parameters": [("SELECT set_config($1, $2, false)", ("app.tenant", "secret"))],
    "custom by cast": [("SELECT set_config('app.x', $1::text, $2)", ("v", "f"))],
    "several set_config": [
        "SELECT set_config('app.a', '1', false), set_config('app.b', '2', false)"
    ],
    "set_config null": [
        "SET work_mem = '9MB'",
        ("SELECT set_config('work_mem', $1, false)", (None,)),
    ],
    "set_config local": ["SELECT set_config('work_mem', '9MB', true)"],
    "asyncpg's jit": [
        "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new"
    ],
    "datestyle in two steps": ["SET datestyle = 'German'", "SET datestyle = 'DMY'"],
    "datestyle that keeps half": ["SET datestyle = 'ISO, DMY'", "SET datestyle = 'SQL'"],
    "intervalstyle": ["SET intervalstyle = 'iso_8601'"],
    "time zone name": ["SET TIME ZONE 'Europe/Berlin'"],
    "time zone number": ["SET TIME ZONE -7", "SET TIME ZONE 3.5"],
    "time zone interval": ["SET TIME ZONE INTERVAL '+02:30' HOUR TO MINUTE"],
    "time zone and back": ["SET TIME ZONE 'Europe/Berlin'", "SET TIME ZONE LOCAL"],
    "client_encoding": ["SET NAMES 'LATIN1'"],
    "client_encoding and a name": ["SET client_encoding TO LATIN1", "SET application_name = 'caf'"],
    "application_name": ["SET application_name TO 'my app'"],
    "strings": ["SET standard_conforming_strings = off", r"SET app.x = 'a\\b\'c'"],
    "strings after a backslash": [r"SET app.x = 'a\b'", "SET standard_conforming_strings = off"],
    "characteristics": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, "
        "NOT DEFERRABLE"
    ],
    "read only default": ["SET default_transaction_read_only = on"],
    "xml option": ["SET XML OPTION DOCUMENT"],
    "old name": ["SET sort_mem = 5000"],
    "transaction only": ["SET transaction_isolation = 'serializable'", "SET LOCAL work_mem='9MB'"],
    "role": ["SET ROLE restore_boss"],
    "role quoted": ['SET ROLE "Restore Reader"'],
    "role literal": ["SET ROLE 'Restore Reader'"],
    "role none": ["SET ROLE restore_boss", "SET ROLE NONE"],
    "role reset": ["SET ROLE restore_boss", "RESET ROLE"],
    "role by set_config": ["SELECT set_config('role', 'restore_boss', false)"],
    "role and settings": ["SET work_mem='9MB'", "SET ROLE restore_boss", "SET app.x = 'y'"],
    "reset": ["SET work_mem = '9MB'", "RESET work_mem", "SET jit = off", "SET jit TO DEFAULT"],
    "reset all": ["SET work_mem='9MB'", "SET app.x='y'", "SET ROLE restore_boss", "RESET ALL"],
    "discard all": ["SET work_mem = '9MB'", "LISTEN a", "PREPARE p AS SELECT 1", "DISCARD ALL"],
    "listen": ["LISTEN a", 'LISTEN "B c"', "LISTEN Upper"],
    "unlisten": ["LISTEN a", "LISTEN b", "UNLISTEN a"],
    "unlisten all": ["LISTEN a", "LISTEN b", "UNLISTEN *"],
    "prepare": ["PREPARE p AS SELECT 1", "PREPARE q (int) AS SELECT $1 + 1"],
    "prepare among others": ["SELECT 1; PREPARE p AS SELECT 2; SELECT 3"],
    "prepare in a schema": ["SET search_path = restore_s", "PREPARE p AS SELECT a FROM t"],
    "deallocate": ["PREPARE p AS SELECT 1", "PREPARE q AS SELECT 2", "DEALLOCATE p"],
    "prepare is not rolled back": ["BEGIN", "PREPARE p AS SELECT 1", "ROLLBACK"],
    "prepare in a failed script": ["PREPARE p AS SELECT 1; SELECT 1/0"],
    "commit": ["BEGIN", "SET work_mem = '9MB'", "LISTEN a", "COMMIT"],
    "rollback": ["SET jit = off", "BEGIN", "SET jit = on", "LISTEN a", "ROLLBACK"],
    "rollback to": [
        "BEGIN",
        "SET work_mem = '1MB'",
        "SAVEPOINT a",
        "SET work_mem = '2MB'",
        "SAVEPOINT b",
        "SET work_mem = '3MB'",
        "ROLLBACK TO a",
        "SET app.x = 'y'",
        "COMMIT",
    ],
    "release": ["BEGIN", "SAVEPOINT a", "SET work_mem='2MB'", "RELEASE a", "COMMIT"],
    "same savepoint twice": [
        "BEGIN; SAVEPOINT a; SET work_mem='1MB'; SAVEPOINT a; SET work_mem='2MB'",
        "ROLLBACK TO a; RELEASE a; COMMIT",
    ],
    "set local after set": ["BEGIN", "SET work_mem='1MB'", "SET LOCAL work_mem='2MB'", "COMMIT"],
    "reported and local": ["BEGIN", "SET datestyle='SQL'", "SET LOCAL datestyle='ISO'", "COMMIT"],
    "chain": ["BEGIN", "SET work_mem='1MB'", "COMMIT AND CHAIN", "SET work_mem='2MB'", "ROLLBACK"],
    "failed transaction": ["BEGIN", "SET work_mem = '1MB'", "SELECT 1/0", "COMMIT"],
    "error after savepoint": [
        "BEGIN",
        "SET work_mem = '1MB'",
        "SAVEPOINT a",
        "SET jit = off",
        "SELECT 1/0",
        "ROLLBACK TO a",
        "COMMIT",
    ],
    "failed script": ["SET work_mem = '1MB'; SELECT 1/0"],
    "script with commit": ["SET work_mem = '1MB'; COMMIT; SET jit = off; SELECT 1/0"],
    "script with begin": ["SET work_mem = '1MB'; BEGIN; SET jit = off", "ROLLBACK"],
    "on commit drop": ["BEGIN", "CREATE TEMP TABLE x (a int) ON COMMIT DROP", "COMMIT"],
    "temp rolled back": ["BEGIN", "CREATE TEMP TABLE x (a int)", "ROLLBACK"],
    "temp dropped": ["CREATE TEMP TABLE x (a int)", "DROP TABLE x"],
    "temp discarded": ["CREATE TEMP TABLE x (a int)", "DISCARD TEMP"],
    "cursor closed": ["DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"],
    "cursor in transaction": ["BEGIN", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "COMMIT"],
    "unlocked": ["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"],
    "unlocked all": ["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()"],
    "locked for a transaction": ["SELECT pg_advisory_xact_lock(1)"],
    "hidden setting": ["SELECT restore_s.hide_work_mem()"],
    "hidden change of a known setting": ["SET app.known = 'a'", "SELECT restore_s.hide_known()"],
    "hidden reset": ["SET work_mem = '9MB'", "LEARN", "SELECT restore_s.unset_work_mem()"],
    "hidden prepare": ["SELECT restore_s.hide_prepared()"],
    "procedure": ["CALL restore_s.proc()"],
    "do block": ["DO $$ BEGIN SET LOCAL work_mem = '5MB'; SET jit = off; END $$"],
    "set_config that may not run": [
        "SELECT set_config('app.x', 'y', false) FROM restore_s.t WHERE a=2"
    ],
    "set_config that ran": ["SELECT set_config('app.x', 'y', false) FROM restore_s.t"],
    "set_config of a built-in that ran": [
        "SELECT set_config('jit', 'off', false) FROM restore_s.t"
    ],
    "execute": ["PREPARE p AS SELECT set_config('app.x', 'y', false)", "EXECUTE p"],
    "execute with arguments": [
        "PREPARE p AS SELECT set_config('app.x', $1, false)",
        "EXECUTE p ('it''s')",
    ],
    "library": ["LOAD 'auto_explain'", "SET auto_explain.log_min_duration = '5s'"],
}


@pytest.mark.parametrize("name", RESTORABLE)
def test_state_is_rebuilt(address: tuple[str, int], name: str) -> None:
    user = "postgres" if name == "library" or "log_min" in str(RESTORABLE[name]) else "app_trust"
    with PgWire.session(address, user) as first, PgWire.session(address, user) as second:
        tracked = Tracked(first, SessionState())
        for step in RESTORABLE[name]:
            if step == "LEARN":
                tracked.state.learn(tracked.look())
            else:
                tracked.run(step)
        truth = tracked.look()
        state = tracked.state
        if state.need is Need.NONE:
            restore(second, state)
            assert look(second, state).difference(state.expected()) is None
            assert settings(second) == settings(first)
        state.learn(truth)
        assert state.need is Need.NONE
        assert state.unrestorable is None
        with PgWire.session(address, user) as third:
            restore(third, state)
            rebuilt = look(third, state)
            assert rebuilt.difference(state.expected()) is None
            assert rebuilt.custom == {n: v for n, v in truth.custom.items() if v is not None}
            assert rebuilt.prepared.keys() == truth.prepared.keys()
            assert settings(third) == settings(first)


PINNED: dict[str, tuple[list[Step], str]] = {
    "temp table": (["CREATE TEMP TABLE x (a int)"], "temporary tables"),
    "temp view": (["CREATE TEMP VIEW x AS SELECT 1"], "temporary tables"),
    "temp function": (
        ["CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        "temporary tables",
    ),
    "temp type": (["CREATE TYPE pg_temp.e AS ENUM ('a')"], "temporary tables"),
    "select into temp": (["SELECT 1 AS a INTO TEMP x"], "temporary tables"),
    "temp by search_path": (
        ["SET search_path = pg_temp", "CREATE TABLE x (a int)"],
        "temporary tables",
    ),
    "lock": (["SELECT pg_advisory_lock(7)"], "advisory locks"),
    "lock twice, unlock once": (
        ["SELECT pg_advisory_lock(7), pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"],
        "advisory locks",
    ),
    "try lock": (["SELECT pg_try_advisory_lock(8)"], "advisory locks"),
    "lock is not rolled back": (
        ["BEGIN", "SELECT pg_advisory_lock(9)", "ROLLBACK"],
        "advisory locks",
    ),
    "held cursor": (["DECLARE c CURSOR WITH HOLD FOR SELECT 1"], "WITH HOLD cursor"),
    "hidden custom setting": (
        ["DO $$ BEGIN PERFORM set_config('app.hidden', 'x', false); END $$"],
        "a setting that code changed out of sight",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_what_cannot_be_rebuilt_is_known_and_cleaned(address: tuple[str, int], name: str) -> None:
    steps, reason = PINNED[name]
    with PgWire.session(address, "app_trust") as link:
        tracked = Tracked(link, SessionState())
        for step in steps:
            tracked.run(step)
        tracked.state.learn(tracked.look())
        assert tracked.state.unrestorable == reason
        clean(tracked)
        assert look(link, SessionState()) == Fingerprint(session_user=b"app_trust")


# A library cannot be taken out again: such a link is retired.
@pytest.mark.parametrize("name", [name for name in RESTORABLE if name != "library"])
def test_a_link_is_as_new_after_cleaning(address: tuple[str, int], name: str) -> None:
    user = "postgres" if "log_min" in str(RESTORABLE[name]) else "app_trust"
    with PgWire.session(address, user) as link:
        before = settings(link)
        tracked = Tracked(link, SessionState())
        for step in RESTORABLE[name]:
            if step != "LEARN":
                tracked.run(step)
        assert not tracked.state.retire
        names = tracked.state.custom_names
        clean(tracked)
        assert look(link, SessionState()) == Fingerprint(session_user=user.encode())
        assert settings(link) == before
        for custom in names:
            value = link.value(f"SELECT current_setting('{custom.decode()}', true)")
            assert value in (None, b"")


def test_session_authorization_and_what_it_resets(address: tuple[str, int]) -> None:
    with PgWire.session(address) as link, PgWire.session(address) as second:
        tracked = Tracked(link, SessionState())
        for step in (
            "SET ROLE restore_boss",
            "SET SESSION AUTHORIZATION app_trust",
            'SET ROLE "Restore Reader"',
            "SET app.x = 'y'",
        ):
            tracked.run(step)
        restore(second, tracked.state)
        rebuilt = look(second, tracked.state)
        assert rebuilt.difference(tracked.state.expected()) is None
        assert (rebuilt.session_user, rebuilt.role) == (b"app_trust", b"Restore Reader")
        assert rebuilt == tracked.look()
        clean(tracked)
        assert look(link, SessionState()) == Fingerprint(session_user=b"postgres")


def test_cleaning_ends_an_open_transaction(address: tuple[str, int]) -> None:
    for steps in (["BEGIN", "SET work_mem = '9MB'"], ["BEGIN", "SELECT 1/0"]):
        with PgWire.session(address, "app_trust") as link:
            tracked = Tracked(link, SessionState())
            before = settings(link)
            for step in steps:
                tracked.run(step)
            clean(tracked)
            assert look(link, SessionState()) == Fingerprint(session_user=b"app_trust")
            assert settings(link) == before


def test_the_fingerprint_leaves_the_clients_statements_alone(address: tuple[str, int]) -> None:
    with PgWire.session(address, "app_trust") as link:
        link.send(wire.parse("SELECT 41 + $1::int") + wire.SYNC)
        link.until_ready()
        for _ in range(2):
            assert look(link, SessionState()) == Fingerprint(session_user=b"app_trust")
        link.send(wire.values("1") + wire.execute() + wire.SYNC)
        assert wire.rows(link.until_ready()) == [(b"42",)]
        assert link.value("SELECT count(*) FROM pg_prepared_statements") == b"0"


def test_the_fingerprint_trusts_no_search_path(address: tuple[str, int]) -> None:
    """Operators and functions of the client's schemas must not be taken."""
    with PgWire.session(address) as link:
        for text in (
            "CREATE FUNCTION restore_s.trap(text, text) RETURNS bool LANGUAGE sql"
            " AS 'SELECT 1/0=1'",
            "CREATE OPERATOR restore_s.= (LEFTARG=text, RIGHTARG=text, FUNCTION=restore_s.trap)",
            "CREATE FUNCTION restore_s.count(*) RETURNS int LANGUAGE sql AS 'SELECT 1/0'",
            "SET search_path = restore_s, pg_catalog",
        ):
            link.query(text)
        state = SessionState()
        found = look(link, state)
        assert found.settings == {b"search_path": b"restore_s, pg_catalog"}


def test_identity(address: tuple[str, int]) -> None:
    with PgWire.session(address, "app_trust") as link:
        found = identity(link)
        assert found.backend_pid == link.key[0]
        assert found.server_version >= 120000
        assert found.in_recovery is False
        assert found.backend_start
        assert found.system_identifier
        assert found.system_identifier.isdigit()
        with PgWire.session(address) as other:
            assert identity(other).incarnation == found.incarnation


def test_identity_without_the_right_to_ask(address: tuple[str, int]) -> None:
    with PgWire.session(address) as admin, PgWire.session(address, "app_trust") as link:
        admin.query("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            found = identity(link)
        finally:
            admin.query("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
        assert found.system_identifier is None
        assert found.backend_pid == link.key[0]


def identity(link: PgWire) -> Identity:
    link.send(fingerprint.identity())
    answer = link.until_ready()
    assert wire.sqlstate(answer) is None
    return fingerprint.read_identity([raw[5:] for raw in answer if raw[:1] == b"D"])
