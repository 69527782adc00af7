"""The Operator of a process that does everything itself (core/operator.py)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report
from proxy.settings import shown

if TYPE_CHECKING:
    from proxy.service.process import Process


class Hands(Protocol):
    """What concerns the process as a whole."""

    async def reload(self) -> Outcome: ...

    def shutdown(self) -> None: ...


class LocalOperator:
    """This process. Implements `Operator`."""

    def __init__(self, process: "Process", hands: Hands) -> None:
        self._process = process
        self._hands = hands

    async def report(self, full_keys: bool = False) -> Report:
        """The state of the process."""
        return self._process.report(full_keys)

    async def detail(self) -> Detail:
        """Every client and link."""
        return self._process.detail()

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        """Do it. PAUSE returns when the last link has gone."""
        if what is Act.RELOAD:
            return await self._hands.reload()
        if what is Act.SHUTDOWN:
            self._hands.shutdown()
            return Outcome(True, "draining, then stopping")
        return await self._process.act(what, route, number)

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        """Every setting in force, secrets hidden."""
        return shown.rows(self._process.routes.settings)
