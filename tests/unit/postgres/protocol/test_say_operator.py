"""What an operator's commands say: code, reason, a text for each field."""

import pytest

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages, say_operator


@pytest.mark.parametrize(
    ("said", "sqlstate"), [(say_operator.killed(), "57P01"), (say_operator.route_killed(), "57P03")]
)
def test_texts(said: say_operator.Said, sqlstate: str) -> None:
    fields = messages.error_fields(said[5:])
    assert (fields["S"], fields["C"], said.sqlstate) == ("FATAL", sqlstate, sqlstate)
    assert said.reason is Reason.KILLED
    assert "operator" in fields["M"]
    assert fields["D"]
