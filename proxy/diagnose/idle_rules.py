"""What the idle probe means: how long the path lets a link be silent, and the keepalive for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.diagnose.facts import IdleFacts, IdleLink
from proxy.diagnose.finding import Change, Finding, Level, Number
from proxy.diagnose.path_rules import place
from proxy.diagnose.targets import URLS, Target
from proxy.diagnose.units import counted, duration

_ENDS = {
    "fin": "closed in good order (FIN)",
    "rst": "reset (RST)",
    "silence": "dropped in silence: nothing comes back any more",
}
DEFAULT_PING_S = {"postgres": 25.0, "redis": 5.0}
DEFAULT_IDLE_S = {"postgres": 15, "redis": 10}


@dataclass(frozen=True, slots=True)
class Limit:
    """The longest silence the path allows is between `lives_s` and `dies_s`."""

    lives_s: float
    dies_s: float
    ended: str
    words: str


def limit_of(facts: IdleFacts) -> Limit | None:
    """None if no link died."""
    alone = [link for link in facts.links if link.care == "none"]
    dead = [link for link in alone if link.ended]
    if not dead:
        return None
    first = min(dead, key=lambda link: link.idle_s)
    lives_s = max((link.idle_s for link in alone if not link.ended), default=0.0)
    return Limit(min(lives_s, first.idle_s), first.idle_s, first.ended, first.words)


def advice_s(limit: Limit) -> float:
    """How often a link must be used: half of what surely lives, a second at least."""
    return max(1.0, float(int(max(limit.lives_s, limit.dies_s / 2) / 2)))


def idle_findings(target: Target, facts: IdleFacts) -> Iterator[Finding]:
    """What the probe found, and what to set."""
    limit = limit_of(facts)
    if limit is None:
        yield Finding(
            level=Level.INFO,
            check=f"{target.kind}.idle_path",
            measured=f"Links that were idle for up to {duration(facts.until_s)} all lived.",
            meaning="The path has no shorter limit on silence.",
            number=Number(facts.until_s, "s"),
        )
        return
    care = {link.care: link for link in facts.links if link.care != "none"}
    ping_s, _ = _current(target)
    kept = 0 < ping_s < limit.dies_s
    said = f" The server's last words: {limit.words}." if limit.words else ""
    seen = limit.ended != "silence"
    when = (
        f"after {duration(limit.dies_s)}"
        if seen
        else f"between {duration(limit.lives_s)} and {duration(limit.dies_s)}"
    )
    yield Finding(
        level=Level.WARNING if kept else Level.CRITICAL,
        check=f"{target.kind}.idle_path",
        measured=f"Idle links are {_ENDS[limit.ended]} {when}.{said} {_helps(care)}",
        meaning="An application's pool hands out the corpse, and the next request fails. "
        + _with_ping(ping_s, limit.dies_s),
        change=_keepalive(target, advice_s(limit)),
        number=Number(limit.dies_s, "s"),
    )


def idle_refused(target: Target, free: int) -> Finding:
    """The probe would have taken what the application needs."""
    return Finding(
        level=Level.INFO,
        check=f"{target.kind}.idle_path",
        measured=f"The idle probe was left out: {counted(free, 'connection')} free.",
        meaning="It needs some of its own, and the application comes first.",
        number=Number(free, "connections"),
    )


def _with_ping(ping_s: float, dies_s: float) -> str:
    if not ping_s:
        return "Backstay's ping is off: lost links are replaced, each time."
    each = f"Backstay's ping every {ping_s:g} s"
    if ping_s < dies_s:
        return f"{each} keeps its links; direct connections die."
    return f"{each} comes too late: lost links are replaced, each time."


def _keepalive(target: Target, set_s: float) -> Change:
    """The settings that keep links alive; where they do already, only the application is left."""
    ping_s, idle_s = _current(target)
    if target.route is not None and 0 < ping_s <= set_s and idle_s <= set_s:
        return Change(URLS[target.kind], "host and port", str(target.route.listen[0]))
    wanted = f"{{idle_s: {min(idle_s, int(set_s))}, ping_s: {min(ping_s or set_s, set_s):g}}}"
    return Change(place(target), "keepalive", wanted)


def _helps(care: dict[str, IdleLink]) -> str:
    ping, keepalive = care.get("ping"), care.get("keepalive")
    if keepalive is not None and not keepalive.ended:
        return "TCP keepalive each second kept one alive."
    if ping is not None and not ping.ended:
        return "TCP keepalive did not help; a request each second did."
    return "Not even a request each second kept one alive: the limit is on age, not on silence."


def _current(target: Target) -> tuple[float, int]:
    if target.route is None:
        return DEFAULT_PING_S[target.kind], DEFAULT_IDLE_S[target.kind]
    return target.route.keepalive.ping_s, target.route.link_keepalive.idle_s
