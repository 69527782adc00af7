"""`backstay diagnose`: connect as the application would, measure, say what to change."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli._options import exit_with, file_option
from proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from proxy.diagnose.targets import Target

IDLE_S_MAX = 7200.0


@click.command()
@file_option
@click.argument("urls", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
@click.option(
    "--idle-probe",
    "idle_s",
    metavar="S",
    type=click.FloatRange(min=1, max=IDLE_S_MAX),
    help="Leave links idle for growing times up to S seconds, and say after how many seconds the "
    "path kills them, and how.",
)
def command(file: Path | None, urls: tuple[str, ...], as_json: bool, idle_s: float | None) -> None:
    """Measure the way to each upstream, look at the server, and say what to change.

    Looks at the upstreams of the settings, directly and through Backstay if it runs; without
    settings at $DATABASE_URL and $REDIS_URL; with URLS at these and nothing else. A URL on the
    command line can be seen by other users of the machine; one in a variable cannot. A route
    without a password in its upstream URL is tried with the user and password of $DATABASE_URL or
    $REDIS_URL. It only reads, with a handful of connections.

    Findings are ranked: critical, warning, info. Exits with 1 if anything is critical, with 69 if
    no upstream could be reached at all.
    """
    targets = _targets(file, urls, os.environ)

    from proxy import __version__
    from proxy.diagnose import report
    from proxy.diagnose.run import diagnose

    if not as_json and sys.stderr.isatty():
        names = ", ".join(target.name for target in targets)
        probe = f", leaving links idle for up to {idle_s:g} s" if idle_s else ""
        click.echo(f"Looking at {names}{probe} …", err=True)
    diagnoses = diagnose(targets, idle_s or 0.0)
    if as_json:
        click.echo(json.dumps(report.as_json(diagnoses, __version__), indent=2))
    else:
        from rich.console import Console

        from proxy.diagnose.text import show

        show(Console(highlight=False, soft_wrap=False), diagnoses)
    sys.exit(report.exit_code(diagnoses))


def _targets(file: Path | None, urls: tuple[str, ...], env: Mapping[str, str]) -> "list[Target]":
    """What to look at. Ends the process where there is nothing, or nothing that can be read."""
    from proxy.diagnose.targets import URLS, app_urls, from_settings
    from proxy.settings.load import VARIABLES, find, load

    if urls:
        return _of_urls({f"argument {n}": url for n, url in enumerate(urls, 1)})
    file = file or find(env)
    variables = [name for kind in VARIABLES.values() for name in (kind, f"{kind}_FILE")]
    if file is not None or any(env.get(name) for name in variables):
        try:
            settings = load(file, env=env)
        except ConfigError as error:
            exit_with(error)
        app = app_urls(env)
        for variable, problem in app.problems.items():
            click.echo(f"${variable} is not used: {problem}", err=True)
        return from_settings(settings, file, app)
    given = {f"${name}": env[name] for name in URLS.values() if env.get(name)}
    if not given:
        wanted = " or ".join(f"${name}" for name in URLS.values())
        raise click.UsageError(f"Nothing to look at: no settings, no {wanted}, no URL given.")
    return _of_urls(given)


def _of_urls(urls: dict[str, str]) -> "list[Target]":
    from proxy.diagnose.targets import from_urls
    from proxy.settings.urls import UrlError

    targets = []
    for source, url in urls.items():
        try:
            targets += from_urls({source: url})
        except UrlError as error:
            raise click.UsageError(f"{source}: {error}") from None
    return targets
