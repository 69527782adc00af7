"""The admin port of a process, as its settings want it."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.core.events import Events
from proxy.core.operator import Operator
from proxy.service.listeners import bound_names
from proxy.settings.model import Admin as AdminSetting

if TYPE_CHECKING:
    from proxy.observe.admin import Admin


@dataclass(frozen=True, slots=True)
class Door:
    """How the admin port is opened. `given`: sockets of systemd's, by address."""

    given: Mapping[str, socket.socket] = field(default_factory=dict)
    replace: bool = False


def taken(setting: AdminSetting, given: dict[str, socket.socket]) -> dict[str, socket.socket]:
    """Those of `given` that are the admin port's, by its addresses; they are given no more."""
    found: dict[str, socket.socket] = {}
    for address in setting.listen:
        for name in bound_names(address):
            if name in given:
                found[str(address)] = given.pop(name)
    return found


async def open_admin(
    setting: AdminSetting, operator: Operator, events: Events, door: Door
) -> "Admin | None":
    """The port, open; None if the settings want none. Raises ConfigError where it cannot listen."""
    if not setting.listen:
        return None
    from proxy.observe.admin import Admin, AdminOptions  # aiohttp is heavy

    token = setting.token.get_secret_value() if setting.token is not None else ""
    listen = tuple(map(str, setting.listen))
    options = AdminOptions(listen, token, setting.hosts, given=door.given, replace=door.replace)
    admin = Admin(operator, options, events)
    await admin.start()
    return admin
