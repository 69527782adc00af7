"""`backstay run`: the proxy."""

import sys
from pathlib import Path

import click

from proxy.cli._options import exit_with, file_option
from proxy.core.errors import ConfigError


@click.command()
@file_option
@click.option(
    "--require-upstream",
    is_flag=True,
    help="Exit with 69 when an upstream cannot be reached at start, instead of waiting for it.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Share the ports with a Backstay that is running, which you then stop with SIGTERM.",
)
def command(file: Path | None, require_upstream: bool, replace: bool) -> None:
    """Run the proxy until SIGTERM, which drains; a second one stops at once.

    SIGHUP reads the settings again; SIGUSR1 pauses, SIGUSR2 resumes, SIGQUIT stops at once.
    """
    from proxy.settings.load import Source

    source = Source(file)
    try:
        settings = source.load()
    except ConfigError as error:
        exit_with(error)

    from proxy.service.main import run
    from proxy.service.start import Start

    try:
        code = run(settings, Start(require_upstream, replace, source))
    except ConfigError as error:  # what only starting shows: no certificate inside, a taken port
        exit_with(error)
    sys.exit(code)
