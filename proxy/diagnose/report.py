"""The diagnosis for machines, and the exit code.

The JSON is stable: names stay, and what is new comes beside them; `schema` counts what breaks.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from proxy.diagnose.facts import (
    ConnectTimes,
    Failure,
    IdleFacts,
    Latency,
    PostgresFacts,
    ProxyFacts,
    RedisFacts,
)
from proxy.diagnose.finding import Finding, Level, ranked
from proxy.diagnose.run import Diagnosis

SCHEMA = 1
EXIT_FINE, EXIT_CRITICAL, EXIT_UNREACHABLE = 0, 1, 69

_REDIS_INFO = (
    "redis_version",
    "role",
    "uptime_in_seconds",
    "used_memory",
    "maxmemory",
    "maxmemory_policy",
    "total_system_memory",
    "mem_fragmentation_ratio",
    "connected_clients",
    "maxclients",
    "evicted_keys",
    "rejected_connections",
    "keyspace_hits",
    "keyspace_misses",
    "loading",
    "rdb_last_bgsave_status",
    "aof_last_write_status",
)


def exit_code(diagnoses: Sequence[Diagnosis]) -> int:
    """69: no target could be reached at all; 1: something critical; 0: neither."""
    if diagnoses and not any(found.reached or _serves(found.proxy) for found in diagnoses):
        return EXIT_UNREACHABLE
    return EXIT_CRITICAL if _counts(diagnoses)[Level.CRITICAL.value] else EXIT_FINE


def _serves(proxy: ProxyFacts | None) -> bool:
    return proxy is not None and proxy.latency is not None


def as_json(diagnoses: Sequence[Diagnosis], version: str) -> dict[str, Any]:
    """Everything, as plain data. Durations in seconds."""
    everything = [(found.target.name, finding) for found in diagnoses for finding in found.findings]
    order = {id(finding): index for index, finding in enumerate(ranked(f for _, f in everything))}
    everything.sort(key=lambda item: order[id(item[1])])
    return {
        "schema": SCHEMA,
        "version": version,
        "exit_code": exit_code(diagnoses),
        "counts": _counts(diagnoses),
        "targets": [_target(found) for found in diagnoses],
        "findings": [_finding(name, finding) for name, finding in everything],
    }


def _counts(diagnoses: Sequence[Diagnosis]) -> dict[str, int]:
    counts = {level.value: 0 for level in Level}
    for found in diagnoses:
        for finding in found.findings:
            counts[finding.level.value] += 1
    return counts


def _finding(target: str, finding: Finding) -> dict[str, Any]:
    change, number = finding.change, finding.number
    return {
        "level": finding.level.value,
        "target": target,
        "check": finding.check,
        "measured": finding.measured,
        "meaning": finding.meaning,
        "change": asdict(change) if change is not None else None,
        "number": asdict(number) if number is not None else None,
    }


def _target(found: Diagnosis) -> dict[str, Any]:
    facts = found.facts
    told: dict[str, Any] = {
        "name": found.target.name,
        "kind": found.target.kind,
        "address": str(found.target.place),
        "source": found.target.source,
        "reached": found.reached,
        "served": found.served,
        "connect": _connect(facts.connect),
        "latency": _latency(facts.latency),
        "tls": {"used": facts.tls_used if found.served else None, **asdict(facts.tls)},
        "proxy": _proxy(found),
        "idle": _idle(found.idle),
    }
    told["server"] = _postgres(facts) if isinstance(facts, PostgresFacts) else _redis(facts)
    return told


def _connect(times: ConnectTimes | None) -> dict[str, float | None] | None:
    return {**asdict(times), "total_s": times.total_s} if times is not None else None


def _latency(latency: Latency | None) -> dict[str, float] | None:
    return asdict(latency) if latency is not None else None


def _proxy(found: Diagnosis) -> dict[str, Any] | None:
    proxy = found.proxy
    if proxy is None or found.target.route is None:
        return None
    return {
        "listen": str(found.target.route.listen[0]),
        "runs": proxy.failure is None or proxy.failure.stage != "tcp",
        "connect": _connect(proxy.connect),
        "latency": _latency(proxy.latency),
        "failure": _failure(proxy),
    }


def _failure(proxy: ProxyFacts) -> dict[str, Any] | None:
    failure: Failure | None = proxy.failure
    return asdict(failure) if failure is not None else None


def _idle(idle: IdleFacts | None) -> dict[str, Any] | None:
    return asdict(idle) if idle is not None else None


def _postgres(facts: PostgresFacts) -> dict[str, Any]:
    states: dict[str, int] = {}
    for session in facts.sessions or ():
        state = session.state or "unknown"
        states[state] = states.get(state, 0) + 1
    return {
        "version": facts.version,
        "user": facts.user,
        "database": facts.database,
        "in_recovery": facts.in_recovery,
        "connections": facts.connections,
        "sessions": states if facts.sessions is not None else None,
        "sessions_hidden": facts.hidden,
        "oldest_session_s": max((s.backend_s or 0.0 for s in facts.sessions or ()), default=None),
        "settings": facts.settings,
        "pooler": {**asdict(facts.pooler), "transaction": facts.pooler.transaction}
        if facts.pooler is not None
        else None,
    }


def _redis(facts: RedisFacts) -> dict[str, Any]:
    return {
        "info": {name: facts.info[name] for name in _REDIS_INFO if name in facts.info},
        "config": facts.config,
        "tracking": None if facts.tracking is None else not facts.tracking,
        "slowlog": facts.slow_count if facts.slow is not None else None,
    }
