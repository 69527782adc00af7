"""TLS as a transport: a pump between a plain transport (ciphertext) and a protocol (plaintext).

Owns one `ssl.SSLObject` over two `ssl.MemoryBIO`s. To the loop it is a protocol, to the application
a transport; nothing is scheduled, and one chunk from the kernel becomes one `data_received`. It is
a transport and a protocol in all but name: a compiled class (setup.py) has no interpreted base.

What the application sees at the end of a connection:

| the peer                             | the protocol gets                           |
|---|---|
| sent close_notify                    | eof_received(), then connection_lost(None)  |
| closed TCP without close_notify      | connection_lost(TruncatedStream)            |
| reset the connection                 | connection_lost(the OSError)                |
| broke TLS, or its certificate is bad | connection_lost(the ssl.SSLError)           |
| took too long over the handshake     | connection_lost(HandshakeTimeout)           |

In each case the bytes that were still unread in the kernel are read, decrypted and delivered
before connection_lost (see `proxy.net.drain`). Renegotiation is refused by our contexts
(`proxy.net.contexts`); TLS 1.3 key updates are answered in the turn that reads them.

Must not know: protocols, settings, addresses.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

from proxy.net.drain import LastWords
from proxy.net.stream import StreamProtocol, as_asyncio, as_transport
from proxy.net.tls_options import HandshakeTimeout, PumpOptions, TruncatedStream
from proxy.net.tls_phase import LEGAL, Phase

__all__ = ["HandshakeTimeout", "PumpOptions", "TlsPump", "TruncatedStream"]

Buffer = bytes | bytearray | memoryview

_RECORD_BYTES = 16 * 1024  # the most plaintext in one record: RFC 8446, 5.1
# Ciphertext in one piece of a large chunk. An OpenSSL buffer never shrinks: fed with whole chunks,
# each link would keep some 600 KiB for the rest of its life.
_PIECE_BYTES = 64 * 1024
_QUEUED_BYTES_MAX = 1024 * 1024  # plaintext written before the handshake is done

_NOBODY = asyncio.Protocol()  # takes the place of the protocol at the end
_ALIVE = (Phase.HANDSHAKE, Phase.OPEN, Phase.ENDING)


class TlsPump:
    """A transport that speaks TLS over another one.

    Fresh connection: give the pump to the loop as the protocol; `protocol.connection_made(pump)`
    comes when the handshake is done. In mid-connection (SSLRequest, STARTTLS): `upgrade`.
    """

    __slots__ = (
        "_announced",
        "_data_received",
        "_eof",
        "_given_bytes",
        "_handshake_error",
        "_handshake_timeout_s",
        "_incoming",
        "_incoming_write",
        "_last_write_bytes",
        "_last_write_end",
        "_last_write_start",
        "_loss",
        "_on_ready",
        "_open",
        "_outgoing",
        "_outgoing_read",
        "_phase",
        "_protocol",
        "_queued",
        "_queued_bytes",
        "_raw",
        "_raw_write",
        "_ssl_read",
        "_ssl_write",
        "_timer",
        "_waiters",
        "_words",
        "ssl_object",
    )

    def __init__(self, protocol: StreamProtocol, options: PumpOptions) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = options.context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=options.server_side,
            server_hostname=options.server_hostname,
        )
        # What the public methods of SSLObject call, and nothing else: a frame less, twice a turn.
        direct: Any = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self._ssl_read: Callable[[int], bytes] = direct.read
        self._ssl_write: Callable[[Buffer], int] = direct.write
        self._incoming_write: Callable[[Buffer], int] = self._incoming.write
        self._outgoing_read: Callable[[], bytes] = self._outgoing.read
        self._on_ready = options.on_ready
        self._handshake_timeout_s = options.handshake_timeout_s
        self._phase = Phase.NEW
        self._open = False  # the phase is OPEN: what the hot path asks
        self._announced = False  # connection_made has been called on the application's protocol
        self._eof = False  # the peer sent close_notify
        self._loss: Exception | None = None
        self._handshake_error: Exception | None = None
        self._queued: list[bytes] = []
        self._queued_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._given_bytes = 0  # ciphertext handed to the plain transport
        self._last_write_start = 0  # _given_bytes before the latest write, and after it
        self._last_write_end = 0
        self._last_write_bytes = 0  # plaintext of the latest write
        self.set_protocol(as_asyncio(protocol))

    @classmethod
    def upgrade(
        cls,
        raw: asyncio.Transport,
        protocol: StreamProtocol,
        options: PumpOptions,
        received: bytes = b"",
    ) -> "TlsPump":
        """A pump that took over `raw`, whose handshake has begun.

        `protocol` already had its connection_made and gets no second one; from here on it must use
        the pump in place of `raw`. `received` is ciphertext that was read already (direct TLS: the
        first byte told it was TLS). After SSLRequest nothing may have been received: the caller
        refuses such a client (a man in the middle may have put the bytes there: CVE-2021-23214).
        """
        pump = cls(protocol, options)
        pump._announced = True
        raw.set_protocol(as_asyncio(pump))
        pump._begin(raw)
        if received:
            pump.data_received(received)
        raw.resume_reading()
        return pump

    async def handshaken(self) -> None:
        """Returns when the handshake is done. Raises what ended it, if it failed."""
        if self._phase not in (Phase.NEW, Phase.HANDSHAKE):
            if self._handshake_error is not None:
                raise self._handshake_error
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    # ---- what the plain transport tells us --------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._begin(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        if len(data) > _PIECE_BYTES:
            self._receive_large(memoryview(data))
            return
        self._incoming_write(data)
        if self._open or self._phase is Phase.ENDING:
            self._decrypt()
        elif self._phase is Phase.HANDSHAKE:
            self._shake_hands()
        # CLOSING, CLOSED: the application is gone, nobody wants these bytes

    def eof_received(self) -> bool | None:
        """The peer closed TCP. After its close_notify we may still have something to write."""
        if self._eof:
            return self._open
        if self._phase is Phase.ENDING:
            self.close()  # our goodbye was enough for it
            return None
        self._fail(TruncatedStream("the peer closed the connection without TLS close_notify"))
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        rest = self._words.read_rest() if self._open else b""
        if rest:
            self.data_received(rest)
        loss = self._loss
        if loss is None and not self._eof and self._phase in (Phase.HANDSHAKE, Phase.OPEN):
            loss = exc or TruncatedStream("the connection was closed without TLS close_notify")
        shaking = self._phase is Phase.HANDSHAKE
        self._become(Phase.CLOSED)
        if shaking:
            self._handshake_over(loss)
        self._queued.clear()
        protocol = self._protocol
        self._forget()
        if self._announced:
            protocol.connection_lost(loss)

    def pause_writing(self) -> None:
        if self._announced:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._announced:
            self._protocol.resume_writing()

    # ---- what the application tells us ------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Encrypts and sends at once. Before the handshake is done: queued, at most 1 MiB."""
        if not data:
            return
        if not self._open:
            self._write_later(data)
            return
        start = self._given_bytes
        try:
            done = self._ssl_write(data) if len(data) <= _PIECE_BYTES else 0
            if done != len(data):
                self._write_pieces(memoryview(data)[done:])
        except ssl.SSLError as error:
            self._fail(error)
            return
        encrypted = self._outgoing_read()
        self._last_write_start = start
        self._last_write_bytes = len(data)
        self._given_bytes += len(encrypted)
        self._last_write_end = self._given_bytes
        self._raw_write(encrypted)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Sends close_notify, flushes, closes. The peer's own close_notify is not awaited."""
        if self._open:
            self._say_goodbye()
        if self._phase in _ALIVE:
            self._end(None)
            self._raw.close()

    def write_eof(self) -> None:
        """Sends close_notify; goes on receiving until the peer says goodbye or closes."""
        if self._open:
            self._say_goodbye()
            if self._open:  # the plain transport may have failed meanwhile
                self._become(Phase.ENDING)

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        if self._phase in _ALIVE:
            self._end(None)
        if self._phase is not Phase.NEW:
            self._raw.abort()

    def is_closing(self) -> bool:
        return self._phase in (Phase.CLOSING, Phase.CLOSED) or self._raw.is_closing()

    def pause_reading(self) -> None:
        """Stops reading ciphertext. Nothing stays behind: a chunk is always delivered whole."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Ciphertext waiting below plus plaintext waiting for the handshake, bytes."""
        return self._raw.get_write_buffer_size() + self._queued_bytes

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)
        self._data_received = self._protocol.data_received

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the plain transport's, and 'ssl_object', 'sslcontext', 'cipher', 'peercert' (DER)."""
        match name:
            case "ssl_object":
                return self.ssl_object
            case "sslcontext":
                return self.ssl_object.context
            case "cipher":
                return self.ssl_object.cipher()
            case "peercert":
                return self.ssl_object.getpeercert(binary_form=True)
            case _:
                return self._raw.get_extra_info(name, default)

    def unsent_bytes(self) -> int:
        """Plaintext at the end of what was written that surely never left this machine, bytes.

        A lower bound, for use inside connection_lost: all of the latest write, or 1 if some of its
        ciphertext left (an incomplete record cannot be decrypted, so its last byte is not known to
        anybody), or 0 if everything may have left. What followed the latest write (an alert, the
        answer to a key update) does not count. Source: `proxy.net.drain`, "What left".
        """
        unsent = self._words.unsent_bytes(self._given_bytes)
        if unsent <= self._given_bytes - self._last_write_end:
            return 0
        if unsent >= self._given_bytes - self._last_write_start:
            return self._last_write_bytes
        return 1

    # ---- inside ------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Whoever held us still does; if we held them, all of us (16 KiB with OpenSSL's part) would
        wait for the collector of cycles: it came after 1500 links, with 25 MiB."""
        self.set_protocol(_NOBODY)
        self._on_ready = None
        self._loss = None

    def _become(self, phase: Phase) -> None:
        assert phase in LEGAL[self._phase], f"{self._phase} -> {phase}"
        self._phase = phase
        self._open = phase is Phase.OPEN

    def _begin(self, raw: asyncio.Transport) -> None:
        self._raw = raw
        self._raw_write: Callable[[bytes], None] = raw.write
        self._words = LastWords(raw)
        self._become(Phase.HANDSHAKE)
        self._timer = asyncio.get_running_loop().call_later(
            self._handshake_timeout_s, self._handshake_timed_out
        )
        self._shake_hands()

    def _shake_hands(self) -> None:
        done = True
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            done = False  # not written here: what a write fails with would remember this error
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()
        if not done:
            return
        self._become(Phase.OPEN)
        if not self._announced:
            self._announced = True
            self._protocol.connection_made(as_transport(self))
        self._handshake_over(None)
        self._write_queued()
        if self._open and self._incoming.pending:
            self._decrypt()

    def _handshake_timed_out(self) -> None:
        seconds = self._handshake_timeout_s
        self._fail(HandshakeTimeout(f"the TLS handshake was not finished within {seconds:g} s"))

    def _handshake_over(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Without its traceback, which names frames of ours: a cycle.
        self._handshake_error = error.with_traceback(None) if error is not None else None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(error)

    def _receive_large(self, data: memoryview) -> None:
        if self._open or self._phase is Phase.ENDING:
            self._incoming.write(data[:_PIECE_BYTES])
            self._decrypt(data[_PIECE_BYTES:])
        elif self._phase is Phase.HANDSHAKE:
            self._incoming.write(data)
            self._shake_hands()

    def _decrypt(self, more: memoryview | None = None) -> None:
        """Delivers the plaintext of all complete records received so far, in one call.

        `more`: the rest of the chunk, which did not go into the buffer yet.
        """
        error: ssl.SSLError | None = None
        eof = False
        plain = b""
        try:
            plain = self._ssl_read(_RECORD_BYTES)
            eof = not plain
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # close_notify, after we sent ours
            eof = True
        except ssl.SSLError as caught:
            error = caught
        # Nothing pending means no further record: asking anyway would cost an exception.
        if (self._incoming.pending or more) and not eof and error is None:
            plain, eof, error = self._decrypt_rest(plain, more or memoryview(b""))
        if self._outgoing.pending:  # the answer to a key update, or an alert
            self._flush()
        if plain:
            self._data_received(plain)
        if error is not None:
            self._fail(error)
        elif eof and not self._eof:
            self._peer_said_goodbye()

    def _decrypt_rest(
        self, first: bytes, more: memoryview
    ) -> tuple[bytes, bool, ssl.SSLError | None]:
        """(plaintext with that of the following records, whether close_notify came, error)."""
        parts = [first]
        read, incoming = self._ssl_read, self._incoming
        while True:
            try:
                while incoming.pending:
                    part = read(_RECORD_BYTES)
                    if not part:
                        return b"".join(parts), True, None
                    parts.append(part)
            except ssl.SSLWantReadError:
                pass  # a record that is not whole yet
            except ssl.SSLZeroReturnError:
                return b"".join(parts), True, None
            except ssl.SSLError as caught:
                return b"".join(parts), False, caught
            if not more:
                return b"".join(parts), False, None
            incoming.write(more[:_PIECE_BYTES])
            more = more[_PIECE_BYTES:]

    def _peer_said_goodbye(self) -> None:
        self._eof = True
        if self._phase not in (Phase.OPEN, Phase.ENDING):
            return
        keep_open = self._protocol.eof_received()
        if not keep_open or self._phase is Phase.ENDING:
            self.close()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # "want read" the peer's close_notify: not now
            self.ssl_object.unwrap()
        self._flush()

    def _write_later(self, data: Buffer) -> None:
        if self._phase in (Phase.CLOSING, Phase.CLOSED):
            return
        if self._phase is Phase.ENDING:
            raise RuntimeError("write after write_eof")
        self._queued_bytes += len(data)
        self._queued.append(bytes(data))
        if self._queued_bytes > _QUEUED_BYTES_MAX:
            self._fail(BufferError(f"more than {_QUEUED_BYTES_MAX} bytes before the handshake"))

    def _write_queued(self) -> None:
        queued, self._queued, self._queued_bytes = self._queued, [], 0
        self.write(b"".join(queued))

    def _write_pieces(self, rest: memoryview) -> None:
        """Encrypts a large write piece by piece, so that it is not in memory twice."""
        while rest:
            done = self._ssl_write(rest[:_PIECE_BYTES])
            rest = rest[done:]
            if self._outgoing.pending >= _PIECE_BYTES:
                self._flush()

    def _flush(self) -> None:
        encrypted = self._outgoing.read()
        if encrypted:
            self._given_bytes += len(encrypted)
            self._raw_write(encrypted)

    def _fail(self, error: Exception) -> None:
        """TLS is over: sends the alert, if there is one, and closes the plain transport."""
        if self._phase in (Phase.CLOSING, Phase.CLOSED):
            return
        self._flush()
        self._end(error)
        if isinstance(error, HandshakeTimeout):
            self._raw.abort()  # a peer that does not read would never let close() finish
        else:
            self._raw.close()

    def _end(self, error: Exception | None) -> None:
        shaking = self._phase is Phase.HANDSHAKE
        self._become(Phase.CLOSING)
        self._loss = error
        if shaking:
            self._handshake_over(error or ConnectionAbortedError("closed during the handshake"))
