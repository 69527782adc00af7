"""Numbers of sessions and of links: each is given once in the life of a process, whatever the
route, so that an operator can name one of them (KILL_CLIENT, SHOW CLIENTS, the log).
"""

from itertools import count

_sessions = count(1)
_links = count(1)


def session_number() -> int:
    """The next session's."""
    return next(_sessions)


def link_number() -> int:
    """The next link's."""
    return next(_links)


def number_every(step: int, first: int) -> None:
    """Give out first, first + step … from now on: workers that live at a time never share one."""
    global _sessions, _links
    assert 0 < first <= step
    _sessions = count(first, step)
    _links = count(first, step)
