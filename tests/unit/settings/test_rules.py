"""Listeners that overlap, upstreams that lead back, who counts as loopback."""

from typing import Any

import pytest

from proxy.settings.model import Settings
from proxy.settings.rules import is_loopback, problems


def complaints(*routes: tuple[str, str, str], admin: Any = ()) -> list[str]:
    """What is wrong with routes given as (kind, listen, upstream)."""
    data: dict[str, Any] = {"postgres": [], "redis": [], "admin": {"listen": list(admin)}}
    for number, (kind, listen, upstream) in enumerate(routes):
        route = {"name": f"r{number}", "listen": listen.split(), "upstream": upstream}
        # No complaints about exposure: those have their own tests.
        route["auth"] = {"method": "trust", "trust_anywhere": True}
        data[kind].append(route)
    return [".".join(map(str, p.path[:3])) for p in problems(Settings.model_validate(data))]


PG = "postgresql://db/x"


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "10.0.0.1:1", True),
        ("0.0.0.0:1", "[::1]:1", False),
        ("0.0.0.0:1", "[::]:1", False),
        ("[::]:1", "[fe80::1]:1", True),
        ("*:1", "127.0.0.1:1", True),
        ("*:1", "[::1]:1", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("localhost:1", "[::1]:1", True),
        ("localhost:1", "127.0.0.2:1", False),
        ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", True),
        ("db:1", "DB.:1", True),
        ("db:1", "db2:1", False),
        ("/run/x", "/run/x/", True),
        ("/run/x", "/run/./x/.s.PGSQL.6432", True),
        ("/run/x", "/run/x:6433", False),
        ("/run/x", "127.0.0.1:6432", False),
    ],
)
def test_overlaps(one: str, other: str, overlap: bool) -> None:
    found = ["postgres.1.listen"] if overlap else []
    assert complaints(("postgres", one, PG), ("postgres", other, PG)) == found
    assert complaints(("postgres", other, PG), ("postgres", one, PG)) == found


def test_overlaps_across_kinds_and_with_admin() -> None:
    routes = (("postgres", "127.0.0.1:1", PG), ("redis", "127.0.0.1:1", "redis://r"))
    assert complaints(*routes) == ["redis.0.listen"]
    assert complaints(routes[0], admin=["*:1"]) == ["admin.listen.0"]
    assert complaints(("redis", "/run/r.sock", "redis://r"), admin=["/run/r.sock"]) == [
        "admin.listen.0"
    ]


@pytest.mark.parametrize(
    ("listen", "upstream", "loop"),
    [
        ("127.0.0.1:1", "postgresql://127.0.0.1:1/x", True),
        ("127.0.0.1:1", "postgresql://localhost:1/x", True),
        ("127.0.0.1:1", "postgresql://db:1,localhost:1/x", True),
        ("127.0.0.1:1", "postgresql://0.0.0.0:1/x", True),
        ("127.0.0.1:1", "host=db hostaddr=127.0.0.1 port=1", True),
        ("[::1]:1", "postgresql://[::1]:1/x", True),
        ("[::1]:1", "postgresql://localhost:1/x", True),
        ("[::1]:1", "postgresql://[::]:1/x", True),
        ("127.0.0.1:1", "postgresql://[::ffff:127.0.0.1]:1/x", True),
        ("localhost:1", "postgresql://127.0.0.1:1/x", True),
        ("0.0.0.0:1", "postgresql://127.0.0.1:1/x", True),
        ("0.0.0.0:1", "postgresql://localhost:1/x", True),
        ("0.0.0.0:1", "postgresql://0.0.0.0:1/x", True),
        ("*:1", "postgresql://[::1]:1/x", True),
        ("db:1", "postgresql://DB:1/x", True),
        ("/run/x", "host=/run/x/ port=6432", True),
        ("/run/x:5432", "host=/run/x", True),
        # not loops
        ("127.0.0.1:1", "postgresql://localhost:2/x", False),
        ("127.0.0.1:1", "postgresql://[::1]:1/x", False),
        ("0.0.0.0:1", "postgresql://[::1]:1/x", False),
        ("0.0.0.0:1", "postgresql://10.0.0.9:1/x", False),  # another machine, as far as we know
        ("*:1", "postgresql://db:1/x", False),
        ("/run/x", "host=/run/x", False),  # 5432 there, 6432 here
        ("/run/x", "postgresql://localhost:6432/x", False),
    ],
)
def test_loops(listen: str, upstream: str, loop: bool) -> None:
    found = complaints(("postgres", listen, upstream))
    assert found == (["postgres.0.upstream"] if loop else [])


