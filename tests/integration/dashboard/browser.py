"""Headless Chromium through WebDriver, with a profile of its own and nothing that asks the net."""

import shutil
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--lang=en-US", "--window-size=1280,900", "--hide-scrollbars"),
)


def programs() -> tuple[str, str] | None:
    """Chromium and its driver, if both are installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def launch(programs: tuple[str, str], profile: Path) -> Any:
    """A WebDriver; `quit` it."""
    from selenium import webdriver  # not at import: tests skip where it is missing

    options = webdriver.ChromeOptions()
    options.binary_location, driver = programs
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))
