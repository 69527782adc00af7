"""All routes of a process, with their listeners: the first settings, and every later ones.

A start is a change from nothing. A change is prepared (all that may fail: files, certificates,
sockets, passwords), and then taken in one step, or dropped without a trace.
"""

import asyncio
import random
import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from proxy.core.errors import ConfigError, ProxyError
from proxy.core.events import Events
from proxy.net.contexts import Renewal
from proxy.net.dial import Address, DialOptions, connect
from proxy.net.listen import ListenOptions, ProtocolFactory
from proxy.net.tasks import TaskSet
from proxy.postgres.protocol.client_login import LoginRules
from proxy.postgres.runtime import change as postgres_change
from proxy.postgres.runtime.options import RouteOptions as PostgresOptions
from proxy.postgres.runtime.route import PostgresRoute
from proxy.postgres.runtime.rules import login_rules
from proxy.redis.runtime import change as redis_change
from proxy.redis.runtime.options import RouteOptions as RedisOptions
from proxy.redis.runtime.route import RedisRoute
from proxy.service.listeners import Listeners, Opened, Place
from proxy.service.mistakes import PlaceOf, SettingPath, path_only
from proxy.service.postgres_options import console_options, keepalive, postgres_options
from proxy.service.redis_options import leads_elsewhere, redis_options
from proxy.service.share import divided
from proxy.settings.model import PostgresRoute as PostgresSetting
from proxy.settings.model import RedisRoute as RedisSetting
from proxy.settings.model import Settings

if TYPE_CHECKING:
    from proxy.core.operator import Operator


@dataclass(slots=True)
class Change:
    """What is ready to be taken: `Routes.commit` it, or `drop` it."""

    settings: Settings
    renewal: Renewal = field(default_factory=Renewal)
    postgres: dict[str, tuple[PostgresOptions, LoginRules]] = field(default_factory=dict)
    redis: dict[str, RedisOptions] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    opened: Opened = field(default_factory=Opened)

    def drop(self) -> None:
        """Nothing has changed, and nothing will."""
        self.opened.close()


