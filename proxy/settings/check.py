"""Data with positions to Settings, or to every mistake at once.

Turns pydantic's errors and the rules' problems into lines `file:line:column: path: expected`. When
some routes are wrong, the rules still run over the others: one run of check-config shows all.
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any, get_args

from pydantic import ValidationError

from proxy.core.errors import ConfigError
from proxy.settings.document import Document, Mark, Path
from proxy.settings.fields import Section
from proxy.settings.files import why_unreadable
from proxy.settings.model import Settings
from proxy.settings.rules import Problem, problems

Mistake = tuple[Mark, Path, str]


Places = dict[Path, Mark]


def check(document: Document, directory: File | None, places: Places | None = None) -> Settings:
    """The settings. Relative paths start at `directory`. Raises ConfigError with every mistake.

    `places` is filled with where each value stands, for what only a start or a reload can find out.
    """
    mistakes: list[Mistake] = [(mark, path, text) for path, mark, text in document.mistakes]
    if isinstance(document.data, dict):
        known = {path for path, _, _ in document.mistakes} | document.unknown
        settings, found = _validate(document, directory)
        # What follows from a mistake already told is not told again.
        mistakes += [m for m in found if not (_within(m[1], known) or _follows(m[1], known))]
    elif not mistakes:
        mistakes.append((document.values[()], (), "expected a mapping of settings"))
    if mistakes:
        raise ConfigError(_lines(document, mistakes))
    if places is not None:
        places.update(document.values)
    return settings


def place(places: Places, path: Path) -> str:
    """`file:line:column: path: ` of a setting, or of the nearest thing around it."""
    found = [path[:length] for length in range(len(path), -1, -1) if path[:length] in places]
    return f"{places[found[0]]}: {path_text(path)}: " if found else f"{path_text(path)}: "


def _validate(document: Document, directory: File | None) -> tuple[Settings, list[Mistake]]:
    """The settings, and every mistake of the model, the rules and the files they name."""
    context = {"directory": directory}
    assert isinstance(document.data, dict), "only a mapping can be validated"
    try:
        settings = Settings.model_validate(document.data, context=context)
    except ValidationError as error:
        mistakes = [_from_pydantic(document, item) for item in error.errors(include_url=False)]
        data, indexes = _without_bad_parts(document.data, {path for _, path, _ in mistakes})
        settings = Settings.model_validate(data, context=context)
    else:
        mistakes, indexes = [], {}
    for problem in (*problems(settings), *_unreadable_files(settings)):
        if indexes and not problem.path:
            continue  # "no route" is no news when the routes there are could not be read
        path = _original(problem.path, indexes)
        mistakes.append((_place(document, path), path, problem.message))
    return settings, mistakes


def _within(path: Path, known: set[Path]) -> bool:
    return any(path[:length] in known for length in range(1, len(path) + 1))


def _follows(path: Path, known: set[Path]) -> bool:
    """Whether a complaint about credentials comes from a secret that could not be had."""
    if path[2:] not in (("upstream",), ("auth", "method")):
        return False
    return any((*path[:2], *secret) in known for secret in (("password",), ("auth", "users")))


# ---- the good part of a bad file ----------------------------------------------------------------

_Indexes = dict[str, list[int]]  # kind of route → place in the file of each route that is left


def _without_bad_parts(data: dict[str, Any], bad: set[Path]) -> tuple[dict[str, Any], _Indexes]:
    """The data without sections and routes that hold a mistake, and where the routes stood."""
    rest: dict[str, Any] = {}
    indexes: _Indexes = {"postgres": [], "redis": []}
    for name, value in data.items():
        if (name,) in bad:
            continue
        if name in indexes and isinstance(value, list):
            good = [i for i in range(len(value)) if not any(p[:2] == (name, i) for p in bad)]
            indexes[name] = good
            rest[name] = [value[i] for i in good]
        elif not any(path[0] == name for path in bad):
            rest[name] = value
    if any(path[0] == "admin" for path in bad):
        rest["admin"] = {"listen": []}  # its default address could clash with what the user meant
    return rest, indexes


def _original(path: Path, indexes: _Indexes) -> Path:
    if len(path) >= 2 and indexes and isinstance(path[1], int):
        return (path[0], indexes[str(path[0])][path[1]], *path[2:])
    return path


# ---- files the settings name --------------------------------------------------------------------


_TLS_FILES = {
    "disable": (),
    "allow": ("cert", "key"),
    "require": ("cert", "key"),
    "verify-ca": ("cert", "key", "client_ca"),
}


def _unreadable_files(settings: Settings) -> Iterator[Problem]:
    for path, file in _named_files(settings):
        why = why_unreadable(file)
        if why is not None:
            yield Problem(path, why)


def _named_files(settings: Settings) -> Iterator[tuple[Path, File]]:
    """Certificates and keys. Files of secrets were read before."""
    for kind in ("postgres", "redis"):
        for i, route in enumerate(getattr(settings, kind)):
            for name in _TLS_FILES[route.tls.mode]:
                file = getattr(route.tls, name)
                if file is not None:
                    yield (kind, i, "tls", name), file
            for file in route.upstream.files:
                yield (kind, i, "upstream"), File(file)


# ---- words --------------------------------------------------------------------------------------


def _from_pydantic(document: Document, error: Any) -> Mistake:
    path: Path = tuple(error["loc"])
    at_key = document.keys.get(path) or _place(document, path)
    if error["type"] == "extra_forbidden":
        return at_key, path, f"unknown setting{_suggestion(path)}"
    if error["type"] == "missing":  # the key may be there, with nothing behind it
        return at_key, path, "required"
    return _place(document, path), path, _expected(error)


_MESSAGES = {
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "finite_number": "expected a number",
    "model_type": "expected a mapping of settings (name: value)",
    "model_attributes_type": "expected a mapping of settings (name: value)",
    "dict_type": "expected a mapping (name: value)",
    "tuple_type": "expected a list (lines that start with -)",
    "too_long": "expected at most {max_length} entries",
}


def _expected(error: Any) -> str:
    """What was expected, in our words. pydantic's own may hold the value: they are not used."""
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    message = _MESSAGES.get(error["type"])
    assert message is not None, f"no words for pydantic's {error['type']}"
    return message.format_map(context)


