"""The listeners of all routes: opened before a change, taken into use with it, closed behind it.

An address that stays keeps its socket, and who waits in its queue, whatever route it belongs to.
Sockets that others opened for us (systemd, the supervisor) are matched to addresses by what they
are bound to.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.core.errors import ConfigError
from proxy.net.listen import Listener, ListenOptions, ProtocolFactory, describe, open_sockets
from proxy.service.mistakes import PlaceOf, SettingPath
from proxy.settings.fields import ListenAddress


@dataclass(frozen=True, slots=True)
class Place:
    """One address of one route. `path`: of its setting."""

    address: ListenAddress
    route: str
    path: SettingPath
    options: ListenOptions

    @property
    def key(self) -> str:
        """What makes it the same place after a reload. Any free port is another one per route."""
        text = str(self.address)
        return text if self.address.is_unix or self.address.port else f"{text} of {self.route}"


TakeOver = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[socket.socket]]]]


@dataclass(slots=True)
class Opened:
    """Listeners that are bound, and not started: `take` them, or `close` them all."""

    new: dict[str, Listener] = field(default_factory=dict)

    def close(self) -> None:
        for listener in self.new.values():
            listener.close()


class Listeners:
    """See the module. `given`: sockets opened by others, by address; each must find its place.

    `drains`: who waits in the queues of these is ours to serve, also when we stop.
    """

    def __init__(
        self, given: Mapping[str, socket.socket] | None = None, *, drains: bool = False
    ) -> None:
        self._open: dict[str, Listener] = {}
        self._places: dict[str, Place] = {}
        self.given = dict(given or {})
        self.take_over: TakeOver | None = None  # asked for sockets that listen already
        self._drains = drains

    def of(self, route: str) -> list[str]:
        """Where a route listens."""
        keys = [key for key, place in self._places.items() if place.route == route]
        return [address for key in keys for address in self._open[key].addresses]

    @property
    def addresses(self) -> list[str]:
        return [address for listener in self._open.values() for address in listener.addresses]

    async def prepare(self, places: Iterable[Place], place_of: PlaceOf) -> Opened:
        """Bind what is not open yet. Raises ConfigError, with nothing changed."""
        opened = Opened()
        mistakes: list[str] = []
        for place in places:
            if place.key in self._open:
                continue
            try:
                opened.new[place.key] = await self._bound(place)
            except ConfigError as error:
                mistakes += [place_of(place.path) + text for text in error.problems]
        if mistakes:
            opened.close()
            raise ConfigError(mistakes)
        if self.take_over is not None:
            await self._take_over(opened, self.take_over)
        return opened

    async def _take_over(self, opened: Opened, ask: TakeOver) -> None:
        bound = [name for one in opened.new.values() for name in one.addresses if "/" not in name]
        taken = dict(await ask(bound)) if bound else {}
        for listener in opened.new.values():
            for name in listener.addresses:
                if name in taken:
                    listener.swap(name, taken.pop(name))
        for socks in taken.values():  # what nobody has asked for
            for sock in socks:
                sock.close()

    def lend(self, wanted: Iterable[str]) -> dict[str, list[socket.socket]]:
        """Copies of the listening TCP sockets there; who waits is left to whoever gets them."""
        lent: dict[str, list[socket.socket]] = {}
        asked = set(wanted)
        for listener in self._open.values():
            for sock in listener.sockets():
                if describe(sock) in asked:
                    lent.setdefault(describe(sock), []).append(sock.dup())
                    listener.leaves = True
        return lent

    def keep(self) -> None:
        """The borrower has gone: who waits is ours."""
        for listener in self._open.values():
            listener.leaves = False

    async def _bound(self, place: Place) -> Listener:
        names = [name for name in bound_names(place.address) if name in self.given]
        if names:
            socks = [self.given.pop(name) for name in names]
            return Listener(socks, _nobody, inherited=True, drains=self._drains)
        socks = await open_sockets(str(place.address), place.options)
        return Listener(socks, _nobody)

    def unmatched(self) -> list[str]:
        """Sockets we were given that no route listens on."""
        return sorted(self.given)

    async def take(
        self, opened: Opened, places: Sequence[Place], factories: Mapping[str, ProtocolFactory]
    ) -> None:
        """From now on just these places are listened on; `factories` by route."""
        for place in places:
            listener = self._open.get(place.key)
            if listener is None:
                listener = opened.new.pop(place.key)
                listener.retarget(factories[place.route])
                await listener.start(place.options)
                self._open[place.key] = listener
            listener.retarget(factories[place.route])
            listener.tune(place.options.keepalive)
            self._places[place.key] = place
        kept = {place.key for place in places}
        for key in self._open.keys() - kept:
            del self._places[key]
            self._open.pop(key).close()

    def close(self) -> None:
        """Stop accepting."""
        for listener in self._open.values():
            listener.close()


def _nobody() -> asyncio.Protocol:
    raise AssertionError("a listener starts with a factory")


_ALIASES = {"*": ("0.0.0.0", "::"), "localhost": ("127.0.0.1", "::1")}


def bound_names(address: ListenAddress) -> list[str]:
    """As `describe` may name sockets that are bound there."""
    if address.is_unix:
        return [address.path]
    hosts = _ALIASES.get(address.host, (address.host,))
    return [str(ListenAddress(host, address.port)) for host in hosts]


def named(socks: Iterable[socket.socket]) -> dict[str, socket.socket]:
    """Sockets by the address they are bound to."""
    return {describe(sock): sock for sock in socks}
