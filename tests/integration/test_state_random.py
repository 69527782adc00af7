"""Random sessions: whatever runs in whatever order, the tracked state is the server's."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.demo.servers import PostgresServer
from proxy.postgres.protocol.session_state import Need, SessionState
from tests.integration import state_kit
from tests.integration.state_kit import Tracked, look, objects, restore
from tests.wire import PgWire

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(240)]

Address = tuple[str, int]


@pytest.fixture(scope="module")
def place(postgres: PostgresServer) -> Iterator[Address]:
    address = ("127.0.0.1", postgres.port)
    with objects(address):
        yield address


_CONTROL = (
    "BEGIN",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT a",
    "SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO b",
    "RELEASE a",
    "RELEASE b",
    "SELECT 1/0",
    "SELECT 1",
)
_STATE = (
    "SET app.x = '1'",
    "SET app.x = '2'",
    "SET LOCAL app.x = '3'",
    "RESET app.x",
    "SET work_mem = '1MB'",
    "SET work_mem = 2048",
    "SET LOCAL work_mem = '3MB'",
    "RESET work_mem",
    "RESET ALL",
    "SET datestyle = 'SQL'",
    "SET datestyle = 'German'",
    "SET datestyle = 'DMY'",
    "SET LOCAL datestyle = 'Postgres'",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET TIME ZONE LOCAL",
    'SET search_path TO restore_s, "Odd Name"',
    "SELECT set_config('search_path', 'pg_catalog', false)",
    "SELECT set_config('app.y', '1', false), set_config('app.x', '9', true)",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET default_transaction_read_only = off",
    "SET ROLE restore_boss",
    'SET ROLE "Restore Reader"',
    "SET LOCAL ROLE restore_boss",
    "RESET ROLE",
    "LISTEN a",
    'LISTEN "B"',
    "UNLISTEN a",
    "UNLISTEN *",
    "PREPARE p AS SELECT 1",
    "PREPARE q AS SELECT set_config('app.z', 'q', false)",
    "EXECUTE q",
    "DEALLOCATE p",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_unlock_all()",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "CLOSE c",
    "CREATE TEMP TABLE x (a int)",
    "CREATE TEMP TABLE y (a int) ON COMMIT DROP",
    "DISCARD TEMP",
)
statement = st.one_of(st.sampled_from(_CONTROL), st.sampled_from(_STATE))
script = st.lists(statement, min_size=1, max_size=3).map("; ".join)


def values(link: PgWire) -> dict[bytes | None, bytes | None]:
    return {name and name.lower(): value for name, value, _ in state_kit.settings(link)}


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(scripts=st.lists(script, min_size=1, max_size=12), commits=st.booleans())
@example(
    scripts=["SET work_mem='1MB'; BEGIN", "SET app.x='1'; SELECT 1/0", "ROLLBACK"], commits=True
)
@example(scripts=["BEGIN", "SAVEPOINT a; SET app.x='1'; SELECT 1/0", "ROLLBACK TO a"], commits=True)
def test_the_tracked_state_is_the_servers(
    place: Address, scripts: list[str], commits: bool
) -> None:
    with PgWire.session(place, "app_trust") as link, PgWire.session(place, "app_trust") as new:
        tracked = Tracked(link, SessionState())
        for text in scripts:
            tracked.run(text)
        tracked.run("COMMIT" if commits else "ROLLBACK")
        state = tracked.state
        assert not state.in_transaction
        truth = look(link, state)
        assert (state.unrestorable == "temporary tables") == bool(truth.temp_objects)
        assert state.locks == bool(truth.advisory_locks)
        assert state.committed.cursors == truth.cursors
        assert set(state.channels) == truth.channels
        assert state.sql_prepared.keys() == truth.prepared.keys()
        assert truth.role == (role.value if (role := state.settings.get(b"role")) else b"none")
        assert state.need is not Need.NOW
        shown = {name for name in state.settings if b"." not in name and name != b"role"}
        fresh = values(new)
        assert shown <= truth.settings.keys()
        # RESET, then SET LOCAL, then commit: the server calls the default a value of the session.
        assert all(fresh[name] == truth.settings[name] for name in truth.settings.keys() - shown)
        restore(new, state)
        assert values(new) == values(link)
        assert look(new, state).custom == truth.custom
