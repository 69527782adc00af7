"""Settings as texts, for SHOW CONFIG and the status page; what is secret is shown as ***. Pure."""

from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from proxy.settings.fields import Section
from proxy.settings.model import Settings
from proxy.settings.postgres_url import PostgresUpstream
from proxy.settings.redis_url import RedisUpstream

HIDDEN = "***"
Row = tuple[str, str, str, bool]  # path, value, default, whether a reload applies it


def rows(settings: Settings) -> list[Row]:
    """Every setting in force. Routes stand under their names: `postgres.main.pool.size`."""
    return list(_section(settings, ""))


def _section(section: Section, prefix: str) -> Iterator[Row]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _section(value, f"{prefix}{name}.")
            continue
        if isinstance(value, tuple) and value and all(isinstance(v, Section) for v in value):
            for route in value:
                yield from _section(route, f"{prefix}{name}.{route.name}.")
            continue
        extra = field.json_schema_extra
        reloadable = isinstance(extra, dict) and bool(extra.get("x-reloadable"))
        default = "" if field.default is PydanticUndefined else text(field.default)
        yield prefix + name, text(value), default, reloadable


def text(value: Any) -> str:
    """A value as the settings file would have it; no password, and nothing of a URL but where."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return HIDDEN
        case PostgresUpstream():
            user = f"{value.user}@" if value.user else ""
            return f"{user}{','.join(map(str, value.hosts))}/{value.dbname or ''}"
        case RedisUpstream():
            user = f"{value.user}@" if value.user else ""
            return value.path or f"{user}{value.host}:{value.port}/{value.db}"
        case dict():
            return ", ".join(f"{name}: {text(item)}" for name, item in value.items())
        case tuple() | list():
            return ", ".join(map(text, value))
        case _:
            return str(value)
