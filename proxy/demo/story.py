"""The words and numbers of the demo: a scene as lines of text, painted or not."""

import shutil
from collections.abc import Callable, Sequence
from typing import Final

from proxy.demo.cache_half import READS, ROUND_TRIP_S, CacheHalf, CacheTally
from proxy.demo.ledger import Balance, Tally
from proxy.demo.play import Scene

ERROR_CHARS_MAX: Final = 64

RED: Final = "31"
GREEN: Final = "32"
BOLD: Final = "1"
DIM: Final = "2"
Paint = Callable[[str, str], str]
"""Text and colour in, text for the terminal out."""

_FAIR: Final = """\
What is struck: links closed, reset or broken off within TLS, sessions terminated, and the server
restarted, while connections are idle, in a read, or in a transaction that has only begun; and
writes in flight, by the server's own FATAL, which proves that they were rolled back.
What is spared: a write by a reset after it was sent, and a transaction in which work was done.
Nobody can undo that, and Backstay does not pretend: the application gets 08007 (outcome unknown)
or 40001 (rolled back), on a connection that stays open. See `backstay demo --anywhere`.
Redis: reads only. redis-py repeats those by itself after a cut; what is shown is how few reach the
server, and that a write by somebody else, straight into the server, is seen."""

_ANYWHERE: Final = """\
Strikes came anywhere, also in the middle of writes and transactions. Through Backstay an error says
what is true: 40001 nothing was saved, run the transaction again; 08007 the outcome is unknown,
look before you retry; 08006 a read broke off. The connection stays open each time."""


def introduction(scene: Scene, paint: Paint) -> list[str]:
    """What runs, and what to try meanwhile."""
    every_s = scene.options.cut_every_s
    lines = [
        "",
        paint("Backstay demo", BOLD) + f": {scene.version}, the same application twice:",
        "  direct            application → links that break → PostgreSQL",
        "  through Backstay  application → Backstay → links that break → PostgreSQL",
        f"Every {every_s:g} s or so both are struck at the same moment in the same way.",
        f"And so with Redis, {ROUND_TRIP_S * 1000:.0f} ms away: each request reads one key {READS} "
        f"times, and {READS} times one that is missing.",
        "",
        "Try it meanwhile:",
        f"  {_psql(scene)} '{scene.url}'",
        f"  redis-cli -p {scene.front.ports.redis} get user:1",
        f"  tail -f {scene.front.log}",
    ]
    if scene.dashboard:
        lines.append(f"  dashboard: {scene.dashboard}")
    if scene.options.seconds is None:
        lines.append("Ctrl-C ends it.")
    return [*lines, ""]


def _psql(scene: Scene) -> str:
    own = scene.server.bin / "psql"  # a wheel's server may bring its own
    return "psql" if shutil.which("psql") or not own.exists() else str(own)


def one_line(scene: Scene) -> str:
    """The counts of now in one line."""
    direct, through = scene.direct.tally, scene.through.tally
    return (
        f"{scene.elapsed_s:4.0f} s  direct: {_count(direct.errors.total(), 'error')}, "
        f"through Backstay: {through.errors.total()}  "
        f"({through.statements} statements, {_strikes(scene)}, "
        f"{scene.counts['run_again']} run again, longest wait {through.longest_s:.1f} s)"
    )


def panel(scene: Scene, paint: Paint) -> list[str]:
    """The counts of now as a few lines; as many each time."""
    seconds = scene.options.seconds
    of = f" of {seconds:.0f} s" if seconds is not None else " s"
    last = f", last: {scene.striker.last}" if scene.striker.last else ""
    direct = _count(scene.direct.tally.errors.total(), "error")
    errors = f"direct: {direct}, through Backstay: {scene.through.tally.errors.total()}"
    return [
        f"{scene.elapsed_s:.0f}{of}  {paint(errors, BOLD)}",
        f"{_strikes(scene)}{last}",
        *_table(scene, paint),
        _done(scene),
        *_redis(scene.cache, paint),
    ]


