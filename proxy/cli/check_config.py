"""`backstay check-config`: every mistake of the settings at once."""

from pathlib import Path

import click

from proxy.cli._options import file_option, settings_or_exit


@click.command()
@file_option
def command(file: Path | None) -> None:
    """Check the settings: every mistake as file:line:column: path: what was expected.

    Exits with 78 when there are any.
    """
    settings = settings_or_exit(file)
    for kind in ("postgres", "redis"):
        for route in getattr(settings, kind):
            places = ", ".join(map(str, route.listen))
            click.echo(
                f"{kind} {route.name}: {places} to {route.upstream.target}, {route.auth_method}"
            )
    click.echo("The settings are fine.")
