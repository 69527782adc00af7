"""The rows of SHOW CLIENTS and SHOW SERVERS for a PostgreSQL route. Made on request only."""

import asyncio
from typing import TYPE_CHECKING

from proxy.core.operator import Detail, LinkRow, SessionRow
from proxy.net.clock import unix_offset_s
from proxy.net.peers import local_of, peer_of, tls_of
from proxy.postgres.protocol.expected import IDLE
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.link import Phase as LinkPhase
from proxy.postgres.runtime.session import Phase, Session

if TYPE_CHECKING:
    from proxy.postgres.runtime.pool import Pool
    from proxy.postgres.runtime.route import PostgresRoute

_APPLICATION = b"application_name"


def rows(route: "PostgresRoute") -> Detail:
    """Every session and link of the route. Ids are unique in the process; `worker` is left 0."""
    now_s = asyncio.get_running_loop().time()
    unix_s = unix_offset_s()
    sessions = sorted(route.sessions, key=lambda session: session.number)
    owners = {session.link: session for session in sessions if session.link is not None}
    return Detail(
        sessions=[_session(session, now_s, unix_s) for session in sessions],
        links=[
            _link(link, pool, owners.get(link), unix_s)
            for pool in route.pools.values()
            for link in pool.links
        ],
    )


def state_of(session: Session) -> str:
    """active: owed an answer, or in a transaction; waiting: for a link; else idle."""
    linked = session.link is not None and session.link.phase is LinkPhase.ATTACHED
    if not linked and (session.phase is Phase.JOINING or session.waits):
        return "waiting"
    busy = session.expected.inflight or session.expected.status != IDLE
    return "active" if busy or session.waits else "idle"


def _session(session: Session, now_s: float, unix_s: float) -> SessionRow:
    address, port = peer_of(session.transport)
    local_address, local_port = local_of(session.transport)
    state = state_of(session)
    waited_s = now_s - session.lost_at_s if state == "waiting" and session.lost_at_s else 0.0
    return SessionRow(
        id=session.number,
        kind="postgres",
        route=session.route.options.name,
        user=_text(session.pool.key.user),
        database=_text(session.pool.key.database),
        state=state,
        address=address,
        port=port,
        application=_text(_application(session)),
        connected_s=session.joined_s + unix_s,
        waited_s=waited_s,
        link=session.link.number if session.link is not None else 0,
        tls=tls_of(session.transport),
        prepared=len(session.state.prepared.by_name) + len(session.state.prepared.sql),
        local_address=local_address,
        local_port=local_port,
        requested_s=(now_s if state == "active" else session.used_s) + unix_s,
    )


def _application(session: Session) -> bytes:
    """As the server last told it; before the first link, as the client asked for it."""
    told = session.expected.client_params.get(_APPLICATION)
    return dict(session.startup).get(_APPLICATION, b"") if told is None else told


def _link(link: Link, pool: "Pool", session: Session | None, unix_s: float) -> LinkRow:
    transport = link.transport if not link.closed else None
    address, port = peer_of(transport)
    local_address, local_port = local_of(transport)
    prepared = session.state.prepared if session is not None else None
    return LinkRow(
        id=link.number,
        kind="postgres",
        route=pool.route,
        user=_text(pool.key.user),
        database=_text(pool.key.database),
        state=_LINK_STATES[link.phase],
        address=address,
        port=port,
        local_address=local_address,
        local_port=local_port,
        opened_s=link.opened_s + unix_s,
        used_s=link.used_s + unix_s,
        pid=link.pid,
        session=session.number if session is not None else 0,
        tls=tls_of(transport),
        prepared=len(prepared.by_name) + len(prepared.sql) if prepared is not None else 0,
        stale=bool(link.stale),
    )


_LINK_STATES = {
    LinkPhase.OPENING: "opening",
    LinkPhase.IDLE: "idle",
    LinkPhase.ASKING: "asking",
    LinkPhase.ATTACHED: "active",
    LinkPhase.CLOSED: "closing",
}


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
