"""A Redis route's report: made when somebody asks, from what the runtime holds anyway.

Keys leave as shapes (`insight.masked`); `full_keys` is for an operator who has shown the token.
"""

from collections.abc import Iterable

from proxy.core.report import CacheReport, KeyCount, RedisReport
from proxy.redis.protocol.actions import Phase
from proxy.redis.protocol.insight import shapes
from proxy.redis.protocol.partitions import Partitions
from proxy.redis.runtime.exclusive import ExclusiveLink
from proxy.redis.runtime.link import DataLink
from proxy.redis.runtime.route import RedisRoute
from proxy.redis.runtime.tracking import TrackingLink

KEYS_MAX = 20  # of each list


def report(route: RedisRoute, full_keys: bool = False) -> RedisReport:
    """The route as it is now. `listen` is the service's to fill in."""
    options = route.options
    since_s = route.away_since_s
    state = _state(route)
    lanes = [lane for partition in route.partitions for lane in partition.lanes]
    counts = route.counters.as_dict()
    clients, commands = counts.pop("clients"), counts.pop("commands")
    return RedisReport(
        name=options.name,
        upstream=[str(options.address)],
        state=state,
        reason=str(route.away_for or "") if state == "away" else "",
        away_s=route.loop.time() - since_s if since_s is not None else 0.0,
        clients=clients,
        clients_max=options.limits.clients_max,
        waiting=sum(lane.queue.commands for lane in lanes if lane.link is None),
        waiting_max=options.limits.hold_commands_max,
        links=_links(route),
        partitions=len(route.partitions),
        commands=commands,
        counts=counts,
        losses={str(reason): count for reason, count in route.losses.items()},
        errors={str(reason): count for reason, count in route.errors.items()},
        cache=_cache(route, route.caches, full_keys) if route.caches else CacheReport(),
        latency=route.latency,
    )


def _state(route: RedisRoute) -> str:
    if route.draining:
        return "draining"
    if route.gate.is_shut:
        return "paused"
    if not route.is_upstream_up:
        return "away"
    return "up" if route.counters.links_opened else "idle"


def _links(route: RedisRoute) -> dict[str, int]:
    """Links by what they are for."""
    kinds = {"data": 0, "bulk": 0, "tracking": 0, "exclusive": 0, "parked": 0}
    for link in route.links:
        match link:
            case DataLink():
                kinds["bulk" if link.lane.bulk else "data"] += 1
            case TrackingLink():
                kinds["tracking"] += 1
            case ExclusiveLink():
                kinds["exclusive" if link.owner is not None else "parked"] += 1
    return kinds


def _cache(route: RedisRoute, caches: Partitions, full_keys: bool) -> CacheReport:
    seen, insight, budget = caches.report(), caches.insight, caches.budget

    def shown(keys: Iterable[tuple[bytes, int]]) -> list[KeyCount]:
        return _shown(keys, full_keys)

    return CacheReport(
        enabled=True,
        refused=_refusal(route),
        entries=budget.entries,
        bytes=budget.used_bytes,
        max_bytes=budget.bytes_max,
        hits=seen.hits,
        negative_hits=seen.negative_hits,
        misses=seen.misses,
        coalesced=seen.coalesced,
        stale_served=insight.stale_served,
        saved_repeats=seen.saved_repeats,
        invalidations=insight.invalidations,
        evictions=budget.evicted,
        bypassed=seen.bypassed,
        top_keys=shown(seen.top_keys),
        repeated_keys=shown(seen.repeated_keys),
        missing_keys=shown(seen.missing_keys),
        refilled_keys=shown(seen.refilled_keys),
    )


def _refusal(route: RedisRoute) -> str:
    """Why nothing is cached, if that is so for every partition that has clients."""
    caches = [partition.tracker.cache for partition in route.partitions if partition.tracker]
    refused = [cache.refusal for cache in caches if cache.phase is Phase.REFUSED]
    return refused[0] if refused and len(refused) == len(caches) else ""


def _shown(keys: Iterable[tuple[bytes, int]], full: bool) -> list[KeyCount]:
    """The keys, or their shapes: keys of one shape are one line."""
    if full:
        named = [(key[:256].decode("utf-8", "backslashreplace"), count) for key, count in keys]
    else:
        named = shapes(keys)
    return [KeyCount(name, count) for name, count in named[:KEYS_MAX]]
