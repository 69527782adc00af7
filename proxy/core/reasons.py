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
