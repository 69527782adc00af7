"""What an operator may ask of the running proxy: one interface for the admin port, the console, the
command line and signals. Implemented by the service, over all workers; pure here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from proxy.core.report import Report


class Act(StrEnum):
    """The control commands (poolers.md, section 1d)."""

    PAUSE = "pause"  # sessions finish what they do, then wait; links are closed
    RESUME = "resume"
    RECONNECT = "reconnect"  # every link is replaced at its session's next boundary
    KILL = "kill"  # sessions and links of a route end now, new ones are refused until RESUME
    KILL_CLIENT = "kill_client"  # one session, by its number
    RELOAD = "reload"
    SHUTDOWN = "shutdown"  # drain


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One client, for SHOW CLIENTS. Times are Unix times, 0: never."""

    id: int  # unique over all workers
    kind: str  # postgres | redis
    route: str
    user: str
    database: str
    state: str  # active | idle | waiting
    address: str
    port: int
    application: str
    connected_s: float
    waited_s: float  # for a link, now
    link: int  # id of its link, 0: none
    tls: str  # protocol and cipher, empty: none
    prepared: int = 0
    worker: int = 0
    local_address: str = ""
    local_port: int = 0
    requested_s: float = 0.0  # about when it asked for something last


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One upstream connection, for SHOW SERVERS."""

    id: int
    kind: str
    route: str
    user: str
    database: str
    state: str  # active | idle | opening | asking
    address: str
    port: int
    local_address: str
    local_port: int
    opened_s: float
    used_s: float
    pid: int  # of the backend
    session: int  # id of its session, 0: none
    tls: str
    prepared: int = 0
    worker: int = 0
    stale: bool = False  # it will be replaced at the next boundary


@dataclass(frozen=True, slots=True)
class Detail:
    """Every client and every link."""

    sessions: Sequence[SessionRow] = ()
    links: Sequence[LinkRow] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command."""

    done: bool
    text: str  # for people: what was done, or why not
    problems: Sequence[str] = field(default=())  # a reload's, as file:line:column: …


class Operator(Protocol):
    """The running proxy, as seen by those who operate it."""

    async def report(self, full_keys: bool = False) -> Report:
        """The state of all workers, merged. `full_keys`: Redis keys instead of their shapes, for an
        operator who has shown the token."""

    async def detail(self) -> Detail:
        """Every client and link of all workers. Dear: made on request only."""

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        """Do it, on one route or (None) on all. `number`: the session of KILL_CLIENT.

        PAUSE returns when the last session has come to its boundary.
        """

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        """(path, value, default, reloadable) of every setting in force; secrets as ***."""
