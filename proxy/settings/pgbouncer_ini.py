"""Reading PgBouncer's files: pgbouncer.ini with its %include, connection strings, userlist.txt.

Source: PgBouncer's documentation, config.md of 1.25: "Description", "Section [databases]", "Include
directive" and "Authentication file format". Every mistake is collected as `file:line: what was
expected`; no message repeats a value, as any may be a password.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.core.errors import ConfigError
from proxy.settings.files import read_text

INI_BYTES_MAX = 4 << 20
USERS_BYTES_MAX = 64 << 20
INCLUDES_MAX = 50
SECTIONS = ("pgbouncer", "databases", "users", "peers")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Entry:
    """`name = value` and where it stands."""

    name: str
    value: str = field(repr=False)
    place: Place


@dataclass(slots=True)
class Ini:
    """The entries of each section; of a name given twice the last one counts, as in PgBouncer."""

    file: str
    sections: dict[str, dict[str, Entry]]
    mistakes: list[str] = field(default_factory=list)

    def fail_if_wrong(self) -> None:
        """Raises ConfigError with every mistake."""
        if self.mistakes:
            raise ConfigError(self.mistakes)


def read_ini(file: Path) -> Ini:
    """The entries of a pgbouncer.ini. What is wrong is in `mistakes`."""
    ini = Ini(str(file), {name: {} for name in SECTIONS})
    _Reader(ini).read(file, "", ())
    return ini


class _Reader:
    """One pass over a file and those it includes."""

    def __init__(self, ini: Ini) -> None:
        self._ini = ini
        self._files = 0

    def read(self, file: Path, section: str, outer: tuple[Path, ...]) -> str:
        """Add the file's entries; the section that holds at its end."""
        try:
            text = read_text(file, INI_BYTES_MAX)
        except ValueError as error:
            self._ini.mistakes.append(f"{file}: {error}")
            return section
        for number, line in enumerate(text.splitlines(), 1):
            place = Place(str(file), number)
            line = line.strip()
            if not line or line[0] in ";#":
                continue
            if line.startswith("%include"):
                section = self._include(line, place, section, (*outer, file))
            elif line.startswith("["):
                section = self._section(line, place) or section
            else:
                self._entry(line, place, section)
        return section

    def _include(self, line: str, place: Place, section: str, outer: tuple[Path, ...]) -> str:
        name = line.removeprefix("%include").strip()
        self._files += 1
        if not name:
            self._wrong(place, "expected %include and a file's name")
        elif self._files > INCLUDES_MAX:
            self._wrong(place, "too many files are included, or one includes itself")
        else:
            # Relative to PgBouncer's working directory, which nobody knows here: mostly the file's.
            path = Path(name)
            beside = outer[-1].parent / path
            return self.read(path if path.exists() else beside, section, outer)
        return section

    def _section(self, line: str, place: Place) -> str:
        match = re.fullmatch(r"\[\s*([^\]]*?)\s*\]", line)
        if match is None:
            self._wrong(place, "expected [section]")
            return ""
        if match[1] not in SECTIONS:
            known = ", ".join(f"[{name}]" for name in SECTIONS)
            self._wrong(place, f"expected one of {known}")
            return ""
        return match[1]

    def _entry(self, line: str, place: Place, section: str) -> None:
        match = re.fullmatch(r'("(?:[^"]|"")*"|[^\s="]+)\s*=\s*(.*)', line, re.DOTALL)
        if match is None:
            self._wrong(place, "expected name = value")
        elif not section:
            self._wrong(place, "expected a [section] before the first setting")
        else:
            name = match[1]
            if name.startswith('"'):
                name = name[1:-1].replace('""', '"')
            self._ini.sections[section][name] = Entry(name, match[2], place)

    def _wrong(self, place: Place, what: str) -> None:
        self._ini.mistakes.append(f"{place}: {what}")


# ---- connection strings -------------------------------------------------------------------------

_PAIR = re.compile(r"\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^']|'')*)'|([^\s']*))(?=\s|$)")


def read_pairs(entry: Entry) -> dict[str, Entry]:
    """The `key=value` pairs of an entry's value. Raises ValueError with place and expectation."""
    pairs: dict[str, Entry] = {}
    position = 0
    text = entry.value
    while text[position:].strip():
        match = _PAIR.match(text, position)
        if match is None:
            raise ValueError(
                f"{entry.place}: expected key=value pairs; a value with blanks stands in 'quotes'"
            )
        value = match[2].replace("''", "'") if match[2] is not None else match[3]
        pairs[match[1]] = Entry(match[1], value, entry.place)
        position = match.end()
    return pairs


class Options:
    """A section's entries as texts, numbers and switches; what is no such thing is a mistake."""

    def __init__(self, entries: Mapping[str, Entry], mistakes: list[str]) -> None:
        self.entries = entries
        self._mistakes = mistakes

    def text(self, name: str) -> str | None:
        """Its text; None if it is not given."""
        entry = self.entries.get(name)
        return entry.value if entry is not None else None

    def number(self, name: str) -> float | None:
        """Its number; None if it is not given, or a mistake."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        if not re.fullmatch(r"\d{1,12}(\.\d{1,9})?", entry.value, re.ASCII):
            self._mistakes.append(f"{entry.place}: {name}: expected a number, 0 or more")
            return None
        return float(entry.value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """Its text, if it is one of the choices."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        if entry.value.lower() not in choices:
            self._mistakes.append(f"{entry.place}: {name}: expected {', '.join(choices)}")
            return None
        return entry.value.lower()


# ---- users --------------------------------------------------------------------------------------

_USER = re.compile(r'"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"')


@dataclass(frozen=True, slots=True)
class User:
    """A line of userlist.txt."""

    name: str
    secret: str = field(repr=False)
    place: Place

    @property
    def kind(self) -> str:
        """md5, scram or plain; none if there is no secret."""
        if re.fullmatch(r"md5[0-9a-f]{32}", self.secret):
            return "md5"
        if self.secret.startswith("SCRAM-SHA-256$"):
            return "scram"
        return "plain" if self.secret else "none"


def read_users(file: Path) -> tuple[dict[str, User], list[str]]:
    """(users by name, mistakes). Raises ValueError if the file cannot be read."""
    users: dict[str, User] = {}
    mistakes = []
    for number, line in enumerate(read_text(file, USERS_BYTES_MAX).splitlines(), 1):
        line = line.strip()
        if not line or line[0] in ";#":
            continue
        match = _USER.match(line)
        if match is None:
            mistakes.append(f'{file}:{number}: expected "user" "password"')
            continue
        name, secret = (part.replace('""', '"') for part in (match[1], match[2]))
        users[name] = User(name, secret, Place(str(file), number))
    return users, mistakes
