"""From settings, environment and arguments to what is looked at, with whose login."""

from pathlib import Path

import pytest

from proxy.demo.certificates import TlsFiles
from proxy.diagnose.targets import (
    PostgresTarget,
    RedisTarget,
    Target,
    app_urls,
    from_settings,
    from_urls,
    is_local,
    parse,
)
from proxy.settings.load import load_text
from proxy.settings.urls import PostgresUpstream, UrlError


def targets(text: str, **env: str) -> list[Target]:
    return from_settings(load_text(text, "f.yaml", {}), Path("f.yaml"), app_urls(env))


def one(text: str, **env: str) -> PostgresTarget:
    (target,) = targets(text, **env)
    assert isinstance(target, PostgresTarget)
    return target


def redis_one(text: str, **env: str) -> RedisTarget:
    (target,) = targets(text, **env)
    assert isinstance(target, RedisTarget)
    return target


APP = "postgresql://web:app-pw@127.0.0.1:6432/shop"


def test_the_login_of_the_url() -> None:
    text = "postgres:\n  - upstream: postgresql://u:pw@db/app\n    listen: '*:7000'\n"
    target = one(text, DATABASE_URL=APP)
    assert (target.upstream.user, target.upstream.password) == ("u", "pw")
    assert target.proxy is not None
    assert (str(target.proxy.hosts[0]), target.proxy.user) == ("127.0.0.1:7000", "u")
    assert target.proxy.sslmode == "disable"


def test_the_login_of_the_application() -> None:
    target = one("postgres:\n  - upstream: postgresql://db\n", DATABASE_URL=APP)
    url = target.upstream
    assert (url.user, url.password, url.dbname) == ("web", "app-pw", "shop")
    assert one("postgres:\n  - upstream: postgresql://db\n").upstream.user is None


def test_the_login_of_a_listed_user() -> None:
    secret = "SCRAM-SHA-256$4096:c2FsdA==$" + ":".join(["A" * 43 + "="] * 2)
    text = (
        "postgres:\n  - upstream: postgresql://db/app\n"
        f"    auth: {{users: {{a: '{secret}', b: b-pw}}}}\n"
    )
    assert (one(text).upstream.user, one(text).upstream.password) == ("b", "b-pw")
    text = "redis:\n  - upstream: redis://r\n    auth: {users: {a: a-pw}}\n"
    assert redis_one(text).upstream.user == "a"


def test_redis_logins() -> None:
    text = "redis:\n  - upstream: redis://r/2\n"
    target = redis_one(text, REDIS_URL="redis://:app-pw@127.0.0.1:6380")
    assert target.upstream.password == "app-pw"
    assert target.proxy is not None
    assert (target.proxy.host, target.proxy.port, target.proxy.db) == ("127.0.0.1", 6380, 2)
    assert target.proxy.password == "app-pw"
    text = "redis:\n  - upstream: redis://me:pw@r\n    auth: {method: trust}\n"
    trusted = redis_one(text)
    assert trusted.upstream.password == "pw"
    assert trusted.proxy is not None
    assert (trusted.proxy.user, trusted.proxy.password) == (None, None)


def test_an_application_that_goes_past() -> None:
    text = "postgres:\n  - upstream: postgresql://db:5433\n"
    assert one(text, DATABASE_URL="postgresql://u@db:5433/app").past
    assert not one(text, DATABASE_URL=APP).past
    assert not one(text).past
    text = "redis:\n  - upstream: redis://r/2\n"
    assert redis_one(text, REDIS_URL="redis://r:6379").past
    assert not redis_one(text, REDIS_URL="redis://127.0.0.1:6380").past


def test_a_listener_on_any_free_port_cannot_be_found() -> None:
    text = (
        "postgres:\n  - {upstream: 'postgresql://db', listen: '127.0.0.1:0'}\n"
        "redis:\n  - {upstream: 'redis://r', listen: '127.0.0.1:0'}\n"
    )
    assert [target.proxy for target in targets(text)] == [None, None]


def test_a_listener_on_a_unix_socket() -> None:
    text = (
        "postgres:\n  - {upstream: 'postgresql://db', listen: /run/backstay}\n"
        "redis:\n  - {upstream: 'redis://r', listen: /run/backstay/redis.sock}\n"
    )
    postgres, redis = targets(text)
    assert postgres.proxy is not None
    assert isinstance(postgres.proxy, PostgresUpstream)
    assert postgres.proxy.hosts[0].socket_path == "/run/backstay/.s.PGSQL.6432"
    assert isinstance(redis, RedisTarget)
    assert redis.proxy is not None
    assert redis.proxy.path == "/run/backstay/redis.sock"


def test_a_listener_with_tls(tls_files: TlsFiles) -> None:
    text = (
        "postgres:\n  - upstream: postgresql://db\n"
        f"    tls: {{mode: require, cert: {tls_files.certificate}, key: {tls_files.key}}}\n"
    )
    target = one(text)
    assert target.proxy is not None
    assert target.proxy.sslmode == "require"


def test_each_host_is_a_target() -> None:
    text = "postgres:\n  - upstream: postgresql://u:pw@a,b:5433/app\n"
    names = [target.name for target in targets(text)]
    assert names == ["main a:5432", "main b:5433"]
    listed = from_urls({"$DATABASE_URL": "postgresql://u@a,b/app", "x": "redis://r"})
    assert [target.name for target in listed] == ["DATABASE_URL a:5432", "DATABASE_URL b:5432", "x"]


def test_parameters_of_drivers_are_left_out() -> None:
    url = parse("postgresql://u:p+w@db/app?pgbouncer=true&sslmode=require&connection_limit=5")
    assert isinstance(url, PostgresUpstream)
    assert (url.password, url.sslmode) == ("p+w", "require")
    parse("redis://r?decode_responses=true&socket_timeout=3")
    with pytest.raises(UrlError):
        parse("postgresql://db?zork=1")


def test_urls_of_the_application_that_cannot_be_read() -> None:
    urls = app_urls({"DATABASE_URL": "mysql://u:9ecret@h", "REDIS_URL": APP})
    assert urls.postgres is None
    assert urls.redis is None
    assert urls.problems.keys() == {"DATABASE_URL", "REDIS_URL"}
    assert "9ecret" not in str(urls)
    assert "app-pw" not in str(urls)


def test_what_is_local() -> None:
    assert is_local(one("postgres:\n  - upstream: postgresql://localhost\n").place)
    assert not is_local(one("postgres:\n  - upstream: postgresql://db.internal\n").place)


def test_where_the_settings_stand() -> None:
    """Advice names the one variable of the route, not all there are."""
    text = "postgres:\n  - upstream: postgresql://db\nredis:\n  - upstream: redis://r\n"
    settings = load_text(text, "f.yaml", {})
    sources = [target.source for target in from_settings(settings, None, app_urls({}))]
    assert sources == ["$BACKSTAY_POSTGRES_UPSTREAM", "$BACKSTAY_REDIS_UPSTREAM"]
    sources = [target.source for target in from_settings(settings, Path("f.yaml"), app_urls({}))]
    assert sources == ["f.yaml", "f.yaml"]
