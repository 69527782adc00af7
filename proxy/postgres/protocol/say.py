"""Everything the proxy says to a PostgreSQL client in its own name.

Each text says what happened (message), what it means for the data (detail) and what to do (hint),
and carries the Reason that is also the log field and the metric label (to the client as the
error's routine field). Rules, from reference/postgres-replay.md, section 2.1:

- The outcome of a statement is told as ERROR followed by ReadyForQuery, never as FATAL: psycopg2
  and asyncpg lose the SQLSTATE of a FATAL.
- An ERROR never holds one of FORBIDDEN_IN_ERRORS: drivers would take the session for dead and
  SQLAlchemy would drop its whole pool. What the server said last is quoted, in the detail only.
- A FATAL starts with `terminating connection`, so that the same drivers do notice. During login
  the texts of the server are used where it has one.
- 57P01-03, 53xxx, 58xxx and XXxxx are FATAL only: Npgsql and HikariCP evict on them.

No secrets, no SQL, no bind values: what callers pass in `detail`, `why` and `what` is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.messages import STATUS_FAILED, STATUS_IDLE

FORBIDDEN_IN_ERRORS = (
    "terminating connection",
    "closed the connection",
    "connection not open",
    "could not receive data from server",
    "could not send data to server",
    "connection already closed",
    "cursor already closed",
    "losed the connection unexpectedly",
    "connection has been closed unexpectedly",
    "connection is closed",
    "SSL error",
    "SSL SYSCALL error",
)
"""What SQLAlchemy and others look for in the text of an error to call a connection dead."""

DOUBT_SQLSTATES = ("08007", "40003", "RP002")
"""What `resilience.doubt_sqlstate` may be; reference/postgres-replay.md, section 2.1, rule 4."""

LAST_WORDS_CHARS_MAX = 300

Fields = Mapping[str, str]
"""Fields of an error as `messages.error_fields` gives them."""


class Wait(StrEnum):
    """What a session without a link is waiting for."""

    POOL_FULL = "pool_full"  # all links of its pool are taken
    SERVER_FULL = "server_full"  # the server takes no more connections (53300)
    OPENING = "opening"  # the server is well; links are opened one after the other
    PAUSED = "paused"  # an operator lets nobody have a link before RESUME
    AWAY = "away"  # nobody has been let in since the session began to wait


class Said(bytes):
    """Messages ready to be sent, with what a log or a metric wants to know of them."""

    reason: Reason
    severity: str
    sqlstate: str


@dataclass(frozen=True, slots=True)
class _Text:
    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""


def _fields(severity: str, reason: Reason, text: _Text) -> dict[str, str]:
    fields = {"S": severity, "V": severity, "C": text.sqlstate, "M": text.message}
    if text.detail:
        fields["D"] = text.detail.replace("\0", " ")  # may quote what others said
    if text.hint:
        fields["H"] = text.hint
    return fields | {"F": "backstay", "R": reason.value}


def _made(severity: str, reason: Reason, text: _Text, status: int | None = None) -> Said:
    fields = _fields(severity, reason, text)
    notice = severity in ("NOTICE", "WARNING")
    wire = messages.notice_response(fields) if notice else messages.error_response(fields)
    if status is not None:
        wire += messages.ready_for_query(status)
    said = Said(wire)
    said.reason, said.severity, said.sqlstate = reason, severity, text.sqlstate
    return said


def _error(reason: Reason, text: _Text, status: int | None) -> Said:
    shown = text.message + text.hint
    assert not any(phrase in shown for phrase in FORBIDDEN_IN_ERRORS), shown
    return _made("ERROR", reason, text, status)


def _fatal(reason: Reason, text: _Text) -> Said:
    return _made("FATAL", reason, text)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def last_words(fields: Fields | None) -> str:
    """What the server said last, quoted for a detail (at most 400 characters), or nothing."""
    if not fields:
        return ""
    said = " ".join(fields.get("M", "").replace("\0", " ").split())[:LAST_WORDS_CHARS_MAX]
    severity = fields.get("V", fields.get("S", "ERROR"))[:20]
    sqlstate = fields.get("C", "without SQLSTATE")[:20]
    return f'The server\'s last words: {severity} {sqlstate} "{said}".'


def _last_attempt(cause: str) -> str:
    """What the last attempt met as a sentence: `cause` is one already, a clause, or nothing."""
    return cause if not cause or cause.endswith(".") else f"The last attempt: {cause}."


def _with_last_words(detail: str, last: Fields | None) -> str:
    return f"{detail} {last_words(last)}".rstrip()


# ---- outcomes of statements: ERROR + ReadyForQuery, the session goes on ----


def rolled_back(detail: str, status: int | None, last: Fields | None = None) -> Said:
    """E-ROLLED. `detail`: a sentence on the phase; `status`: E in a transaction, else I."""
    text = _Text(
        "40001",
        "transaction rolled back: link to the database was lost before commit",
        _with_last_words(detail, last),
        "Nothing was saved. Retry the whole transaction; this session is usable.",
    )
    return _error(Reason.ROLLED_BACK, text, status)


def doubt(
    why: str,
    sqlstate: str = "08007",
    status: int | None = STATUS_IDLE,
    last: Fields | None = None,
) -> Said:
    """E-DOUBT. `why`: what makes the outcome unknown, such as `its COMMIT may have run`."""
    assert sqlstate in DOUBT_SQLSTATES, sqlstate
    text = _Text(
        sqlstate,
        "outcome unknown: link to the database was lost after the statement was sent",
        _with_last_words(f"The statement may have been executed, or not ({why}).", last),
        "Check for the effect before retrying. This session is usable.",
    )
    return _error(Reason.OUTCOME_UNKNOWN, text, status)


def done(status: int | None = STATUS_IDLE, last: Fields | None = None) -> Said:
    """E-DONE: committed for certain, rows or tag lost. Own class: no surveyed client retries it."""
    text = _Text(
        "RP001",
        "statement committed but its result was lost with the link",
        _with_last_words("The change is stored; only the reply is missing.", last),
        "Do not run it again; read what it wrote. This session is usable.",
    )
    return _error(Reason.RESULT_LOST, text, status)


def mid_result(rows: int, status: int | None = STATUS_IDLE, last: Fields | None = None) -> Said:
    """E-MID: a read broke off after `rows` rows had gone to the client."""
    counted = "1 row" if rows == 1 else f"{rows} rows"
    text = _Text(
        "08006",
        f"result interrupted: link to the database was lost after {counted}",
        _with_last_words("What was delivered is right but not complete; no data changed.", last),
        "The statement was read-only; run it again. This session is usable.",
    )
    return _error(Reason.RESULT_INTERRUPTED, text, status)


def in_failed_transaction(status: int | None = STATUS_FAILED) -> Said:
    """The server's own 25P02, for the statements after `rolled_back` until ROLLBACK."""
    text = _Text(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
        "The transaction was rolled back when its link to the database was lost.",
        "Nothing was saved. Send ROLLBACK, then run the whole transaction again.",
    )
    return _error(Reason.ROLLED_BACK, text, status)


