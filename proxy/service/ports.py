"""The ports as the parent of several workers holds them.

TCP ports are bound and never listened on: workers bind them again (SO_REUSEPORT), and they stay
ours while a worker is replaced. Unix sockets, and sockets that systemd opened, are one for all:
every worker is handed them.
"""

import socket
from collections.abc import Mapping
from dataclasses import replace

from proxy.core.errors import ConfigError
from proxy.net.listen import ListenOptions, UnixSocket, describe, open_sockets
from proxy.service.listeners import bound_names
from proxy.service.mistakes import PlaceOf
from proxy.settings.fields import ListenAddress
from proxy.settings.model import PostgresRoute, RedisRoute, Settings


class Ports:
    """See the module. `given`: systemd's sockets, by address."""

    def __init__(self, given: Mapping[str, socket.socket], options: ListenOptions) -> None:
        self._options = options
        self._inherited = dict(given)  # whose files and queues are not ours
        self._unused = set(given)
        self._held: dict[str, list[socket.socket]] = {}
        self._new: dict[str, list[socket.socket]] = {}
        self._wanted: set[str] = set()
        self.shared_next: dict[str, socket.socket] = {}  # to hand out before the next commit

    @property
    def addresses(self) -> list[str]:
        """Where the workers listen."""
        return [describe(sock) for socks in self._held.values() for sock in socks]

    @property
    def shared(self) -> dict[str, socket.socket]:
        """What every worker is handed."""
        return {
            name: sock
            for name, socks in self._held.items()
            for sock in socks
            if _is_shared(sock, name, self._inherited)
        }

    @property
    def drains(self) -> bool:
        """Whether workers serve who waits in the queues of shared sockets before they end."""
        return not self._inherited

    def unmatched(self) -> list[str]:
        """Inherited sockets that no route listens on."""
        return sorted(self._unused)

    # -- a change

    async def prepare(self, settings: Settings, place_of: PlaceOf) -> Settings:
        """The settings with every port known. Raises ConfigError; else `commit` or `drop`."""
        self._wanted, mistakes = set(), []
        made: dict[str, list[PostgresRoute | RedisRoute]] = {"postgres": [], "redis": []}
        every: list[tuple[str, int, PostgresRoute | RedisRoute]] = [
            *(("postgres", index, route) for index, route in enumerate(settings.postgres)),
            *(("redis", index, route) for index, route in enumerate(settings.redis)),
        ]
        for kind, index, route in every:
            listen = []
            for at, address in enumerate(route.listen):
                try:
                    listen.append(await self._place(address, route.name))
                except ConfigError as error:
                    where = place_of((kind, index, "listen", at))
                    mistakes += [where + text for text in error.problems]
            made[kind].append(route.model_copy(update={"listen": tuple(listen)}))
        if mistakes:
            self.drop()
            raise ConfigError(mistakes)
        return settings.model_copy(update={kind: tuple(made[kind]) for kind in made})

    async def _place(self, address: ListenAddress, route: str) -> ListenAddress:
        """The address, its port known; its sockets are held."""
        text = str(address)
        key = text if address.is_unix or address.port else f"{text} of {route}"
        self._wanted.add(key)
        socks = self._held.get(key) or self._new.get(key)
        if socks is None:
            names = [name for name in bound_names(address) if name in self._inherited]
            self._unused -= set(names)
            socks = [self._inherited[name] for name in names]
            if not socks:
                socks = await open_sockets(text, self._options)
            self._new[key] = socks
            for sock in socks:
                if _is_shared(sock, key, self._inherited):
                    self.shared_next[describe(sock)] = sock
        if isinstance(socks[0], UnixSocket) or address.is_unix or address.port:
            return address
        return replace(address, port=socks[0].getsockname()[1])

    def commit(self) -> None:
        """What was prepared is held from now on, and can be connected to."""
        for socks in self._new.values():
            for sock in socks:
                if isinstance(sock, UnixSocket):
                    sock.listen(self._options.backlog)
                    sock.put_in_place(self._options.backlog)
        self._held |= self._new
        self._new, self.shared_next = {}, {}

    def close_old(self) -> None:
        """Ports that no route has any more."""
        for key in self._held.keys() - self._wanted:
            socks = self._held.pop(key)
            _unlink(socks)
            for sock in socks:
                sock.close()

    def drop(self) -> None:
        """What was prepared is not wanted."""
        for socks in self._new.values():
            for sock in socks:
                if isinstance(sock, UnixSocket):
                    _unlink([sock])
                if describe(sock) not in self._inherited:
                    sock.close()
        self._new, self.shared_next = {}, {}

    # -- the end

    def unlink(self) -> None:
        """Nobody finds our Unix sockets any more."""
        for socks in self._held.values():
            _unlink(socks)

    def close(self) -> None:
        for socks in self._held.values():
            for sock in socks:
                sock.close()
        self._held.clear()


def _is_shared(sock: socket.socket, key: str, inherited: Mapping[str, socket.socket]) -> bool:
    return sock.family == socket.AF_UNIX or sock in inherited.values()


def _unlink(socks: list[socket.socket]) -> None:
    for sock in socks:
        if isinstance(sock, UnixSocket):
            sock.unlink()
