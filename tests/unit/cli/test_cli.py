"""The command line: commands, exit codes, what goes to stdout and what to stderr."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from proxy import __version__
from proxy.cli import cli
from proxy.core.errors import ConfigError
from proxy.service.start import Start
from proxy.settings.model import Settings

GOOD = "postgres:\n  - upstream: postgresql://u:9ecret@db.internal/app\n"
BAD = "postgres:\n  - upstream: postgresql://u:9ecret@db/app?zork=1\n    pool: {size: 0}\n"


@pytest.fixture
def backstay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in an empty directory, without the settings of this machine."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, **env: str) -> Result:
        clean = {"BACKSTAY_CONFIG": None, "HOME": str(tmp_path), **env}
        for name in ("BACKSTAY_POSTGRES_UPSTREAM", "BACKSTAY_REDIS_UPSTREAM"):
            clean.setdefault(name, None)
        return CliRunner().invoke(cli, arguments, prog_name="backstay", env=clean)

    return invoke


def test_help_lists_what_exists(backstay: Callable[..., Result]) -> None:
    result = backstay("--help")
    assert result.exit_code == 0
    for name in ("run", "check-config", "diagnose", "schema", "status", "top"):
        assert f"\n  {name} " in result.stdout
    assert "_options" not in result.stdout


def test_every_command_has_help(backstay: Callable[..., Result]) -> None:
    names = cli.list_commands(click.Context(cli))
    assert len(names) >= 3
    for name in names:
        result = backstay(name, "-h")
        assert result.exit_code == 0, name
        assert f"Usage: backstay {name}" in result.stdout


@pytest.mark.parametrize("arguments", [["zork"], ["run", "--zork"], ["check-config", "extra"]])
def test_usage(backstay: Callable[..., Result], arguments: list[str]) -> None:
    assert backstay(*arguments).exit_code == 2


def test_module_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"backstay {__version__} (Python 3.")


def test_help_is_quick() -> None:
    """The heavy libraries are for the commands that need them."""
    heavy = ("pydantic", "yaml", "structlog", "uvloop", "aiohttp", "psycopg", "redis", "rich")
    code = (
        "import sys; from click.testing import CliRunner; from proxy.cli import cli;"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0;"
        f"print(*[name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ---- check-config -------------------------------------------------------------------------------


def test_good_settings(backstay: Callable[..., Result]) -> None:
    Path("f.yaml").write_text(GOOD + "redis:\n  - upstream: redis://r\n")
    result = backstay("check-config", "-c", "f.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "postgres main: 127.0.0.1:6432 to db.internal:5432, scram-sha-256",
        "redis cache: 127.0.0.1:6380 to r:6379, passthrough",
        "The settings are fine.",
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("name", ["check-config", "run"])
def test_bad_settings(backstay: Callable[..., Result], name: str) -> None:
    Path("f.yaml").write_text(BAD)
    result = backstay(name, "--config", "f.yaml")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "f.yaml:2:15: postgres[0].upstream: zork: unknown parameter of a PostgreSQL URL",
        "f.yaml:3:18: postgres[0].pool.size: expected at least 1",
    ]


@pytest.mark.parametrize("name", ["check-config", "run"])
def test_no_settings(backstay: Callable[..., Result], name: str) -> None:
    result = backstay(name)
    assert result.exit_code == 78
    assert "BACKSTAY_POSTGRES_UPSTREAM" in result.stderr


def test_settings_from_the_environment(backstay: Callable[..., Result]) -> None:
    result = backstay("check-config", BACKSTAY_REDIS_UPSTREAM="redis://r")
    assert result.exit_code == 0
    Path("f.yaml").write_text(GOOD)
    result = backstay("check-config", BACKSTAY_CONFIG="f.yaml")
    assert result.stdout.startswith("postgres main")


def test_a_loop_is_refused(backstay: Callable[..., Result]) -> None:
    result = backstay("run", BACKSTAY_POSTGRES_UPSTREAM="postgresql://localhost:6432/app")
    assert result.exit_code == 78
    assert "own listener" in result.stderr


# ---- run ----------------------------------------------------------------------------------------


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of the service, which is replaced."""
    calls: list[dict[str, Any]] = []

    def run(settings: Settings, start: Start) -> int:
        calls.append({"settings": settings, "start": start})
        return 69 if start.require_upstream else 0

    monkeypatch.setitem(sys.modules, "proxy.service.main", SimpleNamespace(run=run))
    return calls


def test_run(backstay: Callable[..., Result], service: list[dict[str, Any]]) -> None:
    Path("f.yaml").write_text(GOOD)
    assert backstay("run", "-c", "f.yaml").exit_code == 0
    (call,) = service
    assert call["settings"].postgres[0].upstream.target == "db.internal:5432"
    assert (call["start"].require_upstream, call["start"].replace) == (False, False)
    backstay("run", "-c", "f.yaml", "--replace")
    assert service[1]["start"].replace is True


def test_exit_codes_pass_through(
    backstay: Callable[..., Result], service: list[dict[str, Any]]
) -> None:
    Path("f.yaml").write_text(GOOD)
    assert backstay("run", "-c", "f.yaml", "--require-upstream").exit_code == 69
    assert service[0]["start"].require_upstream is True


def test_reload_reads_the_same_file_again(
    backstay: Callable[..., Result], service: list[dict[str, Any]]
) -> None:
    Path("f.yaml").write_text(GOOD)
    backstay("run", "-c", "f.yaml")
    reload = service[0]["start"].source.load
    Path("f.yaml").write_text(GOOD.replace("db.internal", "other"))
    assert reload().postgres[0].upstream.target == "other:5432"
    Path("f.yaml").write_text(BAD)
    with pytest.raises(ConfigError, match="zork"):
        reload()


def test_what_only_starting_shows(
    backstay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(settings: Settings, start: Start) -> int:
        raise ConfigError(["127.0.0.1:6432: address already in use"])

    monkeypatch.setitem(sys.modules, "proxy.service.main", SimpleNamespace(run=run))
    Path("f.yaml").write_text(GOOD)
    result = backstay("run", "-c", "f.yaml")
    assert result.exit_code == 78
    assert result.stderr == "127.0.0.1:6432: address already in use\n"


def test_schema(backstay: Callable[..., Result]) -> None:
    committed = Path(__file__).resolve().parents[3] / "config" / "backstay.schema.json"
    result = backstay("schema")
    assert result.exit_code == 0
    assert result.stdout == committed.read_text()