def cancelled(status: int | None) -> Said:
    """The server's own 57014, for a statement cancelled while it waited for a link."""
    text = _Text(
        "57014",
        "canceling statement due to user request",
        "The statement was waiting for the database and was not executed.",
        "This session is usable.",
    )
    return _error(Reason.CANCELLED, text, status)


# ---- ends of sessions: FATAL, then close ----


def state_lost(what: str, last: Fields | None = None) -> Said:
    """E-STATE. `what` names the state, such as `temporary tables`, no full stop."""
    text = _Text(
        "57P01",
        "terminating connection: link to the database was lost and session state cannot be rebuilt",
        _with_last_words(f"Lost: {what}. Committed data is safe.", last),
        "Connect again and set the session up anew.",
    )
    return _fatal(Reason.STATE_NOT_RESTORABLE, text)


def _waited(in_doubt: bool) -> str:
    """What became of what waited. `in_doubt`: some of it ran before, and may have written."""
    if in_doubt:
        return "A statement that waited may have changed data before its link died."
    return "What was waiting has changed no data."


def gone(seconds: float, cause: str = "", *, in_doubt: bool = False) -> Said:
    """E-GONE: a session waited `seconds` in vain. `cause`: what the last attempt met."""
    text = _Text(
        "08006",
        f"terminating connection: database unreachable for {_seconds(seconds)}",
        f"{_waited(in_doubt)} {_last_attempt(cause)}".rstrip(),
        "Connect again when the database is back; resilience.hold_s sets how long sessions wait.",
    )
    return _fatal(Reason.HOLD_TIMEOUT, text)


