"""A headless Chromium for the dashboard's tests, started once in each test process."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.dashboard.stand_in import StandIn
from tests.integration.dashboard.tab import Tab

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--lang=en-US", "--window-size=1280,900"),
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The WebDriver of a browser with a fresh profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    driver_program = shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_program))
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
