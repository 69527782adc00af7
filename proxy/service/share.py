"""Limits shared out to workers: each gets its part, so that all together keep what is set. Pure.

A part is the whole divided, rounded down, and one more for the first workers while some is left;
at least 1. The kernel deals out connections, so a worker may be full while another is not.
"""

from collections.abc import Iterator
from dataclasses import replace

from proxy.redis.runtime.options import Limits
from proxy.settings.model import WORKERS_MAX, PostgresRoute, RedisRoute, Settings


def worker_count(settings: Settings, cores: int) -> int:
    """How many workers are wanted; auto is bounded by the smallest pool."""
    if settings.workers != "auto":
        return settings.workers
    return max(1, min([cores, WORKERS_MAX, *(route.pool.size for route in settings.postgres)]))


def part(total: int, index: int, count: int) -> int:
    """Worker `index`'s part (0 …) of a limit shared by `count`; 0 stays 0."""
    whole, rest = divmod(total, count)
    return max(min(total, 1), whole + (index < rest))


def shared(settings: Settings, index: int, count: int) -> Settings:
    """The settings of one worker of several."""
    return settings.model_copy(
        update={
            "postgres": tuple(_postgres(route, index, count) for route in settings.postgres),
            "redis": tuple(_redis(route, index, count) for route in settings.redis),
        }
    )


def _postgres(route: PostgresRoute, index: int, count: int) -> PostgresRoute:
    pool, resilience = route.pool, route.resilience
    parts = {
        name: part(getattr(pool, name), index, count)
        for name in ("size", "warm", "clients", "connect_parallel")
    }
    pace = {"connects_per_s": pool.connects_per_s / count}
    hold = {"hold_clients": part(resilience.hold_clients, index, count)}
    return route.model_copy(
        update={
            "pool": pool.model_copy(update={**parts, **pace}),
            "resilience": resilience.model_copy(update=hold),
        }
    )


def _redis(route: RedisRoute, index: int, count: int) -> RedisRoute:
    cache = route.cache
    most = part(cache.max_bytes, index, count)
    update = {"max_bytes": most, "max_entry_bytes": min(cache.max_entry_bytes, most)}
    return route.model_copy(
        update={
            "clients": part(route.clients, index, count),
            "cache": cache.model_copy(update=update),
        }
    )


def divided(limits: Limits, index: int, count: int) -> Limits:
    """The bounds of a Redis route that no setting names, as one worker of several has them.

    Shared out is what adds up: memory of what waits, links and dials that the server sees. What
    bounds one link or one client stays; and `partitions_max`, as every worker meets all users.
    """
    if count == 1:
        return limits
    return replace(
        limits,
        hold_commands_max=part(limits.hold_commands_max, index, count),
        hold_bytes_max=part(limits.hold_bytes_max, index, count),
        exclusive_links_max=part(limits.exclusive_links_max, index, count),
        dials_per_s=limits.dials_per_s / count,
        dials_burst=part(limits.dials_burst, index, count),
    )


def told(settings: Settings, count: int) -> dict[str, str]:
    """For the log: each limit that is shared, and the parts, as `20 = 7 + 7 + 6`."""
    return {path: _sum(total, count) for path, total in _limits(settings)}


def _limits(settings: Settings) -> Iterator[tuple[str, int]]:
    for postgres in settings.postgres:
        at, pool = f"postgres.{postgres.name}", postgres.pool
        yield f"{at}.pool.size", pool.size
        yield f"{at}.pool.warm", pool.warm
        yield f"{at}.pool.clients", pool.clients
        yield f"{at}.resilience.hold_clients", postgres.resilience.hold_clients
    for redis in settings.redis:
        yield f"redis.{redis.name}.clients", redis.clients
        if redis.cache.enabled:
            yield f"redis.{redis.name}.cache.max_bytes", redis.cache.max_bytes


def _sum(total: int, count: int) -> str:
    parts = [part(total, index, count) for index in range(count)]
    return f"{total} = {' + '.join(map(str, parts))}" if sum(parts) == total else f"{parts} each"
