"""The Dockerfile, read as Docker reads it, and its steps done by hand: there is no engine here."""

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from proxy.settings.load import from_environment

ROOT = Path(__file__).resolve().parents[3]
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile; continued lines are joined, comments dropped."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name, rest) for name, rest in pairs]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def only(name: str) -> str:
    (value,) = [rest for found, rest in last_stage() if found == name]
    return value


def in_build_context(path: str) -> bool:
    """Whether .dockerignore lets a path in: the last pattern that matches decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        plain = pattern.lstrip("!")
        places = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        matches = any(
            fnmatch(place, plain)
            or (plain.startswith("**/") and fnmatch(Path(place).name, plain[3:]))
            for place in places
        )
        if matches:
            kept = pattern.startswith("!")
    return kept


def test_the_instructions_exist() -> None:
    assert {name for name, _ in instructions()} <= INSTRUCTIONS


def test_two_stages_on_a_pinned_base() -> None:
    stages = [rest for name, rest in instructions() if name == "FROM"]
    assert stages == ["python:${PYTHON}-${DEBIAN} AS build", "python:${PYTHON}-slim-${DEBIAN}"]
    # One Debian for both: what is compiled in the one must find its libraries in the other.
    assert instructions()[:2] == [("ARG", "PYTHON=3.13"), ("ARG", "DEBIAN=bookworm")]


def test_not_root_and_checked() -> None:
    user, group = only("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert only("STOPSIGNAL") == "SIGTERM"
    assert json.loads(only("ENTRYPOINT")) == ["backstay"]
    assert json.loads(only("CMD")) == ["run"]
    ports = only("EXPOSE").split()
    assert ports == ["6432", "6380", "9127"]


def test_what_is_copied_is_there() -> None:
    for name, rest in instructions():
        if name != "COPY" or rest.startswith("--from"):
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert in_build_context(source), source
    assert not in_build_context("tests/conftest.py")
    assert not in_build_context(".git/config")
    assert not in_build_context("proxy/core/__pycache__/errors.cpython-313.pyc")
    assert in_build_context("proxy/core/errors.py")


def test_nothing_is_left_behind_by_the_build() -> None:
    for name, rest in instructions():
        if name == "RUN" and "pip" in rest:
            assert "--no-cache-dir" in rest
    assert [name for name, _ in last_stage()].count("RUN") == 0


def health_program() -> list[str]:
    kind, _, program = only("HEALTHCHECK").partition(" CMD ")
    assert "--interval=" in kind
    found: list[str] = json.loads(program)
    assert found.pop(0) == "python"
    return found


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_says_what_the_port_says(status: int) -> None:
    """Run as Docker runs it, against a port that answers with `status`."""
    server = (
        "import http.server, sys\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        assert self.path == '/healthz'\n"
        f"        self.send_response({status}); self.end_headers()\n"
        "    def log_message(self, *_): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(server.server_port, flush=True)\n"
        "server.handle_request()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", server], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        program = [part.replace("9127", port) for part in health_program()]
        done = subprocess.run([sys.executable, *program], capture_output=True, check=False)
    assert (done.returncode == 0) is (status == 200)


def test_nobody_listening_is_unhealthy(unused_tcp_port: int) -> None:
    program = [part.replace("9127", str(unused_tcp_port)) for part in health_program()]
    done = subprocess.run([sys.executable, *program], capture_output=True, check=False)
    assert done.returncode != 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from nothing but what the build stage copies."""
    context = tmp_path_factory.mktemp("context")
    copied = [
        rest.split()[:-1]
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
    ]
    for source in (source for sources in copied for source in sources):
        listed = [ROOT / source]
        if listed[0].is_dir():
            listed = [path for path in listed[0].rglob("*") if path.is_file()]
        for path in listed:
            inside = path.relative_to(ROOT)
            if in_build_context(str(inside)):
                (context / inside).parent.mkdir(parents=True, exist_ok=True)
                (context / inside).write_bytes(path.read_bytes())
    # What pip does once it has the backend: offline, the one of this environment serves.
    code = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    # Not compiled, as that takes minutes; `make test-compiled` does it.
    env = {**os.environ, "BACKSTAY_COMPILE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=context,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return context / "dist" / done.stdout.splitlines()[-1]


def test_the_wheel_holds_what_is_needed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "proxy").rglob("*")
        if path.is_file() and path.suffix not in (".pyc",)
    }
    assert wanted - names == set()
    assert not [name for name in names if name.startswith("tests")]


