"""All routes of a process, with their listeners."""

import asyncio
import random
from collections.abc import Callable

from proxy.core.errors import ProxyError
from proxy.core.events import Events
from proxy.net.dial import Address, DialOptions, connect
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.postgres.runtime.route import PostgresRoute
from proxy.redis.runtime.route import RedisRoute
from proxy.service.postgres_options import keepalive, postgres_options
from proxy.service.redis_options import redis_options
from proxy.settings.model import PostgresRoute as PostgresSetting
from proxy.settings.model import RedisRoute as RedisSetting
from proxy.settings.model import Settings


class Routes:
    """Make it on the running loop; then start() and, once, stop()."""

    def __init__(self, settings: Settings, events: Events, rng: random.Random) -> None:
        self._settings = settings
        self._listeners: list[Listener] = []
        self.listening: dict[tuple[str, str], list[str]] = {}  # (kind, route) → addresses
        self.postgres = [
            PostgresRoute(postgres_options(route, settings.log.sql), events, rng)
            for route in settings.postgres
        ]
        self.redis = [RedisRoute(redis_options(route), events, rng) for route in settings.redis]

    @property
    def addresses(self) -> list[str]:
        """Where the process listens."""
        return [address for listener in self._listeners for address in listener.addresses]

    async def start(self) -> None:
        """Open the listeners and begin. Raises ConfigError if one cannot be opened."""
        try:
            for setting, route in zip(self._settings.postgres, self.postgres, strict=True):
                await self._listen(setting, route.client_protocol)
                route.start()
            for redis_setting, redis in zip(self._settings.redis, self.redis, strict=True):
                await self._listen(redis_setting, redis.client_protocol())
                await redis.start()
        except BaseException:
            self._close_listeners()
            raise

    async def _listen(
        self, setting: PostgresSetting | RedisSetting, factory: Callable[[], asyncio.Protocol]
    ) -> None:
        options = ListenOptions(keepalive=keepalive(setting.link_keepalive))
        kind = "postgres" if isinstance(setting, PostgresSetting) else "redis"
        addresses = self.listening.setdefault((kind, setting.name), [])
        for address in setting.listen:
            self._listeners.append(await listen(str(address), factory, options))
            addresses += self._listeners[-1].addresses

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def stop(self, drain_s: float) -> None:
        """No new clients; the others get `drain_s` to come to an end."""
        self._close_listeners()
        await asyncio.gather(
            *(route.stop(drain_s) for route in self.postgres),
            *(redis.stop(drain_s) for redis in self.redis),
        )

    def kill(self) -> None:
        """End all sessions now."""
        for route in self.postgres:
            route.kill_all()
        for redis in self.redis:
            redis.kill()


async def unreachable(settings: Settings) -> list[str]:
    """Names of the routes none of whose hosts accepts a connection."""
    targets = []
    for postgres in settings.postgres:
        options = postgres_options(postgres, False).upstream
        addresses = [host.address for host in options.hosts]
        targets.append((postgres.name, addresses, options.connect_timeout_s))
    for redis in settings.redis:
        told = redis_options(redis)
        targets.append((redis.name, [told.address], told.connect_timeout_s))
    return [name for name, addresses, s in targets if not await _any_answers(addresses, s)]


async def _any_answers(addresses: list[Address], timeout_s: float) -> bool:
    for address in addresses:
        try:
            (await connect(address, DialOptions(timeout_s))).close()
        except ProxyError:
            continue
        return True
    return False
