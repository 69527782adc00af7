"""Commands that are more than a request and a reply: which of them is handled where.

`handle_special`: for a client on shared lanes, with nothing in flight. `intervene`: for a client on
an exclusive link. The session commands themselves are in `session_commands.py`.
"""

from typing import TYPE_CHECKING

from proxy.core.reasons import Reason
from proxy.redis.protocol import say
from proxy.redis.protocol.commands import (
    BLOCKING,
    BULK,
    DATA,
    EXCLUSIVE,
    HTTP,
    KIND_MASK,
    MAYBE_BLOCKING,
    REFUSED,
    SESSION,
)
from proxy.redis.runtime import session_commands, session_exclusive
from proxy.redis.runtime.blocking import is_blocking
from proxy.redis.runtime.exclusive import ExclusiveSession

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection

_BEFORE_LOGIN = frozenset((b"HELLO", b"AUTH", b"QUIT", b"RESET"))
_PING = b"*1\r\n$4\r\nPING\r\n"


def handle_special(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    """Deals with one command of a client that has nothing in flight."""
    name = args[0].upper()
    if not client.session.authenticated and name not in _BEFORE_LOGIN:
        client.route.count_error(Reason.LOGIN_REFUSED)
        client.say(say.NOAUTH)
        return
    stand_in = client.session.stand_in(name)
    if stand_in is not None:
        client.say(stand_in)
        return
    kind = client.route.table.route(args[0]) & KIND_MASK
    if kind in (DATA, BULK):
        large = len(data) > client.route.options.limits.bulk_command_bytes
        client.one_batch(data, args, bulk=kind == BULK or large)
    elif kind == MAYBE_BLOCKING and not is_blocking(args):
        client.one_batch(data, args, bulk=False)
    elif kind == SESSION:
        session_commands.handle(client, data, args)
    elif kind in (EXCLUSIVE, MAYBE_BLOCKING):
        take_exclusive(client, data, args)
    elif kind == REFUSED:
        client.route.count_error(Reason.UNSUPPORTED)
        client.say(say.NO_REPLICATION)
    else:
        assert kind == HTTP
        client.close_for(Reason.CLIENT_PROTOCOL)


def take_exclusive(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    """Gives the client an exclusive link and sends the command on it."""
    ExclusiveSession(client).begin(data, args)


def intervene(exclusive: ExclusiveSession, data: bytes, args: list[bytes]) -> bool:
    """Deals with one command of a client on an exclusive link. False: later, when quiet."""
    client = exclusive.client
    table = client.route.table
    route = table.route(args[0])
    kind = route & KIND_MASK
    if kind == SESSION:
        return session_exclusive.handle(exclusive, data, args)
    if kind == REFUSED:
        client.route.count_error(Reason.UNSUPPORTED)
        exclusive.answer(say.NO_REPLICATION)
        return True
    if kind == HTTP:
        client.close_for(Reason.CLIENT_PROTOCOL)
        return True
    name = args[0].upper()
    blocking = False
    if not exclusive.state.multi:
        command = table.find(args[0])
        blocking = bool(command and command.flags & BLOCKING)
        if kind == MAYBE_BLOCKING:
            blocking = is_blocking(args)
        if name in (b"WAIT", b"WAITAOF"):
            _raise_offset(exclusive)
    entry = exclusive.forward(data, args, blocking=blocking)
    session_exclusive.note_kept(exclusive, entry, args)
    return True


def _raise_offset(exclusive: ExclusiveSession) -> None:
    """WAIT counts from the link's own last write, which may have gone over a shared link.

    Any command sets a link's offset to the server's current one, which covers every write already
    acknowledged to this client (Redis `processCommand`, `c->woff`).
    """
    if exclusive.link is not None:
        exclusive.state.own(_PING)
        exclusive.link.write(_PING)