def installed(wheel: Path, site: Path) -> list[str]:
    """The command `backstay`, from the wheel and nothing else of this project."""
    zipfile.ZipFile(wheel).extractall(site)
    (entry,) = re.findall(
        r"backstay = (\S+)", next(site.glob("*.dist-info/entry_points.txt")).read_text()
    )
    module, function = entry.split(":")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from {module} import {function} as f; f()"
    )
    return [sys.executable, "-I", "-c", code]


def test_the_image_starts_is_healthy_and_stops(wheel: Path, tmp_path: Path) -> None:
    """ENTRYPOINT and CMD on the wheel, the HEALTHCHECK while it runs, then STOPSIGNAL."""
    assert json.loads(only("ENTRYPOINT")) == ["backstay"]
    file = tmp_path / "backstay.yaml"
    route = {"listen": "127.0.0.1:0", "upstream": "redis://127.0.0.1:1"}
    file.write_text(json.dumps({"redis": [route], "admin": {"listen": "127.0.0.1:0"}}))
    with subprocess.Popen(
        [*installed(wheel, tmp_path / "site"), *json.loads(only("CMD"))],
        cwd=tmp_path,
        env={"BACKSTAY_CONFIG": str(file)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        try:
            lines = (json.loads(line) for line in process.stderr)
            started = next(line for line in lines if line["event"] == "started")
            port = started["listeners"][-1].rpartition(":")[2]
            program = [part.replace("9127", port) for part in health_program()]
            health = subprocess.run([sys.executable, *program], capture_output=True, check=False)
            assert health.returncode == 0, health.stderr
            process.send_signal(signal.Signals[only("STOPSIGNAL")])
            assert "stopped" in {line["event"] for line in lines}
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_the_installed_command_checks_the_shipped_settings(wheel: Path, tmp_path: Path) -> None:
    """The wheel alone, unpacked, run in an empty read-only directory, as the image has it."""
    command = installed(wheel, tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir(mode=0o555)
    for file in ("backstay.yaml", "minimal.yaml"):
        done = subprocess.run(
            [*command, "check-config", "-c", str(ROOT / "config" / file)],
            cwd=work,
            env={
                "BACKSTAY_POSTGRES_UPSTREAM": "postgresql://u:9ecret@h/d",
                "BACKSTAY_REDIS_UPSTREAM": "redis://r",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "The settings are fine." in done.stdout
    assert list(work.iterdir()) == []


def test_compose_gives_applications_what_backstay_has() -> None:
    services = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())["services"]
    ours, application = services["backstay"], services["application"]
    assert (ROOT / "config" / ours["build"] / "Dockerfile").exists()
    given = dict(re.findall(r"(\w+)=(\S+)", only("ENV")))
    settings = from_environment({**ours["environment"], **given})
    (postgres,), (redis,) = settings.postgres, settings.redis
    urls = application["environment"]
    user, password = postgres.upstream.user, postgres.upstream.password
    dbname = postgres.upstream.dbname
    port = postgres.listen[0].port
    assert urls["DATABASE_URL"] == f"postgresql://{user}:{password}@backstay:{port}/{dbname}"
    place = f"backstay:{redis.listen[0].port}/{redis.upstream.db}"
    assert urls["REDIS_URL"] == f"redis://:{redis.upstream.password}@{place}"
    assert int(ours["stop_grace_period"].removesuffix("s")) > settings.drain_s
    assert ours["read_only"] is True
    assert ours["ports"] == ["127.0.0.1:9127:9127"]


def test_without_a_file_a_container_listens_to_others() -> None:
    """Loopback in a container is nobody."""
    given = dict(re.findall(r"(\w+)=(\S+)", only("ENV")))
    env = {"BACKSTAY_POSTGRES_UPSTREAM": "postgresql://app:secret@db:5432/app", **given}
    settings = from_environment(env)
    assert [str(address) for address in settings.postgres[0].listen] == ["*:6432"]
    assert [str(address) for address in settings.admin.listen] == ["*:9127"]
