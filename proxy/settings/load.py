"""Settings from a file or from the environment: the only place that reads either.

Every mistake is reported at once, as `file:line:column: path: what was expected`, and no line
repeats a value: any of them may be a secret that slipped into the wrong place.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.core.errors import ConfigError
from proxy.settings.check import Places, check, place
from proxy.settings.document import Document, Mark, read_document
from proxy.settings.document import Path as SettingPath
from proxy.settings.files import read_text
from proxy.settings.model import Settings

FILE_NAME = "backstay.yaml"
FILE_BYTES_MAX = 4 << 20
SECRET_BYTES_MAX = 64 << 10
VARIABLES = {"postgres": "BACKSTAY_POSTGRES_UPSTREAM", "redis": "BACKSTAY_REDIS_UPSTREAM"}
HOST_VARIABLE = "BACKSTAY_LISTEN_HOST"
PORTS = {"postgres": 6432, "redis": 6380, "admin": 9127}


def load(
    file: Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    places: Places | None = None,
) -> Settings:
    """The settings of `file`, or of the first file of `find`, or else of the environment alone.

    `places`: as of `check`. Raises ConfigError with every mistake.
    """
    env = os.environ if env is None else env
    file = file or find(env)
    return from_environment(env, places) if file is None else load_file(file, env, places)


class Source:
    """Where the settings come from: they can be read again, and places in them be named."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._places: Places = {}

    def load(self) -> Settings:
        """As `load`."""
        places: Places = {}
        settings = load(self._file, places=places)
        self._places = places
        return settings

    def place(self, path: SettingPath) -> str:
        """Where a setting stands in what was read last, with its path, as `check` says it."""
        return place(self._places, path)


def find(env: Mapping[str, str]) -> Path | None:
    """$BACKSTAY_CONFIG, there or not, else the first that exists of ./, ~/.config and /etc."""
    if chosen := env.get("BACKSTAY_CONFIG"):
        return Path(chosen)
    places = [Path(FILE_NAME)]
    if home := env.get("HOME"):
        places.append(Path(home, ".config", "backstay", FILE_NAME))
    places.append(Path("/etc/backstay", FILE_NAME))
    return next((place for place in places if place.is_file()), None)


def load_file(file: Path, env: Mapping[str, str], places: Places | None = None) -> Settings:
    """The settings of one file. Raises ConfigError with every mistake."""
    try:
        text = read_text(file, FILE_BYTES_MAX)
    except ValueError as error:
        raise ConfigError([f"{file}: {error}"]) from None
    return load_text(text, str(file), env, places)


def load_text(
    text: str, file: str, env: Mapping[str, str], places: Places | None = None
) -> Settings:
    """The settings of a YAML text; `file` is its name in messages, and relative paths start there.

    Raises ConfigError with every mistake.
    """
    document = read_document(text, file, env)
    if document.data is None and not document.mistakes:
        document.data = {}  # an empty file is an empty mapping
    directory = Path(file).parent
    _SecretFiles(document, directory, env).read()
    return check(document, directory, places)


def from_environment(env: Mapping[str, str], places: Places | None = None) -> Settings:
    """Routes on the default ports, from BACKSTAY_POSTGRES_UPSTREAM and BACKSTAY_REDIS_UPSTREAM.

    A variable with _FILE behind its name gives the file that holds the URL. BACKSTAY_LISTEN_HOST is
    where all of them listen, instead of loopback (containers say `*`). Raises ConfigError.
    """
    data: dict[str, Any] = {}
    document = Document("environment", data, {(): Mark("environment")})
    for kind, variable in VARIABLES.items():
        given = [name for name in (variable, f"{variable}_FILE") if env.get(name)]
        if not given:
            continue
        path: SettingPath = (kind, 0, "upstream")
        document.values[path[:2]] = document.values[path] = Mark(f"environment: {given[-1]}")
        route = {"upstream": env[given[0]]}
        data[kind] = [route]
        try:
            if len(given) == 2:
                raise ValueError(f"expected {variable} or {variable}_FILE, not both")
            if given[0] != variable:
                route["upstream"] = _read_secret(Path(env[given[0]]))
        except ValueError as error:
            document.mistakes.append((path, document.values[path], str(error)))
    if not data:
        raise ConfigError([_NOTHING_FOUND])
    if host := env.get(HOST_VARIABLE):
        data["admin"] = {}
        for kind, port in PORTS.items():
            for path, section in _sections(data, kind):
                section["listen"] = f"{host}:{port}"
                document.values[*path, "listen"] = Mark(f"environment: {HOST_VARIABLE}")
    return check(document, None, places)


