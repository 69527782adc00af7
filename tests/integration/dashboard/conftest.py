"""A headless Chromium for the dashboard's tests, started once in each test process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.dashboard.browser import launch, programs
from tests.integration.dashboard.stand_in import StandIn
from tests.integration.dashboard.tab import Tab


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The WebDriver of a browser with a fresh profile."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    found = programs()
    if found is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    driver = launch(found, tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Tab]:
    """A tab of a desktop's size in light colours. A violation of the policy fails the test."""
    made = Tab(chromium)
    yield made
    made.close()


@pytest.fixture
def stand_in() -> Iterator[Callable[..., StandIn]]:
    """`stand_in(status)`: an admin port that serves the page and this status."""
    made: list[StandIn] = []

    def make(status: dict[str, Any], port: int = 0, streams: bool = True) -> StandIn:
        made.append(StandIn(status, port))
        made[-1].streams = streams
        return made[-1].start()

    yield make
    for one in made:
        one.stop()
