"""What the way to a server means: reachability, TLS, connect times, round trips. Pure."""

from collections.abc import Iterator

from proxy.diagnose.facts import ConnectTimes, Failure, Latency, ProxyFacts, TlsFacts
from proxy.diagnose.finding import Change, Finding, Level, Number
from proxy.diagnose.targets import URLS, PostgresTarget, RedisTarget, Target, is_local
from proxy.diagnose.units import duration

CONNECT_SLOW_S = 0.2
SLOW_S = {"postgres": 0.02, "redis": 0.005}
JITTER_S_MIN = 0.05
PROXY_SLOW_S = 0.001
CERTIFICATE_DAYS = 30.0
CERTIFICATE_DAYS_CRITICAL = 7.0

_FAILURES = {
    "unknown-host": ("No connection can be opened by that name.", "host"),
    "refused": ("No server is there, or it listens elsewhere.", "host and port"),
    "timeout": (
        "Packets get lost on the way, as firewalls and security groups do it, or the server hangs.",
        "host and port",
    ),
    "password": ("The server is there, and does not let this user in.", "user and password"),
    "full": ("The server is there, and every connection it allows is taken.", ""),
    "certificate": ("The server's certificate is not accepted, so nobody can connect.", ""),
    "no-tls": ("The URL asks for TLS, and the server has none.", "sslmode"),
    "closed": ("Something answers, and hangs up before the login is over.", "host and port"),
    "starting": ("The server is starting up. Backstay waits for it; applications get errors.", ""),
}


def failed(target: Target, failure: Failure) -> Finding:
    """The target cannot be used."""
    meaning, key = _FAILURES.get(failure.reason, ("The application cannot connect, either.", ""))
    return Finding(
        level=Level.CRITICAL,
        check=f"{target.kind}.{failure.stage}",
        measured=f"{target.place}: {failure.text} (after {duration(failure.after_s)}).",
        meaning=meaning,
        change=Change(target.source, f"{key} of the URL") if key else None,
        number=Number(round(failure.after_s, 6), "s"),
    )


# ---- TLS ----------------------------------------------------------------------------------------


def tls_rules(target: Target, tls: TlsFacts, used: bool | None) -> Iterator[Finding]:
    """Encryption and verification, judged by where the server is."""
    if target.place.path or used is None:
        return
    local = is_local(target.place)
    if not used:
        if not local:
            yield _no_tls(target, tls)
        return
    if tls.version in ("SSLv3", "TLSv1", "TLSv1.1"):
        yield Finding(
            level=Level.CRITICAL,
            check=f"{target.kind}.tls.version",
            measured=f"The server speaks {tls.version}.",
            meaning="That version is broken; Backstay and current drivers refuse it.",
            change=Change("the server", "its lowest TLS version", "TLSv1.2"),
        )
    verify = target.upstream.verify
    if verify != "full":
        yield _weak(target, tls, verify, local)
    if tls.expires_days is not None and tls.expires_days < CERTIFICATE_DAYS:
        soon = tls.expires_days < CERTIFICATE_DAYS_CRITICAL
        yield Finding(
            level=Level.CRITICAL if soon else Level.WARNING,
            check=f"{target.kind}.tls.expiry",
            measured=f"The server's certificate expires in {tls.expires_days:g} days.",
            meaning="From then on every client that verifies it is refused.",
            change=Change("the server", "its certificate"),
            number=Number(tls.expires_days, "days"),
        )


def _no_tls(target: Target, tls: TlsFacts) -> Finding:
    if target.kind == "redis":
        offered, change = "", Change(target.source, "the URL", "rediss://…, the TLS port")
    elif tls.offered:
        offered = "; the server offers it"
        change = Change(target.source, "the URL", "…?sslmode=verify-full&sslrootcert=system")
    else:
        offered = "; the server does not offer it"
        change = Change("postgresql.conf", "ssl", "on")
    return Finding(
        level=Level.CRITICAL,
        check=f"{target.kind}.tls",
        measured=f"The link to {target.place} is not encrypted{offered}.",
        meaning="Passwords and data can be read and changed by whoever is on the path.",
        change=change,
    )


