"""A partition: one user's one database. Its lanes, and who uses them.

Nothing is ever shared across partitions: not a link, not a cache entry (reference/redis.md, 2.1).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.redis.protocol.login import Credential, LinkIdentity
from proxy.redis.runtime.lane import Lane
from proxy.redis.runtime.reads import CachedReads
from proxy.redis.runtime.tracking import Tracker

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.route import RedisRoute


class Partition:
    """See the module. Lanes are made when first wanted: (RESP version, bulk)."""

    def __init__(self, route: "RedisRoute", credential: Credential | None, db: int) -> None:
        self.credential = credential
        self.db = db
        self.clients = 0
        self.authenticated = True  # False: the upstream wants a password first
        self.route = route
        self._lanes: dict[tuple[int, bool], Lane] = {}
        self._data_lanes: dict[int, Lane] = {}
        self.tracker: Tracker | None = None
        self.begin_caching()

    def begin_caching(self) -> None:
        """If the route does, and the partition does not yet."""
        caches = self.route.caches
        if caches is not None and self.tracker is None:
            cache = caches.partition(self.credential, self.db)
            self.tracker = Tracker(self.route, cache, LinkIdentity(self.credential, self.db, 3))

    def change_credential(self, credential: Credential) -> None:
        """Links from now on log in with another password of the same user."""
        if self.tracker is not None and self.route.caches is not None:
            self.route.caches.rename(self.credential, self.db, credential)
            self.tracker.identity = replace(self.tracker.identity, credential=credential)
        self.credential = credential
        for lane in self._lanes.values():
            lane.identity = replace(lane.identity, credential=credential)

    def lane(self, resp: int, bulk: bool) -> Lane:
        """The lane of a RESP version and weight."""
        lane = self._lanes.get((resp, bulk))
        if lane is None:
            user = self.credential.name if self.credential else "default"
            label = f"{user}/{self.db}/resp{resp}{'/bulk' if bulk else ''}"
            lane = Lane(self, LinkIdentity(self.credential, self.db, resp), label, bulk=bulk)
            self._lanes[resp, bulk] = lane
            lane.clients = self.clients
        return lane

    def data_lane(self, resp: int) -> Lane:
        """The lane of ordinary commands."""
        lane = self._data_lanes.get(resp)
        if lane is None:
            lane = self._data_lanes[resp] = self.lane(resp, bulk=False)
        return lane

    @property
    def lanes(self) -> list[Lane]:
        """As of now: a client that is told something may go on, and make another."""
        return list(self._lanes.values())

    def enter(self, client: "ClientConnection") -> CachedReads | None:
        """One more client; its way to the cache, if there is one."""
        self.clients += 1
        for lane in self._lanes.values():
            lane.clients = self.clients
        return self.reads(client)

    def reads(self, client: "ClientConnection") -> CachedReads | None:
        """A client's way to the cache, if there is one."""
        tracker, caches = self.tracker, self.route.caches
        if tracker is None or caches is None:
            return None
        tracker.open()
        return CachedReads(client, caches.reader(tracker.cache, client.session.resp), tracker)

    def leave(self) -> None:
        """One client less."""
        self.clients -= 1
        assert self.clients >= 0
        for lane in self._lanes.values():
            lane.clients = self.clients

    def sweep(self, now_s: float) -> None:
        """Deadlines and idle ends of the lanes."""
        for lane in self.lanes:
            lane.sweep(now_s)
        if self.tracker is not None:
            self.tracker.tick(now_s)

    def leave_links(self) -> None:
        """Every link is left as soon as nothing is in flight on it; the cache goes at once."""
        for lane in self.lanes:
            lane.leave_link()
        if self.tracker is not None:
            self.tracker.leave_link()

    def go_on(self) -> None:
        """The gate was opened."""
        for lane in self.lanes:
            lane.go_on()
        if self.tracker is not None and self.clients:
            self.tracker.open()

    @property
    def is_idle(self) -> bool:
        """Nothing to keep the partition for."""
        return not self.clients and all(lane.is_idle for lane in self._lanes.values())

    def close(self) -> None:
        """Ends every lane, and the cache."""
        for lane in self.lanes:
            lane.close()
        if self.tracker is not None and self.route.caches is not None:
            self.tracker.close()
            self.route.caches.discard(self.credential, self.db)
            self.tracker = None
