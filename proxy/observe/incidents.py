"""Incidents: what happened to a route, from the first loss until everybody was served again.

A sink beside the log: it reads the same events of the runtimes and makes one story of the losses,
waits, resends and errors that belong together. Pure: the time (Unix, seconds) comes in.

    begins   with the first link that dies, or when no link can be opened
    goes on  while the upstream is away, or somebody who lost a link waits for another
    ends     when both are over and nothing new has come for QUIET_S; its end is the time of the
             last thing that happened

A client may hear of a loss much later, with its next statement: that error is added to the incident
that cost it its link, also when that has ended. Bounded: INCIDENTS_MAX incidents, SESSIONS_MAX
sessions with a memory of their own in each route.

Source of the events: proxy/postgres/runtime and proxy/redis/runtime (see docs/log-events.md).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.core.report import INCIDENTS_MAX, Incident

QUIET_S = 1.0
SESSIONS_MAX = 10_000
LAST_WORDS_CHARS_MAX = 300
NOTICED_S = 0.05  # a shorter wait of a session that was not cut is no part of an incident
CODES_MAX = 32  # different errors of one incident

_ORDERLY = frozenset(("drain", "shutdown", "link_idle", "link_too_old", "client_closed"))

Fields = Mapping[str, Any]


@dataclass(slots=True)
class _Route:
    """What is known of one route beyond its incidents."""

    name: str
    kind: str
    incident: Incident | None = None  # the one that goes on
    away_since_s: float | None = None
    back_s: float = 0.0  # when the upstream came back last
    last_s: float = 0.0  # when something of the incident happened last
    waiting: set[object] = field(default_factory=set)  # who must be served before it ends
    counted: set[object] = field(default_factory=set)  # sessions counted in `incident`
    owners: OrderedDict[object, Incident] = field(default_factory=OrderedDict)  # by session


class Incidents:
    """All incidents of a process. `prefix` makes their ids unique over the workers."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._number = 0
        self._routes: dict[tuple[str, str], _Route] = {}
        self._all: deque[Incident] = deque(maxlen=INCIDENTS_MAX)

    def list(self, now_s: float) -> Sequence[Incident]:
        """The last INCIDENTS_MAX, the newest first; those that are over are closed."""
        for route in self._routes.values():
            self._settle(route, now_s)
        return list(reversed(self._all))

    def event(self, now_s: float, event: str, fields: Fields) -> None:
        """One event of a runtime. Those that say nothing about incidents cost a look-up."""
        handler = _HANDLERS.get(event)
        if handler is None:
            return
        name = str(fields.get("route", ""))
        kind = "redis" if event.startswith("redis_") else "postgres"
        route = self._routes.get((kind, name))
        if route is None:
            route = self._routes[kind, name] = _Route(name, kind)
        self._settle(route, now_s)
        handler(self, route, now_s, fields)

    # -- the life of one

    def _settle(self, route: _Route, now_s: float) -> None:
        """Close the incident if it is over."""
        incident = route.incident
        if incident is None or route.waiting or route.away_since_s is not None:
            return
        if now_s - route.last_s >= QUIET_S:
            incident.ended_s = route.last_s
            route.incident = None
            route.counted = set()

    def _open(self, route: _Route, now_s: float, fields: Fields) -> Incident:
        """The incident that goes on, or a new one."""
        route.last_s = now_s
        if route.incident is None:
            self._number += 1
            route.incident = Incident(
                id=f"{self._prefix}{self._number}",
                route=route.name,
                kind=route.kind,
                reason=str(fields.get("reason") or ""),
                upstream=str(fields.get("upstream") or ""),
                last_words="",
                started_s=now_s,
            )
            self._all.append(route.incident)
        incident = route.incident
        if not incident.upstream:
            incident.upstream = str(fields.get("upstream") or "")
        if not incident.last_words and fields.get("sqlstate"):
            incident.last_words = str(fields.get("last_words", ""))[:LAST_WORDS_CHARS_MAX]
        return incident

    def _touches(self, route: _Route, incident: Incident, session: object) -> None:
        """The session is part of the incident: counted once."""
        if session not in route.counted and len(route.counted) < SESSIONS_MAX:
            route.counted.add(session)
            incident.sessions += 1
        route.owners[session] = incident
        route.owners.move_to_end(session)
        if len(route.owners) > SESSIONS_MAX:
            route.owners.popitem(last=False)

    def _served(self, route: _Route, now_s: float, session: object, fields: Fields) -> None:
        """The session waits no longer."""
        route.waiting.discard(session)
        incident = route.incident
        if incident is None:
            return
        waited_s = float(fields.get("waited_s") or 0.0)
        # Who had begun to wait before the upstream was back has waited for it.
        through_outage = waited_s >= NOTICED_S and now_s - waited_s <= route.back_s
        if session in route.counted or through_outage:
            self._touches(route, incident, session)
            incident.longest_wait_s = max(incident.longest_wait_s, waited_s)
            route.last_s = now_s

    # -- events

    def _lost(self, route: _Route, now_s: float, fields: Fields) -> None:
        if str(fields.get("reason")) in _ORDERLY:
            return
        incident = self._open(route, now_s, fields)
        incident.losses += 1
        session = fields.get("session")
        if session is not None:
            self._touches(route, incident, session)

    def _attaching(self, route: _Route, now_s: float, fields: Fields) -> None:
        session = fields.get("session")
        incident = route.incident
        if incident is None or len(route.waiting) >= SESSIONS_MAX:
            return
        if session in route.counted or route.away_since_s is not None:
            self._touches(route, incident, session)
            route.waiting.add(session)

    def _restored(self, route: _Route, now_s: float, fields: Fields) -> None:
        self._served(route, now_s, fields.get("session"), fields)

    def _waiting(self, route: _Route, now_s: float, fields: Fields) -> None:
        """It has waited for some seconds."""
        incident, session = route.incident, fields.get("session")
        if incident is not None and (session in route.waiting or route.away_since_s is not None):
            self._touches(route, incident, session)
            route.waiting.add(session)
            waited_s = float(fields.get("waited_s") or 0.0)
            incident.longest_wait_s = max(incident.longest_wait_s, waited_s)

    def _ended(self, route: _Route, now_s: float, fields: Fields) -> None:
        """The proxy has ended a session."""
        session = fields.get("session")
        owner = route.owners.get(session)
        if owner is not None and str(fields.get("reason")) not in _ORDERLY:
            _count(owner.errors, str(fields.get("sqlstate") or fields.get("reason")))
        self._left(route, now_s, fields)

    def _left(self, route: _Route, now_s: float, fields: Fields) -> None:
        session = fields.get("session")
        if session in route.waiting:
            route.waiting.discard(session)
            route.last_s = now_s
        route.owners.pop(session, None)

    def _replayed(self, route: _Route, now_s: float, fields: Fields) -> None:
        if route.incident is not None:
            _count(route.incident.replayed, str(fields.get("certificate")))

    def _answered(self, route: _Route, now_s: float, fields: Fields) -> None:
        owner = route.owners.get(fields.get("session"))
        if owner is not None:
            _count(owner.errors, str(fields.get("sqlstate")))

    def _down(self, route: _Route, now_s: float, fields: Fields) -> None:
        self._open(route, now_s, fields)
        route.away_since_s = now_s

    def _up(self, route: _Route, now_s: float, fields: Fields) -> None:
        route.away_since_s, route.back_s = None, now_s
        if route.incident is not None:
            route.incident.outage_s += float(fields.get("away_s") or 0.0)
            route.last_s = now_s

    # -- events of Redis routes, where clients share lanes

    def _lane_lost(self, route: _Route, now_s: float, fields: Fields) -> None:
        if str(fields.get("reason")) in _ORDERLY:
            return
        incident = self._open(route, now_s, fields)
        incident.losses += 1
        lane, clients = fields.get("lane"), int(fields.get("clients") or 0)
        # The clients of one partition share several lanes: the largest number is theirs.
        incident.sessions = max(incident.sessions, clients)
        if clients and lane != "exclusive":
            route.waiting.add(lane)

    def _lane_restored(self, route: _Route, now_s: float, fields: Fields) -> None:
        route.waiting.discard(fields.get("lane"))
        incident = route.incident
        if incident is not None:
            waited_s = float(fields.get("waited_s") or 0.0)
            incident.longest_wait_s = max(incident.longest_wait_s, waited_s)
            route.last_s = now_s

    def _resent(self, route: _Route, now_s: float, fields: Fields) -> None:
        if route.incident is not None:
            _count(route.incident.replayed, "resent", int(fields.get("count") or 0))

    def _redis_answered(self, route: _Route, now_s: float, fields: Fields) -> None:
        if route.incident is not None:
            count = int(fields.get("count") or 0)
            _count(route.incident.errors, str(fields.get("error")), count)


def _count(counts: dict[str, int], name: str, count: int = 1) -> None:
    if name in counts or len(counts) < CODES_MAX:
        counts[name] = counts.get(name, 0) + count


_Handler = Callable[[Incidents, _Route, float, Fields], None]
_HANDLERS: dict[str, _Handler] = {
    "link_lost": Incidents._lost,
    "pool_link_lost": Incidents._lost,
    "attaching": Incidents._attaching,
    "attach_given_up": Incidents._restored,
    "restored": Incidents._restored,
    "connected": Incidents._restored,
    "waiting": Incidents._waiting,
    "session_ended": Incidents._ended,
    "disconnected": Incidents._left,
    "replayed": Incidents._replayed,
    "error_answered": Incidents._answered,
    "upstream_down": Incidents._down,
    "upstream_up": Incidents._up,
    "redis_link_lost": Incidents._lane_lost,
    "redis_restored": Incidents._lane_restored,
    "redis_lane_over": Incidents._lane_restored,
    "redis_resent": Incidents._resent,
    "redis_error_answered": Incidents._redis_answered,
    "redis_upstream_away": Incidents._down,
    "redis_upstream_back": Incidents._up,
}
