"""Which tables the console has, what they look like, and what of them a name chooses.

The tables themselves stand in `console_show` (PgBouncer's), `console_stats` and `console_ours`.
"""

from dataclasses import replace

from proxy.core.operator import Detail
from proxy.core.report import Report
from proxy.postgres.protocol import console_answers as answers
from proxy.postgres.protocol import console_ours as ours
from proxy.postgres.protocol import console_show as pgbouncer
from proxy.postgres.protocol import console_stats as stats
from proxy.postgres.protocol.console_answers import Myself
from proxy.postgres.protocol.console_command import Command, ConsoleError, Verb
from proxy.postgres.protocol.console_show import Facts
from proxy.postgres.protocol.console_table import Columns, Table

ALL = "all"
_DETAILED = frozenset(("clients", "servers", "sockets", "active_sockets"))
_STATS: dict[str, Columns] = {
    "stats": stats.STATS,
    "stats_totals": stats.STATS_TOTALS,
    "stats_averages": stats.STATS_AVERAGES,
    "totals": stats.TOTALS,
}


def columns(command: Command | None, me: Myself) -> Columns | None:
    """What a command will answer with; None: no rows. Raises ConsoleError as running it."""
    if command is None:
        return None
    if command.verb is Verb.SELECT:
        return answers.select(command.name, me).columns
    if command.verb is not Verb.SHOW or command.name == "help":
        return None
    name = command.name
    if name in _STATS:
        return _STATS[name]
    if name in pgbouncer.MADE:
        return pgbouncer.MADE[name][0]
    if name in ours.MADE:
        return ours.MADE[name][0]
    if name == "fds":
        raise ConsoleError(
            "0A000",
            "SHOW FDS is not supported",
            "For a restart, start the new process beside the old one with `backstay run --replace`:"
            " it takes the ports over. SHOW CLIENTS and SHOW SERVERS list the connections.",
        )
    setting = answers.show(name, me)
    if setting is None:
        raise ConsoleError(
            "42601", f"SHOW {name.upper()[:40]} is unknown", "SHOW HELP lists the commands."
        )
    return setting.columns


def is_table(name: str) -> bool:
    """Whether SHOW `name` is a table, and not a session's setting."""
    return name in _STATS or name in pgbouncer.MADE or name in ours.MADE


def is_detailed(name: str) -> bool:
    """Whether it has a row for each connection."""
    return name in _DETAILED


def made(name: str, facts: Facts) -> Table:
    """The table of SHOW `name`."""
    if name in _STATS:
        return stats.table(name, facts.stats)
    if name in pgbouncer.MADE:
        return pgbouncer.table(name, facts)
    return ours.table(name, facts)


def known(report: Report, route: str) -> None:
    """Raises ConsoleError if there is no such route."""
    names = [one.name for one in report.postgres] + [one.name for one in report.redis]
    if route not in names:
        raise ConsoleError("3D000", "there is no such route", f"Routes: {', '.join(names)}.")


def narrowed(facts: Facts, target: str) -> Facts:
    """What concerns one route. Without a name: all, but of clients and links PostgreSQL's only, as
    those who count these expect."""
    detail = facts.detail
    if target.lower() == ALL:
        return facts
    if not target:
        return replace(
            facts,
            detail=Detail(
                [row for row in detail.sessions if row.kind == "postgres"],
                [row for row in detail.links if row.kind == "postgres"],
            ),
        )
    report = facts.report
    known(report, target)
    return replace(
        facts,
        report=replace(
            report,
            postgres=[route for route in report.postgres if route.name == target],
            redis=[route for route in report.redis if route.name == target],
            incidents=[one for one in report.incidents if one.route == target],
        ),
        detail=Detail(
            [row for row in detail.sessions if row.route == target],
            [row for row in detail.links if row.route == target],
        ),
        stats=stats.Stats(
            {k: v for k, v in facts.stats.now.items() if k == target},
            {k: v for k, v in facts.stats.average.items() if k == target},
        ),
    )
