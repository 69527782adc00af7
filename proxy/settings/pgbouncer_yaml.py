"""Imported routes as a YAML text with comments. Secrets stay out unless they are asked for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.settings.pgbouncer_routes import Imported, Note, Route, Values

COMMENT_WIDTH = 98
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./:@?=&%,+-]*[A-Za-z0-9_/]|[A-Za-z]", re.ASCII)
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


@dataclass(slots=True)
class Secrets:
    """How secrets are written. `literal`: as they are; else as ${VARIABLE}, kept in `variables`."""

    literal: bool = False
    users_file: str = ""
    variables: dict[str, str] = field(default_factory=dict, repr=False)  # name → secret

    def write(self, wanted: str, secret: str) -> str:
        """The YAML scalar of a secret."""
        if self.literal:
            return _quoted(secret)
        base = re.sub(r"[^A-Z0-9]+", "_", wanted.upper()).strip("_") or "SECRET"
        base = f"USER_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while self.variables.get(name, secret) != secret:
            name, number = f"{base}_{number}", number + 1
        self.variables[name] = secret
        return f'"${{{name}}}"'


def write(imported: Imported, source: str, secrets: Secrets) -> str:
    """The whole text. `source` is named in the heading."""
    body = list(_body(imported, secrets))
    return "\n".join([*_head(imported, source, secrets), *body, ""])


def write_users(users: dict[str, str]) -> str:
    """A users file, with the secrets."""
    return "".join(f"{scalar(name)}: {_quoted(secret)}\n" for name, secret in users.items())


def _head(imported: Imported, source: str, secrets: Secrets) -> Iterator[str]:
    yield f"# Made from {_clean(source)} by backstay import-pgbouncer."
    notes = list(dict.fromkeys(imported.notes))  # several routes may say the same
    decisions = [note for note in notes if note.decide]
    others = [note for note in notes if not note.decide]
    if secrets.variables:
        yield "#"
        yield from _comment(
            f"Secrets come from the environment: {', '.join(secrets.variables)}. "
            "(--with-secrets writes them here, --users-file into a file of their own.)"
        )
    if decisions:
        yield "#"
        yield "# To be decided:"
        yield from _listed(decisions)
    if others:
        yield "#"
        yield "# Without a place here, and what covers it:"
        yield from _listed(others)
    yield ""


def _listed(notes: list[Note]) -> Iterator[str]:
    for note in notes:
        place = f"{note.place}: " if note.place is not None else ""
        yield from _comment(f"- {place}{note.text}.")


def _body(imported: Imported, secrets: Secrets) -> Iterator[str]:
    yield "postgres:"
    for route in imported.routes:
        yield from _route(route, secrets)
    if imported.admin:
        yield "admin:"
        for key, names in imported.admin.items():
            yield f"  {key}: [{', '.join(map(_quoted, names))}]"
    if imported.log_level:
        yield "log:"
        yield f"  level: {imported.log_level}"


def _route(route: Route, secrets: Secrets) -> Iterator[str]:
    names = ", ".join(map(_clean, route.databases))
    yield f"  - name: {scalar(route.name)} # [databases] {names}"
    if len(route.listen) == 1:
        yield f"    listen: {scalar(route.listen[0])}"
    else:
        yield "    listen:"
        for address in route.listen:
            yield f"      - {scalar(address)}"
    yield f"    upstream: {scalar(route.upstream)}"
    if route.password is not None:
        yield f"    password: {secrets.write(f'{route.name}_PASSWORD', route.password)}"
    yield "    auth:"
    yield f"      method: {route.method}"
    if route.trust_anywhere:
        yield "      trust_anywhere: true"
    if route.users and secrets.users_file:
        yield f"      users_file: {scalar(secrets.users_file)}"
    elif route.users:
        yield "      users:"
        for name, secret in route.users.items():
            yield f"        {scalar(name)}: {secrets.write(f'{name}_PASSWORD', secret)}"
    for section in ("tls", "pool", "keepalive", "resilience"):
        yield from _section(section, getattr(route, section))


def _section(name: str, values: Values) -> Iterator[str]:
    if values:
        yield f"    {name}:"
        for key, value in values.items():
            yield f"      {key}: {scalar(value)}"


def scalar(value: object) -> str:
    """A value as a YAML scalar that the settings' reader takes for the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value}"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and ": " not in text:
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    """In double quotes; a ${ that is meant as it stands is written $${."""
    text = text.replace("${", "$${")
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _comment(text: str) -> Iterator[str]:
    """Lines of a comment, wrapped, hanging where it begins with a dash."""
    line, indent = "#", "  " if text.startswith("- ") else ""
    for word in _clean(text).split():
        if len(line) + 1 + len(word) > COMMENT_WIDTH and line.strip("# "):
            yield line
            line = f"#{indent}"
        line += f" {word}"
    yield line
