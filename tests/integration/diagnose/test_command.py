"""`backstay diagnose` as users run it: settings, environment, the proxy, exit codes, no secrets."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from proxy.demo.ports import free_port
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer, RedisServer
from tests.fix_backstay import Backstay

pytestmark = pytest.mark.servers

Command = Callable[..., Result]
EMPTY = ("BACKSTAY_CONFIG", "BACKSTAY_POSTGRES_UPSTREAM", "BACKSTAY_REDIS_UPSTREAM")
SECRET = ROLE_PASSWORDS["app_scram"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs it in an empty directory, with nothing of this machine's environment."""
    monkeypatch.chdir(tmp_path)
    for name in (*EMPTY, "DATABASE_URL", "REDIS_URL", "PGUSER", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def invoke(*words: str, env: Mapping[str, str] | None = None) -> Result:
        return CliRunner().invoke(cli, ["diagnose", *words], env=env)

    return invoke


@pytest.fixture
def closed() -> Iterator[str]:
    """An address where nothing listens, and nothing else can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def machine(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(result.stdout)
    assert data["exit_code"] == result.exit_code
    return data


def test_direct_and_through_the_proxy(
    run: Command, backstay: Backstay, backstay_redis: Backstay, postgres: PostgresServer
) -> None:
    settings = {
        "postgres": backstay.config["postgres"],
        "redis": backstay_redis.config["redis"],
    }
    Path("both.yaml").write_text(json.dumps(settings))
    # The route is passthrough: the application's own login is what there is.
    data = machine(run("-c", "both.yaml", "--json", env={"DATABASE_URL": postgres.dsn()}))
    assert data["exit_code"] == 0
    for target, name in zip(data["targets"], ("postgres", "redis"), strict=True):
        assert target["kind"] == name
        assert target["served"]
        assert target["proxy"]["runs"]
        assert target["proxy"]["failure"] is None
        assert target["proxy"]["latency"]["samples"] == target["latency"]["samples"]
        assert target["proxy"]["connect"]["total_s"] > 0
        (added,) = [f for f in data["findings"] if f["check"] == f"{name}.proxy.latency"]
        assert " a round trip of " in added["measured"]
        assert added["number"]["unit"] == "s"
    # Through Backstay SET sticks, and nobody shares.
    (target,) = machine(run(backstay.dsn(), "--json"))["targets"]
    assert target["server"]["pooler"] == {
        "key_pid_differs": False,
        "shared": False,
        "moved": False,
        "set_failed": "",
        "set_lost": False,
        "set_leaked": False,
        "waited": False,
        "transaction": False,
    }


def test_the_proxy_is_not_there(run: Command, postgres: PostgresServer, redis: RedisServer) -> None:
    listen = f"127.0.0.1:{free_port()}"
    route = {"upstream": postgres.dsn("app_scram"), "listen": listen}
    Path("backstay.yaml").write_text(json.dumps({"postgres": [route]}))
    result = run()
    assert result.exit_code == 0
    assert f"Backstay is not running here: nothing listens on {listen}." in result.stdout
    assert SECRET not in result.stdout
    data = machine(run("--json"))
    (target,) = data["targets"]
    assert target["proxy"]["runs"] is False
    assert target["source"] == "backstay.yaml"
    assert SECRET not in json.dumps(data)


def test_the_proxy_refuses(run: Command, postgres: PostgresServer, backstay: Backstay) -> None:
    """The route is passthrough, and the user of the URL has a wrong password."""
    url = f"postgresql://app_scram:wr0ng-Pa55@127.0.0.1:{postgres.port}/app"
    result = run("--json", env={"BACKSTAY_POSTGRES_UPSTREAM": url})
    data = machine(result)
    assert data["exit_code"] == 1
    assert data["counts"]["critical"] == 1
    assert data["findings"][0]["level"] == "critical"
    assert data["findings"][0]["check"] == "postgres.login"
    assert "wr0ng" not in result.stdout


def test_only_the_direct_way_is_broken(
    run: Command,
    backstay: Backstay,
    backstay_redis: Backstay,
    postgres: PostgresServer,
    closed: str,
) -> None:
    """As where a firewall lets Backstay through, and nobody else."""
    route, cache = backstay.config["postgres"][0], backstay_redis.config["redis"][0]
    settings = {
        "postgres": [{**route, "upstream": f"postgresql://{closed}/app"}],
        "redis": [{**cache, "upstream": f"redis://{closed}"}],
    }
    Path("both.yaml").write_text(json.dumps(settings))
    data = machine(run("-c", "both.yaml", "--json", env={"DATABASE_URL": postgres.dsn()}))
    assert data["exit_code"] == 1  # not 69: through Backstay both are there
    for target, name in zip(data["targets"], ("postgres", "redis"), strict=True):
        assert not target["reached"]
        assert target["proxy"]["latency"]["samples"] > 0
        direct, through = [f for f in data["findings"] if f["target"] == target["name"]]
        assert (direct["level"], direct["check"]) == ("critical", f"{name}.tcp")
        assert (through["level"], through["check"]) == ("info", f"{name}.proxy")
        assert "the server answers within " in through["measured"]
        assert "it is the direct way from here that is broken" in through["meaning"]


def test_the_server_is_away_on_either_way(
    run: Command, make_backstay: Callable[..., Backstay], postgres: PostgresServer, closed: str
) -> None:
    proxy = make_backstay(
        postgres=[{"upstream": f"postgresql://{closed}/app", "resilience": {"hold_s": 0.2}}],
        redis=[{"upstream": f"redis://{closed}", "hold_s": 0.2}],
    )
    result = run("-c", str(proxy.file), "--json", env={"DATABASE_URL": postgres.dsn()})
    data = machine(result)
    assert data["exit_code"] == 69
    for name in ("postgres", "redis"):
        (through,) = [f for f in data["findings"] if f["check"] == f"{name}.proxy"]
        assert "it fails, too: " in through["measured"]
        assert f"cannot connect to {closed}: Connection refused" in through["measured"]
        assert "not Backstay" in through["meaning"]


def test_the_environment_of_the_application(
    run: Command, postgres: PostgresServer, redis: RedisServer
) -> None:
    env = {
        "DATABASE_URL": f"{postgres.dsn('app_scram')}?pgbouncer=true&schema=public",
        "REDIS_URL": f"{redis.url('app', 'app-Pa55word')}?decode_responses=true",
    }
    data = machine(run("--json", env=env))
    assert [target["source"] for target in data["targets"]] == ["$DATABASE_URL", "$REDIS_URL"]
    assert all(target["served"] and target["proxy"] is None for target in data["targets"])


def test_nothing_can_be_reached(run: Command) -> None:
    result = run(f"postgresql://u@127.0.0.1:{free_port()}/app", f"redis://127.0.0.1:{free_port()}")
    assert result.exit_code == 69
    assert result.stdout.count("CRITICAL") == 2


def test_one_of_two_can(run: Command, postgres: PostgresServer) -> None:
    result = run(postgres.dsn(), f"redis://127.0.0.1:{free_port()}")
    assert result.exit_code == 1


def test_two_hosts_of_a_route(run: Command, postgres: PostgresServer) -> None:
    url = f"postgresql://postgres@127.0.0.1:{postgres.port},127.0.0.1:{free_port()}/app"
    data = machine(run(url, "--json"))
    assert [target["served"] for target in data["targets"]] == [True, False]
    assert data["exit_code"] == 1


def test_over_unix_sockets(run: Command, postgres: PostgresServer, redis: RedisServer) -> None:
    url = f"host={postgres.socket_folder} port={postgres.port} user=postgres dbname=app"
    data = machine(run(url, f"unix://{redis.socket_path}", "--json", "--idle-probe", "1"))
    assert all(target["served"] for target in data["targets"])
    assert all(target["connect"]["dns_s"] is None for target in data["targets"])
    assert all(not link["ended"] for target in data["targets"] for link in target["idle"]["links"])


# ---- usage --------------------------------------------------------------------------------------


def test_nothing_to_look_at(run: Command) -> None:
    result = run()
    assert result.exit_code == 2
    assert "no settings, no $DATABASE_URL or $REDIS_URL, no URL given" in result.stderr


def test_a_bad_url_is_not_repeated(run: Command) -> None:
    for result in (
        run("postgresql://u:9ecret@h/app?zork=1"),
        run(env={"REDIS_URL": "redis://:9ecret@h/x"}),
    ):
        assert result.exit_code == 2
        assert "9ecret" not in result.output
    assert "$REDIS_URL: " in result.stderr


def test_bad_settings(run: Command) -> None:
    Path("bad.yaml").write_text("postgres: 3\n")
    assert run("-c", "bad.yaml").exit_code == 78


def test_no_probe_for_no_time(run: Command) -> None:
    assert run("redis://h", "--idle-probe", "0").exit_code == 2
