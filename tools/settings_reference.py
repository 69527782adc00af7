"""Writes docs/settings.md from the settings model and the readers of upstream URLs.

Usage: python -m tools.settings_reference

A test compares the file with what this makes (tests/unit/deploy/test_docs.py).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy.settings import postgres_url, redis_url
from proxy.settings.schema import json_schema

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Made by tools/settings_reference.py from proxy/settings/model.py; do not edit. -->

Every setting, its bounds and its default. [config/backstay.yaml](../config/backstay.yaml) is a
file with all of them and comments, [config/minimal.yaml](../config/minimal.yaml) the least there
is to say, [config/examples/](../config/examples) has files for common cases.

**Where settings come from.** `-c FILE`, else `$BACKSTAY_CONFIG`, else the first of
`./backstay.yaml`, `~/.config/backstay/backstay.yaml` and `/etc/backstay/backstay.yaml`, else the
environment alone: `BACKSTAY_POSTGRES_UPSTREAM` and `BACKSTAY_REDIS_UPSTREAM` (or the same with
`_FILE` behind, naming a file that holds the URL) make a route each on the default ports, on the
host of `BACKSTAY_LISTEN_HOST` (127.0.0.1).

**What a file may say.** `${VAR}`, `${VAR:-default}` and `${VAR:?message}` are replaced inside
values; `$${` is a plain `${`. Unknown and duplicate keys are refused. Relative paths start at the
file's directory. Durations end in `_s` (seconds) or `_ms`, sizes are written `64MiB`, `512KiB`,
`1GB` or as plain bytes. `name_file` holds the value of `name`: a newline at its end does not
count.

**When a change takes effect.** SIGHUP (or `RELOAD` on the console) reads the file again. "Reload:
yes" means that the running proxy follows; "no" that it waits for a restart, and the log says so.
A file with mistakes changes nothing.

`backstay check-config -c FILE` shows every mistake at once as `file:line:column: path: what was
expected`.
"""

POSTGRES_ABOUT = {
    "user": "Who logs in, where the client does not bring its own name",
    "password": "Its password. Better in `password_file`",
    "dbname": "The database, where the client names none",
    "sslmode": "`disable`, `allow`, `prefer` (default), `require`, `verify-ca`, `verify-full`",
    "sslnegotiation": "`postgres`, or `direct`: TLS from the first byte (PostgreSQL 17)",
    "sslrootcert": "Authorities (PEM), or `system`: the machine's (and sslmode is verify-full)",
    "sslcert": "Client certificate (PEM)",
    "sslkey": "Its key (PEM)",
    "sslpassword": "The key's passphrase",
    "channel_binding": "`disable`, `prefer`, `require`",
    "target_session_attrs": (
        "Which host is right: `any`, `read-write`, `read-only`, `primary`, `standby`, "
        "`prefer-standby`"
    ),
    "load_balance_hosts": "`disable` (in order) or `random`",
    "connect_timeout": "Seconds for one host; goes before `pool.connect_timeout_s`",
    "keepalives": "0: no TCP keepalive",
    "keepalives_idle": "Goes before `keepalive.idle_s`",
    "keepalives_interval": "Goes before `keepalive.interval_s`",
    "keepalives_count": "Goes before `keepalive.count`",
    "application_name": "Where the client gives none",
    "client_encoding": "Where the client gives none",
    "options": "Where the client gives none",
    "max_protocol_version": "`3.0`, `3.2`, `latest`",
}

REDIS_ABOUT = {
    "db": "Database number, also as the path: `/3`",
    "username": "Also before the host: `user:password@`",
    "password": "Better in `password_file`",
    "ssl_cert_reqs": "`required`, `optional`, `none`",
    "ssl_check_hostname": "`true`, `false`",
    "ssl_ca_certs": "Authorities (PEM); those of the machine without it",
    "ssl_certfile": "Client certificate (PEM)",
    "ssl_keyfile": "Its key (PEM)",
    "ssl_password": "The key's passphrase",
    "socket_connect_timeout": "Seconds; goes before `connect_timeout_s`",
}


def reference() -> str:
    """The whole page."""
    schema = json_schema()
    parts = [HEAD, *_section("The whole file", "", schema, schema["$defs"])]
    parts += ["## Upstream URLs\n", *_urls()]
    return "\n".join(parts)


