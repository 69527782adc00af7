"""Who may ask the admin port for what. Pure: headers in, a refusal or nothing out.

The port answers every web page's requests that reach it, unless it refuses. So:

- A name in the Host header must be known (localhost, a name of `admin.listen`, `admin.hosts`): a
  page whose own name was rebound to this address is refused. IP addresses are always taken: a page
  cannot make its name one, and the kubelet, Prometheus and people use them (DNS rebinding needs a
  name). A request without Host is no browser's.
- Sec-Fetch-Site and Origin must not speak of another site. Opening the dashboard from a link is
  allowed: that page shows itself to nobody else.
- GET and HEAD only; POST on acts only, and with the token, compared in constant time.

Source: Fetch Metadata Request Headers (W3C), RFC 6454 (Origin), RFC 6750 (Bearer).
"""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ACT_PATH = "/api/v1/act/"
_READS = frozenset(("GET", "HEAD"))
_SAME = frozenset(("same-origin", "none"))


class Refusal(NamedTuple):
    """The status of the answer, and why, in words."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Door:
    """What is known of the port: the token ("" for none) and the names it answers to."""

    token: str = field(default="", repr=False)
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as the decision needs it. Names of `headers` in any case of letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    over_unix: bool = False  # no browser gets there


def refusal(door: Door, asked: Asked) -> Refusal | None:
    """Why the request is not answered; None if it is."""
    if not asked.over_unix:
        host = asked.headers.get("Host")
        if host is not None and not knows_host(door, host):
            return Refusal(403, "this Host name is not known here; see admin.hosts in the settings")
        if _is_cross_site(asked, host):
            return Refusal(403, "requests of other web sites are refused")
    acts = asked.path.startswith(ACT_PATH)
    if acts and asked.method != "POST":
        return Refusal(405, "expected POST")
    if not acts and asked.method not in _READS:
        return Refusal(405, "expected GET or HEAD")
    if acts and not door.token:
        return Refusal(403, "no token is set: the admin port only reads; see admin.token")
    if acts and not has_token(door, asked.headers):
        return Refusal(403, "expected the admin token as Authorization: Bearer …")
    return None


def has_token(door: Door, headers: Mapping[str, str]) -> bool:
    """True if the request shows the token. False, too, if there is none."""
    scheme, _, given = headers.get("Authorization", "").partition(" ")
    # Encoded so that a header with any bytes can be compared; surrogates stand for what is not
    # text.
    same = hmac.compare_digest(
        given.strip().encode("utf-8", "surrogateescape"), door.token.encode("utf-8", "replace")
    )
    return bool(door.token) and scheme.lower() == "bearer" and same


def knows_host(door: Door, host: str) -> bool:
    """True if a Host header names this port."""
    name = _without_port(host).lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or name in door.names:
        return True
    return is_address(name)


def is_address(name: str) -> bool:
    """True for an IP address, in brackets or not."""
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1] or host
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _is_cross_site(asked: Asked, host: str | None) -> bool:
    origin = asked.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != host:
        return True  # "null", too
    site = asked.headers.get("Sec-Fetch-Site")
    if site is None or site in _SAME:
        return False
    opens_page = (
        asked.path == "/"
        and asked.method in _READS
        and asked.headers.get("Sec-Fetch-Mode") == "navigate"
        and asked.headers.get("Sec-Fetch-Dest") == "document"
    )
    return not opens_page
