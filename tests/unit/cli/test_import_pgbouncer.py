"""`backstay import-pgbouncer`: what it prints, writes and refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli

INI = (
    "[databases]\napp = host=db.example.com\n"
    "[pgbouncer]\nauth_file = userlist.txt\nmax_db_connections = 9\n"
)

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("pgbouncer.ini").write_text(INI)
    Path("userlist.txt").write_text('"ann" "9ecret"\n')
    return lambda *words, **env: CliRunner().invoke(cli, words, env=env)


def check(run: Run, text: str, **env: str) -> Result:
    Path("backstay.yaml").write_text(text)
    return run("check-config", "-c", "backstay.yaml", **env)


def test_without_secrets(run: Run) -> None:
    result = run("import-pgbouncer", "pgbouncer.ini")
    assert result.exit_code == 0
    assert "9ecret" not in result.output
    assert "max_db_connections" in result.stdout
    assert check(run, result.stdout, ANN_PASSWORD="9ecret").exit_code == 0
    missing = check(run, result.stdout)
    assert missing.exit_code == 78
    assert "ANN_PASSWORD is not set" in missing.stderr


def test_with_secrets(run: Run) -> None:
    result = run("import-pgbouncer", "pgbouncer.ini", "--with-secrets")
    assert 'ann: "9ecret"' in result.stdout
    assert check(run, result.stdout).exit_code == 0


def test_into_a_users_file(run: Run) -> None:
    result = run("import-pgbouncer", "pgbouncer.ini", "--users-file", "users.yaml")
    assert result.exit_code == 0
    assert "9ecret" not in result.output
    assert Path("users.yaml").stat().st_mode & 0o777 == 0o600
    assert check(run, result.stdout).exit_code == 0
    again = run("import-pgbouncer", "pgbouncer.ini", "--users-file", "users.yaml")
    assert again.exit_code == 2
    assert "File exists" in again.stderr


def test_mistakes(run: Run) -> None:
    Path("pgbouncer.ini").write_text("[databases]\nnonsense\n[pgbouncer]\nverbose = 9ecret\n")
    result = run("import-pgbouncer", "pgbouncer.ini")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "pgbouncer.ini:2: expected name = value",
        "pgbouncer.ini:4: verbose: expected a number, 0 or more",
        "pgbouncer.ini: expected a database in [databases]",
    ]
