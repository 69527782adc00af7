"""All routes of a process, with their listeners."""

import asyncio
import random

from proxy.core.errors import ProxyError
from proxy.core.events import Events
from proxy.net.dial import DialOptions, connect
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.postgres.runtime.route import PostgresRoute
from proxy.service.postgres_options import keepalive, postgres_options
from proxy.settings.model import Settings


class Routes:
    """Make it on the running loop; then start() and, once, stop()."""

    def __init__(self, settings: Settings, events: Events, rng: random.Random) -> None:
        self._settings = settings
        self._listeners: list[Listener] = []
        self.postgres = [
            PostgresRoute(postgres_options(route, settings.log.sql), events, rng)
            for route in settings.postgres
        ]

    @property
    def addresses(self) -> list[str]:
        """Where the process listens."""
        return [address for listener in self._listeners for address in listener.addresses]

    async def start(self) -> None:
        """Open the listeners and begin. Raises ConfigError if one cannot be opened."""
        try:
            for setting, route in zip(self._settings.postgres, self.postgres, strict=True):
                options = ListenOptions(keepalive=keepalive(setting.link_keepalive))
                for address in setting.listen:
                    opened = await listen(str(address), route.client_protocol, options)
                    self._listeners.append(opened)
                route.start()
        except BaseException:
            self._close_listeners()
            raise

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def stop(self, drain_s: float) -> None:
        """No new clients; the others get `drain_s` to come to an end."""
        self._close_listeners()
        await asyncio.gather(*(route.stop(drain_s) for route in self.postgres))

    def kill(self) -> None:
        """End all sessions now."""
        for route in self.postgres:
            for session in list(route.sessions):
                session.kill()


async def unreachable(settings: Settings) -> list[str]:
    """Names of the routes none of whose hosts accepts a connection."""
    missing = []
    for setting in settings.postgres:
        options = postgres_options(setting, False).upstream
        dial = DialOptions(options.connect_timeout_s)
        for host in options.hosts:
            try:
                (await connect(host.address, dial)).close()
                break
            except ProxyError:
                continue
        else:
            missing.append(setting.name)
    return missing
