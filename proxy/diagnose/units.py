"""Numbers for people: durations and sizes short enough for one line."""


def duration(seconds: float) -> str:
    """`0 s`, `420 µs`, `3.1 ms`, `47 s`, `12 min`, `5 h`, `3 days`."""
    if seconds == 0:
        return "0 s"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{_short(seconds * 1000)} ms"
    if seconds < 120:
        return f"{_short(seconds)} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86_400:.0f} days"


def size(count: float) -> str:
    """`512 B`, `3.1 MiB`, `2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{_short(count)} {unit}"
        count /= 1024
    return f"{_short(count)} TiB"


def percent(share: float) -> str:
    """`97 %` of 0.97."""
    return f"{share * 100:.0f} %"


def clean(text: object) -> str:
    """Text from elsewhere without control characters, so that it cannot steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def counted(number: float, what: str) -> str:
    """`1 key`, `12 keys`."""
    return f"{number:.0f} {what}" + ("" if round(number) == 1 else "s")


def _short(number: float) -> str:
    text = f"{number:.1f}" if number < 10 else f"{number:.0f}"
    return text.removesuffix(".0")
