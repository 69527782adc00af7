"""What clients hear of an operator's commands."""

from proxy.core.reasons import Reason
from proxy.postgres.protocol.say import Said, _fatal, _Text


def killed() -> Said:
    """57P01: an operator ended this session."""
    text = _Text(
        "57P01",
        "terminating connection: an operator of Backstay ended it",
        "What was not committed is rolled back by the server.",
    )
    return _fatal(Reason.KILLED, text)


def route_killed() -> Said:
    """57P03: an operator ended all sessions of the route, and nobody comes in before RESUME."""
    text = _Text(
        "57P03",
        "an operator of Backstay has stopped this database",
        "Nothing was executed. Clients come in again after RESUME.",
    )
    return _fatal(Reason.KILLED, text)
