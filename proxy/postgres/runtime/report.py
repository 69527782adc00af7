"""A PostgreSQL route's report: made when somebody asks, from what the runtime holds anyway.

Costs about a microsecond a session; nothing is kept between two reports.
"""

import asyncio
from dataclasses import fields

from proxy.core.report import PoolReport, PostgresReport
from proxy.postgres.runtime.counters import Counters
from proxy.postgres.runtime.detail import state_of
from proxy.postgres.runtime.link import Phase as LinkPhase
from proxy.postgres.runtime.pool import Pool
from proxy.postgres.runtime.route import PostgresRoute


def report(route: PostgresRoute) -> PostgresReport:
    """The route as it is now. `listen` is the service's to fill in."""
    options, upstream = route.options, route.upstream
    now_s = asyncio.get_running_loop().time()
    state = _state(route)
    away_s = now_s - upstream.down_since_s if upstream.down_since_s is not None else 0.0
    return PostgresReport(
        name=options.name,
        upstream=[str(host.address) for host in options.upstream.hosts],
        state=state,
        reason=str(upstream.last_reason or "") if state == "away" else "",
        away_s=away_s,
        clients=len(route.sessions),
        clients_max=options.pool.clients,
        waiting=route.hold.count,
        waiting_max=route.hold.limit,
        pooler=upstream.pooler_seen,
        pools=_pools(route, now_s),
        counts=_counts(route),
        losses={str(reason): count for reason, count in route.losses.items()},
        errors={str(reason): count for reason, count in route.errors.items()},
        latency=route.latency,
    )


def _state(route: PostgresRoute) -> str:
    if route.draining:
        return "draining"
    if route.gate.is_shut:
        return "paused"
    if not route.upstream.available:
        return "away"
    return "up" if route.upstream.opens else "idle"


def _counts(route: PostgresRoute) -> dict[str, int]:
    counters = route.counters
    counts = {field.name: getattr(counters, field.name) for field in fields(Counters)}
    counts["units"] += sum(session.expected.transactions for session in route.sessions)
    links = [link for pool in route.pools.values() for link in pool.links if not link.closed]
    traffic = route.upstream.traffic
    counts["bytes_sent"] = traffic.sent + sum(link.given_bytes for link in links)
    counts["bytes_received"] = traffic.received + sum(link.got_bytes for link in links)
    counts["links_opened"] = route.upstream.opens
    counts["connects_failed"] = route.upstream.failures
    return counts


def _pools(route: PostgresRoute, now_s: float) -> list[PoolReport]:
    """One entry for each user and database; pools that differ in the secret only are one."""
    found: dict[tuple[bytes, bytes], PoolReport] = {}
    for pool in route.pools.values():
        _add_links(_entry(found, pool, route), pool, now_s)
    for session in route.sessions:
        entry = _entry(found, session.pool, route)
        state = state_of(session)
        if state == "waiting":
            entry.sessions_waiting += 1
        elif state == "active":
            entry.sessions_active += 1
        else:
            entry.sessions_idle += 1
    return list(found.values())


def _entry(
    found: dict[tuple[bytes, bytes], PoolReport], pool: Pool, route: PostgresRoute
) -> PoolReport:
    key = (pool.key.user, pool.key.database)
    entry = found.get(key)
    if entry is None:
        user, database = (name.decode("utf-8", "replace") for name in key)
        entry = found[key] = PoolReport(user, database, links_max=route.options.pool.size)
    return entry


def _add_links(entry: PoolReport, pool: Pool, now_s: float) -> None:
    entry.links_opening += pool.dialing
    for link in pool.links:
        if link.phase is LinkPhase.ATTACHED:
            entry.links_active += 1
        elif link.phase is LinkPhase.IDLE:
            entry.links_idle += 1
        else:
            entry.links_opening += 1
    entry.longest_wait_s = max(entry.longest_wait_s, pool.longest_wait_s(now_s))
