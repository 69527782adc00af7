"""Why something happened: one enum, at once log field, metric label and key of the error.

Bounded on purpose: a label value that is not listed here cannot reach a metric.
"""

from enum import StrEnum


class Reason(StrEnum):
    """The cause of a close, a loss, a refusal or a wait. Stable: users grep for these."""

    # the client's side
    CLIENT_CLOSED = "client_closed"
    CLIENT_LOST = "client_lost"
    CLIENT_PROTOCOL = "client_protocol"
    CLIENT_TOO_SLOW = "client_too_slow"
    LOGIN_TIMEOUT = "login_timeout"
    LOGIN_REFUSED = "login_refused"
    TLS_FAILED = "tls_failed"

    # the upstream's side
    UPSTREAM_EOF = "upstream_eof"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_FATAL = "upstream_fatal"
    UPSTREAM_SILENT = "upstream_silent"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_STARTING = "upstream_starting"
    UPSTREAM_FULL = "upstream_full"
    UPSTREAM_READ_ONLY = "upstream_read_only"
    UPSTREAM_ROLE = "upstream_role"

    # our own decisions
    LINK_TOO_OLD = "link_too_old"
    LINK_IDLE = "link_idle"
    LINK_UNCLEAN = "link_unclean"
    LINK_EVICTED = "link_evicted"
    HOLD_TIMEOUT = "hold_timeout"
    HOLD_FULL = "hold_full"
    POOL_TIMEOUT = "pool_timeout"
    TOO_MANY_CLIENTS = "too_many_clients"
    STATE_NOT_RESTORABLE = "state_not_restorable"
    RESTORE_FAILED = "restore_failed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    ROLLED_BACK = "rolled_back"
    RESULT_INTERRUPTED = "result_interrupted"
    RESULT_LOST = "result_lost"
    LIMIT = "limit"
    UNSUPPORTED = "unsupported"  # replication: it is not carried
    COMMAND_TIMEOUT = "command_timeout"
    CANCELLED = "cancelled"
    DRAIN = "drain"
    SHUTDOWN = "shutdown"
    PAUSED = "paused"
    RECONNECT = "reconnect"
    KILLED = "killed"
    BUG = "bug"


_WORDS: dict[str, str] = {
    Reason.CLIENT_CLOSED: "the client closed its connection",
    Reason.CLIENT_LOST: "the client's connection broke",
    Reason.CLIENT_PROTOCOL: "the client broke the protocol",
    Reason.CLIENT_TOO_SLOW: "the client did not read its answers",
    Reason.LOGIN_TIMEOUT: "the client did not finish its login in time",
    Reason.LOGIN_REFUSED: "the login was refused",
    Reason.TLS_FAILED: "the TLS handshake failed",
    Reason.UPSTREAM_EOF: "the server, or something on the path, closed the link",
    Reason.UPSTREAM_RESET: "the link was reset",
    Reason.UPSTREAM_FATAL: "the server ended the session with FATAL",
    Reason.UPSTREAM_SILENT: "the link fell silent",
    Reason.UPSTREAM_PROTOCOL: "the server broke the protocol",
    Reason.UPSTREAM_REFUSED: "the server refused the login",
    Reason.UPSTREAM_UNREACHABLE: "the server could not be reached",
    Reason.UPSTREAM_STARTING: "the server is starting up",
    Reason.UPSTREAM_FULL: "the server has no connection left",
    Reason.UPSTREAM_READ_ONLY: "the server is read-only",
    Reason.UPSTREAM_ROLE: "the server has the wrong role (primary or standby)",
    Reason.LINK_TOO_OLD: "the link had reached its age",
    Reason.LINK_IDLE: "the link had been idle for too long",
    Reason.LINK_UNCLEAN: "the link could not be cleaned",
    Reason.LINK_EVICTED: "the link made room for another",
    Reason.HOLD_TIMEOUT: "the server was away for longer than hold_s",
    Reason.HOLD_FULL: "too many sessions waited already",
    Reason.POOL_TIMEOUT: "no link came free in time",
    Reason.TOO_MANY_CLIENTS: "too many clients",
    Reason.STATE_NOT_RESTORABLE: "the session had state that cannot be rebuilt",
    Reason.RESTORE_FAILED: "the session could not be rebuilt",
    Reason.OUTCOME_UNKNOWN: "the outcome is unknown",
    Reason.ROLLED_BACK: "the transaction was rolled back",
    Reason.RESULT_INTERRUPTED: "a result broke off",
    Reason.RESULT_LOST: "a result was lost",
    Reason.LIMIT: "a bound was reached",
    Reason.UNSUPPORTED: "not supported by Backstay",
    Reason.COMMAND_TIMEOUT: "the command took too long",
    Reason.CANCELLED: "cancelled by the client",
    Reason.DRAIN: "Backstay was draining",
    Reason.SHUTDOWN: "Backstay stopped",
    Reason.PAUSED: "an operator paused it",
    Reason.RECONNECT: "an operator asked for new links",
    Reason.KILLED: "an operator ended it",
    Reason.BUG: "a bug in Backstay: please report it",
}


def in_words(reason: str) -> str:
    """The reason for people, as the end of a sentence: `the link was reset`. Those of words.js."""
    return _WORDS.get(reason, reason.replace("_", " "))
