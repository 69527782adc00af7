"""The dashboard in Chromium, in front of an admin port that says what a test tells it to."""

from collections.abc import Callable

import pytest

from tests.integration.dashboard import canned
from tests.integration.dashboard.stand_in import StandIn
from tests.integration.dashboard.tab import Tab

MakeStandIn = Callable[..., StandIn]


@pytest.fixture
def well(stand_in: MakeStandIn) -> StandIn:
    """Everything well, with a past."""
    return stand_in(canned.status(canned.report()))


def test_all_is_well_at_one_glance(tab: Tab, well: StandIn) -> None:
    tab.open(well.url)
    assert tab.field("summary") == "All is well."
    assert tab.text(".verdict-word") == "WELL"
    assert tab.js("document.querySelector('.verdict').dataset.level") == "good"
    assert tab.js("document.title") == "✓ Backstay: All is well."
    assert tab.text("#contact-text") == "Live"
    assert tab.console() == []
