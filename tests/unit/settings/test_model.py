"""The model: defaults, what is derived, what is frozen, what needs a restart."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from proxy.settings import model
from proxy.settings.changes import changed, restart_needed
from proxy.settings.fields import ListenAddress
from proxy.settings.model import (
    LinkKeepalive,
    PostgresRoute,
    RedisRoute,
    Section,
    Settings,
)

DESIGN_DEFAULTS: dict[str, Any] = {
    "pool.mode": "session",
    "pool.size": 20,
    "pool.warm": 1,
    "pool.idle_s": 600,
    "pool.lifetime_s": 3600,
    "pool.clients": 1000,
    "keepalive.idle_s": 15,
    "keepalive.interval_s": 5,
    "keepalive.count": 3,
    "keepalive.ping_s": 25,
    "resilience.hold_s": 30,
    "resilience.hold_clients": 1000,
    "resilience.replay": "certified",
    "resilience.doubt_sqlstate": "08007",
    "resilience.listen_loss": "close",
    "tls.mode": "disable",
    "auth_method": "passthrough",
    "listen": (ListenAddress("127.0.0.1", 6432),),
    "name": "main",
}
REDIS_DEFAULTS: dict[str, Any] = {
    "clients": 1000,
    "command_timeout_s": 5,
    "hold_s": 2,
    "replay": "reads",
    "keepalive.idle_s": 10,
    "keepalive.interval_s": 5,
    "keepalive.count": 3,
    "keepalive.ping_s": 5,
    "cache.enabled": True,
    "cache.max_bytes": 64 << 20,
    "cache.max_entry_bytes": 64 << 10,
    "cache.ttl_s": 60,
    "cache.negative_ttl_s": 60,
    "cache.lease_ms": 500,
    "cache.include": ("*",),
    "cache.exclude": (),
    "cache.stale_max_s": 0,
    "auth_method": "passthrough",
    "listen": (ListenAddress("127.0.0.1", 6380),),
    "name": "cache",
}


def postgres(**values: Any) -> PostgresRoute:
    return PostgresRoute.model_validate({"upstream": "postgresql://u@h/db", **values})


def redis(**values: Any) -> RedisRoute:
    return RedisRoute.model_validate({"upstream": "redis://h", **values})


def at(thing: object, path: str) -> object:
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def test_defaults_are_those_of_the_design() -> None:
    assert {path: at(postgres(), path) for path in DESIGN_DEFAULTS} == DESIGN_DEFAULTS
    assert {path: at(redis(), path) for path in REDIS_DEFAULTS} == REDIS_DEFAULTS
    settings = Settings()
    assert settings.admin.listen == (ListenAddress("127.0.0.1", 9127),)
    assert (settings.log.level, settings.log.format, settings.log.sql) == ("info", "auto", False)
    assert (settings.workers, settings.drain_s) == (1, 30)


def sections() -> Iterator[type[Section]]:
    for thing in vars(model).values():
        if isinstance(thing, type) and issubclass(thing, Section) and thing is not Section:
            yield thing


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.__name__)
def test_every_setting_is_documented(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        assert field.description, name
        nested = isinstance(field.default_factory, type)
        extra = field.json_schema_extra
        assert nested or (isinstance(extra, dict) and isinstance(extra["x-reloadable"], bool)), name
        unit = {"_s": "second", "_ms": "millisecond", "_bytes": "bytes"}
        for suffix, word in unit.items():
            if re.search(rf"[a-z]{suffix}$", name):
                assert word in field.description.lower(), name


def test_every_bound_has_both_ends() -> None:
    """A number without a maximum is a queue or a wait without one."""
    for section in sections():
        for name, field in section.model_fields.items():
            if field.annotation in (int, float):
                kinds = {type(item).__name__ for item in field.metadata}
                assert "Le" in kinds, f"{section.__name__}.{name}"
                assert kinds & {"Ge", "Gt"}, f"{section.__name__}.{name}"


def test_nothing_can_be_changed_or_added() -> None:
    with pytest.raises(ValidationError):
        postgres().name = "x"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        postgres(zork=1)


def test_an_error_does_not_repeat_its_input() -> None:
    with pytest.raises(ValidationError) as caught:
        postgres(upstream="postgresql://u:9ecret@h/db?zork=1")
    assert "9ecret" not in str(caught.value)


def test_null_means_default() -> None:
    assert postgres(pool=None, listen=None, tls={"cert": None, "mode": None}) == postgres()


@pytest.mark.parametrize(
    ("values", "method"),
    [
        ({}, "passthrough"),
        ({"upstream": "postgresql://u:p@h/db"}, "scram-sha-256"),
        ({"password": "p"}, "scram-sha-256"),
        ({"auth": {"users": {"a": "b"}}}, "scram-sha-256"),
        ({"upstream": "postgresql://u:p@h/db", "auth": {"method": "trust"}}, "trust"),
    ],
)
def test_default_method_postgres(values: dict[str, Any], method: str) -> None:
    assert postgres(**values).auth_method == method


@pytest.mark.parametrize(
    ("values", "method"),
    [
        ({}, "passthrough"),
        ({"upstream": "redis://:p@h"}, "password"),
        ({"auth": {"users": {"a": "b"}}}, "password"),
        ({"upstream": "redis://:p@h", "auth": {"method": "passthrough"}}, "passthrough"),
    ],
)
def test_default_method_redis(values: dict[str, Any], method: str) -> None:
    assert redis(**values).auth_method == method


def test_the_password_of_the_settings_replaces_that_of_the_url() -> None:
    route = postgres(upstream="postgresql://u:old@h/db", password="new")
    assert route.upstream.password == "new"
    assert redis(upstream="redis://:old@h", password="new").upstream.password == "new"
    assert "new" not in repr(route)


def test_keepalive_of_links() -> None:
    assert postgres().link_keepalive == LinkKeepalive(True, 15, 5, 3)
    url = "host=h keepalives=0 keepalives_idle=1 keepalives_interval=2 keepalives_count=4"
    assert postgres(upstream=url).link_keepalive == LinkKeepalive(False, 1, 2, 4)
    assert redis().link_keepalive == LinkKeepalive(True, 10, 5, 3)


def test_connect_timeouts() -> None:
    assert postgres().connect_timeout_s == 10
    assert postgres(upstream="host=h connect_timeout=3").connect_timeout_s == 3
    assert redis().link_connect_timeout_s == 5
    assert redis(upstream="redis://h?socket_connect_timeout=0.5").link_connect_timeout_s == 0.5


SCRAM = (
    "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)


def test_verifiers() -> None:
    users = {"a": SCRAM, "b": "SCRAM is my password", "c": "md5 too"}
    assert set(postgres(auth={"users": users}).auth.users) == {"a", "b", "c"}
    for broken in (
        SCRAM[:-1],
        SCRAM.replace("4096", "0"),
        SCRAM.replace("c2FsdHNhbHQ=", "!!!"),
        SCRAM.replace(":AAAA", ":AAAAAAAA"),
        SCRAM.replace("$AAAA", "$"),
    ):
        with pytest.raises(ValidationError, match="expected SCRAM-SHA-256"):
            postgres(auth={"users": {"a": broken}})


LISTENS = [
    ("127.0.0.1:1", "127.0.0.1:1"),
    ("Localhost:0", "localhost:0"),
    ("[::1]:6432", "[::1]:6432"),
    ("*:6432", "*:6432"),
    ("/run/backstay", "/run/backstay/.s.PGSQL.6432"),
    ("/run/backstay/", "/run/backstay/.s.PGSQL.6432"),
    ("/run/backstay:5432", "/run/backstay/.s.PGSQL.5432"),
    ("/run/backstay/.s.PGSQL.7", "/run/backstay/.s.PGSQL.7"),
]


@pytest.mark.parametrize(("text", "address"), LISTENS)
def test_addresses(text: str, address: str) -> None:
    (listen,) = postgres(listen=text).listen
    assert str(listen) == address
    assert listen.is_unix is address.startswith("/")


def test_a_redis_socket_is_the_file_itself() -> None:
    assert str(redis(listen="/run/redis.sock").listen[0]) == "/run/redis.sock"


@pytest.mark.parametrize(
    "text", ["", ":1", "h", "h:", "h:x", "::1:5", "[h]:1", "h:99999", "a b:1", "x/y"]
)
def test_addresses_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        redis(listen=text)


# ---- reload -------------------------------------------------------------------------------------


def whole(**values: Any) -> Settings:
    return Settings.model_validate({"postgres": [{"upstream": "host=h"}], **values})


def test_what_needs_a_restart() -> None:
    old = whole()
    assert restart_needed(old, whole()) == []
    assert restart_needed(old, whole(drain_s=1, log={"level": "debug"})) == []
    pool = {"upstream": "host=other", "pool": {"size": 3}, "tls": {"mode": "allow"}}
    assert restart_needed(old, whole(postgres=[pool])) == []
    assert restart_needed(old, whole(admin={"listen": []})) == ["admin.listen"]
    moved = whole(postgres=[{"upstream": "host=h", "listen": "127.0.0.1:1"}])
    assert changed(old, moved) == ["postgres.main.listen"]
    renamed = whole(postgres=[{"upstream": "host=h", "name": "x"}])
    assert changed(old, renamed) == ["postgres.main", "postgres.x"]
    added = whole(redis=[{"upstream": "redis://h"}])
    assert changed(old, added) == changed(added, old) == ["redis.cache"]
    assert changed(old, old) == []
    for new in (moved, renamed, added):
        assert restart_needed(old, new) == [], "a reload does it"


def test_a_path_is_a_path() -> None:
    assert postgres(tls={"cert": "a"}).tls.cert == Path("a")
    assert issubclass(Settings, BaseModel)
