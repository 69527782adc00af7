"""What both kinds of upstream URL share: percent-decoding, ports, choices.

Error texts never hold a value of the URL: any part of a mistyped URL may be a piece of a password.
"""

import ipaddress
import re
from collections.abc import Sequence

_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)
_HOST = re.compile(r"[\w.-]+")
_URL_CHARS_MAX = 16_384


class UrlError(ValueError):
    """An upstream URL that cannot be used. Safe to print: the message holds no value of the URL."""


def check_text(text: str) -> str:
    """The text without blanks around it. Raises UrlError if it is empty, huge or not printable."""
    text = text.strip()
    if not text:
        raise UrlError("expected an upstream URL, got an empty text")
    if len(text) > _URL_CHARS_MAX:
        raise UrlError(f"expected an upstream URL of at most {_URL_CHARS_MAX} characters")
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise UrlError("control characters must be percent-encoded")
    return text


def percent_decode(text: str, what: str) -> str:
    """The text with %XX replaced, as UTF-8. `+` stays a plus, as in libpq.

    Raises UrlError on a lone %, on %00 (strings end there in every server's start-up message) and
    on bytes that are no UTF-8.
    """
    if "%" not in text:
        return text
    if _ESCAPE.search(text):
        raise UrlError(f"{what}: a % must be followed by two hexadecimal digits (%25 is a %)")
    raw = _PERCENT.sub(lambda match: chr(int(match[1], 16)), text) if text.isascii() else None
    data = raw.encode("latin-1") if raw is not None else _decode_mixed(text)
    if b"\0" in data:
        raise UrlError(f"{what}: %00 is not allowed")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UrlError(f"{what}: the percent-encoded bytes are not UTF-8") from None


def _decode_mixed(text: str) -> bytes:
    """Bytes of a text that has both escapes and characters beyond ASCII."""
    pieces = _PERCENT.split(text)  # text, hex, text, hex, …, text
    return b"".join(
        bytes.fromhex(piece) if index % 2 else piece.encode() for index, piece in enumerate(pieces)
    )


def parse_port(text: str) -> int:
    """A TCP port. Raises UrlError; pieces of an unescaped password land here, hence the hint."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise UrlError(
            "the port must be a number from 1 to 65535 "
            "(special characters of a password must be percent-encoded: / is %2F, @ is %40)"
        )
    return int(text)


def parse_choice(name: str, text: str, choices: Sequence[str]) -> str:
    """The text itself when it is one of the choices. Raises UrlError naming them."""
    if text not in choices:
        raise UrlError(f"{name}: expected {one_of(choices)}")
    return text


def parse_whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number within bounds. Raises UrlError naming them."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise UrlError(f"{name}: expected a whole number")
    if not low <= int(text) <= high:
        raise UrlError(f"{name}: expected a whole number from {low} to {high}")
    return int(text)


def one_of(choices: Sequence[str]) -> str:
    """`a, b or c`."""
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def shown_name(name: str) -> str:
    """A parameter's name for an error text, or nothing where it does not look like a name."""
    return f"{name}: " if _NAME.fullmatch(name) else ""


def check_host(host: str) -> str:
    """A host name or address, lower case. Raises UrlError on characters that no host has."""
    if "%" in host:  # an IPv6 zone, fe80::1%eth0
        address, _, zone = host.partition("%")
        good = ":" in address and bool(_HOST.fullmatch(zone))
    else:
        address, good = host, True
    if ":" in address:
        good = good and _is_ipv6(address)
    else:
        good = good and bool(_HOST.fullmatch(address)) and len(address) <= 253
    if not good:
        raise UrlError(
            "the host is not a name or an address "
            "(special characters of a password must be percent-encoded: @ is %40, : is %3A)"
        )
    return host.lower()


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def split_query(query: str) -> list[tuple[str, str]]:
    """The decoded (name, value) pairs of a URL's query, in order. Raises UrlError without an =.

    Unlike libpq, a value may hold a bare = (`options=-csearch_path=app`): drivers in other
    languages take it, and it cannot mean anything else.
    """
    pairs: list[tuple[str, str]] = []
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        name = percent_decode(name, "a parameter's name")
        if not equals:
            raise UrlError("parameters are written name=value, joined by &")
        pairs.append((name, percent_decode(value, shown_name(name).rstrip(": ") or "a parameter")))
    return pairs
