"""What the tests do with the browser: open, look, press keys, wait for what they expect."""

import json
import time
from typing import Any

WAIT_S_MAX = 15.0
POLL_S = 0.05

# Runs before the page's own scripts.
_WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""
_KEYS = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, " ": 32}


class Tab:
    """The one tab of the browser."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._script = self._cdp("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        self.resize(1280, 900)
        self.colours("light")

    def close(self) -> None:
        """Look for violations, leave the page, drop its log."""
        violations = self.js("window.violations ?? []")
        self._cdp("Page.removeScriptToEvaluateOnNewDocument", **self._script)
        self._driver.get("about:blank")
        self._driver.get_log("browser")
        assert violations == []

    def open(self, url: str) -> None:
        """Open the page, and wait until it shows a status."""
        self.load(url)
        self.wait("!document.getElementById('content').hidden")

    def load(self, url: str) -> None:
        """Open the page, whatever it shows."""
        self._driver.get(url)

    def resize(self, width: int, height: int) -> None:
        """In CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._cdp("Emulation.setDeviceMetricsOverride", **size)

    def colours(self, scheme: str, motion: str = "no-preference") -> None:
        """light or dark, and whether things may move."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        named = [{"name": name, "value": value} for name, value in features.items()]
        self._cdp("Emulation.setEmulatedMedia", features=named)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self._cdp(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, json.dumps(answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, expression: str, seconds_max: float = WAIT_S_MAX) -> Any:
        """Until an expression is true; its value."""
        deadline_s = time.monotonic() + seconds_max
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline_s, (
                f"never true: {expression}\n{self.text('body')[:400]}"
            )
            time.sleep(POLL_S)
        return value

    def text(self, selector: str) -> str:
        """What a reader sees there, no-break spaces as spaces."""
        found = self.js(f"document.querySelector({json.dumps(selector)}).innerText")
        return str(found).replace("\u00a0", " ")

    def texts(self, selector: str) -> list[str]:
        """The same for all that match."""
        found = self.js(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)"
        )
        return [text.replace("\u00a0", " ") for text in found]

    def field(self, name: str, route: str = "") -> str:
        """The value with that name, of a route or (empty) of the whole."""
        within = f'[data-route="{route}"] ' if route else ""
        return self.text(f'{within}[data-field="{name}"]')

    def press(self, key: str, shift: bool = False) -> None:
        """One key, as a keyboard gives it."""
        code = {"key": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r" if key == "Enter" else key} if key in {"Enter", " "} else {}
        self._cdp("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self._cdp("Input.dispatchKeyEvent", type="keyUp", **code)

    def tree(self) -> list[tuple[str, str]]:
        """(role, name) of everything a screen reader is told of."""
        nodes = self._cdp("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]

    def console(self) -> list[str]:
        """Errors and warnings since the last call."""
        lines = self._driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] in {"SEVERE", "WARNING"}]

    def _cdp(self, command: str, **words: Any) -> Any:
        return self._driver.execute_cdp_cmd(command, words)
