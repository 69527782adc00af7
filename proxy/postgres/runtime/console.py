"""The admin console of a route: logging in to it, and the conversation (protocol/console.py).

A `Console` is the route's: who is there, who has proven a password, the averages. Each visitor is
a `ConsoleSession`, one task that takes message after message, so that answers keep their order and
a PAUSE that waits holds up nobody else. It counts towards no limit of the route's clients: the
console must be there when these are reached.

Owns: that task, the bounds, the proof of a password where only the upstream knows it. Must not
know: how the operator does what it is asked.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.core.errors import (
    LimitExceeded,
    PeerProtocolError,
    ProxyError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from proxy.core.operator import Detail, Operator
from proxy.core.reasons import Reason
from proxy.net.clock import unix_offset_s
from proxy.net.contexts import ServerTlsMode
from proxy.net.listen import close_gently, is_local
from proxy.net.tasks import TaskSet
from proxy.postgres.protocol import console_say, say
from proxy.postgres.protocol.client_login import Credentials, Method, welcome
from proxy.postgres.protocol.console import (
    MESSAGE_BYTES_MAX,
    Answer,
    Conversation,
    Need,
    NeedAct,
    NeedClosed,
    NeedFacts,
    Role,
)
from proxy.postgres.protocol.console_answers import REPORTED, Myself, session_settings
from proxy.postgres.protocol.console_command import ConsoleError
from proxy.postgres.protocol.console_door import ConsoleOptions, Visitor, role_of
from proxy.postgres.protocol.console_show import Facts
from proxy.postgres.protocol.console_stats import Averages, collected
from proxy.postgres.protocol.framing import HEADER_BYTES, whole_bytes
from proxy.postgres.protocol.startup import Startup
from proxy.postgres.runtime import attach
from proxy.postgres.runtime.sampling import SAMPLE_EVERY
from proxy.postgres.runtime.upstream import Wanted

if TYPE_CHECKING:
    from proxy.postgres.protocol.keys import CancelKey
    from proxy.postgres.runtime.link import Link
    from proxy.postgres.runtime.route import PostgresRoute

SESSIONS_MAX = 32  # at the console of one route
PROOFS_MAX = 8  # logins to the upstream under way for it
PROOF_S = 10.0  # for the upstream to say whether a password is right
PROVEN_MAX = 64  # users remembered, for when the upstream cannot be asked
BUFFER_BYTES_MAX = 2 * MESSAGE_BYTES_MAX  # read ahead of a client
STALLED_S = 60.0  # a client that does not read its answer may hold its place
SLICE_BYTES = 4096  # answers above are parts of large tables
CLOSED_EVERY_S = 0.25  # how often WAIT_CLOSE looks


class Console:
    """See the module. The service opens it; until then whoever asks for it is refused."""

    def __init__(self, route: "PostgresRoute") -> None:
        self.route = route
        self.options = ConsoleOptions()
        self.operator: Operator | None = None
        self.averages = Averages()
        self.sessions: set[ConsoleSession] = set()
        # Of its own: in an outage the route's may be full, and that is when one wants to look.
        self.tasks = TaskSet(route.events, SESSIONS_MAX * 2)
        self._proofs = 0
        self._proven: dict[tuple[bytes, bytes], None] = {}  # user, keyed hash of the secret

    def open(self, operator: Operator, options: ConsoleOptions) -> None:
        """Let visitors in from now on, by these rules; call it again when the rules change."""
        self.operator = operator
        self.options = options

    def is_meant(self, startup: Startup) -> bool:
        """True if this client wants the console, and not a database of that name."""
        return startup.database in self.options.databases

    def refusal(self, startup: Startup, tls: bool) -> say.Said | None:
        """Why this client cannot come in, as far as that is known before its login."""
        route = self.route
        if self.operator is None:
            return console_say.no_console()
        if startup.replication:
            return say.replication_refused()
        if route.tls_mode in (ServerTlsMode.REQUIRE, ServerTlsMode.VERIFY_CA) and not tls:
            return say.tls_required()
        if len(self.sessions) >= SESSIONS_MAX:
            return console_say.full(SESSIONS_MAX)
        return None

    def enter(
        self,
        transport: asyncio.Transport,
        startup: Startup,
        credentials: Credentials,
        rest: bytes,
    ) -> None:
        """A client has logged in, as far as the proxy can tell."""
        session = ConsoleSession(self, startup)
        self.sessions.add(session)
        transport.set_protocol(session)
        session.start(transport, credentials, rest)

    def role(self, transport: asyncio.Transport, user: bytes) -> Role | None:
        """What a user may do that has proven its name in the way of the route."""
        route = self.route
        unproven = route.rules.method is Method.TRUST
        visitor = Visitor(user, is_local(transport), unproven)
        return role_of(self.options, visitor, route.options.upstream.user)

    async def prove(self, startup: Startup, credentials: Credentials) -> None:
        """Returns if the password is right, as far as anybody can tell now.

        With `passthrough` only the upstream knows: it is asked by logging in, unless links of a
        pool were opened with this secret. Raises UpstreamRefused, UpstreamUnavailable and
        LimitExceeded.
        """
        route, who = self.route, (startup.user, credentials.key)
        if route.rules.method is not Method.PASSTHROUGH:
            return
        if any(pool.proven and (key.user, key.secret) == who for key, pool in route.pools.items()):
            self._remember(who)
            return
        if who in self._proven and (route.gate.is_shut or not route.upstream.available):
            return  # it was right when it could be asked last
        if self._proofs >= PROOFS_MAX:
            raise LimitExceeded(f"{PROOFS_MAX} logins are being proven", Reason.LIMIT)
        self._proofs += 1
        try:
            link = await self._ask_upstream(startup, credentials)
        except UpstreamUnavailable:
            if who in self._proven:
                return
            raise
        except UpstreamRefused:
            self._proven.pop(who, None)
            raise
        finally:
            self._proofs -= 1
        link.close(Reason.LINK_IDLE)
        self._remember(who)

    async def _ask_upstream(self, startup: Startup, credentials: Credentials) -> "Link":
        """A link, logged in as this user. Tries for as long as PROOF_S."""
        upstream = self.route.upstream
        database = self.route.options.upstream.database or b"postgres"
        wanted = Wanted(startup.user, database, credentials, ())
        try:
            async with asyncio.timeout(PROOF_S):
                while True:
                    await upstream.let_pass()
                    try:
                        return await upstream.open(wanted)
                    except UpstreamUnavailable:
                        if (startup.user, credentials.key) in self._proven:
                            raise
        except TimeoutError:
            text = upstream.last_error or "the upstream does not answer"
            raise UpstreamUnavailable(text, Reason.HOLD_TIMEOUT) from None

    def _remember(self, who: tuple[bytes, bytes]) -> None:
        self._proven.pop(who, None)
        self._proven[who] = None
        while len(self._proven) > PROVEN_MAX:
            del self._proven[next(iter(self._proven))]

    async def close(self) -> None:
        """The route stops: say so to everybody at the console."""
        for session in list(self.sessions):
            session.end_with(say.shutting_down())
        await self.tasks.stop()


class ConsoleSession(asyncio.Protocol):
    """One client at the console."""

    def __init__(self, console: Console, startup: Startup) -> None:
        self.minor = startup.minor
        self._console = console
        self._startup = startup
        self._user = startup.user.decode("utf-8", "replace")
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = self._closed = False
        self._waiting: asyncio.Timeout | None = None  # what a CancelRequest ends
        self._task: asyncio.Task[None] | None = None
        self._key: CancelKey | None = None

    # -- asyncio.Protocol

    def start(self, transport: asyncio.Transport, credentials: Credentials, rest: bytes) -> None:
        """Take over from the login. `rest`: bytes that came early."""
        self._transport = transport
        if rest:
            self.data_received(rest)
        try:
            self._task = self._console.tasks.start(self._serve(credentials), "console")
        except LimitExceeded:
            self.end_with(say.shutting_down())

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > BUFFER_BYTES_MAX and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- life

    async def _serve(self, credentials: Credentials) -> None:
        try:
            conversation = await self._welcome(credentials)
            while conversation is not None and not conversation.over:
                await self._one(conversation)
            self.end_with(b"")
        except PeerProtocolError as error:
            self.end_with(say.protocol_violation(str(error)))
        except Exception:  # our bug: it ends this session only, and the task set reports it
            self.end_with(say.internal_error())
            raise

    async def _welcome(self, credentials: Credentials) -> Conversation | None:
        """The conversation, if the client may have one. It is told nothing before its proof."""
        console, transport = self._console, self._transport
        assert transport is not None
        route, startup = console.route, self._startup
        try:
            await console.prove(startup, credentials)
        except UpstreamRefused as refused:
            route.counters.logins_refused += 1
            route.events("refused", level="info", reason=refused.reason)
            self.end_with(attach.refused(refused))
            return None
        except (UpstreamUnavailable, LimitExceeded) as error:
            route.events("refused", level="info", reason=error.reason)
            self.end_with(console_say.not_proven(str(error)))
            return None
        role = console.role(transport, startup.user)
        if role is None:
            route.events("console_refused", level="warning", user=self._user)
            self.end_with(console_say.not_allowed(startup.user))
            return None
        me = Myself(
            user=self._user,
            database=startup.database.decode("utf-8", "replace"),
            pid=os.getpid(),
            version=__version__,
            application=startup.params.get(b"application_name", b"").decode("utf-8", "replace"),
        )
        self._key = route.new_key(self, me.pid)
        settings = session_settings(me)
        reported = {name.encode(): settings[key].encode() for name, key in REPORTED.items()}
        self._write(welcome(reported, self._key.message()))
        route.events("console_opened", user=self._user, role=str(role))
        return Conversation(me, role)

    async def _one(self, conversation: Conversation) -> None:
        """Take one message and answer it."""
        kind, body = await self._message()
        steps = conversation.handle(kind, body)
        answer: Answer = None
        error: ConsoleError | None = None
        while not self._closed:
            try:
                step = steps.throw(error) if error is not None else steps.send(answer)
            except StopIteration:
                return
            answer = error = None
            if isinstance(step, bytes):
                self._write(step)
                await self._room()
                if len(step) > SLICE_BYTES:
                    await asyncio.sleep(0)  # others' turn: a table may have many slices
                continue
            try:
                answer = await self._meet(step)
            except ConsoleError as failed:
                error = failed

    async def _room(self) -> None:
        """Returns when more may be written; a client that reads nothing for STALLED_S is closed."""
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(STALLED_S):
                await self._writable.wait()
        except TimeoutError:
            assert self._transport is not None
            self._transport.abort()
            self._leave()

    async def _message(self) -> tuple[int, bytes]:
        """The next message: its type and body. Raises PeerProtocolError."""
        buffer = self._buffer
        while True:
            size = whole_bytes(bytes(buffer[:HEADER_BYTES]), 0, Reason.CLIENT_PROTOCOL)
            if size > MESSAGE_BYTES_MAX:
                raise PeerProtocolError(f"a message of the console has {MESSAGE_BYTES_MAX} bytes")
            if size and size <= len(buffer):
                break
            self._arrived.clear()
            self._resume()
            await self._arrived.wait()
        message = bytes(buffer[:size])
        del buffer[:size]
        return message[0], message[HEADER_BYTES:]

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    # -- what the conversation needs

    async def _meet(self, need: Need) -> Answer:
        """What was asked for. Raises ConsoleError, also when the client cancels the wait."""
        operator = self._console.operator
        assert operator is not None
        try:
            async with asyncio.timeout(None) as self._waiting:
                match need:
                    case NeedFacts(detail=detail):
                        return await self._facts(operator, detail)
                    case NeedClosed(route=route):
                        await _until_closed(operator, route)
                        return None
                    case NeedAct(act=act, route=route, number=number):
                        outcome = await operator.act(act, route, number)
                        self._acted(need, outcome.done)
                        return outcome
        except TimeoutError as error:
            if self._waiting is None or not self._waiting.expired():
                raise console_say.not_now(error) from error
            if isinstance(need, NeedAct):
                self._acted(need, False)
            raise console_say.cancelled(need) from None
        except (ProxyError, OSError) as error:
            raise console_say.not_now(error) from error
        finally:
            self._waiting = None

    async def _facts(self, operator: Operator, detail: bool) -> Facts:
        loop = asyncio.get_running_loop()
        report = await operator.report()
        rows = await operator.detail() if detail else Detail()
        now_s = loop.time() + unix_offset_s()
        stats = collected(report, self._console.averages, now_s, SAMPLE_EVERY)
        return Facts(report, rows, operator.settings(), stats, now_s)

    def cancel(self) -> "Link | None":
        """A CancelRequest with the session's key: what it waits for is given up. No link's."""
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
        return None

    # -- ends

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)

    def end_with(self, last_words: bytes) -> None:
        """Say why, if there is something to say, and close."""
        if self._closed:
            return
        transport = self._transport
        self._write(last_words)
        if transport is not None and not transport.is_closing():
            if last_words:
                close_gently(transport)
            else:
                transport.close()
        self._leave()

    def _leave(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._buffer.clear()
        console = self._console
        console.sessions.discard(self)
        if self._key is not None:
            console.route.forget_key(self._key)
            console.route.events("console_closed", user=self._user)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _acted(self, need: NeedAct, done: bool) -> None:
        target = need.route or need.number or "all"
        self._console.route.events(
            "console_command", user=self._user, command=str(need.act), target=target, done=done
        )


async def _until_closed(operator: Operator, route: str | None) -> None:
    """Returns when no link (of the route) waits to be replaced."""
    while True:
        links = (await operator.detail()).links
        if not any(link.stale and route in (None, link.route) for link in links):
            return
        await asyncio.sleep(CLOSED_EVERY_S)  # nobody tells when a link is replaced
