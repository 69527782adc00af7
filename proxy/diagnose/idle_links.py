"""The links of the idle probe: a psycopg or redis-py connection that can be asked and watched."""

import contextlib
import os
import socket
from typing import Any

import psycopg
import redis

from proxy.diagnose import postgres_link, redis_link
from proxy.diagnose.postgres_link import CannotConnect, TooLate, bounded, without
from proxy.diagnose.reach import Way
from proxy.diagnose.targets import PostgresTarget, RedisTarget

ASK_S_MAX = 3.0


class PostgresIdle:
    """A PostgreSQL connection, without TCP keepalive."""

    def __init__(self, target: PostgresTarget, way: Way | None) -> None:
        self._target = target
        self._connection, _ = postgres_link.connect(
            target.upstream, way, target.timeout_s, keepalives=0
        )

    def socket(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self._connection.fileno()))

    def ask(self) -> tuple[str, str]:
        try:
            with bounded(self._connection, ASK_S_MAX):
                self._connection.execute("SELECT 1")
        except TooLate:
            return "silence", ""
        except psycopg.Error as error:
            text = str(error)
            reset = "reset by peer" in text or "Broken pipe" in text
            words = error.diag.message_primary or ""
            code = f"{error.sqlstate} " if error.sqlstate and words else ""
            return "rst" if reset else "fin", code + without(words, self._target.upstream)
        return "", ""

    def close(self) -> None:
        self._connection.close()


class RedisIdle:
    """A Redis connection, without TCP keepalive."""

    def __init__(self, target: RedisTarget, way: Way | None) -> None:
        self._client = redis_link.client(
            target.upstream, target.timeout_s, socket_keepalive=False, health_check_interval=0
        )
        self._connection: Any = None
        try:
            self._connection = self._client.connection_pool.get_connection()
            self._ping(target.timeout_s)
        except redis.RedisError as error:
            self._client.close()
            raise CannotConnect(redis_link.failure(error, target.upstream, 0.0)) from None

    def _ping(self, timeout_s: float) -> None:
        self._connection.send_command("PING", check_health=False)
        self._connection.read_response(timeout=timeout_s)

    def socket(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self._connection._sock.fileno()))

    def ask(self) -> tuple[str, str]:
        try:
            self._ping(ASK_S_MAX)
        except redis.TimeoutError:
            return "silence", ""
        except redis.RedisError as error:
            text = str(error)
            return ("rst" if "reset by peer" in text or "Broken pipe" in text else "fin"), ""
        return "", ""

    def close(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            self._connection.disconnect()
        self._client.close()
