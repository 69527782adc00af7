"""What changed from one set of settings to the next, and what of it a reload cannot apply. Pure."""

from collections.abc import Iterator

from proxy.settings.fields import Section
from proxy.settings.model import Settings

KINDS = ("postgres", "redis")


def changed(old: Settings, new: Settings) -> list[str]:
    """The paths of settings that differ, such as `postgres.main.pool.size`.

    Routes are matched by kind and name; one that came or went is `postgres.NAME`.
    """
    return sorted(path for path, _ in _changes(old, new))


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """Those of `changed` that a reload cannot apply, such as `admin.listen`."""
    return sorted(path for path, reloadable in _changes(old, new) if not reloadable)


def _changes(old: Settings, new: Settings) -> Iterator[tuple[str, bool]]:
    """(path, whether a reload applies it) of each."""
    yield from _of_section(old, new, "")
    for kind in KINDS:
        before = {route.name: route for route in getattr(old, kind)}
        after = {route.name: route for route in getattr(new, kind)}
        for name in before.keys() ^ after.keys():
            yield f"{kind}.{name}", True
        for name in before.keys() & after.keys():
            yield from _of_section(before[name], after[name], f"{kind}.{name}.")


def _of_section(old: Section, new: Section, prefix: str) -> Iterator[tuple[str, bool]]:
    for name, field in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section):
            yield from _of_section(before, after, f"{prefix}{name}.")
        elif before != after and (prefix or name not in KINDS):
            extra = field.json_schema_extra
            yield prefix + name, bool(isinstance(extra, dict) and extra["x-reloadable"])
