"""The pictures of the documentation: the dashboard of a running `backstay demo`, light and dark.

    python -m tests.integration.dashboard.picture [--seconds 120] [--folder docs]

No test, but made with the tests' browser.
"""

import argparse
import base64
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.dashboard.browser import launch, programs
from tests.integration.dashboard.tab import Tab

ROOT = Path(__file__).resolve().parents[3]
WIDTH, HEIGHT = 1200, 1290
START_S_MAX = 60.0
SPARE_S = 100.0  # for the pictures, before the demo ends

# Nobody waits at this moment, and an incident is open in which the server said something and work
# was sent again.
_READY = """(() => {
  const { level } = document.querySelector('.verdict').dataset;
  if (level !== 'good' || document.querySelector('.mark[data-level=critical]')) return false;
  const all = [...document.querySelectorAll('.incidents details')];
  const told = all.find((one) => one.closest('li').dataset.level === 'good'
    && one.querySelector('q')
    && one.querySelector('[data-field=replayed]').textContent !== 'Nothing');
  all.forEach((one) => { one.open = one === told; });
  return told !== undefined && all.indexOf(told) < 5;
})()"""


def main() -> None:
    """Run the demo, look at its dashboard near the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the demo runs")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs")
    words = parser.parse_args()
    found = programs()
    if found is None:
        sys.exit("needs chromium and chromedriver")
    command = [sys.executable, "-m", "proxy", "demo", "--seconds", str(words.seconds + SPARE_S)]
    with (
        tempfile.TemporaryDirectory() as profile,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo,
    ):
        driver = launch(found, Path(profile))
        try:
            tab = Tab(driver)
            tab.resize(WIDTH, HEIGHT)
            tab.open(_address(demo))
            time.sleep(words.seconds)
            for scheme, name in (("light", "dashboard.png"), ("dark", "dashboard-dark.png")):
                tab.colours(scheme)
                tab.wait(_READY, SPARE_S / 2)
                picture = driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
                (words.folder / name).write_bytes(base64.b64decode(picture))
        finally:
            driver.quit()
            demo.terminate()
            demo.communicate()


def _address(demo: "subprocess.Popen[str]") -> str:
    assert demo.stdout is not None
    deadline_s = time.monotonic() + START_S_MAX
    for line in demo.stdout:
        if told := re.search(r"dashboard: (http\S+)", line):
            return told[1]
        assert time.monotonic() < deadline_s
    raise SystemExit("the demo told no address of a dashboard")


if __name__ == "__main__":
    main()
