"""PostgreSQL messages as bytes: builders for both sides, and readers of single bodies.

Owns the shapes only: no state, no framing of a stream (that is `framing`), no policy. Builders take
str (sent as UTF-8) or bytes, and return whole messages. Readers take a body, or a buffer with
`pos` and `end`, never look past `end`, and raise PeerProtocolError only.
Source: PostgreSQL documentation, "Message Formats" and "Error and Notice Message Fields".
"""

from collections.abc import Mapping, Sequence
from struct import Struct, pack

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason

Text = str | bytes

PROTOCOL_MAJOR = 3
SSL_REQUEST_CODE = 80877103  # 1234 << 16 | 5679
GSS_REQUEST_CODE = 80877104  # 1234 << 16 | 5680
CANCEL_REQUEST_CODE = 80877102  # 1234 << 16 | 5678

STATUS_IDLE = ord("I")
STATUS_IN_TRANSACTION = ord("T")
STATUS_FAILED = ord("E")

ERROR_FIELDS_MAX = 64
"""How many fields of one error are kept; the protocol knows 18."""

_U16 = Struct(">H")
_I32 = Struct(">i")
_U32 = Struct(">I")


def _raw(text: Text) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _cstring(text: Text) -> bytes:
    raw = _raw(text)
    assert b"\0" not in raw, "a NUL would end the field early and let the rest be read as another"
    return raw + b"\0"


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message: type byte, length (which counts itself), body."""
    return kind + _U32.pack(len(body) + 4) + body


# ---- what a client sends ----


def startup(minor_version: int, params: Mapping[str, str] | Mapping[bytes, bytes]) -> bytes:
    """StartupMessage of protocol 3.`minor_version`, parameters in the order given."""
    fields = b"".join(_cstring(name) + _cstring(value) for name, value in params.items())
    body = _U32.pack(PROTOCOL_MAJOR << 16 | minor_version) + fields + b"\0"
    return _U32.pack(len(body) + 4) + body


def ssl_request() -> bytes:
    """SSLRequest."""
    return pack(">II", 8, SSL_REQUEST_CODE)


def gss_request() -> bytes:
    """GSSENCRequest."""
    return pack(">II", 8, GSS_REQUEST_CODE)


def cancel_request(pid: int, secret: bytes) -> bytes:
    """CancelRequest; `secret` is 4 bytes in protocol 3.0, up to 256 in 3.2."""
    return pack(">III", 12 + len(secret), CANCEL_REQUEST_CODE, pid) + secret


def query(text: Text) -> bytes:
    """Query (simple protocol)."""
    return message(b"Q", _cstring(text))


def parse(name: Text, sql: Text, oids: Sequence[int] = ()) -> bytes:
    """Parse: statement name (empty: unnamed), text, parameter type OIDs."""
    body = _cstring(name) + _cstring(sql) + pack(f">H{len(oids)}I", len(oids), *oids)
    return message(b"P", body)


def bind(
    portal: Text,
    name: Text,
    params: Sequence[bytes | None] = (),
    param_formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """Bind `params` (None: NULL) to statement `name` as `portal`; formats 0 text, 1 binary."""
    parts = [_cstring(portal), _cstring(name), _int16_list(param_formats), _U16.pack(len(params))]
    parts.extend(map(_field, params))
    parts.append(_int16_list(result_formats))
    return message(b"B", b"".join(parts))


def describe(kind: bytes, name: Text) -> bytes:
    """Describe; `kind` is b"S" (statement) or b"P" (portal)."""
    assert kind in (b"S", b"P"), kind
    return message(b"D", kind + _cstring(name))


def execute(portal: Text, limit: int = 0) -> bytes:
    """Execute up to `limit` rows of a portal; 0: all."""
    return message(b"E", _cstring(portal) + _U32.pack(limit))


def close(kind: bytes, name: Text) -> bytes:
    """Close; `kind` is b"S" (statement) or b"P" (portal)."""
    assert kind in (b"S", b"P"), kind
    return message(b"C", kind + _cstring(name))


def sync() -> bytes:
    """Sync."""
    return b"S\0\0\0\4"


def flush() -> bytes:
    """Flush."""
    return b"H\0\0\0\4"


def terminate() -> bytes:
    """Terminate."""
    return b"X\0\0\0\4"


def password(data: Text) -> bytes:
    """PasswordMessage: a password in clear, or an md5 answer."""
    return message(b"p", _cstring(data))


def sasl_initial_response(mechanism: Text, data: bytes) -> bytes:
    """SASLInitialResponse with an initial response."""
    return message(b"p", _cstring(mechanism) + _U32.pack(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    """SASLResponse."""
    return message(b"p", data)


def copy_data(data: bytes) -> bytes:
    """CopyData (both sides send it)."""
    return message(b"d", data)


def copy_done() -> bytes:
    """CopyDone (both sides send it)."""
    return b"c\0\0\0\4"


def copy_fail(text: Text) -> bytes:
    """CopyFail with its reason."""
    return message(b"f", _cstring(text))


# ---- what a server sends ----


def authentication_ok() -> bytes:
    """AuthenticationOk."""
    return message(b"R", _U32.pack(0))


def authentication_cleartext() -> bytes:
    """AuthenticationCleartextPassword."""
    return message(b"R", _U32.pack(3))


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password; `salt` is 4 bytes."""
    assert len(salt) == 4, len(salt)
    return message(b"R", _U32.pack(5) + salt)


