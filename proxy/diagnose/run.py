"""Diagnosing all targets: each in a thread of its own, directly and through Backstay."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg
import redis

from proxy.diagnose import idle, postgres_link, redis_facts, redis_link
from proxy.diagnose.facts import Failure, IdleFacts, PostgresFacts, ProxyFacts, RedisFacts
from proxy.diagnose.finding import Finding, ranked
from proxy.diagnose.idle_links import PostgresIdle, RedisIdle
from proxy.diagnose.idle_rules import idle_findings, idle_refused
from proxy.diagnose.path_rules import failed, proxy_beside_failure, proxy_rules
from proxy.diagnose.postgres_facts import QUERY_S_MAX, gather, look_for_pooler
from proxy.diagnose.postgres_link import CannotConnect, Connection, TooLate, bounded
from proxy.diagnose.postgres_rules import postgres_findings
from proxy.diagnose.reach import Unreachable, Way, look_at_tls, reach
from proxy.diagnose.redis_rules import redis_findings
from proxy.diagnose.sampling import latencies
from proxy.diagnose.targets import (
    PostgresTarget,
    RedisTarget,
    Target,
    postgres_place,
    redis_place,
)
from proxy.diagnose.threads import side_by_side


@dataclass(slots=True)
class Diagnosis:
    """All about one target."""

    target: Target
    reached: bool = False
    """A TCP connection (or one to the Unix socket) was accepted."""
    served: bool = False
    """A login succeeded and a query was answered."""
    facts: PostgresFacts | RedisFacts = field(default_factory=PostgresFacts)
    proxy: ProxyFacts | None = None
    idle: IdleFacts | None = None
    findings: list[Finding] = field(default_factory=list)


def diagnose(targets: Sequence[Target], idle_s: float = 0.0) -> list[Diagnosis]:
    """One diagnosis for each target, in their order. `idle_s`: of the idle probe, 0: without."""
    return side_by_side([partial(_one, target, idle_s) for target in targets])


def _one(target: Target, idle_s: float) -> Diagnosis:
    found = Diagnosis(target)
    if isinstance(target, RedisTarget):
        found.facts = RedisFacts()
    try:
        found.findings = ranked(_directly(target, found, idle_s))
        return found
    except (Unreachable, CannotConnect) as error:
        failure = error.failure
    except TooLate:
        failure = Failure("query", "timeout", _TOO_LATE)
    except (psycopg.Error, redis.RedisError) as error:
        failure = _ended(error)
    if found.proxy is None:
        _through(target, found)
    others = proxy_beside_failure(target, failure, found.proxy)
    found.findings = ranked([failed(target, failure), *others])
    return found


_TOO_LATE = "the server took the login and does not answer"


def _ended(error: Exception) -> Failure:
    return Failure("query", "closed", f"the link ended in a query: {type(error).__name__}")


def _directly(target: Target, found: Diagnosis, idle_s: float) -> list[Finding]:
    """The upstream itself, and the way through Backstay beside it."""
    way = reach(target.place, target.timeout_s)
    found.reached = True
    if not target.place.path and (isinstance(target, PostgresTarget) or target.upstream.tls):
        found.facts.tls = look_at_tls(target.place, way.address, target.tls_wish, target.timeout_s)
    if isinstance(target, PostgresTarget):
        findings = _postgres(target, way, found)
    else:
        findings = _redis(target, way, found)
    if idle_s > 0:
        findings += _idle(target, way, found, idle_s)
    return findings


def _through(target: Target, found: Diagnosis) -> None:
    """The way through Backstay alone, where the direct one has failed: which side is broken?"""
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(target, PostgresTarget):
                link = _postgres_proxied(target, stack, found)
                if link is None:
                    return
                guard = partial(bounded, link, 2 * QUERY_S_MAX)
                taken = latencies([partial(_select_one, link)], [guard])
            else:
                client = _redis_proxied(target, stack, found)
                if client is None:
                    return
                taken = latencies([client.ping])
        except TooLate:
            found.proxy = ProxyFacts(failure=Failure("query", "timeout", _TOO_LATE))
        except (psycopg.Error, redis.RedisError) as error:
            found.proxy = ProxyFacts(failure=_ended(error))
        else:
            connect = found.proxy.connect if found.proxy is not None else None
            found.proxy = ProxyFacts(connect, taken[0])


# ---- PostgreSQL ---------------------------------------------------------------------------------


def _postgres(target: PostgresTarget, way: Way, found: Diagnosis) -> list[Finding]:
    facts = found.facts
    assert isinstance(facts, PostgresFacts)
    connection, facts.connect = postgres_link.connect(target.upstream, way, target.timeout_s)
    with contextlib.closing(connection):
        gather(connection, facts)
        found.served = True
        facts.pooler = look_for_pooler(
            lambda: postgres_link.connect(target.upstream, way, target.timeout_s)[0]
        )
        with contextlib.ExitStack() as stack:
            links = [connection]
            proxied = _postgres_proxied(target, stack, found)
            if proxied is not None:
                links.append(proxied)
            taken = latencies(
                [partial(_select_one, link) for link in links],
                [partial(bounded, link, 2 * QUERY_S_MAX) for link in links],
            )
    facts.latency = taken[0]
    if len(taken) == 2 and found.proxy is not None:
        found.proxy = ProxyFacts(found.proxy.connect, taken[1])
    return [
        *postgres_findings(target, facts),
        *proxy_rules(target, (facts.connect, facts.latency), found.proxy),
    ]


def _select_one(connection: Connection) -> None:
    """As little of Python as possible around the round trip."""
    result = connection.pgconn.exec_(b"SELECT 1")
    if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError("the link ended")


def _postgres_proxied(
    target: PostgresTarget, stack: contextlib.ExitStack, found: Diagnosis
) -> Connection | None:
    """A connection through Backstay, closed with the stack; None where there is none."""
    if target.proxy is None:
        return None
    try:
        way = reach(postgres_place(target.proxy.hosts[0]), target.timeout_s)
        connection, times = postgres_link.connect(target.proxy, way, target.timeout_s)
    except (Unreachable, CannotConnect) as error:
        found.proxy = ProxyFacts(failure=error.failure)
        return None
    stack.enter_context(contextlib.closing(connection))
    found.proxy = ProxyFacts(times)
    return connection


# ---- Redis --------------------------------------------------------------------------------------


def _redis(target: RedisTarget, way: Way, found: Diagnosis) -> list[Finding]:
    facts = found.facts
    assert isinstance(facts, RedisFacts)
    client, facts.connect = redis_link.connect(target.upstream, way, target.timeout_s)
    with contextlib.closing(client):
        redis_facts.gather(client, target.upstream, facts)
        found.served = True
        asks: list[Callable[[], object]] = [client.ping]
        with contextlib.ExitStack() as stack:
            proxied = _redis_proxied(target, stack, found)
            if proxied is not None:
                asks.append(proxied.ping)
            taken = latencies(asks)
    facts.latency = taken[0]
    if len(taken) == 2 and found.proxy is not None:
        found.proxy = ProxyFacts(found.proxy.connect, taken[1])
    return [
        *redis_findings(target, facts),
        *proxy_rules(target, (facts.connect, facts.latency), found.proxy),
    ]


def _redis_proxied(
    target: RedisTarget, stack: contextlib.ExitStack, found: Diagnosis
) -> redis_link.Client | None:
    if target.proxy is None:
        return None
    try:
        way = reach(redis_place(target.proxy), target.timeout_s)
        client, times = redis_link.connect(target.proxy, way, target.timeout_s)
    except (Unreachable, CannotConnect) as error:
        found.proxy = ProxyFacts(failure=error.failure)
        return None
    stack.enter_context(contextlib.closing(client))
    found.proxy = ProxyFacts(times)
    return client


# ---- idle links ---------------------------------------------------------------------------------


def _idle(target: Target, way: Way, found: Diagnosis, until_s: float) -> list[Finding]:
    def opened() -> idle.ProbeLink:
        if isinstance(target, PostgresTarget):
            return PostgresIdle(target, way)
        return RedisIdle(target, way)

    links_max = idle.LINKS_MAX
    facts = found.facts
    if isinstance(facts, PostgresFacts) and facts.usable is not None:
        free = facts.usable - (facts.connections or 0)
        links_max = min(links_max, free // 2)  # the application needs some, too
        if links_max < idle.LINKS_MIN:
            return [idle_refused(target, free)]
    found.idle = idle.probe(opened, until_s, links_max)
    return list(idle_findings(target, found.idle))
