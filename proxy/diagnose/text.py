"""The diagnosis for people: one block a target, the worst first. Readable without colour."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from proxy.diagnose.facts import ConnectTimes, Latency, PostgresFacts, RedisFacts
from proxy.diagnose.finding import Finding, Level
from proxy.diagnose.run import Diagnosis
from proxy.diagnose.units import clean, duration, percent, size

_STYLES = {Level.CRITICAL: "bold red", Level.WARNING: "bold yellow", Level.INFO: "cyan"}
MIN_WIDTH = 20


def show(console: Console, diagnoses: Sequence[Diagnosis]) -> None:
    """Print everything; on a terminal wrapped to its width, else a sentence a line."""
    for found in diagnoses:
        head = f"{found.target.kind} {found.target.name}: {found.target.place}"
        _print(console, Text(head, "bold"), 0)
        for label, text in _facts(found):
            _print(console, Text.assemble((f"{label}: ", "dim"), text), 2)
        if not found.findings:
            _print(console, Text("Nothing to complain about.", "green"), 2)
        for finding in found.findings:
            _show_finding(console, finding)
        console.print()
    _print(console, Text(_sum(diagnoses)), 0)


def _show_finding(console: Console, finding: Finding) -> None:
    name = (finding.level.value.upper(), _STYLES[finding.level])
    _print(console, Text.assemble(name, f" {finding.measured}"), 2)
    _print(console, Text(finding.meaning), 6)
    if finding.change is not None:
        _print(console, Text(f"→ {finding.change}", "bold"), 6)


def _print(console: Console, text: Text, indent: int) -> None:
    text.plain = clean(text.plain)  # the same length: what is styled stays where it is
    lines = [text]
    if console.is_terminal:
        lines = list(text.wrap(console, max(MIN_WIDTH, console.width - indent)))
    for line in lines:
        line.rstrip()
        console.print(Text.assemble(" " * indent, line), soft_wrap=True)


def _sum(diagnoses: Sequence[Diagnosis]) -> str:
    levels = [finding.level for found in diagnoses for finding in found.findings]
    names = ((Level.CRITICAL, "critical"), (Level.WARNING, "warning"), (Level.INFO, "info"))
    counts = ", ".join(f"{levels.count(level)} {name}" for level, name in names)
    return f"Findings: {counts}."


def _facts(found: Diagnosis) -> Iterator[tuple[str, str]]:
    facts = found.facts
    if facts.connect is not None:
        yield "connect", _connect(facts.connect)
    if facts.latency is not None:
        yield "round trip", _latency(facts.latency)
    if found.proxy is not None and found.proxy.latency is not None:
        yield "through Backstay", _latency(found.proxy.latency)
    if facts.tls.offered or facts.tls_used:
        used = facts.tls_used if found.served else None
        yield "TLS", _tls(found, used)
    if isinstance(facts, PostgresFacts):
        yield from _postgres(facts)
    else:
        yield from _redis(facts)


def _connect(times: ConnectTimes) -> str:
    steps = (
        ("DNS", times.dns_s),
        ("TCP", times.tcp_s),
        ("TLS", times.tls_s),
        ("login", times.login_s),
    )
    split = " + ".join(f"{name} {duration(s)}" for name, s in steps if s is not None)
    return f"{duration(times.total_s)} = {split}"


def _latency(latency: Latency) -> str:
    return (
        f"p50 {duration(latency.p50_s)}, p99 {duration(latency.p99_s)}, "
        f"max {duration(latency.max_s)} ({latency.samples} times)"
    )


def _tls(found: Diagnosis, used: bool | None) -> str:
    tls = found.facts.tls
    parts = [tls.version or "offered", tls.cipher]
    if used is False:
        parts.append("not used")
    parts.append("certificate fine" if tls.verified else f"certificate: {tls.why_not}")
    if tls.expires_days is not None:
        parts.append(f"{tls.expires_days:.0f} days left")
    return ", ".join(filter(None, parts))


def _postgres(facts: PostgresFacts) -> Iterator[tuple[str, str]]:
    if facts.version:
        role = "standby" if facts.in_recovery else "primary"
        yield "server", f"PostgreSQL {facts.version}, {role}"
    if facts.connections is not None and facts.usable is not None:
        limit = facts.number("max_connections")
        yield "connections", f"{facts.connections} of {limit}, {facts.reserved} reserved"
    if facts.sessions:
        states: dict[str, int] = {}
        for session in facts.sessions:
            states[session.state or "?"] = states.get(session.state or "?", 0) + 1
        oldest_s = max(session.backend_s or 0.0 for session in facts.sessions)
        counted = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        yield "other sessions", f"{counted}; the oldest {duration(oldest_s)}"


def _redis(facts: RedisFacts) -> Iterator[tuple[str, str]]:
    info = facts.info
    if "redis_version" in info:
        yield "server", f"Redis {info['redis_version']}, {info.get('role', '?')}"
    if "used_memory" in info:
        limit = float(info.get("maxmemory", "0"))
        share = percent(float(info["used_memory"]) / limit) if limit else "no maxmemory"
        policy = info.get("maxmemory_policy", "?")
        yield "memory", f"{size(float(info['used_memory']))} ({share}), {policy}"
    if "connected_clients" in info:
        yield "clients", f"{info['connected_clients']} of {info.get('maxclients', '?')}"
    hits, misses = (float(info.get(f"keyspace_{name}", "0")) for name in ("hits", "misses"))
    if hits + misses > 0:
        yield "reads", f"{percent(hits / (hits + misses))} found their key"
    if facts.tracking is not None:
        yield "client tracking", "refused" if facts.tracking else "available"