def authentication_sasl(mechanisms: Sequence[Text]) -> bytes:
    """AuthenticationSASL: mechanism names in the server's order of preference."""
    return message(b"R", _U32.pack(10) + b"".join(map(_cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue."""
    return message(b"R", _U32.pack(11) + data)


def authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal."""
    return message(b"R", _U32.pack(12) + data)


def parameter_status(name: Text, value: Text) -> bytes:
    """ParameterStatus."""
    return message(b"S", _cstring(name) + _cstring(value))


def backend_key_data(pid: int, secret: bytes) -> bytes:
    """BackendKeyData; `secret` is 4 bytes in protocol 3.0, up to 256 in 3.2."""
    return message(b"K", _U32.pack(pid) + secret)


def negotiate_protocol_version(minor: int, unrecognized: Sequence[Text] = ()) -> bytes:
    """NegotiateProtocolVersion: the newest minor we speak, the `_pq_.` options we do not know.

    The field holds the whole version (major in the upper half): what every server sends, whatever
    the older documentation says (PostgreSQL, backend_startup.c, SendNegotiateProtocolVersion).
    """
    version = PROTOCOL_MAJOR << 16 | minor
    return message(
        b"v", pack(">II", version, len(unrecognized)) + b"".join(map(_cstring, unrecognized))
    )


def ready_for_query(status: int) -> bytes:
    """ReadyForQuery; `status` is one of STATUS_IDLE, STATUS_IN_TRANSACTION, STATUS_FAILED."""
    assert status in (STATUS_IDLE, STATUS_IN_TRANSACTION, STATUS_FAILED), status
    return b"Z\0\0\0\5" + bytes((status,))


def command_complete(tag: Text) -> bytes:
    """CommandComplete."""
    return message(b"C", _cstring(tag))


def error_response(fields: Mapping[str, str]) -> bytes:
    """ErrorResponse of `{"S": …, "V": …, "C": …, "M": …}`, in the order given."""
    return message(b"E", _error_body(fields))


def notice_response(fields: Mapping[str, str]) -> bytes:
    """NoticeResponse, fields as in `error_response`."""
    return message(b"N", _error_body(fields))


def notification_response(pid: int, channel: Text, payload: Text = b"") -> bytes:
    """NotificationResponse."""
    return message(b"A", _U32.pack(pid) + _cstring(channel) + _cstring(payload))


def parse_complete() -> bytes:
    """ParseComplete."""
    return b"1\0\0\0\4"


def bind_complete() -> bytes:
    """BindComplete."""
    return b"2\0\0\0\4"


def close_complete() -> bytes:
    """CloseComplete."""
    return b"3\0\0\0\4"


def no_data() -> bytes:
    """NoData."""
    return b"n\0\0\0\4"


def portal_suspended() -> bytes:
    """PortalSuspended."""
    return b"s\0\0\0\4"


def empty_query() -> bytes:
    """EmptyQueryResponse."""
    return b"I\0\0\0\4"


def parameter_description(oids: Sequence[int] = ()) -> bytes:
    """ParameterDescription."""
    return message(b"t", pack(f">H{len(oids)}I", len(oids), *oids))


def row_description(names: Sequence[Text], oid: int = 25, size: int = -1) -> bytes:
    """RowDescription of computed columns, all of one type in text format (25: text)."""
    tail = pack(">IHIhiH", 0, 0, oid, size, -1, 0)
    return message(b"T", _U16.pack(len(names)) + b"".join(_cstring(name) + tail for name in names))


def row(values: Sequence[bytes | None]) -> bytes:
    """DataRow; None: NULL. The reader is `data_row`."""
    return message(b"D", _U16.pack(len(values)) + b"".join(map(_field, values)))


def _int16_list(numbers: Sequence[int]) -> bytes:
    return pack(f">H{len(numbers)}H", len(numbers), *numbers)


def _field(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else _U32.pack(len(value)) + value


def _error_body(fields: Mapping[str, str]) -> bytes:
    assert all(len(code) == 1 for code in fields), fields.keys()
    return b"".join(code.encode() + _cstring(value) for code, value in fields.items()) + b"\0"


# ---- reading bodies ----


def cstring(
    buf: bytes, pos: int = 0, end: int | None = None, reason: Reason = Reason.CLIENT_PROTOCOL
) -> tuple[bytes, int]:
    """(text without its NUL, offset after the NUL). No NUL before `end`: PeerProtocolError."""
    stop = buf.find(b"\0", pos, len(buf) if end is None else end)
    if stop < 0:
        raise PeerProtocolError("invalid string in message: no terminating zero", reason)
    return buf[pos:stop], stop + 1


def parse_name_and_text(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[bytes, bytes]:
    """(statement name, SQL text) of a Parse body."""
    name, pos = cstring(buf, pos, end)
    text, _ = cstring(buf, pos, end)
    return name, text


def parse_oids(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[int, ...]:
    """Parameter type OIDs of a Parse body."""
    end = len(buf) if end is None else end
    _, pos = cstring(buf, pos, end)
    _, pos = cstring(buf, pos, end)
    count = _u16(buf, pos, end, Reason.CLIENT_PROTOCOL)
    _need_exactly(pos + 2 + 4 * count, end, Reason.CLIENT_PROTOCOL)
    return Struct(f">{count}I").unpack_from(buf, pos + 2)


def bind_names(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[bytes, bytes]:
    """(portal, statement) of a Bind body."""
    portal, pos = cstring(buf, pos, end)
    statement, _ = cstring(buf, pos, end)
    return portal, statement


def bind_params(buf: bytes, pos: int = 0, end: int | None = None) -> list[bytes | None]:
    """Parameter values of a Bind body (None: NULL), formats not looked at. Never log them."""
    end = len(buf) if end is None else end
    reason = Reason.CLIENT_PROTOCOL
    _, pos = cstring(buf, pos, end)
    _, pos = cstring(buf, pos, end)
    pos += 2 + 2 * _u16(buf, pos, end, reason)
    count = _u16(buf, pos, end, reason)
    values, pos = _fields(buf, pos + 2, end, count, reason)
    _need_exactly(pos + 2 + 2 * _u16(buf, pos, end, reason), end, reason)
    return values


def kind_and_name(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[bytes, bytes]:
    """(b"S" or b"P", name) of a Describe or Close body."""
    kind = buf[pos : pos + 1]
    if kind not in (b"S", b"P"):
        raise PeerProtocolError("invalid DESCRIBE or CLOSE message subtype")
    name, _ = cstring(buf, pos + 1, end)
    return kind, name


def execute_portal(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[bytes, int]:
    """(portal, row limit) of an Execute body; a limit of 0 means all."""
    end = len(buf) if end is None else end
    portal, pos = cstring(buf, pos, end)
    _need_exactly(pos + 4, end, Reason.CLIENT_PROTOCOL)
    return portal, max(0, _I32.unpack_from(buf, pos)[0])


def read_parameter_status(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[bytes, bytes]:
    """(name, value) of a ParameterStatus body."""
    name, pos = cstring(buf, pos, end, Reason.UPSTREAM_PROTOCOL)
    value, _ = cstring(buf, pos, end, Reason.UPSTREAM_PROTOCOL)
    return name, value


def read_ready_status(buf: bytes, pos: int = 0) -> int:
    """Transaction status of a ReadyForQuery body: ord of "I", "T" or "E"."""
    status = buf[pos] if pos < len(buf) else -1
    if status not in (STATUS_IDLE, STATUS_IN_TRANSACTION, STATUS_FAILED):
        raise PeerProtocolError("invalid transaction status", Reason.UPSTREAM_PROTOCOL)
    return status


def read_command_tag(buf: bytes, pos: int = 0, end: int | None = None) -> bytes:
    """Tag of a CommandComplete body, such as b"INSERT 0 1"."""
    return cstring(buf, pos, end, Reason.UPSTREAM_PROTOCOL)[0]


def read_authentication(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[int, bytes]:
    """(request code, what follows it) of an Authentication… body."""
    end = len(buf) if end is None else end
    _need(pos + 4, end, Reason.UPSTREAM_PROTOCOL)
    return _U32.unpack_from(buf, pos)[0], buf[pos + 4 : end]


def read_mechanisms(data: bytes) -> list[bytes]:
    """Mechanism names of AuthenticationSASL, `data` as `read_authentication` gives it."""
    names: list[bytes] = []
    pos = 0
    while data[pos : pos + 1] != b"\0":
        name, pos = cstring(data, pos, None, Reason.UPSTREAM_PROTOCOL)
        names.append(name)
    return names


def read_backend_key(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[int, bytes]:
    """(pid, secret of 4 to 256 bytes) of a BackendKeyData body."""
    end = len(buf) if end is None else end
    if not 8 <= end - pos <= 260:
        raise PeerProtocolError("invalid BackendKeyData length", Reason.UPSTREAM_PROTOCOL)
    return _U32.unpack_from(buf, pos)[0], buf[pos + 4 : end]


def read_negotiation(buf: bytes, pos: int = 0, end: int | None = None) -> tuple[int, list[bytes]]:
    """(newest minor version, unknown options) of a NegotiateProtocolVersion body."""
    end = len(buf) if end is None else end
    reason = Reason.UPSTREAM_PROTOCOL
    _need(pos + 8, end, reason)
    version, count = Struct(">II").unpack_from(buf, pos)
    # Some poolers send the bare minor, as the documentation said before PostgreSQL 18.
    if version >> 16 not in (0, PROTOCOL_MAJOR):
        raise PeerProtocolError("server negotiated an unknown protocol version", reason)
    names: list[bytes] = []
    pos += 8
    for _ in range(min(count, end - pos)):  # a name takes a byte or more: the count cannot lie
        name, pos = cstring(buf, pos, end, reason)
        names.append(name)
    if len(names) != count:
        raise PeerProtocolError("invalid NegotiateProtocolVersion message", reason)
    return version & 0xFFFF, names


def error_fields(body: bytes) -> dict[str, str]:
    """Fields of an ErrorResponse or NoticeResponse body by code; no UTF-8 becomes U+FFFD.

    Never raises, whatever the body holds: an error that is broken is still an error, and any field
    may be missing, the SQLSTATE too (CVE-2026-6666). The first of a repeated field wins.
    """
    fields: dict[str, str] = {}
    pos = 0
    while pos < len(body) and body[pos] != 0 and len(fields) < ERROR_FIELDS_MAX:
        stop = body.find(b"\0", pos)
        stop = len(body) if stop < 0 else stop
        fields.setdefault(chr(body[pos]), body[pos + 1 : stop].decode("utf-8", "replace"))
        pos = stop + 1
    return fields


def is_fatal(fields: Mapping[str, str]) -> bool:
    """Whether an error ends its session: V (never translated) says so, S where V is absent."""
    return fields.get("V", fields.get("S")) in ("FATAL", "PANIC")


def data_row(body: bytes) -> list[bytes | None]:
    """Values of a DataRow body; None: NULL."""
    reason = Reason.UPSTREAM_PROTOCOL
    count = _u16(body, 0, len(body), reason)
    values, pos = _fields(body, 2, len(body), count, reason)
    _need_exactly(pos, len(body), reason)
    return values


def _fields(
    buf: bytes, pos: int, end: int, count: int, reason: Reason
) -> tuple[list[bytes | None], int]:
    values: list[bytes | None] = []
    for _ in range(count):
        _need(pos + 4, end, reason)
        length = _I32.unpack_from(buf, pos)[0]
        pos += 4
        if length == -1:
            values.append(None)
            continue
        if length < 0:
            raise PeerProtocolError("invalid length of a value", reason)
        _need(pos + length, end, reason)
        values.append(buf[pos : pos + length])
        pos += length
    return values, pos


def _u16(buf: bytes, pos: int, end: int, reason: Reason) -> int:
    _need(pos + 2, end, reason)
    number: int = _U16.unpack_from(buf, pos)[0]
    return number


def _need(wanted_end: int, end: int, reason: Reason) -> None:
    if wanted_end > end:
        raise PeerProtocolError("insufficient data left in message", reason)


def _need_exactly(wanted_end: int, end: int, reason: Reason) -> None:
    if wanted_end != end:
        raise PeerProtocolError("invalid message format", reason)
