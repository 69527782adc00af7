"""Settings of a PostgreSQL route reach its runtime: none is read and then forgotten."""

from dataclasses import fields

import pytest

from proxy.postgres.runtime.options import PoolOptions, ResilienceOptions
from proxy.service.postgres_options import postgres_options
from proxy.settings.load import load_text

POOL = {
    "size": 7,
    "warm": 2,
    "idle_s": 11.5,
    "lifetime_s": 1234.5,
    "clients": 77,
    "connect_parallel": 3,
    "connects_per_s": 12.5,
    "login_timeout_s": 9.5,
}
RESILIENCE = {
    "hold_s": 7.5,
    "hold_clients": 17,
    "replay": "reads",
    "doubt_sqlstate": "40003",
    "listen_loss": "notice",
}
NOT_SET = {"notice_s"}
"""What the runtime alone decides."""


@pytest.mark.parametrize(
    ("section", "values", "options"),
    [("pool", POOL, PoolOptions), ("resilience", RESILIENCE, ResilienceOptions)],
)
def test_every_option_has_a_setting(section: str, values: dict[str, object], options: type) -> None:
    text = f"postgres: [{{upstream: 'postgresql://h/app', {section}: {values}}}]"
    made = getattr(postgres_options(load_text(text, "test", {}).postgres[0], False), section)
    found = {field.name: getattr(made, field.name) for field in fields(options)}
    for name in NOT_SET & found.keys():
        del found[name]
    found = {name: getattr(value, "value", value) for name, value in found.items()}
    assert found == values