def _sections(data: dict[str, Any], kind: str) -> list[tuple[SettingPath, dict[str, Any]]]:
    """The mappings of a kind that listen, with their paths: its routes, or `admin` itself."""
    section = data.get(kind, [])
    if isinstance(section, list):
        return [((kind, index), route) for index, route in enumerate(section)]
    return [((kind,), section)]


_NOTHING_FOUND = (
    f"no settings: expected -c FILE, $BACKSTAY_CONFIG, ./{FILE_NAME}, "
    f"~/.config/backstay/{FILE_NAME} or /etc/backstay/{FILE_NAME}, or an upstream URL in "
    f"{' or '.join(f'${name}' for name in VARIABLES.values())}"
)


def _read_secret(file: Path) -> str:
    """The file's text without the newline that editors put at its end. Raises ValueError."""
    text = read_text(file, SECRET_BYTES_MAX)
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("the file is empty")
    return text


class _SecretFiles:
    """Puts what `upstream_file`, `password_file`, `users_file` and `token_file` hold where it
    belongs."""

    def __init__(self, document: Document, directory: Path, env: Mapping[str, str]) -> None:
        self._document = document
        self._directory = directory
        self._env = env

    def read(self) -> None:
        """Fill the document's data; what cannot be read becomes a mistake at the file's setting."""
        data = self._document.data
        for kind in VARIABLES:
            routes = data.get(kind) if isinstance(data, dict) else None
            for index, route in enumerate(routes if isinstance(routes, list) else []):
                if not isinstance(route, dict):
                    continue
                self._fill(route, (kind, index), "upstream")
                self._fill(route, (kind, index), "password")
                if isinstance(auth := route.get("auth"), dict):
                    self._fill(auth, (kind, index, "auth"), "users")
        admin = data.get("admin") if isinstance(data, dict) else None
        if isinstance(admin, dict):
            self._fill(admin, ("admin",), "token")

    def _fill(self, section: dict[str, object], path: SettingPath, name: str) -> None:
        file = section.get(f"{name}_file")
        if not isinstance(file, str) or not file or "\0" in file:
            return  # not given; or wrong in a way the model says better
        place = self._document.values[*path, f"{name}_file"]
        try:
            if section.get(name) is not None:
                raise ValueError(f"expected {name} or {name}_file, not both")
            text = _read_secret(self._directory / file)
        except ValueError as error:
            self._document.mistakes.append(((*path, f"{name}_file"), place, str(error)))
            self._document.unknown.add((*path, name))
            return
        if name == "users":
            section[name] = self._users(text, str(self._directory / file), (*path, name))
        else:
            section[name] = text
            self._document.values[*path, name] = place

    def _users(self, text: str, file: str, path: SettingPath) -> object:
        """The mapping of a users file; positions and mistakes keep that file's name."""
        users = read_document(text, file, self._env)
        self._document.values |= {(*path, *at): mark for at, mark in users.values.items()}
        self._document.keys |= {(*path, *at): mark for at, mark in users.keys.items()}
        self._document.mistakes += [((*path, *at), mark, what) for at, mark, what in users.mistakes]
        return users.data if users.data is not None else {}