@pytest.mark.parametrize(
    ("listen", "upstream", "loop"),
    [
        ("127.0.0.1:6380", "redis://localhost:6380", True),
        ("/run/r.sock", "unix:///run/../run/r.sock", True),
        ("127.0.0.1:6380", "redis://localhost", False),
        ("/run/r.sock", "unix:///run/s.sock", False),
    ],
)
def test_redis_loops(listen: str, upstream: str, loop: bool) -> None:
    found = complaints(("redis", listen, upstream))
    assert found == (["redis.0.upstream"] if loop else [])


def test_loops_through_other_routes() -> None:
    one = ("postgres", "127.0.0.1:1", "host=127.0.0.1 port=2")
    two = ("postgres", "127.0.0.1:2", "host=127.0.0.1 port=3")
    three = ("postgres", "127.0.0.1:3", "host=127.0.0.1 port=1")
    assert complaints(one, two) == []  # a chain ends at a server
    assert complaints(one, two, three) == [f"postgres.{i}.upstream" for i in range(3)]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("*", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example", False),
        ("db", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


CERT = {"cert": "c", "key": "k"}


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ({"listen": "*:1"}, ["tls.mode"]),
        ({"listen": ["127.0.0.1:1", "10.0.0.1:2"]}, ["tls.mode"]),
        ({"listen": "*:1", "tls": {"mode": "allow", **CERT}}, ["tls.mode"]),
        ({"listen": "*:1", "tls": {"mode": "require", **CERT}}, []),
        ({"listen": "*:1", "tls": {"mode": "verify-ca", "client_ca": "a", **CERT}}, []),
        ({"listen": ["/run/x", "[::1]:1"]}, []),
        ({"listen": "*:1", "auth": {"users": {"a": "b"}}}, []),
        ({"listen": "*:1", "upstream": "postgresql://u:p@db/x"}, []),
        ({"listen": "*:1", "auth": {"method": "trust"}}, ["auth.method"]),
        ({"listen": "*:1", "auth": {"method": "trust", "trust_anywhere": True}}, []),
        ({"listen": "127.0.0.1:1", "auth": {"method": "trust"}}, []),
        ({"auth": {"method": "passthrough"}, "upstream": "postgresql://u:p@db/x"}, []),
        ({"auth": {"method": "passthrough", "users": {"a": "b"}}}, ["auth.users"]),
    ],
)
def test_postgres_exposure(route: dict[str, Any], found: list[str]) -> None:
    settings = Settings.model_validate({"postgres": [{"upstream": PG, **route}]})
    assert [".".join(map(str, p.path[2:])) for p in problems(settings)] == found


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ({"listen": "*:1"}, []),  # Redis clients send their password in clear in any case
        ({"listen": "*:1", "auth": {"method": "trust"}}, ["auth.method"]),
        ({"listen": "/run/r.sock", "auth": {"method": "trust"}}, []),
    ],
)
def test_redis_exposure(route: dict[str, Any], found: list[str]) -> None:
    settings = Settings.model_validate({"redis": [{"upstream": "redis://r", **route}]})
    assert [".".join(map(str, p.path[2:])) for p in problems(settings)] == found
