"""HELLO, AUTH, SELECT, CLIENT, RESET and QUIT of a client on shared lanes.

Answered from the client's virtual state where nobody could tell, checked with the upstream where
somebody could. A malformed call goes to the upstream as it is: it changes nothing there, and the
answer is in the upstream's own words. Source: reference/redis.md, section 4.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.core.errors import ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol import say
from proxy.redis.protocol.framing import read_number
from proxy.redis.protocol.login import (
    Credential,
    Greeting,
    Hello,
    LinkIdentity,
    accepts,
    hello_reply,
    is_good_name,
    parse_hello,
)
from proxy.redis.protocol.session_state import ReplyMode
from proxy.redis.protocol.values import encode_command
from proxy.redis.runtime.exclusive import ExclusiveSession
from proxy.redis.runtime.options import AuthMethod

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.route import RedisRoute

Handler = Callable[["ClientConnection", bytes, list[bytes]], None]
_DB_MAX = 1 << 31


def handle(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    """Deals with one session command; nothing of the client is in flight."""
    _HANDLERS[args[0].upper()](client, data, args)


def _pass(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    client.one_batch(data, args, bulk=False)


def _quit(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    client.end(b"" if client.session.mutes() else say.OK)


def _reset(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    if len(args) != 1:
        _pass(client, data, args)
        return
    client.session.reset()
    client.moved()
    client.deliver(say.RESET)


def _select(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    db = read_number(args[1], 0, len(args[1])) if len(args) == 2 else -(1 << 62)
    if not -_DB_MAX <= db < _DB_MAX:
        _pass(client, data, args)
    elif db == client.session.db:
        client.say(say.OK)
    elif db < 0:
        client.say(say.error("DB index is out of range"))
    else:
        client.work(_change_db(client, db), "SELECT")


async def _change_db(client: "ClientConnection", db: int) -> None:
    greeting = await _greeting(client, client.session.credential, db, client.session.resp)
    if greeting is None:
        return
    if not greeting.authenticated:
        client.say(say.NOAUTH)
        return
    client.session.db = db
    client.moved()
    client.say(say.OK)


async def _greeting(
    client: "ClientConnection", credential: Credential | None, db: int, resp: int
) -> Greeting | None:
    """The greeting of the lane the client would use there; None if that has been answered."""
    try:
        client.route.make_room(credential, db)
        return await _ready(client.route, LinkIdentity(credential, db, resp))
    except UpstreamRefused as error:
        client.refused(error)
    except ProxyError as error:
        client.route.counters.not_executed += 1
        client.not_executed(error)
    return None


async def _ready(route: "RedisRoute", identity: LinkIdentity) -> Greeting:
    hold_s = route.options.hold_s
    while True:
        await route.gate.opened()
        # Not before: while the gate is shut, a partition without clients ends.
        partition = route.partition(identity.credential, identity.db)
        lane = partition.lane(identity.resp, bulk=False)
        try:
            async with asyncio.timeout(hold_s):
                return await lane.ready()
        except TimeoutError:
            if route.gate.is_shut:
                continue
        text = f"{lane.why_away}; waited {hold_s:g} s for a link"
        raise UpstreamUnavailable(text, Reason.HOLD_TIMEOUT)


def _hello(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    hello = parse_hello(args)
    if isinstance(hello, bytes):
        client.say(hello)
        return
    method = client.route.options.auth
    if hello.credential is not None and method is AuthMethod.PASSTHROUGH:
        client.work(_log_in(client, hello.credential, hello), "HELLO AUTH")
        return
    checked = hello.credential is not None and method is AuthMethod.PASSWORD
    if checked and hello.credential is not None and not _admit(client, hello.credential):
        client.say(say.WRONGPASS)
        return
    if not client.session.authenticated:
        client.say(say.NOAUTH_HELLO)
        return
    client.work(_change_version(client, data, hello), "HELLO")


async def _change_version(client: "ClientConnection", data: bytes, hello: Hello) -> None:
    session = client.session
    resp = hello.resp or session.resp
    greeting = await _greeting(client, session.credential, session.db, resp)
    if greeting is None:
        return
    if not greeting.hello:
        # No password yet, or a server without HELLO: the upstream's own words.
        client.one_batch(data, [b"HELLO"], bulk=False)
        return
    _welcome(client, hello, resp, greeting)


def _welcome(client: "ClientConnection", hello: Hello, resp: int, greeting: Greeting) -> None:
    session = client.session
    session.resp = resp
    if hello.name is not None:
        session.name = hello.name
    client.moved()
    client.say(hello_reply(greeting.hello, client.id))


async def _log_in(client: "ClientConnection", credential: Credential, hello: Hello | None) -> None:
    """Lets the upstream check the credential, on a link that then serves this user."""
    session, pool = client.session, client.route.pool
    resp = (hello.resp if hello else None) or session.resp
    try:
        client.route.make_room(credential, session.db)
        link = await pool.verify(LinkIdentity(credential, session.db, resp))
    except UpstreamRefused as error:
        client.route.counters.logins_refused += 1
        client.refused(error)
        return
    except ProxyError as error:
        client.route.counters.not_executed += 1
        client.not_executed(error)
        return
    pool.park(link)
    session.credential = credential
    if hello is not None:
        _welcome(client, hello, resp, link.greeting)
    else:
        client.moved()
        client.say(say.OK)


def _auth(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    if len(args) not in (2, 3):
        _pass(client, data, args) if client.session.authenticated else client.say(
            say.wrong_arity("auth") if len(args) < 2 else say.SYNTAX
        )
        return
    credential = Credential(None, args[1]) if len(args) == 2 else Credential(args[1], args[2])
    method = client.route.options.auth
    if method is AuthMethod.PASSTHROUGH:
        client.work(_log_in(client, credential, None), "AUTH")
    elif method is AuthMethod.TRUST or _admit(client, credential):
        client.say(say.OK)
    else:
        client.say(say.WRONGPASS)


def _admit(client: "ClientConnection", credential: Credential) -> bool:
    """Checks a password against the route's own users; the client then acts as that user."""
    options = client.route.options
    if not accepts(options.users, credential):
        client.route.counters.logins_refused += 1
        client.route.count_error(Reason.LOGIN_REFUSED)
        return False
    session = client.session
    upstream = options.upstream_credential(credential)
    if not session.authenticated or session.credential != upstream:
        session.credential = upstream
        session.authenticated = True
        client.moved()
    return True


