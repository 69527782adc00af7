"""What changed from one set of settings to the next, and what of it a reload cannot apply. Pure."""

from proxy.settings.fields import Section
from proxy.settings.model import Settings


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """The paths of settings that changed and that a reload cannot apply, such as `admin.listen`.

    Routes are matched by kind and name; one that came or went is listed as `postgres.NAME`.
    """
    paths = _changed(old, new, "")
    for kind in ("postgres", "redis"):
        before = {route.name: route for route in getattr(old, kind)}
        after = {route.name: route for route in getattr(new, kind)}
        paths += [f"{kind}.{name}" for name in sorted(before.keys() ^ after.keys())]
        for name in before.keys() & after.keys():
            paths += _changed(before[name], after[name], f"{kind}.{name}.")
    return sorted(paths)


def _changed(old: Section, new: Section, prefix: str) -> list[str]:
    paths: list[str] = []
    for name, field in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        extra = field.json_schema_extra
        if isinstance(before, Section):
            paths += _changed(before, after, f"{prefix}{name}.")
        elif before != after and isinstance(extra, dict) and not extra["x-reloadable"]:
            paths.append(prefix + name)
    return paths
