"""The session commands of a client that is on an exclusive link.

There they go to the link itself, in order with everything else, and the client's virtual state
follows the replies (also those inside an EXEC's). Source: reference/redis.md, section 4.
"""

from typing import TYPE_CHECKING

from proxy.redis.protocol import say
from proxy.redis.protocol.expected import Effect, Expected, Sort
from proxy.redis.protocol.framing import read_number
from proxy.redis.protocol.login import Credential, parse_hello
from proxy.redis.protocol.session_state import SessionState
from proxy.redis.protocol.values import encode_command
from proxy.redis.runtime.options import AuthMethod
from proxy.redis.runtime.session_commands import real_ids, set_reply_mode

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.exclusive import ExclusiveSession

_KEPT = frozenset((b"TRACKING", b"NO-EVICT", b"NO-TOUCH", b"CAPA", b"IMPORT-SOURCE"))


def handle(exclusive: "ExclusiveSession", data: bytes, args: list[bytes]) -> bool:
    """Deals with one session command. False: it has to wait until nothing is owed."""
    name = args[0].upper()
    if name in (b"QUIT", b"RESET") and (name == b"QUIT" or len(args) == 1):
        return _leave(exclusive, name)
    if name == b"HELLO":
        _hello(exclusive, data, args)
    elif name == b"AUTH":
        _auth(exclusive, data, args)
    elif name == b"CLIENT" and len(args) > 1:
        _client(exclusive, data, args)
    else:
        entry = exclusive.forward(data, args)
        if name == b"SELECT" and len(args) == 2:
            db = read_number(args[1], 0, len(args[1]))
            exclusive.state.give_effect(entry, lambda session: _set_db(exclusive, session, db))
    return True


def _leave(exclusive: "ExclusiveSession", name: bytes) -> bool:
    """QUIT and RESET end everything, inside MULTI as well; replies due come first."""
    if exclusive.owes:
        return False
    client = exclusive.client
    if name == b"QUIT":
        client.end(b"" if client.session.mutes() else say.OK)
        return True
    exclusive.detach()
    client.session.reset()
    client.moved()
    client.deliver(say.RESET)
    return True


def _set_db(exclusive: "ExclusiveSession", session: SessionState, db: int) -> None:
    session.db = db
    exclusive.client.moved()


def _hello(exclusive: "ExclusiveSession", data: bytes, args: list[bytes]) -> None:
    hello = parse_hello(args)
    if isinstance(hello, bytes):
        _answer(exclusive, hello)
        return
    credential = hello.credential
    if credential is not None and _method(exclusive) is not AuthMethod.PASSTHROUGH:
        if not _is_same_user(exclusive.client, credential):
            _answer(exclusive, _other_user())
            return
        credential = None
        setname = [b"SETNAME", hello.name] if hello.name is not None else []
        data = encode_command(b"HELLO", b"%d" % (hello.resp or 2), *setname)
    entry = exclusive.forward(data, args)

    def effect(session: SessionState) -> None:
        session.resp = hello.resp or session.resp
        session.name = session.name if hello.name is None else hello.name
        session.credential = credential or session.credential
        exclusive.client.moved()

    exclusive.state.give_effect(entry, effect)


def _auth(exclusive: "ExclusiveSession", data: bytes, args: list[bytes]) -> None:
    if len(args) not in (2, 3):
        exclusive.forward(data, args)
        return
    credential = Credential(None, args[1]) if len(args) == 2 else Credential(args[1], args[2])
    if _method(exclusive) is not AuthMethod.PASSTHROUGH:
        same = _is_same_user(exclusive.client, credential)
        _answer(exclusive, say.OK if same else _other_user())
        return
    entry = exclusive.forward(data, args)

    def effect(session: SessionState) -> None:
        session.credential = credential
        exclusive.client.moved()

    exclusive.state.give_effect(entry, effect)


def _answer(exclusive: "ExclusiveSession", line: bytes) -> None:
    exclusive.answer(line)


def _method(exclusive: "ExclusiveSession") -> AuthMethod:
    return exclusive.client.route.options.auth


def _is_same_user(client: "ClientConnection", credential: Credential) -> bool:
    """Passwords we check ourselves let a client be only who it is, on a link of its own."""
    options = client.route.options
    if options.auth is AuthMethod.TRUST:
        return True
    return options.upstream_credential(credential) == client.session.credential


def _other_user() -> bytes:
    return say.error("AUTH as another user is not possible in this state; RESET first")


def _client(exclusive: "ExclusiveSession", data: bytes, args: list[bytes]) -> None:
    client = exclusive.client
    sub = args[1].upper()
    if sub == b"REPLY" and len(args) == 3 and args[2].upper() in (b"ON", b"OFF", b"SKIP"):
        if not exclusive.state.multi:
            if set_reply_mode(client, args[2].upper()):
                exclusive.answer(say.OK)
            return
        exclusive.answer(say.error("CLIENT REPLY is not possible inside MULTI here"))
        return
    if sub == b"ID" and len(args) == 2 and not exclusive.state.multi:
        exclusive.answer(say.integer(client.id))
        return
    if sub in (b"KILL", b"UNBLOCK", b"TRACKING"):
        data = real_ids(client, data, args)
    entry = exclusive.forward(data, args)
    effect = _effect(exclusive, data, args, sub)
    if effect is not None:
        exclusive.state.give_effect(entry, effect)


def _effect(
    exclusive: "ExclusiveSession", data: bytes, args: list[bytes], sub: bytes
) -> Effect | None:
    """What the session remembers once the link has accepted it."""
    if sub == b"SETNAME" and len(args) == 3:
        return lambda session: setattr(session, "name", args[2])
    if sub == b"SETINFO" and len(args) == 4:
        field = {b"LIB-NAME": "lib_name", b"LIB-VER": "lib_version"}.get(args[2].upper())
        return (lambda session: setattr(session, field, args[3])) if field else None
    if sub in _KEPT and len(args) > 2:
        kept = exclusive.state.kept
        return _forgets(kept, sub) if args[2].upper() == b"OFF" else _keeps(kept, sub, data)
    return None


def _keeps(kept: dict[bytes, bytes], name: bytes, request: bytes) -> Effect:
    return lambda session: kept.update({name: request})


def _forgets(kept: dict[bytes, bytes], name: bytes) -> Effect:
    def effect(session: SessionState) -> None:
        kept.pop(name, None)

    return effect


def note_kept(exclusive: "ExclusiveSession", entry: Expected, args: list[bytes]) -> None:
    """READONLY and READWRITE: a cluster client's permission to read from replicas."""
    if entry.sort is not Sort.PLAIN:
        return
    kept = exclusive.state.kept
    if entry.name == b"READONLY" and len(args) == 1:
        entry.effect = _keeps(kept, b"READONLY", entry.request)
    elif entry.name == b"READWRITE" and len(args) == 1:
        entry.effect = _forgets(kept, b"READONLY")