class Routes:
    """Make it on the running loop; then start() and, once, stop()."""

    def __init__(
        self, events: Events, rng: random.Random, listeners: Listeners, sharing: ListenOptions
    ) -> None:
        self.settings = Settings.model_construct(postgres=(), redis=())
        self._events = events
        self._rng = rng
        self._tasks = TaskSet(events)
        self._postgres: dict[str, PostgresRoute] = {}
        self._redis: dict[str, RedisRoute] = {}
        self._leaving: dict[PostgresRoute | RedisRoute, asyncio.Task[None]] = {}
        self._sharing = sharing
        self.worker: tuple[int, int] = (0, 1)  # which of how many; set before `start`
        self.operator: Operator | None = None  # whom the consoles of the routes ask
        self.listeners = listeners

    @property
    def postgres(self) -> list[PostgresRoute]:
        return list(self._postgres.values())

    @property
    def redis(self) -> list[RedisRoute]:
        return list(self._redis.values())

    def listening(self, name: str) -> list[str]:
        """Where a route listens."""
        return self.listeners.of(name)

    async def start(self, settings: Settings, place_of: PlaceOf = path_only) -> None:
        """Open the listeners and begin. Raises ConfigError for what cannot be had."""
        change = await self.prepare(settings, place_of)
        unmatched = self.listeners.unmatched()
        if unmatched:
            change.drop()
            raise ConfigError(
                [f"inherited socket {name}: no route listens there" for name in unmatched]
            )
        await self.commit(change)

    # -- a change

    async def prepare(self, settings: Settings, place_of: PlaceOf = path_only) -> Change:
        """Everything that can fail. Raises ConfigError with every mistake; nothing has changed."""
        change = Change(settings)
        mistakes: list[str] = []
        for index, postgres in enumerate(settings.postgres):
            path: SettingPath = ("postgres", index)
            change.places += self._places(path, postgres)
            try:
                await self._prepare_postgres(change, postgres)
            except ConfigError as error:
                mistakes += [place_of(path) + text for text in error.problems]
        for index, redis in enumerate(settings.redis):
            path = ("redis", index)
            change.places += self._places(path, redis)
            try:
                options = redis_options(redis, change.renewal.server)
                limits = divided(options.limits, *self.worker)
                change.redis[redis.name] = replace(options, limits=limits)
            except ConfigError as error:
                mistakes += [place_of(path) + text for text in error.problems]
            except (OSError, ssl.SSLError) as error:
                why = getattr(error, "reason", None) or error.strerror or type(error).__name__
                mistakes.append(f"{place_of((*path, 'upstream'))}TLS files: {why}")
        try:
            change.opened = await self.listeners.prepare(change.places, place_of)
        except ConfigError as error:
            mistakes += error.problems
        if mistakes:
            change.drop()
            raise ConfigError(mistakes)
        return change

    async def _prepare_postgres(self, change: Change, setting: PostgresSetting) -> None:
        options = postgres_options(setting, change.settings.log.sql)
        change.renewal.client(options.upstream.tls)
        if options.tls is not None:
            change.renewal.server(options.tls)
        route = self._postgres.get(setting.name)
        before = (route.options, route.rules) if route is not None else None
        # Each password takes milliseconds; the hash gives the interpreter to others meanwhile.
        rules = await asyncio.to_thread(login_rules, options, before, check=False)
        change.postgres[setting.name] = (options, rules)

    def _places(self, path: SettingPath, setting: PostgresSetting | RedisSetting) -> list[Place]:
        options = ListenOptions(
            reuse_port=self._sharing.reuse_port,
            replace=self._sharing.replace,
            keepalive=keepalive(setting.link_keepalive),
        )
        return [
            Place(address, setting.name, (*path, "listen", index), options)
            for index, address in enumerate(setting.listen)
        ]

    async def commit(self, change: Change) -> None:
        """The change is in force when this returns. Sessions of removed routes drain from now."""
        old, self.settings = self.settings, change.settings
        change.renewal.commit()
        self._commit_postgres(change)
        await self._commit_redis(change, old)
        factories: dict[str, ProtocolFactory] = {
            **{name: route.client_protocol for name, route in self._postgres.items()},
            **{name: route.client_protocol() for name, route in self._redis.items()},
        }
        await self.listeners.take(change.opened, change.places, factories)
        gone: list[PostgresRoute | RedisRoute] = [
            *(self._postgres.pop(name) for name in self._postgres.keys() - change.postgres.keys()),
            *(self._redis.pop(name) for name in self._redis.keys() - change.redis.keys()),
        ]
        for route in gone:
            leave = self._leave(route)
            self._leaving[route] = self._tasks.start(leave, "drain a removed route")

    def _commit_postgres(self, change: Change) -> None:
        for name, (options, rules) in change.postgres.items():
            route = self._postgres.get(name)
            if route is not None:
                postgres_change.apply(route, options, rules)
            else:
                route = PostgresRoute(options, self._events, self._rng, rules)
                self._postgres[name] = route
                route.start()
            if self.operator is not None:
                route.console.open(self.operator, console_options(change.settings.admin))

    async def _commit_redis(self, change: Change, old: Settings) -> None:
        before = {setting.name: setting for setting in old.redis}
        for setting in change.settings.redis:
            options = change.redis[setting.name]
            redis = self._redis.get(setting.name)
            if redis is not None:
                elsewhere = leads_elsewhere(before[setting.name], setting)
                redis_change.apply(redis, options, elsewhere)
                continue
            redis = self._redis[setting.name] = RedisRoute(options, self._events, self._rng)
            await redis.start()

    async def _leave(self, route: PostgresRoute | RedisRoute) -> None:
        try:
            await route.stop(self.settings.drain_s)
        finally:
            self._leaving.pop(route, None)

    # -- the end

    async def stop(self, drain_s: float) -> None:
        """No new clients; the others get `drain_s` to come to an end."""
        self.listeners.close()
        routes: list[PostgresRoute | RedisRoute] = [
            *self._postgres.values(),
            *self._redis.values(),
        ]
        leaving = list(self._leaving.values())
        await asyncio.gather(*(route.stop(drain_s) for route in routes), *leaving)
        await self._tasks.stop()

    def kill(self) -> None:
        """End all sessions now."""
        for route in (*self._postgres.values(), *self._redis.values(), *self._leaving):
            route.kill_all()


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
