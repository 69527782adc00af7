"""A link whose transport has closed and whose connection_lost has not come yet."""

from typing import Any

import pytest

from proxy.core.reasons import Reason
from proxy.postgres.runtime.link import Link


class Closed:
    """What uvloop's transport does between its end and connection_lost."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    def close(self) -> None:
        raise AssertionError("closed twice")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@pytest.fixture
def link() -> Link:
    made = Link()
    made.connection_made(Closed())  # type: ignore[arg-type]
    return made


def test_bytes_for_a_closed_transport_are_counted_and_go_nowhere(link: Link) -> None:
    link.write(b"Q\0\0\0\5\0")
    assert link.given_bytes == 6


def test_a_link_may_be_closed_behind_its_transport(link: Link) -> None:
    link.close(Reason.SHUTDOWN)
    assert link.closed
    assert link.reason is Reason.SHUTDOWN
