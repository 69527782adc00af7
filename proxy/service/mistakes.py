"""Mistakes that only a start or a reload finds: said like those of the settings file."""

from collections.abc import Callable

from proxy.settings.check import path_text

SettingPath = tuple[str | int, ...]
PlaceOf = Callable[[SettingPath], str]  # `file:line:column: path: ` of a setting


def path_only(path: SettingPath) -> str:
    """Where the file is not known."""
    return f"{path_text(path)}: "
