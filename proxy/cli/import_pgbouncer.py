"""`backstay import-pgbouncer`: pgbouncer.ini as settings of Backstay."""

import os
from pathlib import Path

import click

from proxy.cli._options import exit_with
from proxy.core.errors import ConfigError


@click.command()
@click.argument("ini", type=click.Path(path_type=Path))
@click.option(
    "--with-secrets",
    is_flag=True,
    help="Write passwords and SCRAM verifiers as they are. Default: as ${VARIABLES} to be set.",
)
@click.option(
    "--users-file",
    type=click.Path(path_type=Path),
    help="Write the users with their secrets into this new file (mode 0600), and its name into "
    "the settings.",
)
def command(ini: Path, with_secrets: bool, users_file: Path | None) -> None:
    """Print settings that do what a pgbouncer.ini does.

    They pass check-config once the variables they name are set. A comment says for each option
    without a place what covers it, and first of all what has to be decided: transaction pooling,
    which does not exist here, md5 secrets, aliases. Read it before you use it.

    Exits with 78 for mistakes in the files, as file:line: what was expected.
    """
    from proxy.settings.pgbouncer_ini import read_ini
    from proxy.settings.pgbouncer_routes import convert
    from proxy.settings.pgbouncer_yaml import Secrets, write

    try:
        imported = convert(read_ini(ini))
    except ConfigError as error:
        exit_with(error)
    secrets = Secrets(literal=with_secrets)
    users = {name: secret for route in imported.routes for name, secret in route.users.items()}
    if users_file is not None and users:
        secrets.users_file = str(users_file)
        _write_users(users_file, users)
    click.echo(write(imported, str(ini), secrets), nl=False)


def _write_users(file: Path, users: dict[str, str]) -> None:
    """A new file that only its owner may read; one that exists is not touched."""
    from proxy.settings.pgbouncer_yaml import write_users

    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.UsageError(f"--users-file: {os.strerror(error.errno or 0)}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(write_users(users))
