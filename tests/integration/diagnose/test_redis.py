"""`diagnose` against Redis servers and paths that really have each fault."""

import contextlib
from collections.abc import Callable

import pytest

from proxy.demo.certificates import TlsFiles
from proxy.demo.cutter import Cut, FlowPlan, Plan, Target
from proxy.demo.ports import free_port
from proxy.demo.servers import RedisServer
from proxy.diagnose.facts import RedisFacts
from proxy.diagnose.finding import Level
from tests.fix_cutter import ThreadCutter
from tests.integration.diagnose.kit import checks, diagnosed, finding, kills_idle, redis_at

pytestmark = pytest.mark.servers

MakeRedis = Callable[..., RedisServer]


def test_a_healthy_server(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
    (found,) = diagnosed(server.url(database=3))
    facts = found.facts
    assert isinstance(facts, RedisFacts)
    assert found.served
    assert checks(found) == set()
    assert facts.tracking == ""
    assert facts.slow == []
    assert facts.connect is not None
    assert 0 < (facts.connect.tcp_s or 0) < 1
    assert 0 < (facts.connect.login_s or 0) < 1
    assert facts.latency is not None
    assert 0 < facts.latency.p50_s <= facts.latency.p99_s


def test_no_memory_limit(redis: RedisServer) -> None:
    (found,) = diagnosed(redis.url())
    assert finding(found, "redis.maxmemory").measured.startswith("maxmemory is not set; ")


def test_no_eviction(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"maxmemory": "3mb", "maxmemory-policy": "noeviction"})
    (found,) = diagnosed(server.url())
    assert finding(found, "redis.eviction").level is Level.WARNING
    with contextlib.closing(server.connect()) as client, contextlib.suppress(Exception):
        for number in range(1000):
            client.set(f"filler:{number}", "x" * 10_000)
    (found,) = diagnosed(server.url())
    full = finding(found, "redis.memory")
    assert full.level is Level.CRITICAL
    assert "maxmemory-policy is noeviction" in full.measured


def test_a_policy_that_finds_nothing_to_evict(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"maxmemory": "100mb", "maxmemory-policy": "volatile-lru"})
    with contextlib.closing(server.connect()) as client:
        client.set("for ever", "1")
        (found,) = diagnosed(server.url())
        assert "volatile-lru while no key has a TTL" in finding(found, "redis.eviction").measured
        client.set("for now", "1", ex=60)
        (found,) = diagnosed(server.url())
        assert "redis.eviction" not in checks(found)


def test_more_memory_than_the_machine_has(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"maxmemory": "4000gb", "maxmemory-policy": "allkeys-lru"})
    (found,) = diagnosed(server.url())
    big = finding(found, "redis.maxmemory")
    assert big.measured.startswith("maxmemory is 3.9 TiB of the machine's ")


def test_clients_nearly_used_up(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"maxclients": "10"})
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(contextlib.closing(server.connect()))
            client.ping()
        (found,) = diagnosed(server.url())
        assert finding(found, "redis.clients").measured.startswith("9 of 10 connections are taken")
        for _ in range(2):
            client = stack.enter_context(contextlib.closing(server.connect()))
            client.ping()
        (refused,) = diagnosed(server.url())
        assert "max number of clients reached" in finding(refused, "redis.login").measured
    (found,) = diagnosed(server.url())
    assert finding(found, "redis.rejected").measured.startswith("2 connections refused")


def test_slow_commands(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"slowlog-log-slower-than": "10000"})
    with contextlib.closing(server.connect()) as client:
        client.eval(
            "local t = redis.call('TIME') local e = t[1] * 1e6 + t[2] + 50000 "
            "repeat t = redis.call('TIME') until t[1] * 1e6 + t[2] > e return 'secret-argument'",
            0,
        )
    (found,) = diagnosed(server.url())
    slow = finding(found, "redis.slowlog")
    assert slow.measured.startswith("1 slow command in the slow log, the newest: EVAL ")
    assert "secret-argument" not in str(found.findings)


def test_a_user_without_tracking(make_redis: MakeRedis) -> None:
    server = make_redis(users={"app": ">app-Pa55word ~* &* +@all -client|tracking"})
    (found,) = diagnosed(server.url("app", "app-Pa55word"))
    refused = finding(found, "redis.tracking")
    assert "CLIENT TRACKING is refused" in refused.measured
    assert "cache stays off" in refused.meaning