def _weak(target: Target, tls: TlsFacts, verify: str, local: bool) -> Finding:
    what = {"none": "nothing of the certificate", "ca": "the certificate's chain, not its name"}
    level = Level.WARNING if verify == "none" and not local else Level.INFO
    if isinstance(target, PostgresTarget):
        mode, value = _weak_postgres(target, tls)
    else:
        mode, value = _weak_redis(target, tls, verify)
    would = (
        "a client that verifies everything would have accepted it"
        if tls.verified
        else f"a client that verifies everything would have refused it: {tls.why_not or 'unknown'}"
    )
    return Finding(
        level=level,
        check=f"{target.kind}.tls.verify",
        measured=f"{mode} checks {what[verify]}; {would}.",
        meaning="Whoever can redirect traffic can pose as the server and read the password.",
        change=Change(target.source, "the URL", value),
    )


def _weak_postgres(target: PostgresTarget, tls: TlsFacts) -> tuple[str, str]:
    """(what the URL says, what it should)."""
    given = target.upstream.sslrootcert
    root = (given or "system") if tls.verified else "the provider's CA file"
    mode = f"sslmode={target.upstream.sslmode}"
    return mode, f"sslmode=verify-full&sslrootcert={root}"


def _weak_redis(target: RedisTarget, tls: TlsFacts, verify: str) -> tuple[str, str]:
    """(what the URL says, what it should)."""
    mode = f"ssl_cert_reqs={target.upstream.ssl_cert_reqs}"
    if verify == "ca":
        mode = "ssl_check_hostname=false"
    return mode, "without that" if tls.verified else "ssl_ca_certs=the provider's CA file"


# ---- times --------------------------------------------------------------------------------------


def connect_rules(target: Target, connect: ConnectTimes | None) -> Iterator[Finding]:
    """Opening a connection."""
    if connect is None or connect.total_s < CONNECT_SLOW_S:
        return
    steps = [
        f"{name} {duration(took_s)}"
        for name, took_s in (
            ("name", connect.dns_s),
            ("TCP", connect.tcp_s),
            ("TLS", connect.tls_s),
            ("login", connect.login_s),
        )
        if took_s is not None
    ]
    warm = isinstance(target, PostgresTarget)
    yield Finding(
        level=Level.WARNING,
        check=f"{target.kind}.connect",
        measured=f"Opening a connection takes {duration(connect.total_s)} ({', '.join(steps)}).",
        meaning="Each new connection of the application costs that; behind Backstay a warm link is "
        "there already."
        if warm
        else "Each new connection of the application costs that; Backstay's links are shared.",
        change=Change(place(target), "pool.warm", "as many links as are busy at quiet times")
        if warm
        else None,
        number=Number(round(connect.total_s, 6), "s"),
    )


def latency_rules(target: Target, latency: Latency | None) -> Iterator[Finding]:
    """Round trips."""
    if latency is None:
        return
    what = "SELECT 1" if target.kind == "postgres" else "PING"
    told = (
        f"{what}: half of {latency.samples} took less than {duration(latency.p50_s)}, "
        f"99 of 100 less than {duration(latency.p99_s)}"
    )
    if latency.p50_s >= SLOW_S[target.kind]:
        cache = target.kind == "redis"
        yield Finding(
            level=Level.WARNING,
            check=f"{target.kind}.latency",
            measured=f"{told}.",
            meaning="Repeated reads of a key are what Backstay's cache answers in microseconds."
            if cache
            else "A request with 20 statements waits "
            f"{duration(20 * latency.p50_s)} for the network alone.",
            change=Change(place(target), "cache.enabled", "true")
            if cache
            else Change("the application", "its place", "in the server's region and zone"),
            number=Number(round(latency.p50_s, 6), "s"),
        )
    if latency.p99_s >= max(JITTER_S_MIN, 10 * latency.p50_s):
        yield Finding(
            level=Level.WARNING,
            check=f"{target.kind}.jitter",
            measured=f"{told}; the slowest {duration(latency.max_s)}.",
            meaning="Packets are lost and sent again, or the server or this machine is overloaded.",
            change=None,
            number=Number(round(latency.p99_s, 6), "s"),
        )


