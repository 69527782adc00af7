"""node-postgres and ioredis, installed from npm for the run: every scenario, direct and proxied."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.servers import RedisServer
from tests.fix_backstay import Backstay
from tests.integration.drivers.conftest import Routes

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

PACKAGES = ["pg@8", "pg-copy-streams@7", "pg-cursor@2", "ioredis@5"]
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the drivers in node_modules and the scripts beside it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    words = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *PACKAGES]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        pytest.skip(f"npm could not install the drivers: {done.stderr[-300:]}")
    for script in ("node_pg.js", "node_redis.js"):
        shutil.copy(HERE / script, folder)
    return folder


def results(folder: Path, script: str, *urls: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", script, *urls],
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
        return results(node_folder, "node_pg.js", dsn)

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


def test_every_scenario_of_ioredis(
    redis: RedisServer, backstay_redis: Backstay, node_folder: Path
) -> None:
    direct, proxied = (
        results(node_folder, "node_redis.js", f"redis://127.0.0.1:{port}")
        for port in (redis.port, backstay_redis.port("redis"))
    )
    assert proxied == direct
    found = direct
    assert found["types"][-1] == "ERR wrong number of arguments for 'get' command"
    assert found["pipeline"][-2].startswith("WRONGTYPE")
    assert found["multi"][1].startswith("EXECABORT")
    assert found["watch"] == [None, [[None, 7]], "theirs!"]
    assert len(found["pubsub"][1]) == 4
    assert found["blocking"][0] == ["q2", "item"]
    assert found["scripts"][:3] == [[5, "5"], [11, "6"], "11"]
    assert len(found["autoPipelining"][0]) == 400
    assert found["sessions"][-1] == "OK"
    assert len(found["scan"]) == 40


def test_ioredis_notices_no_cut(
    redis: RedisServer, backstay_redis: Backstay, node_folder: Path
) -> None:
    """The server kills every link ten times: no error, no reconnection, no missed subscription."""
    urls = [f"redis://127.0.0.1:{port}" for port in (backstay_redis.port("redis"), redis.port)]
    found = results(node_folder, "node_redis.js", *urls)["cuts"]
    assert found == {"wrong": 0, "noticed": [], "heard": 11}
