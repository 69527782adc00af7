"""A server that refuses writes: after a failover its address may lead to another one by now, or
soon. All links are replaced to find out, at once and then more and more rarely.

Owns: when to look again. Must not know: commands, clients.
"""

from typing import TYPE_CHECKING

from proxy.core.reasons import Reason
from proxy.redis.runtime.control import leave_links

if TYPE_CHECKING:
    from proxy.redis.runtime.route import RedisRoute

LOOK_S_MIN = 0.1
LOOK_S_MAX = 30.0  # in the end it is simply a replica


class Roles:
    """What a route knows of its server's role. See the module."""

    def __init__(self, route: "RedisRoute") -> None:
        self._route = route
        self._pause_s = LOOK_S_MIN
        self._rest_until_s = 0.0

    def resting(self, now_s: float) -> bool:
        """True while there is no use in looking for another server."""
        return now_s < self._rest_until_s

    def refused(self) -> None:
        """A write was answered READONLY, and the client is told."""
        route = self._route
        now_s = route.loop.time()
        if self.resting(now_s):
            return
        if now_s - self._rest_until_s > LOOK_S_MAX:
            self._pause_s = LOOK_S_MIN  # the last time is long ago
        self._rest_until_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LOOK_S_MAX)
        route.events(
            "redis_role_changed", level="warning", route=route.options.name, lane="all",
            reason=Reason.UPSTREAM_READ_ONLY,
        )  # fmt: skip
        # Not now: whoever calls is in the middle of a link's replies.
        route.loop.call_soon(leave_links, route, Reason.UPSTREAM_READ_ONLY)