# -- CLIENT -------------------------------------------------------------------------------------


def _client(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    handler = _CLIENT_HANDLERS.get(args[1].upper()) if len(args) > 1 else _pass
    (handler or _isolate)(client, data, args)


def _isolate(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    """A link of its own, at least for this command: it is about the connection itself."""
    ExclusiveSession(client).begin(data, args)


def _pass_slowly(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    client.one_batch(data, args, bulk=True)


def _client_setname(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    if len(args) != 3:
        _pass(client, data, args)
    elif not is_good_name(args[2]):
        client.say(say.BAD_NAME)
    else:
        client.session.name = args[2]
        client.say(say.OK)


def _client_getname(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    if len(args) != 2:
        _pass(client, data, args)
    else:
        client.say(say.bulk(client.session.name or None, client.session.resp))


def _client_setinfo(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    known = client.route.table.has(b"CLIENT|SETINFO")
    option = args[2].upper() if len(args) == 4 else b""
    if not known or option not in (b"LIB-NAME", b"LIB-VER") or not is_good_name(args[3]):
        _pass(client, data, args)
        return
    if option == b"LIB-NAME":
        client.session.lib_name = args[3]
    else:
        client.session.lib_version = args[3]
    client.say(say.OK)


def _client_id(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    if len(args) != 2:
        _pass(client, data, args)
    else:
        client.say(say.integer(client.id))


def _client_reply(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    mode = args[2].upper() if len(args) == 3 else b""
    if mode not in (b"ON", b"OFF", b"SKIP"):
        _pass(client, data, args)
    else:
        set_reply_mode(client, mode)


def set_reply_mode(client: "ClientConnection", mode: bytes) -> bool:
    """CLIENT REPLY; True if it is to be answered with OK."""
    session = client.session
    if mode == b"ON":
        session.reply_mode = ReplyMode.ON
        if client.exclusive is None:
            client.deliver(say.OK)
        return True
    if mode == b"OFF":
        session.reply_mode = ReplyMode.OFF
    elif session.reply_mode is not ReplyMode.OFF:
        session.reply_mode = ReplyMode.SKIP
    return False


def _client_about_id(client: "ClientConnection", data: bytes, args: list[bytes]) -> None:
    _pass_slowly(client, real_ids(client, data, args), args)


def real_ids(client: "ClientConnection", data: bytes, args: list[bytes]) -> bytes:
    """The command with virtual client ids replaced by the ids of the links these clients hold.

    A client without an exclusive link has none; its virtual id is then an id nobody has.
    """
    new = [client.route.real_id(arg) for arg in args]
    return data if new == args else encode_command(*new)


_CLIENT_HANDLERS: dict[bytes, Handler] = {
    b"SETNAME": _client_setname,
    b"GETNAME": _client_getname,
    b"SETINFO": _client_setinfo,
    b"ID": _client_id,
    b"REPLY": _client_reply,
    b"KILL": _client_about_id,
    b"UNBLOCK": _client_about_id,
    b"LIST": _pass_slowly,
    b"PAUSE": _pass_slowly,
    b"UNPAUSE": _pass_slowly,
    b"HELP": _pass,
}

_HANDLERS: dict[bytes, Handler] = {
    b"QUIT": _quit,
    b"RESET": _reset,
    b"SELECT": _select,
    b"HELLO": _hello,
    b"AUTH": _auth,
    b"CLIENT": _client,
}
