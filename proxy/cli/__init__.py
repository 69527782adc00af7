"""The command line: one file per command, found by its name.

A command is a module of this package, without a leading underscore, that has a click command named
`command`; check_config.py is `backstay check-config`. Modules import what is heavy inside the
command, so that `--help` stays quick. Exit codes: 0 fine, 1 finding or failure, 2 usage, 69
upstream unreachable with --require-upstream, 78 bad configuration.
"""

import importlib
import pkgutil
import platform

import click

from proxy import __version__


class _Commands(click.Group):
    """A group whose commands are the modules of this package, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command), f"{module.__name__} has no command"
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__,
    prog_name="backstay",
    message=f"%(prog)s %(version)s (Python {platform.python_version()})",
)
def cli() -> None:
    """Keeps an application standing on its PostgreSQL and Redis while links break."""


def main() -> None:
    """The console script, and `python -m proxy`. Ends the process with the command's exit code."""
    cli(prog_name="backstay")
