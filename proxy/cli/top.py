"""`backstay top`: a live look at a running Backstay."""

import contextlib
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli._admin import Admin, Away, away, find_admin, url_option
from proxy.cli._options import file_option

if TYPE_CHECKING:
    from rich.console import RenderableType

QUIT = ("q", "Q", "\x1b", "\x03", "")


@click.command()
@file_option
@url_option
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2, max=60),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
def command(file: Path | None, url: str | None, interval_s: float) -> None:
    """Watch a running Backstay; q quits. Not on a terminal: print one picture and end.

    Exits with 0, or with 69 if the admin port does not answer at the start. One that goes away
    later is waited for.
    """
    from rich.console import Console, Group

    from proxy.cli._screen import lines

    admin = find_admin(file, url)
    console = Console(highlight=False)
    try:
        status = admin.status()
    except Away as error:
        away(error)
    if not console.is_terminal:
        console.print(Group(*lines(status)), soft_wrap=True)
        return
    with contextlib.suppress(KeyboardInterrupt):
        _watch(admin, console, status, interval_s)


def _watch(admin: Admin, console: Any, status: dict[str, Any], interval_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from proxy.cli._screen import lines

    before: dict[str, Any] | None = None
    foot = Text(f"q quits; every {interval_s:g} s", "dim")
    picture: RenderableType = Group(*lines(status), foot)
    with _keys() as keys, Live(picture, console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while not _pressed(keys, interval_s):
            before = status
            try:
                status = admin.status()
                picture = Group(*lines(status, before), foot)
            except Away as error:
                picture = Group(Text(str(error), "bold red"), foot)
            live.update(picture, refresh=True)


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Standard input key by key, put back as it was afterwards; None if it is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    import termios
    import tty

    saved = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield sys.stdin
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


def _pressed(keys: Any, wait_s: float) -> bool:
    """Whether a key that quits was pressed within the time."""
    if keys is None:
        select.select([], [], [], wait_s)
        return False
    ready, _, _ = select.select([keys], [], [], wait_s)
    return bool(ready) and keys.read(1) in QUIT
