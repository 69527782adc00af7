"""What a Redis server's facts mean. Pure: facts in, findings out."""

import re
from collections.abc import Callable, Iterator

from proxy.diagnose.facts import RedisFacts
from proxy.diagnose.finding import Change, Finding, Level, Number
from proxy.diagnose.path_rules import connect_rules, latency_rules, place, tls_rules
from proxy.diagnose.targets import RedisTarget
from proxy.diagnose.units import counted, duration, percent, size

MEMORY_WARNING, MEMORY_CRITICAL = 0.85, 0.95
SYSTEM_SHARE_MAX = 0.75
CLIENTS_WARNING, CLIENTS_CRITICAL = 0.8, 0.95
FRAGMENTED_RATIO = 1.5
FRAGMENTED_BYTES_MIN = 256 << 20
TRACKING_SINCE = (7, 0)
CONF = "redis.conf"

Rule = Callable[[RedisTarget, RedisFacts], Iterator[Finding]]


def redis_findings(target: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    """All findings about a server that let us in."""
    yield from tls_rules(target, facts.tls, facts.tls_used)
    yield from connect_rules(target, facts.connect)
    yield from latency_rules(target, facts.latency)
    for rule in _RULES:
        yield from rule(target, facts)


def _number(facts: RedisFacts, *names: str) -> float | None:
    """The first of these fields that INFO or CONFIG has."""
    for name in names:
        text = facts.info.get(name, facts.config.get(name, ""))
        if re.fullmatch(r"-?\d+(\.\d+)?", text):
            return float(text)
    return None


# ---- memory -------------------------------------------------------------------------------------


def _memory(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    used, limit = _number(facts, "used_memory"), _number(facts, "maxmemory")
    if used is None or limit is None:
        return
    total = _number(facts, "total_system_memory")
    if limit == 0:
        yield _no_limit(used, total)
        return
    policy = facts.info.get("maxmemory_policy", facts.config.get("maxmemory-policy", ""))
    stops = _stops(facts, policy)
    share = used / limit
    if stops and share >= MEMORY_WARNING:
        yield Finding(
            level=Level.CRITICAL if share >= MEMORY_CRITICAL else Level.WARNING,
            check="redis.memory",
            measured=f"{size(used)} of {size(limit)} are used ({percent(share)}), and {stops}.",
            meaning="When it is full every write fails with -OOM.",
            change=Change(CONF, "maxmemory-policy", "allkeys-lru (for a cache), or more maxmemory"),
            number=Number(round(share * 100, 1), "%"),
        )
    elif stops:
        yield Finding(
            level=Level.WARNING,
            check="redis.eviction",
            measured=f"maxmemory is {size(limit)} ({percent(share)} used), and {stops}.",
            meaning="When it is full every write fails with -OOM instead of old keys going.",
            change=Change(CONF, "maxmemory-policy", "allkeys-lru, if this Redis is a cache"),
            number=Number(round(share * 100, 1), "%"),
        )
    if total and limit > SYSTEM_SHARE_MAX * total:
        yield Finding(
            level=Level.WARNING,
            check="redis.maxmemory",
            measured=f"maxmemory is {size(limit)} of the machine's {size(total)} "
            f"({percent(limit / total)}).",
            meaning="Fragmentation, client buffers and the copy while saving come on top: the "
            "machine swaps, or its OOM killer ends Redis.",
            change=Change(CONF, "maxmemory", f"at most {size(SYSTEM_SHARE_MAX * total)}"),
            number=Number(round(100 * limit / total, 1), "%"),
        )


def _no_limit(used: float, total: float | None) -> Finding:
    of = f" of the machine's {size(total)}" if total else ""
    suggested = f"{int((total or 2 << 30) * 0.6) >> 20}mb"
    return Finding(
        level=Level.WARNING,
        check="redis.maxmemory",
        measured=f"maxmemory is not set; {size(used)}{of} are used.",
        meaning="Redis grows until the machine's OOM killer ends it, with everything in it.",
        change=Change(CONF, "maxmemory", f"{suggested}, and maxmemory-policy"),
        number=Number(used, "bytes"),
    )


def _stops(facts: RedisFacts, policy: str) -> str:
    """Why nothing is evicted when memory is full; "" if something is."""
    if policy == "noeviction":
        return "maxmemory-policy is noeviction"
    spaces = [name[:-5] for name in facts.info if re.fullmatch(r"db\d+\.keys", name)]
    expiring = sum(int(facts.info.get(f"{space}.expires", "0")) for space in spaces)
    if policy.startswith("volatile-") and spaces and not expiring:
        return f"maxmemory-policy is {policy} while no key has a TTL"
    return ""


def _fragmentation(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    ratio, used = _number(facts, "mem_fragmentation_ratio"), _number(facts, "used_memory")
    if ratio and used and ratio > FRAGMENTED_RATIO and used > FRAGMENTED_BYTES_MIN:
        yield Finding(
            level=Level.INFO,
            check="redis.fragmentation",
            measured=f"{size(used)} of data take {ratio:g} times as much memory.",
            meaning="The difference is lost to fragmentation, outside maxmemory.",
            change=Change(CONF, "activedefrag", "yes"),
            number=Number(ratio, "ratio"),
        )


def _evictions(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    evicted = _number(facts, "evicted_keys") or 0
    if evicted:
        uptime_s = _number(facts, "uptime_in_seconds") or 0
        yield Finding(
            level=Level.INFO,
            check="redis.evicted",
            measured=f"{counted(evicted, 'key')} evicted in {duration(uptime_s)}.",
            meaning="The data does not fit: what was evicted is read from the database again.",
            change=Change(CONF, "maxmemory", "more, if the misses hurt"),
            number=Number(evicted, "keys"),
        )


# ---- clients ------------------------------------------------------------------------------------


def _clients(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    connected, limit = _number(facts, "connected_clients"), _number(facts, "maxclients")
    if connected is not None and limit:
        share = connected / limit
        if share >= CLIENTS_WARNING:
            yield Finding(
                level=Level.CRITICAL if share >= CLIENTS_CRITICAL else Level.WARNING,
                check="redis.clients",
                measured=f"{connected:.0f} of {limit:.0f} connections are taken "
                f"({percent(share)}).",
                meaning="Then new ones are refused with `max number of clients reached`.",
                change=Change(
                    "the application", "REDIS_URL", "through Backstay: clients share links"
                ),
                number=Number(round(100 * share, 1), "%"),
            )
    rejected = _number(facts, "rejected_connections") or 0
    if rejected:
        yield Finding(
            level=Level.WARNING,
            check="redis.rejected",
            measured=f"{counted(rejected, 'connection')} refused because of maxclients.",
            meaning="Applications saw errors.",
            change=Change(CONF, "maxclients", "more"),
            number=Number(rejected, "connections"),
        )


def _idle_timeout(target: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    limit_s = _number(facts, "timeout")
    if not limit_s:
        return
    ping_s = target.route.keepalive.ping_s if target.route is not None else 5.0
    kept = 0 < ping_s < limit_s
    yield Finding(
        level=Level.INFO if kept else Level.WARNING,
        check="redis.timeout",
        measured=f"Redis closes clients that are silent for {duration(limit_s)}.",
        meaning=f"Backstay's links are asked PING every {ping_s:g} s and stay; the application's "
        "own die."
        if kept
        else "Idle links die and are opened again, each time.",
        change=None
        if kept
        else Change(place(target), "keepalive.ping_s", f"{max(1, int(limit_s / 2))}"),
        number=Number(limit_s, "s"),
    )


# ---- the cache ----------------------------------------------------------------------------------


def _tracking(target: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    text = facts.info.get("redis_version", "")
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    enabled = target.route is None or target.route.cache.enabled
    if not enabled:
        return
    old = bool(version) and version < TRACKING_SINCE
    if old or facts.tracking:
        why = f"Redis is {text}" if old else f"CLIENT TRACKING is refused: {facts.tracking}"
        yield Finding(
            level=Level.WARNING,
            check="redis.tracking",
            measured=f"{why}.",
            meaning="Backstay's cache stays off: every repeated read is a round trip.",
            change=Change("the server", "its version", "7.0 or newer")
            if old
            else Change(
                "ACL of the user",
                "rules",
                "+hello +client|tracking +client|trackinginfo +client|caching",
            ),
            number=Number(
                float(f"{version[0]}.{version[1]}") if len(version) == 2 else 0, "version"
            ),
        )


# ---- work ---------------------------------------------------------------------------------------


def _slow(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    if not facts.slow:
        return
    worst = max(facts.slow, key=lambda entry: entry[1])
    names = ", ".join(f"{name} {duration(took_s)}" for name, took_s in facts.slow)
    yield Finding(
        level=Level.WARNING if worst[1] >= 0.1 else Level.INFO,
        check="redis.slowlog",
        measured=f"{counted(facts.slow_count, 'slow command')} in the slow log, the newest: "
        f"{names}.",
        meaning="Redis runs one command at a time: everybody waits while these run.",
        change=Change("the application", worst[0], "smaller pieces (SCAN, UNLINK, ranges)"),
        number=Number(round(worst[1], 6), "s"),
    )


def _persistence(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    info = facts.info
    if info.get("loading") == "1":
        yield Finding(
            level=Level.CRITICAL,
            check="redis.loading",
            measured="Redis is loading its data.",
            meaning="Everything is answered with -LOADING until then; Backstay holds commands.",
            change=None,
            number=Number(_number(facts, "loading_eta_seconds") or 0, "s"),
        )
    for field, what in (
        ("rdb_last_bgsave_status", "The last save to disk failed."),
        ("aof_last_write_status", "The last write to the append-only file failed."),
    ):
        if info.get(field, "ok") != "ok":
            yield Finding(
                level=Level.CRITICAL,
                check="redis.persistence",
                measured=what,
                meaning="With stop-writes-on-bgsave-error every write is refused with -MISCONF, "
                "and what was not saved is lost at a restart.",
                change=Change("the server", "disk space and permissions of its dir"),
                number=Number(_number(facts, "rdb_changes_since_last_save") or 0, "changes"),
            )


def _replica(target: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    if facts.info.get("role") != "slave":
        return
    link = facts.info.get("master_link_status", "")
    yield Finding(
        level=Level.CRITICAL if link == "down" else Level.WARNING,
        check="redis.role",
        measured=f"{target.place} is a replica"
        + (", and its link to the primary is down." if link == "down" else "."),
        meaning="Writes are refused with -READONLY"
        + (", reads are stale." if link == "down" else "."),
        change=Change(target.source, "the URL", "the primary's address"),
        number=Number(_number(facts, "master_link_down_since_seconds") or 0, "s"),
    )


def _mode(target: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    mode = facts.info.get("redis_mode", "standalone")
    if mode == "cluster":
        yield Finding(
            level=Level.WARNING,
            check="redis.mode",
            measured=f"{target.place} is a node of a Redis Cluster.",
            meaning="It answers -MOVED for keys of other nodes. Backstay passes that on, and "
            "cluster clients then connect past it.",
            change=Change("the application", "REDIS_URL", "directly, or a Redis without Cluster"),
        )
    elif mode == "sentinel":
        yield Finding(
            level=Level.CRITICAL,
            check="redis.mode",
            measured=f"{target.place} is a Sentinel, not a Redis.",
            meaning="It knows where Redis is, and holds no data.",
            change=Change(target.source, "the URL", "the address Sentinel names as the primary"),
        )


def _unseen(_: RedisTarget, facts: RedisFacts) -> Iterator[Finding]:
    if not facts.info:
        yield Finding(
            level=Level.INFO,
            check="redis.visibility",
            measured="This user may not ask INFO.",
            meaning="Memory, clients and persistence were not looked at.",
            change=Change(
                "ACL of the user", "rules", "+info +config|get +slowlog|get +slowlog|len"
            ),
            number=Number(0, "fields"),
        )


_RULES: tuple[Rule, ...] = (
    _mode,
    _persistence,
    _replica,
    _memory,
    _clients,
    _tracking,
    _idle_timeout,
    _slow,
    _fragmentation,
    _evictions,
    _unseen,
)
