"""A client's virtual session: what the server would remember of its connection.

Pure. Shared links hold none of this; it decides which link a command takes, is answered from here,
or is put on an exclusive link when one is taken. Source: reference/redis.md, section 4.
"""

from enum import Enum, auto
from typing import Final

from proxy.redis.protocol import say
from proxy.redis.protocol.login import Credential


class ReplyMode(Enum):
    """CLIENT REPLY, emulated: the proxy drops the replies, the shared link must not."""

    ON = auto()
    OFF = auto()
    SKIP = auto()  # of the next command only


class Broken(Enum):
    """What the loss of an exclusive link has left to be told to the client."""

    NO = auto()
    WATCH = auto()  # watched keys are watched no more: the next EXEC answers nil
    DOOMED = auto()  # the MULTI after that: nothing in it will be executed
    MULTI = auto()  # a transaction's queue is gone: EXEC answers EXECABORT


class SessionState:
    """One client's. `authenticated` False: only HELLO, AUTH, RESET and QUIT are listened to."""

    def __init__(self, credential: Credential | None, db: int, *, authenticated: bool) -> None:
        self._initial = (credential, db, authenticated)
        self.credential = credential
        self.db = db
        self.authenticated = authenticated
        self.resp = 2
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.reply_mode = ReplyMode.ON
        self.broken = Broken.NO

    def reset(self) -> None:
        """RESET: all of it, back to how the connection began."""
        credential, db, authenticated = self._initial
        self.__init__(credential, db, authenticated=authenticated)  # type: ignore[misc]

    def lost_transaction(self, *, multi: bool, watching: bool) -> None:
        """The exclusive link died within a transaction or while keys were watched."""
        if multi:
            self.broken = Broken.MULTI
        elif watching:
            self.broken = Broken.WATCH

    def stand_in(self, name: bytes) -> bytes | None:
        """The reply to a command (name in capitals) while something is broken; None: none of that.

        As if a watched key had changed, or a queued command had been refused: what clients know
        how to handle (section 3). QUIT and RESET act at once, as they do inside MULTI.
        """
        if self.broken is Broken.NO or name in _ALWAYS:
            return None
        if self.broken is Broken.MULTI:
            return self._in_broken_multi(name)
        if self.broken is Broken.DOOMED:
            return self._in_doomed_multi(name)
        if name == b"MULTI":
            self.broken = Broken.DOOMED
        elif name == b"UNWATCH":
            self.broken = Broken.NO
        elif name != b"WATCH":
            return None
        return say.OK

    def _in_broken_multi(self, name: bytes) -> bytes:
        if name in (b"EXEC", b"DISCARD"):
            self.broken = Broken.NO
        return say.OK if name == b"DISCARD" else say.EXECABORT

    def _in_doomed_multi(self, name: bytes) -> bytes:
        if name == b"EXEC":
            self.broken = Broken.NO
            return say.NIL_ARRAY[self.resp]
        if name == b"DISCARD":
            self.broken = Broken.NO
            return say.OK
        if name == b"MULTI":
            return say.NESTED_MULTI
        return say.WATCH_IN_MULTI if name == b"WATCH" else say.QUEUED

    def mutes(self) -> bool:
        """True if the reply to the command now beginning is to be dropped; counts SKIP down."""
        if self.reply_mode is ReplyMode.ON:
            return False
        if self.reply_mode is ReplyMode.SKIP:
            self.reply_mode = ReplyMode.ON
        return True


_ALWAYS: Final = frozenset((b"QUIT", b"RESET"))
