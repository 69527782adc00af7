"""What a PostgreSQL server's facts mean. Pure: facts in, findings out."""

from collections.abc import Callable, Iterator, Sequence

from proxy.diagnose.facts import Pooler, PostgresFacts, Session
from proxy.diagnose.finding import Change, Finding, Level, Number
from proxy.diagnose.path_rules import connect_rules, latency_rules, place, tls_rules
from proxy.diagnose.targets import PostgresTarget
from proxy.diagnose.units import counted, duration, percent

IDLE_S = 300.0
IN_TRANSACTION_S = 60.0
USED_WARNING, USED_CRITICAL = 0.8, 0.95
KEEPALIVE_S_MAX = 600
CONF = "postgresql.conf"

Rule = Callable[[PostgresTarget, PostgresFacts], Iterator[Finding]]


def postgres_findings(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    """All findings about a server that let us in."""
    yield from tls_rules(target, facts.tls, facts.tls_used)
    yield from connect_rules(target, facts.connect)
    yield from latency_rules(target, facts.latency)
    for rule in _RULES:
        yield from rule(target, facts)
    if facts.sessions is not None:
        yield from idle_sessions(facts.sessions, IDLE_S)
        yield from idle_transactions(facts, IN_TRANSACTION_S)


# ---- connections --------------------------------------------------------------------------------


def _connections(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    usable = facts.usable
    if usable is None or facts.connections is None:
        return
    share = facts.connections / usable
    if share >= USED_WARNING:
        idle = sum(session.state == "idle" for session in facts.sessions or ())
        yield Finding(
            level=Level.CRITICAL if share >= USED_CRITICAL else Level.WARNING,
            check="postgres.connections",
            measured=f"{facts.connections} of {usable} connections are taken ({percent(share)}; "
            f"max_connections {facts.number('max_connections')}, {facts.reserved} reserved), "
            f"{idle} of them idle.",
            meaning="When the last one goes, logins fail with 53300 (too many connections).",
            change=Change(place(target), "pool.size", "the links the server can spare"),
            number=Number(round(100 * share, 1), "%"),
        )
    if target.route is not None and target.route.pool.size > usable:
        yield Finding(
            level=Level.WARNING,
            check="postgres.pool",
            measured=f"pool.size is {target.route.pool.size}, the server allows {usable} in all.",
            meaning="The pool can never be filled: sessions see 53300 instead of a wait.",
            change=Change(place(target), "pool.size", f"at most {usable}"),
            number=Number(target.route.pool.size, "links"),
        )
    for name, own in (("user", facts.role_limit), ("database", facts.database_limit)):
        if 0 <= own < usable:
            yield Finding(
                level=Level.INFO,
                check=f"postgres.{name}_limit",
                measured=f"This {name} may have {own} connections, the server {usable}.",
                meaning="A pool larger than that sees 53300.",
                change=Change(place(target), "pool.size", f"at most {own}"),
                number=Number(own, "connections"),
            )


# ---- sessions -----------------------------------------------------------------------------------


def idle_sessions(sessions: Sequence[Session], idle_s: float = IDLE_S) -> Iterator[Finding]:
    """Sessions that have been idle for longer than `idle_s`."""
    idle = [s for s in sessions if s.state == "idle" and (s.state_s or 0.0) > idle_s]
    if not idle:
        return
    oldest_s = max(session.state_s or 0.0 for session in idle)
    yield Finding(
        level=Level.WARNING,
        check="postgres.idle",
        measured=f"{len(idle)} of {counted(len(sessions), 'other session')} idle for more than "
        f"{duration(idle_s)}, the longest for {duration(oldest_s)}: {_holders(idle)}.",
        meaning="Each holds a server process and memory, and is what firewalls and providers cut. "
        "Behind Backstay idle links above pool.warm are closed.",
        change=Change("the application", "its pool's size and idle time", "less"),
        number=Number(len(idle), "sessions"),
    )


def idle_transactions(facts: PostgresFacts, limit_s: float = IN_TRANSACTION_S) -> Iterator[Finding]:
    """Sessions idle in a transaction that began more than `limit_s` ago."""
    stuck = [
        s
        for s in facts.sessions or ()
        if (s.state or "").startswith("idle in transaction") and (s.transaction_s or 0.0) > limit_s
    ]
    if not stuck:
        return
    oldest_s = max(session.transaction_s or 0.0 for session in stuck)
    timeout = facts.settings.get("idle_in_transaction_session_timeout", "0")
    set_it = timeout == "0"
    yield Finding(
        level=Level.CRITICAL if oldest_s > 10 * limit_s else Level.WARNING,
        check="postgres.idle_in_transaction",
        measured=f"{counted(len(stuck), 'session')} idle in a transaction for more than "
        f"{duration(limit_s)}, the longest for {duration(oldest_s)}: {_holders(stuck)}.",
        meaning="They hold locks and keep VACUUM from cleaning up. "
        + (
            "The server never ends them." if set_it else f"The server ends them after {timeout} ms."
        ),
        change=Change(CONF, "idle_in_transaction_session_timeout", "60s")
        if set_it
        else Change("the application", "commit or roll back before waiting"),
        number=Number(round(oldest_s, 1), "s"),
    )


def _holders(sessions: Sequence[Session], shown: int = 3) -> str:
    """Whose they are: `17 of app (gunicorn) at 10.0.0.7, …`."""
    counted: dict[str, int] = {}
    for session in sessions:
        name = f" ({session.application})" if session.application else ""
        key = f"{session.user}{name} at {session.address}"
        counted[key] = counted.get(key, 0) + 1
    most = sorted(counted.items(), key=lambda item: -item[1])
    texts = [f"{count} of {key}" for key, count in most[:shown]]
    more = sum(count for _, count in most[shown:])
    return ", ".join(texts) + (f", {more} others" if more else "")


def _hidden(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    if facts.hidden:
        yield Finding(
            level=Level.INFO,
            check="postgres.visibility",
            measured=f"{facts.user} may not see the state of "
            f"{counted(facts.hidden, 'other session')}.",
            meaning="Idle sessions and forgotten transactions of other users are not counted here.",
            change=Change("SQL", f"GRANT pg_read_all_stats TO {facts.user}"),
            number=Number(facts.hidden, "sessions"),
        )


# ---- timeouts -----------------------------------------------------------------------------------


def _server_timeouts(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    limit_s = (facts.number("idle_session_timeout") or 0) / 1000
    if limit_s:
        ping_s = target.route.keepalive.ping_s if target.route is not None else 25.0
        kept = 0 < ping_s < limit_s
        yield Finding(
            level=Level.INFO if kept else Level.WARNING,
            check="postgres.idle_session_timeout",
            measured=f"The server ends sessions that are idle for {duration(limit_s)} (57P05).",
            meaning=f"Backstay's idle links are asked something every {ping_s:g} s and stay; the "
            "application's own direct connections die."
            if kept
            else "Idle links die and are opened again, each time.",
            change=None
            if kept
            else Change(place(target), "keepalive.ping_s", f"{max(1, int(limit_s / 2))}"),
            number=Number(limit_s, "s"),
        )
    for name, what in (
        ("statement_timeout", "A statement that hangs holds its connection and its locks."),
        (
            "idle_in_transaction_session_timeout",
            "A client that forgets its transaction holds its locks for ever.",
        ),
    ):
        if facts.settings.get(name) == "0":
            yield Finding(
                level=Level.INFO,
                check=f"postgres.{name}",
                measured=f"{name} is 0: no limit.",
                meaning=what,
                change=Change(CONF, name, "60s"),
                number=Number(0, "ms"),
            )


def _dead_clients(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    """How the server finds out that a client is gone."""
    idle_s = facts.number("tcp_keepalives_idle")
    if idle_s is not None and (idle_s == 0 or idle_s > KEEPALIVE_S_MAX) and not target.place.path:
        yield Finding(
            level=Level.INFO,
            check="postgres.tcp_keepalives_idle",
            measured="The server looks after silent clients every "
            f"{duration(idle_s or 7200)} (tcp_keepalives_idle).",
            meaning="Sessions of clients that vanished keep their locks and connections so long.",
            change=Change(CONF, "tcp_keepalives_idle", "60"),
            number=Number(idle_s or 7200, "s"),
        )
    if facts.number("client_connection_check_interval") == 0:
        yield Finding(
            level=Level.INFO,
            check="postgres.client_connection_check_interval",
            measured="client_connection_check_interval is 0.",
            meaning="A statement whose client is gone runs to its end, locks included; what "
            "Backstay sends a second time may have to wait for it.",
            change=Change(CONF, "client_connection_check_interval", "5s"),
            number=Number(0, "ms"),
        )


# ---- what kind of server ------------------------------------------------------------------------


def _recovery(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    read_only = facts.settings.get("default_transaction_read_only") == "on"
    if facts.in_recovery:
        several = target.route is not None and len(target.route.upstream.hosts) > 1
        wants = target.upstream.target_session_attrs
        expected = wants != "any" if several else wants in _STANDBY_IS_FINE
        yield Finding(
            level=Level.INFO if expected else Level.WARNING,
            check="postgres.recovery",
            measured=f"{target.place} is a standby.",
            meaning="Writes fail there with 25006 (read-only transaction).",
            change=None
            if expected
            else Change(target.source, "the URL", "…?target_session_attrs=read-write"),
        )
    elif read_only:
        yield Finding(
            level=Level.WARNING,
            check="postgres.read_only",
            measured="default_transaction_read_only is on.",
            meaning="Writes fail with 25006, as providers set it when the disk is full.",
            change=Change(CONF, "default_transaction_read_only", "off"),
        )


_STANDBY_IS_FINE = ("standby", "prefer-standby", "read-only")


def _pooler(target: PostgresTarget, facts: PostgresFacts) -> Iterator[Finding]:
    found = facts.pooler
    if found is None:
        return
    if found.set_failed:
        yield Finding(
            level=Level.CRITICAL,
            check="postgres.search_path",
            measured=f"SET search_path fails: {found.set_failed}.",
            meaning="Frameworks send it first on each connection; every request would fail.",
            change=Change("the server", "what stands between and refuses SET"),
        )
    if found.transaction:
        yield _transaction_pooler(target, found)
    elif found.key_pid_differs:
        yield Finding(
            level=Level.INFO,
            check="postgres.pooler",
            measured="The process id told at login is not the one that answers.",
            meaning="A pooler in session mode is upstream: SET sticks. Backstay cannot take the "
            "server's last words as proof through it.",
            change=Change(target.source, "the URL", "the server's own port"),
        )


def _transaction_pooler(target: PostgresTarget, found: Pooler) -> Finding:
    shown = []
    if found.shared or found.moved:
        shown.append("two connections shared a server process")
    if found.set_lost:
        shown.append("SET search_path was gone in the next transaction")
    if found.set_leaked:
        shown.append("another connection got our search_path")
    if found.waited:
        shown.append("one connection had to wait for another's transaction")
    hurts = found.set_lost or found.set_leaked
    return Finding(
        level=Level.CRITICAL if hurts else Level.WARNING,
        check="postgres.pooler",
        measured=f"A transaction pooler is upstream: {', '.join(shown)}.",
        meaning="SET, search_path, advisory locks, LISTEN, temporary tables and prepared "
        "statements do not stay with the connection, and reach others'. Nothing that Backstay "
        "restores can stick there.",
        change=Change(target.source, "the URL", "the provider's session port, often 5432"),
    )


_RULES: tuple[Rule, ...] = (
    _pooler,
    _recovery,
    _connections,
    _hidden,
    _server_timeouts,
    _dead_clients,
)
