"""The console's refusals: SQLSTATE, severity, and no word that drivers take for a dead session."""

import pytest

from proxy.core.operator import Act
from proxy.postgres.protocol import console_say, messages
from proxy.postgres.protocol.console import NeedAct, NeedClosed, NeedFacts
from proxy.postgres.protocol.say import FORBIDDEN_IN_ERRORS, Said


@pytest.mark.parametrize(
    ("said", "sqlstate"),
    [
        (console_say.no_console(), "0A000"),
        (console_say.full(32), "53300"),
        (console_say.not_allowed(b"eve\xff"), "42501"),
        (console_say.not_proven("the upstream does not answer"), "57P03"),
    ],
)
def test_refusals(said: Said, sqlstate: str) -> None:
    fields = messages.error_fields(said[5:])
    assert (said.sqlstate, fields["C"], fields["S"]) == (sqlstate, sqlstate, "FATAL")
    assert fields["H"]


def test_what_cannot_be_done_now() -> None:
    one = console_say.not_now(ConnectionError("worker 2 does not answer"))
    assert (one.sqlstate, "worker 2" in one.message) == ("55000", True)
    assert "TimeoutError" in console_say.not_now(TimeoutError()).message


def test_a_cancelled_wait_says_what_stays() -> None:
    one = console_say.cancelled(NeedAct(Act.PAUSE, "main"))
    assert one.sqlstate == "57014"
    assert "main" in one.hint
    assert "every route" in console_say.cancelled(NeedAct(Act.PAUSE, None)).hint
    assert "boundary" in console_say.cancelled(NeedClosed(None)).hint
    assert console_say.cancelled(NeedFacts()).hint == ""
    assert not any(phrase in one.message + one.hint for phrase in FORBIDDEN_IN_ERRORS)
