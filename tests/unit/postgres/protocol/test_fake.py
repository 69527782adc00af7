"""The answers that the proxy makes up: one reply for each message, in order."""

import pytest

from proxy.postgres.protocol import fake
from proxy.postgres.protocol import messages as m

IDLE, IN_TRANSACTION = m.STATUS_IDLE, m.STATUS_IN_TRANSACTION


@pytest.mark.parametrize(
    ("unit", "reply"),
    [
        (m.query("ROLLBACK"), m.command_complete("ROLLBACK") + m.ready_for_query(IDLE)),
        (
            m.parse("", "ROLLBACK") + m.bind("", "") + m.execute("") + m.sync(),
            m.parse_complete()
            + m.bind_complete()
            + m.command_complete("ROLLBACK")
            + m.ready_for_query(IDLE),
        ),
        (
            m.parse("s", "ROLLBACK") + m.describe(b"S", "s") + m.flush() + m.sync(),
            m.parse_complete() + m.parameter_description() + m.no_data() + m.ready_for_query(IDLE),
        ),
        (
            m.bind("p", "s")
            + m.describe(b"P", "p")
            + m.execute("p", 1)
            + m.close(b"P", "p")
            + m.close(b"S", "s")
            + m.sync(),
            m.bind_complete()
            + m.no_data()
            + m.command_complete("ROLLBACK")
            + m.close_complete() * 2
            + m.ready_for_query(IDLE),
        ),
        (m.sync(), m.ready_for_query(IDLE)),
        (b"", b""),
    ],
)
def test_fake_reply(unit: bytes, reply: bytes):
    assert fake.fake_reply(unit, b"ROLLBACK", IDLE) == reply


def test_fake_reply_tells_the_status():
    assert fake.fake_reply(m.query("BEGIN"), b"BEGIN", IN_TRANSACTION)[-1:] == b"T"


@pytest.mark.parametrize("unit", [m.copy_done(), m.query("x")[:-1], b"Q\0\0\0\3", b"Q"])
def test_fake_reply_for_what_is_no_such_unit_is_our_bug(unit: bytes):
    with pytest.raises(AssertionError):
        fake.fake_reply(unit, b"X", IDLE)
