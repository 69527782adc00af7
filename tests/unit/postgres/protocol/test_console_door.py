"""Who may come to the console: the whole table."""

import pytest

from proxy.postgres.protocol.console import Role
from proxy.postgres.protocol.console_door import ConsoleOptions, Visitor, role_of

LISTED = ConsoleOptions(users=frozenset((b"ops",)), stats_users=frozenset((b"exporter", b"ops")))
ONLY_STATS = ConsoleOptions(stats_users=frozenset((b"exporter",)))
NOBODY = ConsoleOptions(users=frozenset())
OPEN = ConsoleOptions()


@pytest.mark.parametrize(
    ("options", "user", "local", "unproven", "expected"),
    [
        # no lists: the URL's user, and whoever is on this machine
        (OPEN, b"app", False, False, Role.ADMIN),
        (OPEN, b"app", True, True, Role.ADMIN),
        (OPEN, b"other", True, False, Role.STATS),
        (OPEN, b"other", False, False, None),
        # trust proves nothing: over the network nobody comes in
        (OPEN, b"app", False, True, None),
        (LISTED, b"ops", False, True, None),
        # lists: nobody else, not even the URL's user
        (LISTED, b"ops", False, False, Role.ADMIN),
        (LISTED, b"exporter", False, False, Role.STATS),
        (LISTED, b"app", True, False, None),
        (LISTED, b"other", True, False, None),
        (ONLY_STATS, b"exporter", True, False, Role.STATS),
        (ONLY_STATS, b"app", True, False, None),
        (NOBODY, b"app", True, False, None),
    ],
)
def test_roles(
    options: ConsoleOptions, user: bytes, local: bool, unproven: bool, expected: Role | None
) -> None:
    assert role_of(options, Visitor(user, local, unproven), b"app") is expected


def test_without_a_user_in_the_url_nobody_controls() -> None:
    assert role_of(OPEN, Visitor(b"postgres", True), None) is Role.STATS