def _section(
    title: str, prefix: str, section: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[str]:
    """A heading, the table of the section's own settings, then the sections in it."""
    about = section.get("description", "").splitlines()[0]
    yield f"## {title}\n\n{about}\n"
    inner = {name: found for name, value in section["properties"].items() if (found := _ref(value))}
    own = {name: value for name, value in section["properties"].items() if name not in inner}
    if own:
        yield "| setting | value | default | reload | meaning |\n|---|---|---|---|---|"
        required = section.get("required", ())
        yield "\n".join(_row(name, value, name in required) for name, value in own.items()) + "\n"
    for name, (kind, many) in inner.items():
        path = f"{prefix}{name}" + ("[]" if many else "")
        yield from _section(f"`{path}`", f"{path}.", known[kind], known)


def _ref(value: Mapping[str, Any]) -> tuple[str, bool] | None:
    """(name of the section behind a setting, whether it is a list of them), or None."""
    many = "items" in value and "$ref" in value["items"]
    ref = value["items"]["$ref"] if many else value.get("$ref")
    return (ref.rpartition("/")[2], many) if ref else None


def _row(name: str, value: Mapping[str, Any], required: bool) -> str:
    text = value["description"]
    meaning = text.removesuffix(" Reloadable.").removesuffix(" Needs a restart.")
    reload = "yes" if value["x-reloadable"] else "no"
    cells = (f"`{name}`", _values(value), _default(value, required), reload, meaning)
    return "| " + " | ".join(cells).replace("*:", "\\*:") + " |"


def _values(value: Mapping[str, Any]) -> str:
    """What may stand there, in words: `1 to 10000`, `a, b or c`, text …"""
    options = [part for part in value.get("anyOf", [value]) if part.get("type") != "null"]
    first = options[0]
    if "enum" in first:
        return ", ".join(f"`{choice}`" for choice in first["enum"])
    if "const" in first:
        return f"`{first['const']}`"
    kind = first.get("type")
    if kind in ("integer", "number"):
        is_size = len(options) > 1 and options[1] == {"type": "string"}
        return (
            "size" if is_size else _range(first, "whole number" if kind == "integer" else "number")
        )
    words = {"boolean": "`true`, `false`", "array": "list", "object": "mapping"}
    return {"path": "file", "password": "secret"}.get(
        first.get("format", ""), words.get(kind, "text")
    )


def _range(schema: Mapping[str, Any], noun: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f"{noun}, above {schema['exclusiveMinimum']}, to {high}"
    return f"{noun}, {low} to {high}" if high is not None else noun


def _default(value: Mapping[str, Any], required: bool) -> str:
    if "default" not in value:
        return "required" if required else "one of the two is required"
    default = value["default"]
    if default is None or default in ([], {}):
        return "none"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _urls() -> Iterator[str]:
    yield (
        "### PostgreSQL\n\n"
        "`postgresql://user:password@host:5432,host2:5432/dbname?parameter=value`, "
        "`host=… port=… dbname=…`, `postgresql+driver://…` or `jdbc:postgresql://…`. `hostaddr` "
        "gives the address to dial where `host` names the certificate; a host that starts with / "
        "is a Unix socket's directory. As in libpq, except that no environment variable, service "
        "file or password file is read.\n"
    )
    yield _parameters(postgres_url._FIELDS, POSTGRES_ABOUT)
    yield "Refused, with the reason, because they would have no effect:\n"
    refused = {name: why for name, (_, why) in postgres_url._FIXED.items()} | postgres_url._REFUSED
    yield "\n".join(f"- `{name}`: {why}" for name, why in refused.items()) + "\n"
    yield (
        "### Redis\n\n"
        "`redis://user:password@host:6379/0`, `rediss://` (TLS), `valkey://`, `valkeys://` (TLS), "
        "`unix:///path/to.sock?db=0`.\n"
    )
    yield _parameters(redis_url._FIELDS, REDIS_ABOUT)


def _parameters(known: Mapping[str, object], about: Mapping[str, str]) -> str:
    assert known.keys() == about.keys(), known.keys() ^ about.keys()
    rows = [f"| `{name}` | {about[name]} |" for name in known]
    return "| parameter | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference())
