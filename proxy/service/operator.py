"""The Operator of one process (core/operator.py): what the admin port and signals may ask of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.core.operator import Act, Detail, Outcome
from proxy.core.report import Report


@dataclass(frozen=True, slots=True)
class Hands:
    """What the operator works with: callables of the process."""

    report: Callable[[bool], Report]  # its argument: with Redis keys instead of their shapes
    reload: Callable[[], Outcome]
    shutdown: Callable[[], None]


class LocalOperator:
    """This process. Implements `Operator`."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def reload(self) -> None:
        """SIGHUP."""
        self._hands.reload()

    async def report(self, full_keys: bool = False) -> Report:
        """The state of the process."""
        return self._hands.report(full_keys)

    async def detail(self) -> Detail:
        """Every client and link."""
        return Detail()

    async def act(self, what: Act, route: str | None = None, number: int = 0) -> Outcome:
        """RELOAD and SHUTDOWN."""
        if what is Act.RELOAD:
            return self._hands.reload()
        if what is Act.SHUTDOWN:
            self._hands.shutdown()
            return Outcome(True, "draining, then stopping")
        return Outcome(False, f"{what} is not possible")

    def settings(self) -> Sequence[tuple[str, str, str, bool]]:
        """Nothing is told yet."""
        return ()