def starting(seconds: float, cause: str = "") -> Said:
    """57P03, for a new client that waited `seconds` for an upstream; `cause` as for `gone`."""
    text = _Text(
        "57P03",
        f"terminating connection: database not available, waited {_seconds(seconds)}",
        f"Nothing was executed. {_last_attempt(cause)}".rstrip(),
        "Try again when the database is back; resilience.hold_s sets how long clients wait.",
    )
    return _fatal(Reason.UPSTREAM_UNREACHABLE, text)


def hold_full(clients_max: int, established: bool, *, in_doubt: bool = False) -> Said:
    """Too many sessions wait already; 08006 for an established session, 57P03 for a new client."""
    text = _Text(
        "08006" if established else "57P03",
        f"terminating connection: {clients_max} sessions wait for the database already",
        _waited(in_doubt),
        "Try again later; resilience.hold_clients sets how many may wait.",
    )
    return _fatal(Reason.HOLD_FULL, text)


def pool_full(seconds: float, size: int, *, in_doubt: bool = False) -> Said:
    """A client waited `seconds` for one of the `size` links of its pool."""
    text = _Text(
        "53300",
        f"terminating connection: all {size} links are taken, waited {_seconds(seconds)}",
        _waited(in_doubt),
        "Close idle sessions, or raise pool.size within the server's max_connections.",
    )
    return _fatal(Reason.POOL_TIMEOUT, text)


def opened_too_slowly(seconds: float, *, in_doubt: bool = False) -> Said:
    """The server is well, but the turn of this client to be given a link did not come in time."""
    text = _Text(
        "53300",
        f"terminating connection: no link was opened in turn, waited {_seconds(seconds)}",
        _waited(in_doubt),
        "Raise pool.connect_parallel and pool.connects_per_s if the server can take it.",
    )
    return _fatal(Reason.POOL_TIMEOUT, text)


def too_many_clients(clients_max: int) -> Said:
    """The route has `clients_max` clients already."""
    text = _Text(
        "53300",
        f"terminating connection: too many clients, {clients_max} are connected",
        "Nothing was executed.",
        "Close sessions that are not used, or raise pool.clients.",
    )
    return _fatal(Reason.TOO_MANY_CLIENTS, text)


def login_timeout(seconds: float) -> Said:
    """The client did not finish its login within `seconds`; the server's SQLSTATE for it."""
    text = _Text(
        "57014",
        f"terminating connection: login not finished within {_seconds(seconds)}",
        "Nothing was executed.",
        "Look for a client that connects and then waits, or for a slow network.",
    )
    return _fatal(Reason.LOGIN_TIMEOUT, text)


def protocol_violation(what: str) -> Said:
    """08P01. `what`: the clause that the client broke, no full stop, none of its bytes."""
    text = _Text(
        "08P01",
        f"terminating connection: protocol violation: {what}",
        "What was not committed is rolled back by the server.",
        "This is a fault of the client, or it does not speak PostgreSQL.",
    )
    return _fatal(Reason.CLIENT_PROTOCOL, text)


def shutting_down(running: bool = False) -> Said:
    """57P01: the proxy stops, and the session is at a boundary or, `running`, out of time."""
    text = _Text(
        "57P01",
        "terminating connection: Backstay is shutting down",
        "The outcome of the statement that was running is not known; all others stand."
        if running
        else "What was not committed is rolled back by the server.",
        "Check for its effect, then connect again."
        if running
        else "Connect again: another instance, or this one once it is back.",
    )
    return _fatal(Reason.SHUTDOWN, text)


def internal_error() -> Said:
    """XX000: a bug of ours ended this session."""
    text = _Text(
        "XX000",
        "terminating connection: internal error in Backstay",
        "The outcome of a statement that was running is not known; all others stand.",
        "Check for its effect before retrying, and report the log line of this moment.",
    )
    return _fatal(Reason.BUG, text)


# ---- refusals at login: FATAL, then close ----


def replication_refused() -> Said:
    """0A000: `replication` in the startup packet."""
    text = _Text(
        "0A000",
        "terminating connection: replication connections do not pass through Backstay",
        "A replication stream cannot outlive its link.",
        "Connect to the server itself for replication and base backups.",
    )
    return _fatal(Reason.LOGIN_REFUSED, text)


def tls_required() -> Said:
    """28000: the route takes TLS only, and the client came without."""
    text = _Text(
        "28000",
        "terminating connection: this port takes TLS connections only",
        "No password was asked for.",
        "Connect with sslmode=require.",
    )
    return _fatal(Reason.LOGIN_REFUSED, text)


