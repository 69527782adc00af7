"""The rows of SHOW CLIENTS and SHOW SERVERS for a Redis route. Made on request only."""

from typing import TYPE_CHECKING

from proxy.core.operator import Detail, LinkRow, SessionRow
from proxy.net.clock import unix_offset_s
from proxy.net.peers import local_of, peer_of, tls_of
from proxy.redis.runtime.batch import NEVER_S
from proxy.redis.runtime.client import ClientConnection
from proxy.redis.runtime.exclusive import ExclusiveLink
from proxy.redis.runtime.link import DataLink
from proxy.redis.runtime.tracking import TrackingLink
from proxy.redis.runtime.upstream import UpstreamLink

if TYPE_CHECKING:
    from proxy.redis.protocol.login import Credential
    from proxy.redis.runtime.route import RedisRoute


def rows(route: "RedisRoute") -> Detail:
    """Every client and link of the route. Ids are unique in the process; `worker` is left 0.

    A client's id is what CLIENT ID tells it; a link's `pid` is the server's own id of it.
    """
    now_s = route.loop.time()
    unix_s = unix_offset_s()
    waits = _waits(route, now_s)
    links = sorted(route.links, key=lambda link: link.number)
    return Detail(
        sessions=[_client(client, waits, unix_s) for client in route.clients.values()],
        links=[_link(link, route, unix_s) for link in links],
    )


def _waits(route: "RedisRoute", now_s: float) -> dict[int, float]:
    """Ids of clients whose commands wait for a link → for how long, seconds."""
    waits: dict[int, float] = {}
    for partition in route.partitions:
        for lane in partition.lanes:
            if lane.link is not None:
                continue
            for batch in lane.queue:
                if batch.due_s != NEVER_S:
                    waits.setdefault(batch.taker.whose, now_s - batch.due_s + route.options.hold_s)
    return waits


def _client(client: ClientConnection, waits: dict[int, float], unix_s: float) -> SessionRow:
    address, port = peer_of(client.transport)
    local_address, local_port = local_of(client.transport)
    state = "active" if client.busy or client.inflight or client.exclusive else "idle"
    link: UpstreamLink | None = client.lane.link if client.lane is not None else None
    if client.exclusive is not None:
        link = client.exclusive.link
    return SessionRow(
        id=client.id,
        kind="redis",
        route=client.route.options.name,
        user=_user(client.session.credential),
        database=str(client.session.db),
        state="waiting" if client.id in waits else state,
        address=address,
        port=port,
        application=client.session.name.decode(errors="replace"),
        connected_s=client.joined_s + unix_s,
        waited_s=max(0.0, waits.get(client.id, 0.0)),
        link=link.number if link is not None else 0,
        tls=tls_of(client.transport),
        local_address=local_address,
        local_port=local_port,
    )


def _link(link: UpstreamLink, route: "RedisRoute", unix_s: float) -> LinkRow:
    address, port = peer_of(link.transport)
    local_address, local_port = local_of(link.transport)
    state, used_s, owner = _use(link)
    number = link.greeting.server.get(b"id")
    return LinkRow(
        id=link.number,
        kind="redis",
        route=route.options.name,
        user=_user(link.identity.credential),
        database=str(link.identity.db),
        state=state,
        address=address,
        port=port,
        local_address=local_address,
        local_port=local_port,
        opened_s=link.opened_s + unix_s,
        used_s=max(used_s, link.opened_s) + unix_s,
        pid=number if isinstance(number, int) else 0,
        session=owner,
        tls=tls_of(link.transport),
    )


def _use(link: UpstreamLink) -> tuple[str, float, int]:
    """(state, when it was used last, whose it is alone) of a link."""
    if link.is_asking:
        return "asking", link.opened_s, 0
    match link:
        case DataLink():
            return "active" if link.inflight else "idle", link.lane.heard_s, 0
        case ExclusiveLink() if link.owner is not None:
            return "active", link.owner.heard_s, link.owner.client.id
        case ExclusiveLink():
            return "idle", link.checked_s, 0
        case TrackingLink():
            return "active", link.proven_s, 0
        case _:
            return "idle", 0.0, 0


def _user(credential: "Credential | None") -> str:
    return credential.name if credential is not None else "default"