def _suggestion(path: Path) -> str:
    names = list(_names_at(path[:-1]))
    close = difflib.get_close_matches(str(path[-1]), names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; expected one of {', '.join(names)}" if names else ""


def _names_at(path: Path) -> Iterator[str]:
    """The settings that exist in the section at a path."""
    kind: Any = Settings
    for part in path:
        if isinstance(part, int):
            continue
        annotation = kind.model_fields[part].annotation
        kind = next((k for k in (annotation, *get_args(annotation)) if _is_section(k)), None)
        assert kind is not None, "only sections have names inside"
    yield from kind.model_fields


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


# ---- lines --------------------------------------------------------------------------------------


def _place(document: Document, path: Path) -> Mark:
    """Where the path stands, or the nearest thing around it that stands somewhere."""
    places = (path[:length] for length in range(len(path), -1, -1))
    return next(document.values[place] for place in places if place in document.values)


def _lines(document: Document, mistakes: list[Mistake]) -> list[str]:
    def order(mistake: Mistake) -> tuple[bool, str, int, int]:
        mark = mistake[0]
        return (mark.file != document.file, mark.file, mark.line, mark.column)

    lines = [
        f"{mark}: {path_text(path)}: {text}" if path and mark.line else f"{mark}: {text}"
        for mark, path, text in sorted(mistakes, key=order)
    ]
    return list(dict.fromkeys(lines))


def path_text(path: Path) -> str:
    """`postgres[0].pool.size`; a part that is no plain name stands in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]{1,64}", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part[:64]!r}]"
    return text
