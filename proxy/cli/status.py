"""`backstay status`: one look at a running Backstay."""

import json
import sys
from pathlib import Path

import click

from proxy.cli._admin import Away, away, find_admin, url_option
from proxy.cli._options import file_option


@click.command()
@file_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print /api/v1/status as it is.")
def command(file: Path | None, url: str | None, as_json: bool) -> None:
    """Say how a running Backstay is: routes, pools, cache, latency, what is wrong.

    Exits with 0 if all is well, 1 if not, 69 if the admin port does not answer.
    """
    try:
        status = find_admin(file, url).status()
    except Away as error:
        away(error)
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        from rich.console import Console

        from proxy.cli._screen import lines

        console = Console(highlight=False)
        for line in lines(status):
            console.print(line, soft_wrap=not console.is_terminal)
    sys.exit(0 if status["well"] else 1)
