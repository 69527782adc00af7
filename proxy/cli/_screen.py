"""The status of a running Backstay as lines of text, for `status` and `top`. Knows no I/O."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from proxy.core.reasons import in_words
from proxy.diagnose.units import clean, counted, duration, percent, size

Status = Mapping[str, Any]

_LEVELS = {"critical": "bold red", "warning": "bold yellow", "info": "cyan"}
_STATES = {"up": "green", "idle": "green", "paused": "yellow", "draining": "yellow", "away": "red"}
POOLS_MAX = 20


def lines(status: Status, before: Status | None = None) -> Iterator[Text]:
    """The whole picture. With the status of a moment `before`, rates per second too."""
    yield _head(status)
    for route in status["postgres"]:
        yield from _postgres(route, _same(route, before, "postgres"), _seconds(status, before))
    for route in status["redis"]:
        yield from _redis(route, _same(route, before, "redis"), _seconds(status, before))
    yield from _workers(status, before)
    yield _saved(status["saved"])
    yield from _findings(status["findings"])
    if status["incidents"]:
        yield _incident(status["incidents"][0], status["now_s"])


def _head(status: Status) -> Text:
    well = bool(status["well"])
    up = duration(status["uptime_s"])
    workers = len(status["workers"])
    text = Text()
    text.append(clean(status["summary"]), "bold green" if well else "bold red")
    text.append(f"  Backstay {clean(status['version'])}, {clean(status['state'])}, up {up}", "dim")
    if workers > 1:
        text.append(f", {workers} workers", "dim")
    return text


def _route_line(route: Status, kind: str) -> Text:
    state = route["state"]
    text = Text()
    text.append(f"{kind} {clean(route['name'])}: ", "bold")
    text.append(clean(state), _STATES.get(state, ""))
    if state == "away":
        text.append(f" for {duration(route['away_s'])}: {in_words(clean(route['reason']))}", "red")
    listens, upstream = (", ".join(map(clean, route[name])) for name in ("listen", "upstream"))
    text.append(f"  {listens} → {upstream}", "dim")
    return text


def _postgres(route: Status, before: Status | None, seconds: float) -> Iterator[Text]:
    yield _route_line(route, "postgres")
    rate = _rate(route["latency"]["server"]["count"], before, seconds, "latency", "server", "count")
    waiting = f"{route['waiting']} waiting" + (
        f" of {route['waiting_max']}" if route["waiting"] else ""
    )
    yield Text(
        f"  {route['clients']} of {counted(route['clients_max'], 'client')}, {waiting}{rate}"
    )
    pools = sorted(route["pools"], key=lambda pool: -pool["sessions_active"] - pool["links_active"])
    for pool in pools[:POOLS_MAX]:
        yield _pool(pool)
    if len(pools) > POOLS_MAX:
        yield Text(f"  {len(pools) - POOLS_MAX} more pools", "dim")
    yield from _latency(route)


def _pool(pool: Status) -> Text:
    text = Text(f"  {clean(pool['user'])}@{clean(pool['database'])}: ")
    text.append(
        f"sessions {pool['sessions_active']} active, {pool['sessions_idle']} idle"
        f"; links {pool['links_active']} active, {pool['links_idle']} idle, "
        f"{pool['links_opening']} opening, at most {pool['links_max']}"
    )
    if pool["sessions_waiting"]:
        longest = duration(pool["longest_wait_s"])
        text.append(f"; {pool['sessions_waiting']} waiting, the longest {longest}", "yellow")
    return text


def _latency(route: Status) -> Iterator[Text]:
    parts = []
    for name, label in (("server", "server"), ("proxy", "proxy"), ("wait", "wait for a link")):
        histogram = route["latency"][name]
        if histogram["count"]:
            p50, p99 = duration(histogram["p50_s"]), duration(histogram["p99_s"])
            parts.append(f"{label} p50 {p50}, p99 {p99}")
    if parts:
        yield Text("  " + "; ".join(parts))


def _redis(route: Status, before: Status | None, seconds: float) -> Iterator[Text]:
    yield _route_line(route, "redis")
    rate = _rate(route["commands"], before, seconds, "commands")
    links = ", ".join(
        f"{number} {clean(name)}" for name, number in route["links"].items() if number
    )
    yield Text(
        f"  {route['clients']} of {counted(route['clients_max'], 'client')}, "
        f"{route['waiting']} waiting; links: {links or 'none'}{rate}"
    )
    cache = route["cache"]
    if not cache["enabled"]:
        yield Text("  cache off", "dim")
    elif cache["refused"]:
        yield Text(f"  cache off: {clean(cache['refused'])}", "yellow")
    else:
        asked = cache["hits"] + cache["misses"]
        hit = percent(cache["hits"] / asked) if asked else "nothing asked yet"
        yield Text(
            f"  cache {hit} hits ({cache['negative_hits']} of keys that do not exist, "
            f"{cache['saved_repeats']} repeats); {counted(cache['entries'], 'key')}, "
            f"{size(cache['bytes'])} of {size(cache['max_bytes'])}"
            if asked
            else f"  cache: {hit}; {size(cache['max_bytes'])} at most"
        )
    yield from _latency(route)


def _workers(status: Status, before: Status | None) -> Iterator[Text]:
    """What the processes themselves need; more than one are told apart."""
    seconds = _seconds(status, before)
    older = {worker["number"]: worker for worker in before["workers"]} if before else {}
    several = len(status["workers"]) > 1
    for worker in status["workers"]:
        number = worker["number"]
        name = f"worker {number}" if several else "process"
        text = Text(f"{name} {worker['pid']}: {size(worker['rss_bytes'])}", "dim")
        if number in older and seconds > 0:
            used_s = max(0.0, worker["cpu_s"] - older[number]["cpu_s"])
            text.append(f", CPU {percent(used_s / seconds)}")
        if worker["recent_lag"]["count"]:
            text.append(f", loop late by {duration(worker['recent_lag']['p99_s'])} (p99)")
        if worker["bugs"]:
            text.append(f", {counted(worker['bugs'], 'bug')}: see the log", "bold red")
        yield text


def _saved(saved: Status) -> Text:
    return Text(
        f"drops absorbed {saved['drops_absorbed']}, errors answered {saved['errors_answered']}, "
        f"reads saved {saved['reads_saved']}"
    )


def _findings(findings: list[Status]) -> Iterator[Text]:
    for finding in findings:
        level = clean(finding["level"])
        where = f"{clean(finding['route'])}: " if finding["route"] else ""
        what = f" {where}{clean(finding['text'])}"
        yield Text.assemble((level.upper(), _LEVELS.get(level, "")), what)
        if finding["advice"]:
            yield Text(f"    → {clean(finding['advice'])}")


def _incident(incident: Status, now_s: float) -> Text:
    ago = duration(max(0.0, now_s - incident["started_s"]))
    over = incident["ended_s"] is not None
    lasted = duration((incident["ended_s"] if over else now_s) - incident["started_s"])
    text = Text("last incident: " if over else "incident: ", "dim" if over else "bold red")
    text.append(
        f"{clean(incident['route'])}, {ago} ago, {in_words(clean(incident['reason']))}: "
        f"{counted(incident['losses'], 'link')} lost, {counted(incident['sessions'], 'session')}, "
        f"longest wait {duration(incident['longest_wait_s'])}, "
        f"{counted(sum(incident['errors'].values()), 'error')} answered, "
        + (f"over after {lasted}" if over else f"for {lasted}"),
        "",
    )
    return text


# ---- rates --------------------------------------------------------------------------------------


def _same(route: Status, before: Status | None, kind: str) -> Status | None:
    if before is None:
        return None
    return next((other for other in before[kind] if other["name"] == route["name"]), None)


def _seconds(status: Status, before: Status | None) -> float:
    return status["now_s"] - before["now_s"] if before is not None else 0.0


def _rate(now: int, before: Status | None, seconds: float, *path: str) -> str:
    """`, 120/s`, or nothing without a moment before; after a restart counters begin anew."""
    if before is None or seconds <= 0:
        return ""
    value: Any = before
    for name in path:
        value = value[name]
    return f"; {max(0, now - value) / seconds:.0f}/s"
