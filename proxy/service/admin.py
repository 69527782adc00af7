"""The admin port of a process, as its settings want it."""

from typing import TYPE_CHECKING

from proxy.core.events import Events
from proxy.core.operator import Operator
from proxy.settings.model import Admin as AdminSetting

if TYPE_CHECKING:
    from proxy.observe.admin import Admin


async def open_admin(setting: AdminSetting, operator: Operator, events: Events) -> "Admin | None":
    """The port, open; None if the settings want none. Raises ConfigError where it cannot listen."""
    if not setting.listen:
        return None
    from proxy.observe.admin import Admin, AdminOptions  # aiohttp is heavy

    token = setting.token.get_secret_value() if setting.token is not None else ""
    listen = tuple(map(str, setting.listen))
    admin = Admin(operator, AdminOptions(listen, token, setting.hosts), events)
    await admin.start()
    return admin