def password_needs_tls() -> Said:
    """28000: `passthrough` would let a password cross the network in clear."""
    text = _Text(
        "28000",
        "terminating connection: the password would cross the network in clear",
        "No password was asked for.",
        "Connect with TLS, over loopback or a Unix socket, or set auth.method to scram-sha-256.",
    )
    return _fatal(Reason.LOGIN_REFUSED, text)


def client_certificate_required() -> Said:
    """28000: `tls.mode: verify-ca`, and the client showed no certificate."""
    text = _Text(
        "28000",
        "terminating connection: this port asks for a valid client certificate",
        "No password was asked for.",
        "Connect with sslcert and sslkey, signed by the authority in tls.client_ca.",
    )
    return _fatal(Reason.LOGIN_REFUSED, text)


def upstream_login_failed(what: str, hint: str) -> Said:
    """28000: the proxy itself cannot log in. `what` has no full stop, `hint` names the setting."""
    text = _Text(
        "28000",
        f"terminating connection: cannot log in to the database: {what}",
        "Nothing was executed.",
        hint,
    )
    return _fatal(Reason.UPSTREAM_REFUSED, text)


# ---- refusals in the server's own words, so that clients see what they would see without us ----


def password_failed(user: bytes) -> Said:
    """28P01, the same whether the user exists or not."""
    name = user.decode("utf-8", "replace")
    text = _Text("28P01", f'password authentication failed for user "{name}"')
    return _fatal(Reason.LOGIN_REFUSED, text)


def password_empty() -> Said:
    """28P01: the client sent an empty password."""
    return _fatal(Reason.LOGIN_REFUSED, _Text("28P01", "empty password returned by client"))


def no_user() -> Said:
    """28000: no user in the startup packet."""
    text = _Text("28000", "no PostgreSQL user name specified in startup packet")
    return _fatal(Reason.LOGIN_REFUSED, text)


def unsupported_protocol(major: int, minor: int) -> Said:
    """0A000: not protocol 3."""
    text = _Text(
        "0A000",
        f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2",
    )
    return _fatal(Reason.CLIENT_PROTOCOL, text)


def login_violation(message: str, detail: str = "", sqlstate: str = "08P01") -> Said:
    """A packet that breaks the login's protocol, in the words the server has for it."""
    return _fatal(Reason.CLIENT_PROTOCOL, _Text(sqlstate, message, detail))


# ---- notices: the session goes on ----


_WAITS = {
    Wait.POOL_FULL: (
        "waiting for a link to the database: all are taken, waited {}",
        "pool.size sets how many links there are",
        Reason.POOL_TIMEOUT,
    ),
    Wait.SERVER_FULL: (
        "waiting for the database: it takes no more connections, waited {}",
        "max_connections of the server bounds them",
        Reason.UPSTREAM_FULL,
    ),
    Wait.OPENING: (
        "waiting for a link to the database: others are opened first, waited {}",
        "pool.connects_per_s sets the pace",
        Reason.POOL_TIMEOUT,
    ),
    Wait.PAUSED: ("waiting for the database for {}", "", Reason.PAUSED),
    Wait.AWAY: (
        "waiting for the database: unreachable for {}",
        "cancel the statement to stop",
        Reason.UPSTREAM_UNREACHABLE,
    ),
}


def waiting(seconds: float, hold_s: float, wait: Wait) -> Said:
    """NOTICE to a session that has waited `seconds` of at most `hold_s`."""
    message, hint, reason = _WAITS[wait]
    if wait is Wait.PAUSED:
        hint = "An operator has paused the database; it goes on after RESUME."
        text = _Text("00000", message.format(_seconds(seconds)), "Nothing is lost.", hint)
        return _made("NOTICE", reason, text)
    text = _Text(
        "00000",
        message.format(_seconds(seconds)),
        "The session and its statement are kept.",
        f"Waits up to {_seconds(hold_s)} (resilience.hold_s); {hint}.",
    )
    return _made("NOTICE", reason, text)


def notifications_missed() -> Said:
    """WARNING for `listen_loss: notice`: channels are listened to again, but there was a gap."""
    text = _Text(
        "01000",
        "notifications may have been missed: link to the database was lost and replaced",
        "All channels are listened to again; what was sent in between is gone.",
        "Read the state that the notifications are about.",
    )
    return _made("WARNING", Reason.UPSTREAM_RESET, text)
