"""Asking a Redis server, as any client may, by redis-py. Blocking; each answer is bounded."""

from typing import Any

import redis

from proxy.diagnose.facts import RedisFacts
from proxy.diagnose.redis_link import ANSWER_S_MAX, Client, client
from proxy.settings.urls import RedisUpstream

SLOW_SHOWN = 5
CONFIG = ("maxmemory", "maxmemory-policy", "timeout", "tcp-keepalive", "maxclients", "appendonly")


def gather(made: Client, upstream: RedisUpstream, facts: RedisFacts) -> None:
    """Fill in what the server says. What may not be asked stays unknown. Raises RedisError."""
    facts.tls_used = upstream.tls
    facts.info = _allowed(lambda: _flat(made.info()), {})
    for name in CONFIG:
        facts.config |= _allowed(lambda name=name: _flat(made.config_get(name)), {})
    facts.slow_count = _allowed(made.slowlog_len, 0)
    facts.slow = _allowed(lambda: [_slow(entry) for entry in made.slowlog_get(SLOW_SHOWN)], None)
    facts.tracking = _tracking(upstream)


def _allowed(ask: Any, otherwise: Any) -> Any:
    """The answer, or `otherwise` where this user or this server does not give it."""
    try:
        return ask()
    except redis.ResponseError:
        return otherwise


def _flat(fields: dict[str, Any]) -> dict[str, str]:
    """Plain fields as text; keyspace lines (`db0`) as their number of keys with a TTL."""
    flat = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            for part, number in value.items():
                flat[f"{name}.{part}"] = str(number)
        else:
            flat[name] = str(value)
    return flat


def _slow(entry: dict[str, Any]) -> tuple[str, float]:
    """The command's name only: its arguments are somebody's keys and values."""
    command = entry["command"]
    text = command.decode(errors="replace") if isinstance(command, bytes) else str(command)
    return text.split(" ", 1)[0].upper()[:32], entry["duration"] / 1e6


def _tracking(upstream: RedisUpstream) -> str:
    """ "" if a link of the cache could be set up as Backstay does it, else the error's words."""
    one = client(upstream, ANSWER_S_MAX, protocol=3, single_connection_client=True)
    try:
        one.execute_command("CLIENT", "TRACKING", "ON", "OPTIN")
        one.execute_command("CLIENT", "TRACKINGINFO")
        one.execute_command("CLIENT", "TRACKING", "OFF")
    except redis.RedisError as error:
        return str(error).split("\n")[0][:120] or type(error).__name__
    finally:
        one.close()
    return ""
