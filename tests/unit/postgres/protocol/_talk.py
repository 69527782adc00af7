"""A session's core between a client and a server, for the tests of what waits for its answer."""

from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.expected import Expected
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.units import Unit
from tests.unit.postgres.protocol._sequences import (
    ROW,
    TABLE,
    c,
    error,
    gatherer,
    notice,
    status,
    units_of,
)

ERROR, WARNING = error(), notice("57P01", "WARNING")
FATAL = error("57P01", "FATAL")
NOTE = m.notification_response(7, "channel", "payload")
ROWS = TABLE + ROW * 3 + c("SELECT 3")
ZONE = status("TimeZone", "UTC")


class Talk:
    """A session's core between a client and a server, used as the runtime uses it."""

    def __init__(self) -> None:
        self.state = SessionState()
        self.gatherer = gatherer()
        self.expected = Expected(self.state, self.gatherer)
        self.units: list[Unit] = []
        self.injected: dict[int, bytes] | None = None

    def client(self, data: bytes, hold: bool | None = None) -> None:
        """The client sends, and all of it goes out."""
        expected = self.expected
        for unit, part, _ in self.gatherer.feed(data):
            if unit is None:
                head = expected.inflight[-1]
                head.pieces = None
                head.copied = head.copied or part[:1] in (b"c", b"f")
            elif unit.started:
                expected.count(unit)
            else:
                self.units.append(unit)
                unit.injected, self.injected = self.injected, None
                may = expected.status == ord("I") or expected.prologue is not None
                expected.push(unit, unit.complete and may if hold is None else hold)
        assert self.gatherer.fault is None

    def inject(self, *names: bytes) -> None:
        """The next unit has these statements at its front."""
        self.injected = dict(enumerate(names))
        self.expected.missing.difference_update(names)

    def skip(self, data: bytes) -> Unit:
        """The proxy sends something of its own."""
        (unit,) = units_of(data)
        unit.skip = True
        self.expected.push(unit, False)
        return unit

    def server(self, data: bytes) -> bytes:
        """The server says; returns what the client gets."""
        if self.expected.whole_answer(data):
            return data
        return b"".join(self.expected.feed(data))

    def known(self) -> dict[str, object]:
        """All that may depend on what was said, and not on how it was chopped."""
        expected = self.expected
        return {
            "status": expected.status,
            "owed": len(expected.inflight),
            "statements": dict(self.state.statements),
            "missing": expected.missing,
            "names": self.gatherer.names,
            "portals": self.gatherer.portals,
            "prologue": expected.prologue and [unit.data for unit in expected.prologue],
            "params": (expected.client_params, expected.link_params),
            "fatal": expected.fatal,
            "warning": expected.warning,
            "fault": str(expected.fault),
            "units": [(u.errored, u.copying, u.needs_sync) for u in self.units],
            "settings": self.state.settings,
            "transactions": expected.transactions,
            "mid": expected.mid_message,
        }
