"""What the console says at its door, and to somebody who has had enough of waiting.

The rules are those of `say`; what commands answer stands with the commands.
"""

from proxy.core.operator import Act
from proxy.core.reasons import Reason
from proxy.postgres.protocol.console import Need, NeedAct, NeedClosed
from proxy.postgres.protocol.console_command import ConsoleError
from proxy.postgres.protocol.say import Said, _fatal, _Text


def _closed(reason: Reason, sqlstate: str, message: str, hint: str) -> Said:
    return _fatal(reason, _Text(sqlstate, message, "", hint))


def no_console() -> Said:
    """The process has nobody who would answer."""
    return _closed(
        Reason.UNSUPPORTED, "0A000", "this process has no admin console", "Use its admin port."
    )


def full(sessions_max: int) -> Said:
    """Too many are at the console."""
    return _closed(
        Reason.TOO_MANY_CLIENTS,
        "53300",
        f"sorry, {sessions_max} clients are at the admin console already",
        "Close one. A route's console takes no more.",
    )


def not_allowed(user: bytes) -> Said:
    """The password was right; the console is not for this user."""
    name = user.decode("utf-8", "replace")
    return _closed(
        Reason.LOGIN_REFUSED,
        "42501",
        f'user "{name}" may not use the admin console',
        "Have it listed in Backstay's settings: under admin.users for everything, under"
        " admin.stats_users for SHOW.",
    )


def not_proven(cause: str) -> Said:
    """Only the upstream knows the password, and it cannot be asked."""
    return _closed(
        Reason.UPSTREAM_UNREACHABLE,
        "57P03",
        f"the admin console cannot check the password: {cause}",
        "With `passthrough` only the upstream can, or a session that has used the same password."
        " The admin port shows the state, and signals pause and resume.",
    )


def not_now(error: Exception) -> ConsoleError:
    """Whoever was to do it, or to tell it, could not (a worker has gone, say)."""
    text = str(error) or type(error).__name__
    return ConsoleError("55000", f"this cannot be done now: {text}", "Try again; see the log.")


def cancelled(need: Need) -> ConsoleError:
    """The client has cancelled what it was waiting for."""
    hint = ""
    if isinstance(need, NeedAct) and need.act is Act.PAUSE:
        where = need.route or "every route"
        hint = f"What was paused stays paused ({where}); RESUME ends that."
    elif isinstance(need, NeedClosed):
        hint = "Links are replaced all the same, each at its session's next boundary."
    return ConsoleError("57014", "canceling statement due to user request", hint)
