"""The JSON Schema of the settings file, as editors use it.

The model's own schema describes values after `${VAR}` is replaced; a file may hold `${VAR}` in any
place, so numbers and choices accept that text too.
"""

from typing import Any

from proxy.settings.model import Settings

_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """The schema, as plain data in the order of the model."""
    schema = Settings.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        section.pop("title", None)
        properties = section.get("properties", {})
        section["properties"] = {name: _property(value) for name, value in properties.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Backstay",
        **schema,
    }


def _property(schema: dict[str, Any]) -> dict[str, Any]:
    """One setting, without pydantic's made-up title, and open to `${VAR}`."""
    about = {
        name: schema.pop(name)
        for name in ("description", "default", "x-reloadable")
        if name in schema
    }
    schema.pop("title", None)
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        schema = {"anyOf": [schema, _VARIABLE]}
    elif "const" in schema:
        schema = {"anyOf": [{"const": schema["const"]}, _VARIABLE]}
    return about | schema
