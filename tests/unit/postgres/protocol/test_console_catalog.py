"""Each table is what it was said to be, and a route's name leaves what is that route's."""

import pytest

from proxy.postgres.protocol import console_ours, console_show
from proxy.postgres.protocol.console_catalog import (
    ALL,
    columns,
    is_detailed,
    is_table,
    known,
    made,
    narrowed,
)
from proxy.postgres.protocol.console_command import Command, ConsoleError, Verb, parse
from proxy.postgres.protocol.console_help import HELP
from tests.unit.postgres.protocol.console_kit import ME, facts

STATS = ("stats", "stats_totals", "stats_averages", "totals")
NAMES = (*STATS, *console_show.MADE, *console_ours.MADE)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_the_columns_it_was_said_to_have(name: str) -> None:
    assert is_table(name)
    assert made(name, facts()).columns == columns(Command(Verb.SHOW, name), ME)
    assert name.upper() in HELP.replace("|", " ").split()


def test_what_has_no_columns() -> None:
    assert columns(None, ME) is None
    assert columns(Command(Verb.SHOW, "help"), ME) is None
    assert columns(parse(b"RELOAD")[0], ME) is None
    for name, sqlstate in (("fds", "0A000"), ("nonsense", "42601")):
        with pytest.raises(ConsoleError) as caught:
            columns(Command(Verb.SHOW, name), ME)
        assert caught.value.sqlstate == sqlstate
    assert not is_table("server_version")
    (column,) = columns(Command(Verb.SHOW, "server_version"), ME) or ()
    assert column.name == "server_version"


def test_only_what_lists_connections_needs_them() -> None:
    assert {name for name in NAMES if is_detailed(name)} == {
        "clients", "servers", "sockets", "active_sockets",
    }  # fmt: skip


def test_a_route_of_either_kind() -> None:
    whole = facts()
    main, cache = narrowed(whole, "main"), narrowed(whole, "cache")
    assert [row.id for row in main.detail.sessions] == [17, 18]
    assert [row.id for row in cache.detail.links] == [7]
    assert ([r.name for r in main.report.postgres], main.report.redis) == (["main"], [])
    assert (len(main.report.incidents), cache.report.incidents) == (1, [])
    assert (list(main.stats.now), list(cache.stats.average)) == (["main"], [])
    with pytest.raises(ConsoleError) as caught:
        known(whole.report, "nope")
    assert caught.value.sqlstate == "3D000"


def test_without_a_name_the_connections_of_postgresql() -> None:
    whole = facts()
    assert [row.kind for row in narrowed(whole, "").detail.sessions] == ["postgres"] * 2
    assert narrowed(whole, "").report is whole.report
    assert narrowed(whole, ALL.upper()) is whole
