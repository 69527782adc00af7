"""Facts of Redis to findings, for what no server on this machine can show."""

import pytest

from proxy.diagnose.facts import RedisFacts, TlsFacts
from proxy.diagnose.finding import Finding, Level
from proxy.diagnose.redis_rules import redis_findings
from proxy.diagnose.targets import RedisTarget
from proxy.settings.load import load_text
from proxy.settings.urls import parse_redis_url

ROUTE = "redis:\n  - upstream: redis://localhost\n    keepalive: {ping_s: 5}\n"
GB = 1 << 30


def target(url: str = "redis://127.0.0.1", route: str = "") -> RedisTarget:
    own = load_text(route, "f.yaml", {}).redis[0] if route else None
    upstream = own.upstream if own is not None else parse_redis_url(url)
    return RedisTarget(name="cache", upstream=upstream, source="f.yaml", route=own)


def found(where: RedisTarget | None = None, **info: object) -> dict[str, Finding]:
    facts = RedisFacts(info={name: str(value) for name, value in info.items()}, tracking="")
    facts.info.setdefault("redis_version", "7.2.4")
    return {finding.check: finding for finding in redis_findings(where or target(), facts)}


def test_memory() -> None:
    limits = {"maxmemory": GB, "maxmemory_policy": "noeviction", "total_system_memory": 8 * GB}
    assert found(used_memory=GB // 2, **limits)["redis.eviction"].level is Level.WARNING
    assert found(used_memory=int(GB * 0.9), **limits)["redis.memory"].level is Level.WARNING
    full = found(used_memory=int(GB * 0.97), **limits)["redis.memory"]
    assert full.level is Level.CRITICAL
    assert full.measured == (
        "993 MiB of 1 GiB are used (97 %), and maxmemory-policy is noeviction."
    )
    limits["maxmemory_policy"] = "allkeys-lfu"
    assert not found(used_memory=GB, **limits)


def test_a_share_of_the_machine() -> None:
    limits = {"maxmemory": 7 * GB, "maxmemory_policy": "allkeys-lru"}
    big = found(used_memory=GB, total_system_memory=8 * GB, **limits)["redis.maxmemory"]
    assert big.measured == "maxmemory is 7 GiB of the machine's 8 GiB (88 %)."
    assert str(big.change) == "redis.conf: maxmemory = at most 6 GiB"
    assert not found(used_memory=GB, total_system_memory=10 * GB, **limits)


def test_no_limit_without_knowing_the_machine() -> None:
    one = found(used_memory=GB, maxmemory=0)["redis.maxmemory"]
    assert one.measured == "maxmemory is not set; 1 GiB are used."


@pytest.mark.parametrize(
    ("version", "told"), [("6.2.14", True), ("7.0.0", False), ("8.1.3", False), ("", False)]
)
def test_versions(version: str, told: bool) -> None:
    assert ("redis.tracking" in found(redis_version=version)) is told


def test_tracking_does_not_matter_without_a_cache() -> None:
    off = target(route=ROUTE + "    cache: {enabled: false}\n")
    assert "redis.tracking" not in found(off, redis_version="6.2.14")


@pytest.mark.parametrize(
    ("connected", "level"), [(79, None), (80, Level.WARNING), (95, Level.CRITICAL)]
)
def test_clients(connected: int, level: Level | None) -> None:
    one = found(connected_clients=connected, maxclients=100).get("redis.clients")
    assert (one.level if one else None) is level


def test_what_redis_itself_complains_about() -> None:
    assert found(redis_mode="sentinel")["redis.mode"].level is Level.CRITICAL
    assert not found(redis_mode="standalone")
    assert found(loading=1)["redis.loading"].level is Level.CRITICAL
    assert found(rdb_last_bgsave_status="err")["redis.persistence"].level is Level.CRITICAL
    assert found(aof_last_write_status="err")["redis.persistence"].level is Level.CRITICAL
    assert found(evicted_keys=12, uptime_in_seconds=7200)["redis.evicted"].measured == (
        "12 keys evicted in 2 h."
    )
    fragmented = found(mem_fragmentation_ratio=2.4, used_memory=GB)
    assert "redis.fragmentation" in fragmented
    assert not found(mem_fragmentation_ratio=2.4, used_memory=1 << 20)
    assert found(role="slave", master_link_status="up")["redis.role"].level is Level.WARNING


def test_the_servers_timeout_against_the_ping() -> None:
    facts = RedisFacts(info={"redis_version": "7.2.4"}, config={"timeout": "60"}, tracking="")
    (kept,) = redis_findings(target(route=ROUTE), facts)
    assert kept.level is Level.INFO
    facts.config["timeout"] = "4"
    (late,) = redis_findings(target(route=ROUTE), facts)
    assert late.level is Level.WARNING
    assert str(late.change) == "f.yaml (redis: cache): keepalive.ping_s = 2"


def test_tls() -> None:
    facts = RedisFacts(info={"redis_version": "7.2.4"}, tracking="", tls_used=False)
    (one,) = redis_findings(target("redis://r.example.com"), facts)
    assert one.level is Level.CRITICAL
    assert str(one.change) == "f.yaml: the URL = rediss://…, the TLS port"
    facts.tls_used, facts.tls = True, TlsFacts(True, "TLSv1.3", verified=True)
    (one,) = redis_findings(target("rediss://r.example.com?ssl_cert_reqs=none"), facts)
    assert one.level is Level.WARNING
    assert not list(redis_findings(target("rediss://r.example.com"), facts))
