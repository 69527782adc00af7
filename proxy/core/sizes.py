"""Byte sizes as people write them: `64MiB`, `1.5GB`, `4096`.

Owns the spelling only; bounds belong to the setting. Binary units follow IEC 80000-13 (KiB = 1024),
decimal ones SI (kB = 1000).
"""

import re
from fractions import Fraction

_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,6})?) ?([A-Za-z]{0,3})", re.ASCII)
EXPECTED = "a size such as 64MiB, 512KiB or 1GB, or a whole number of bytes"


def parse_size(text: str) -> int:
    """Size in bytes. Raises ValueError, without the text, when it is no whole number of bytes."""
    match = _SIZE.fullmatch(text.strip())
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"expected {EXPECTED}")
    size_bytes = Fraction(match[1]) * factor
    if size_bytes.denominator != 1:
        raise ValueError("expected a size that is a whole number of bytes")
    return int(size_bytes)


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling in binary units: 65536 is `64KiB`, 1000 is `1000B`."""
    assert size_bytes >= 0, "sizes are not negative"
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _UNITS[unit.lower()]
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return f"{size_bytes}B"
