"""What several commands share: the -c option, and settings or exit 78."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from proxy.core.errors import ConfigError

if TYPE_CHECKING:  # pydantic is heavy
    from proxy.settings.model import Settings

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; systemd's RestartPreventExitStatus knows it

file_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="Settings file. Default: $BACKSTAY_CONFIG, ./backstay.yaml, "
    "~/.config/backstay/backstay.yaml, /etc/backstay/backstay.yaml, else routes from "
    "$BACKSTAY_POSTGRES_UPSTREAM and $BACKSTAY_REDIS_UPSTREAM on the default ports.",
)


def settings_or_exit(file: Path | None) -> "Settings":
    """The settings; every mistake on stderr and exit 78 when there are any."""
    from proxy.settings.load import load

    try:
        return load(file)
    except ConfigError as error:
        exit_with(error)


def exit_with(error: ConfigError) -> NoReturn:
    """The mistakes on stderr, one a line, and exit 78."""
    for problem in error.problems:
        click.echo(problem, err=True)
    sys.exit(EXIT_CONFIG)
