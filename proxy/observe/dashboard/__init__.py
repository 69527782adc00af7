"""The dashboard: static files for `/` of the admin port, and the headers they are served with.

No build step and nothing from elsewhere: the page works on a machine without a network. Its
numbers come from /api/v1/events (or /api/v1/status, where streams do not get through).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final

FOLDER: Final = "/dashboard/"  # where the page looks for its files

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# A client chooses its user, database and application name, and all three are shown: even if one
# got past the page's own care, the browser would run no script that is not one of these files.
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "connect-src 'self'",
                "img-src 'self' data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
                "trusted-types 'none'",
            )
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `etag` is quoted, as in the header."""

    body: bytes
    content_type: str
    etag: str


def assets() -> dict[str, Asset]:
    """Every file by the path it is served at; `/` is the page itself. Read once, at start."""
    found = {}
    for file in resources.files(__name__).iterdir():
        suffix = file.name.rpartition(".")[2]
        if suffix in _TYPES:
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            path = "/" if file.name == "index.html" else FOLDER + file.name
            found[path] = Asset(body, _TYPES[suffix], etag)
    return found
