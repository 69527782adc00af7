"""`backstay run`: the proxy."""

import sys
from functools import partial
from pathlib import Path

import click

from proxy.cli._options import exit_with, file_option, settings_or_exit
from proxy.core.errors import ConfigError


@click.command()
@file_option
@click.option(
    "--require-upstream",
    is_flag=True,
    help="Exit with 69 when an upstream cannot be reached at start, instead of waiting for it.",
)
def command(file: Path | None, require_upstream: bool) -> None:
    """Run the proxy until SIGTERM. SIGHUP reads the settings again.

    The log and drain_s follow at once; the log says what else waits for a restart.
    """
    settings = settings_or_exit(file)

    from proxy.service.main import run
    from proxy.settings.load import load

    try:
        code = run(settings, require_upstream=require_upstream, reload=partial(load, file))
    except ConfigError as error:  # what only starting shows: no certificate inside, a taken port
        exit_with(error)
    sys.exit(code)
