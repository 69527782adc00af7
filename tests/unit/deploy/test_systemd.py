"""backstay.service and backstay.socket: systemd itself accepts them, and rates the hardening."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.settings.load import from_environment, load_file
from proxy.settings.model import Settings

CONFIG = Path(__file__).resolve().parents[3] / "config"
EXPOSURE_MAX = 1.2  # of 10; the rest is the network, and an executable outside an image of its own
ANALYZE = shutil.which("systemd-analyze")
with_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze on this machine")


def unit(name: str) -> list[tuple[str, str, str]]:
    """(section, name, value) of every line; names may repeat."""
    section, found = "", []
    for line in (CONFIG / name).read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def values(name: str, key: str) -> list[str]:
    return [value for _, found, value in unit(name) if found == key]


@with_systemd
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """As they are, except for the program, which is not installed where tests run."""
    for name in ("backstay.service", "backstay.socket"):
        text = (CONFIG / name).read_text()
        (tmp_path / name).write_text(
            re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text)
        )
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "backstay" in line]
    assert ours == []


@with_systemd
def test_the_exposure_is_low() -> None:
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--no-pager", CONFIG / "backstay.service"],
        capture_output=True,
        text=True,
        check=True,
    )
    rating = re.search(r"exposure level for backstay\.service: ([0-9.]+)", done.stdout)
    assert rating
    assert float(rating[1]) <= EXPOSURE_MAX, done.stdout


def test_systemd_waits_longer_than_the_drain() -> None:
    """Else SIGKILL ends sessions in the middle of work."""
    drain_s = Settings.model_fields["drain_s"].default
    assert values("backstay.service", "TimeoutStopSec") == [str(drain_s + 10)]
    assert values("backstay.service", "RestartPreventExitStatus") == ["78"]


def test_the_settings_of_the_unit_use_its_credentials(tmp_path: Path) -> None:
    offered = values("backstay.service", "LoadCredential")
    for name in offered:
        (tmp_path / name).write_text(
            "redis://:9ecret@r/0" if "redis" in name else "postgresql://u:9ecret@h/d"
        )
    file = CONFIG / "examples" / "systemd.yaml"
    settings = load_file(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert settings.postgres[0].upstream.password == "9ecret"
    used = re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\S+)", file.read_text())
    assert used
    assert set(used) <= set(offered)


def test_the_socket_holds_the_default_ports(tmp_path: Path) -> None:
    settings = from_environment(
        {"BACKSTAY_POSTGRES_UPSTREAM": "postgresql://h/d", "BACKSTAY_REDIS_UPSTREAM": "redis://r"}
    )
    sections = (*settings.postgres, *settings.redis, settings.admin)
    listened = [str(address) for section in sections for address in section.listen]
    assert values("backstay.socket", "ListenStream") == listened
    assert values("backstay.socket", "Service") == ["backstay.service"]


@pytest.mark.parametrize("name", ["backstay.service", "backstay.socket"])
def test_no_line_says_nothing(name: str) -> None:
    """Every line is `Key=value` in a section, and no key of [Unit] or [Install] is given twice."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((CONFIG / name).read_text())
    assert {"Unit", "Install"} < set(parser.sections())
    keys = [(section, key) for section, key, _ in unit(name) if section in ("Unit", "Install")]
    assert len(keys) == len(set(keys))