def result(scene: Scene, problems: Sequence[str], paint: Paint) -> list[str]:
    """How it went: counts, the ledger, what was shown and what was not, the verdict."""
    lines = ["", f"{scene.elapsed_s:.0f} s, {_strikes(scene)}: {_kinds(scene)}."]
    lines += [f"Skipped: {text}." for text in scene.striker.skipped]
    lines += [*_table(scene, paint), _done(scene)]
    lines += [*_redis(scene.cache, paint), ""]
    for side, name in ((scene.direct, "direct"), (scene.through, "through Backstay")):
        lines.append(f"Ledger, {name}: {_books(scene.balances[side.name])}.")
    for side, name in ((scene.direct, "direct"), (scene.through, "through Backstay")):
        for text, count in side.tally.errors.most_common(3):
            lines.append(paint(f"  {name}, {count} times: {_short(text)}", DIM))
    lines += ["", *(_ANYWHERE if scene.options.anywhere else _FAIR).splitlines(), ""]
    if problems:
        return lines + [paint(f"FAILED: {problem}", RED) for problem in problems]
    errors = _count(scene.direct.tally.errors.total(), "error")
    own = scene.through.tally.errors.total()
    true = ", each of which said what is true" if own else ""
    return [*lines, paint(f"direct: {errors}, through Backstay: {own}{true}", GREEN)]


def _table(scene: Scene, paint: Paint) -> list[str]:
    heads = ("errors", "requests", "statements", "longest wait")
    return [
        " " * 18 + "".join(f"{head:>14}" for head in heads),
        f"{'direct':<18}" + _row(scene.direct.tally, paint, ""),
        f"{'through Backstay':<18}" + _row(scene.through.tally, paint, GREEN),
    ]


def _row(tally: Tally, paint: Paint, fine: str) -> str:
    """`fine`: the colour of no errors, if any."""
    errors = f"{tally.errors.total():>14}"
    colour = RED if tally.errors else fine
    counts = f"{tally.requests:>14}{tally.statements:>14}{tally.longest_s:>12.1f} s"
    return (paint(errors, colour) if colour else errors) + counts


def _redis(cache: CacheHalf, paint: Paint) -> list[str]:
    heads = f"{'errors':>8}{'requests':>10}{'reads':>8}{'upstream':>10}{'request':>11}{'again':>11}"
    return [
        f"{'Redis':<18}" + heads,
        f"{'direct':<18}" + _redis_row(cache.direct.tally, paint, ""),
        f"{'through Backstay':<18}" + _redis_row(cache.through.tally, paint, GREEN),
    ]


def _redis_row(tally: CacheTally, paint: Paint, fine: str) -> str:
    """Reads asked for, reads that reached the server; a request, and a read once more in it."""
    colour = RED if tally.errors else fine
    errors = f"{tally.errors:>8}"
    counts = f"{tally.requests:>10}{tally.reads:>8}{tally.upstream_reads:>10}"
    times = f"{tally.request_ms:>8.0f} ms{tally.repeat_ms:>8.2f} ms"
    return (paint(errors, colour) if colour else errors) + counts + times


def _strikes(scene: Scene) -> str:
    striker = scene.striker
    return f"{_count(striker.done.total(), 'strike')}, {_count(striker.links_cut, 'link')} cut"


def _kinds(scene: Scene) -> str:
    return ", ".join(f"{name} {count}" for name, count in scene.striker.done.items()) or "none"


def _done(scene: Scene) -> str:
    counts = scene.counts
    return (
        f"Backstay: {_count(counts['link_lost'], 'lost link')}, "
        f"{_count(counts['restored'], 'session')} restored, "
        f"{_count(counts['run_again'], 'statement')} run again"
    )


def _books(books: Balance) -> str:
    unknown = f", {books.unknown} of unknown outcome ({books.unknown_stored} stored)"
    return (
        f"{books.acknowledged} writes acknowledged, {books.lost} lost, {books.doubled} doubled"
        f"{unknown if books.unknown else ''}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _short(text: str) -> str:
    return text if len(text) <= ERROR_CHARS_MAX else text[: ERROR_CHARS_MAX - 1] + "…"
