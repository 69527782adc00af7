"""Upstream URLs, both kinds, under one name.

Parsing lives in `postgres_url` and `redis_url`; the results are frozen values that hide their
secrets.
"""

from proxy.settings.postgres_url import HostPort, PostgresUpstream, parse_postgres_url
from proxy.settings.redis_url import RedisUpstream, parse_redis_url
from proxy.settings.url_parts import UrlError

__all__ = [
    "HostPort",
    "PostgresUpstream",
    "RedisUpstream",
    "UrlError",
    "parse_postgres_url",
    "parse_redis_url",
]
