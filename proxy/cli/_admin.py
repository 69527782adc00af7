"""Asking a running Backstay: its admin port by HTTP, over TCP or a Unix socket."""

import http.client
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import click

from proxy.cli._options import exit_with
from proxy.core.errors import ConfigError
from proxy.diagnose.units import clean

EXIT_AWAY = 69
ANSWER_S_MAX = 5.0
ANSWER_BYTES_MAX = 64 << 20

url_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--url",
    metavar="URL",
    help="Where the admin port is: http://host:port, host:port or the path of a Unix socket. "
    "Default: admin.listen of the settings, else 127.0.0.1:9127.",
)


class Away(Exception):
    """The admin port does not answer, or not as it should. The text says how."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Where the admin port is."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def status(self) -> dict[str, Any]:
        """/api/v1/status. Raises Away."""
        connection = _UnixConnection(self.path) if self.path else _tcp(self)
        try:
            connection.request("GET", "/api/v1/status")
            with connection.getresponse() as answer:
                body = answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{self} does not answer: {_why(error)}") from None
        finally:
            connection.close()
        try:
            status = json.loads(body)
        except ValueError:
            status = None
        if answer.status != 200:
            words = status.get("error") if isinstance(status, dict) else answer.reason
            raise Away(clean(f"{self} answers {answer.status}: {words}"))
        if not isinstance(status, dict) or "well" not in status:
            raise Away(f"what answers on {self} is not Backstay's admin port")
        return status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _tcp(admin: Admin) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(admin.host, admin.port, timeout=ANSWER_S_MAX)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {ANSWER_S_MAX:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "not HTTP"


def find_admin(file: Path | None, url: str | None) -> Admin:
    """Where the admin port is. Ends the process for a bad URL (2), bad settings (78), none (69)."""
    if url is not None:
        return _parse(url)
    from proxy.settings.load import VARIABLES, find, load

    file = file or find(os.environ)
    if file is None and not any(os.environ.get(name) for name in VARIABLES.values()):
        return Admin("127.0.0.1", 9127)
    try:
        settings = load(file)
    except ConfigError as error:
        exit_with(error)
    if not settings.admin.listen:
        away(Away("the settings have no admin port (admin.listen is [])"))
    address = settings.admin.listen[0]
    host = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return Admin(host, address.port, address.path)


def _parse(url: str) -> Admin:
    url = url.removeprefix("unix://")
    if url.startswith("/"):
        return Admin(path=url)
    if not re.match(r"[a-z]+://", url):
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port, parts = None, urlsplit("")
    if parts.scheme != "http" or not parts.hostname:
        raise click.UsageError("--url: expected http://host:port, host:port or an absolute path")
    return Admin(parts.hostname, port or 9127)


def away(error: Away) -> NoReturn:
    """Say it and exit with 69."""
    click.echo(str(error), err=True)
    sys.exit(EXIT_AWAY)
