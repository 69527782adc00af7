"""node-postgres, installed from npm for the run: every scenario, direct and proxied."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.drivers.conftest import Routes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

PACKAGES = ["pg@8", "pg-copy-streams@7", "pg-cursor@2"]
SCRIPT = Path(__file__).with_name("node_pg.js")


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver in node_modules and the script beside it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    words = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *PACKAGES]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        pytest.skip(f"npm could not install the driver: {done.stderr[-300:]}")
    shutil.copy(SCRIPT, folder)
    return folder


def results(folder: Path, dsn: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", SCRIPT.name, dsn],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_scenario(routes: Routes, node_folder: Path) -> None:
    def scenario(dsn: str) -> dict[str, Any]:
        return results(node_folder, dsn)

    found = routes.same(scenario)
    assert found["prepared"] == [n * 3 for n in range(20)]
    assert found["withoutWaiting"][:50] == list(range(50))
    assert found["withoutWaiting"][50][0] == "22012"
    assert found["copy"][2] == [{"n": 3000}]
    assert found["notify"] == ["drivers_node", "hello", True]
    assert found["cancel"][0][0] == "57014"
    assert found["cursor"][0] == [100, 100, 50]
    assert found["pool"] == list(range(60))
    assert [refusal[0] for refusal in found["refused"]] == ["28P01", "3D000"]