def test_a_user_who_may_not_ask(make_redis: MakeRedis) -> None:
    server = make_redis(users={"app": ">app-Pa55word ~* &* +@read +@connection"})
    (found,) = diagnosed(server.url("app", "app-Pa55word"))
    assert found.served
    assert checks(found) == {"redis.visibility"}


def test_wrong_passwords(redis: RedisServer) -> None:
    (found,) = diagnosed(redis.url("app", "wr0ng-Pa55"))
    assert "invalid username-password pair" in finding(found, "redis.login").measured
    assert "wr0ng-Pa55" not in str(found.findings)
    assert found.reached
    assert not found.served


def test_a_password_that_is_missing(make_redis: MakeRedis) -> None:
    server = make_redis(settings={"requirepass": "server-Pa55"})
    (found,) = diagnosed(server.url())
    missing = finding(found, "redis.login")
    assert missing.meaning == "The server is there, and does not let this user in."


def test_nobody_there() -> None:
    port = free_port()
    refused, unknown = diagnosed(f"redis://127.0.0.1:{port}", "redis://no-such-host.invalid")
    assert "nothing listens on" in finding(refused, "redis.tcp").measured
    assert "no-such-host.invalid has no address" in finding(unknown, "redis.dns").measured


def test_no_tls_verification(redis_tls_port: int, tls_files: TlsFiles) -> None:
    full = f"rediss://localhost:{redis_tls_port}?ssl_ca_certs={tls_files.ca}"
    none = f"rediss://localhost:{redis_tls_port}?ssl_cert_reqs=none&ssl_check_hostname=false"
    verified, blind, refused = diagnosed(full, none, f"rediss://localhost:{redis_tls_port}")
    assert not any(check.startswith("redis.tls") for check in checks(verified))
    assert verified.facts.connect is not None
    assert (verified.facts.connect.tls_s or 0) > 0
    weak = finding(blind, "redis.tls.verify")
    assert weak.measured.startswith("ssl_cert_reqs=none checks nothing of the certificate")
    assert finding(refused, "redis.tls").level is Level.CRITICAL


def test_a_slow_path(redis: RedisServer) -> None:
    plan = Plan(to_client=FlowPlan(delay_s=0.025))
    with ThreadCutter(Target(address=("127.0.0.1", redis.port)), plan=plan) as cutter:
        (found,) = diagnosed(f"redis://127.0.0.1:{cutter.port}")
    slow = finding(found, "redis.latency")
    assert slow.measured.startswith("PING: half of ")
    assert slow.number is not None
    assert 0.025 <= slow.number.value < 0.2


@pytest.mark.timeout(40)
def test_a_path_that_kills_idle_links(redis: RedisServer) -> None:
    address = ("127.0.0.1", redis.port)
    with contextlib.ExitStack() as stack:
        targets = []
        for cut in (Cut.FIN, Cut.SILENCE):
            cutter = stack.enter_context(
                ThreadCutter(Target(address=address), on_hop=kills_idle(3.0, cut))
            )
            targets.append(redis_at(f"redis://127.0.0.1:{cutter.port}", name=cut.name))
        fin, silence = diagnosed(*targets, idle_s=5.0)
    assert "closed in good order (FIN) after" in finding(fin, "redis.idle_path").measured
    assert "dropped in silence" in finding(silence, "redis.idle_path").measured
    for found in (fin, silence):
        assert "a request each second did" in finding(found, "redis.idle_path").measured


def test_the_servers_own_timeout(make_redis: MakeRedis) -> None:
    (found,) = diagnosed(make_redis(settings={"timeout": "3"}).url())
    timeout = finding(found, "redis.timeout")
    assert timeout.level is Level.WARNING
    assert timeout.change is not None
    assert timeout.change.key == "keepalive.ping_s"
    assert timeout.change.value == "1"


def test_a_replica_without_its_primary(make_redis: MakeRedis) -> None:
    replica = make_redis(settings={"replicaof": f"127.0.0.1 {free_port()}"})
    (found,) = diagnosed(replica.url())
    assert finding(found, "redis.role").level is Level.CRITICAL


def test_a_node_of_a_cluster(make_redis: MakeRedis) -> None:
    settings = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    (found,) = diagnosed(make_redis(settings=settings).url())
    assert finding(found, "redis.mode").level is Level.WARNING
