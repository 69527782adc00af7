"""What a text is depends on standard_conforming_strings where the server reads it."""

from collections.abc import Iterator

import pytest

from proxy.demo.servers import PostgresServer
from tests import wire
from tests.integration.postgres.kit import Make, backends, eventually

pytestmark = pytest.mark.servers

# One harmless SELECT by the standard; with backslashes as escapes the first string ends later, and
# an INSERT stands behind it.
TEXT = r"select pg_sleep(0.5), 'a\', '; insert into hidden values (1); --'"


@pytest.fixture
def hidden(postgres: PostgresServer) -> Iterator[PostgresServer]:
    postgres.sql("create table hidden (n int)")
    yield postgres
    postgres.sql("alter role postgres reset standard_conforming_strings")
    postgres.sql("drop table hidden")


@pytest.mark.parametrize("how", ["startup", "set", "reported"])
def test_a_write_behind_a_backslash_is_not_sent_again(
    how: str, proxied: Make, hidden: PostgresServer
) -> None:
    parameters = {"standard_conforming_strings": "off"} if how == "startup" else {}
    proxy = proxied(hidden)
    with proxy.wire(**parameters) as session:
        if how == "set":
            session.query("set standard_conforming_strings = off")
        elif how == "reported":  # by another link, in whose role it was changed since
            hidden.sql("alter role postgres set standard_conforming_strings = off")
            proxy.cut()
            proxy.until("link_lost")
            assert session.value("show standard_conforming_strings") == b"off"
        session.send(wire.query(TEXT))
        eventually(lambda: backends(hidden, "query ~ 'hidden' and state = 'active'"))
        proxy.cut()
        assert wire.sqlstate(session.until_ready()) == "08007"
        assert not proxy.named("replayed")
        assert not proxy.named("read_only_refused")