def proxy_rules(
    target: Target, direct: tuple[ConnectTimes | None, Latency | None], proxy: ProxyFacts | None
) -> Iterator[Finding]:
    """The same server through Backstay."""
    if proxy is None or target.proxy is None or target.route is None:
        return
    listens = target.route.listen[0]
    connect, latency = direct
    if target.past:
        variable = URLS[target.kind]
        yield Finding(
            level=Level.INFO,
            check=f"{target.kind}.proxy.past",
            measured=f"${variable} leads to {target.place}, past Backstay.",
            meaning="An application with that URL sees every lost link.",
            change=Change(f"${variable}", "host and port", str(listens)),
        )
    if proxy.failure is not None and proxy.failure.stage == "tcp":
        yield _not_running(target, str(listens), "Only the direct way was measured.")
        return
    if proxy.failure is not None:
        yield Finding(
            level=Level.WARNING,
            check=f"{target.kind}.proxy",
            measured=f"Through {listens} it fails: {_clause(proxy.failure)}.",
            meaning="The server answers when it is asked directly: what listens there does not "
            "serve this user. `backstay status` and its log say more.",
            change=Change(place(target), "auth"),
        )
        return
    if latency is None or proxy.latency is None:
        return
    added_s = proxy.latency.p50_s - latency.p50_s
    slow = added_s > PROXY_SLOW_S
    faster = ""
    if connect is not None and proxy.connect is not None:
        faster = (
            f" Opening a connection takes {duration(proxy.connect.total_s)} through it, "
            f"{duration(connect.total_s)} directly."
        )
    yield Finding(
        level=Level.WARNING if slow else Level.INFO,
        check=f"{target.kind}.proxy.latency",
        measured=f"Backstay on {listens} {_adds(added_s)} a round trip of "
        f"{duration(latency.p50_s)} (p50).{faster}",
        meaning="More than it should: this machine, or Backstay's process, is overloaded."
        if slow
        else "That is the price of links that do not break.",
        number=Number(round(added_s, 6), "s"),
    )


def proxy_beside_failure(
    target: Target, direct: Failure, proxy: ProxyFacts | None
) -> Iterator[Finding]:
    """Which side is broken, where the direct way has failed."""
    if proxy is None or target.route is None:
        return
    listens = str(target.route.listen[0])
    failure = proxy.failure
    if failure is not None and failure.stage == "tcp":
        yield _not_running(target, listens, "Applications that are pointed there get no answer.")
        return
    if failure is not None:
        measured = f"Through Backstay on {listens} it fails, too: {_clause(failure)}."
        if direct.reason == "password":
            meaning = "The login is what is wrong, on either way."
        else:
            meaning = (
                "It is the server, or the path to it, not Backstay, which keeps applications "
                "waiting for up to hold_s."
            )
    else:
        answered = f" within {duration(proxy.latency.p50_s)} (p50)" if proxy.latency else ""
        measured = f"Through Backstay on {listens} the server answers{answered}."
        meaning = (
            "The server is well and applications behind Backstay are served: it is the direct way "
            "from here that is broken, by name, network or login; or Backstay uses another host."
        )
    yield Finding(
        level=Level.INFO, check=f"{target.kind}.proxy", measured=measured, meaning=meaning
    )


def _not_running(target: Target, listens: str, meaning: str) -> Finding:
    return Finding(
        level=Level.INFO,
        check=f"{target.kind}.proxy",
        measured=f"Backstay is not running here: nothing listens on {listens}.",
        meaning=meaning,
        change=Change("this machine", "start", "backstay run"),
    )


def _clause(failure: Failure) -> str:
    """What went wrong, without a full stop."""
    return failure.text.rstrip(".")


def _adds(added_s: float) -> str:
    if added_s < 0:
        return f"takes {duration(-added_s)} off"
    return f"adds {duration(added_s)} to"


def place(target: Target) -> str:
    """Where Backstay's setting for the target stands."""
    if target.route is None:
        return "backstay.yaml"
    return f"{target.source} ({target.kind}: {target.route.name})"
