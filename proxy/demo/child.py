"""Child processes that never outlive us, and what a server in one needs: a folder, an owner, a log.

Both embedded servers (servers.py) and the tests' own processes are children of this kind.
"""

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

READY_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0
POLL_S: Final = 0.01
LOG_TAIL_BYTES: Final = 4096

# Children are spawned from one thread that lives as long as the process: PR_SET_PDEATHSIG fires
# when the spawning *thread* ends, and a loop's default executor ends with its loop.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="backstay-spawn")
_children: "weakref.WeakSet[Child]" = weakref.WeakSet()
_folders: set[Path] = set()


class ServerError(Exception):
    """A server could not be found, started or stopped. The text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Owner:
    """User and group a child runs as; -1 means ours."""

    uid: int = -1
    gid: int = -1


def unprivileged_owner() -> Owner:
    """Whom to run PostgreSQL as: it refuses root, so root hands it to `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return Owner()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(entry.pw_uid, entry.pw_gid)
    return Owner(65534, 65534)


def scratch_folder(owner: Owner = Owner()) -> Path:
    """A new folder, short enough for Unix sockets (107 bytes of path); removed when we exit."""
    folder = Path(tempfile.mkdtemp(prefix="bs-"))
    _folders.add(folder)
    if owner.uid >= 0:
        os.chown(folder, owner.uid, owner.gid)
    return folder


@dataclass(eq=False)
class Child:
    """One process, restartable with the same command. Its output goes to `log`."""

    command: Sequence[str]
    log: Path
    owner: Owner = Owner()
    death_signal: int = signal.SIGKILL
    environment: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        assert self.process is not None, "not started"
        return self.process.pid

    def running(self) -> bool:
        """Whether the process exists."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Spawn it. Returns before it is ready: see `wait_ready`."""
        assert not self.running(), "started twice"
        launcher = Path(__file__).with_name("launch.py")
        owner = [str(self.owner.uid), str(self.owner.gid)]
        words = [str(int(self.death_signal)), str(os.getpid()), *owner, *self.command]
        with self.log.open("ab") as output:
            self.process = _spawner.submit(
                subprocess.Popen,
                [sys.executable, "-I", "-S", str(launcher), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.log.parent,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **self.environment},
                start_new_session=True,  # Ctrl-C in a terminal must not reach it before us
            ).result()
        _children.add(self)

    def wait_ready(self, ready: Callable[[], bool], seconds_max: float = READY_S_MAX) -> None:
        """Return once `ready()` is true. Raises ServerError if the child ends or time runs out."""
        deadline_s = time.monotonic() + seconds_max
        while not ready():
            if not self.running():
                raise ServerError(f"{self.command[0]} ended at start:\n{self.log_tail()}")
            if time.monotonic() > deadline_s:
                raise ServerError(
                    f"{self.command[0]}: not ready in {seconds_max} s\n{self.log_tail()}"
                )
            time.sleep(POLL_S)

    def send(self, number: int) -> None:
        """Send a signal, if the process still exists."""
        if self.process is not None:
            self.process.send_signal(number)

    def signal_tree(self, number: int) -> None:
        """Send a signal to the process and all below it."""
        assert self.process is not None, "not started"
        for pid in (self.process.pid, *descendants(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, number: int, seconds_max: float = STOP_S_MAX) -> None:
        """Send `number` and wait for the end; after `seconds_max` SIGKILL. Idempotent."""
        if self.process is None:
            return
        self.send(signal.SIGCONT)  # a stopped process would never see the next signal
        self.send(number)
        try:
            self.process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.kill_tree()
        _children.discard(self)
        self.process = None

    def kill_tree(self) -> None:
        """SIGKILL to the process and all below it, at once, as if the machine had lost power."""
        if self.process is None:
            return
        # The parent is stopped first and killed last: stopped it starts nobody, and while it
        # exists its children have no reason for last words to their clients.
        self.process.send_signal(signal.SIGSTOP)
        family = descendants(self.process.pid)
        for pid in (*family, self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_S_MAX)
        deadline_s = time.monotonic() + STOP_S_MAX
        while any(_alive(pid) for pid in family):
            if time.monotonic() > deadline_s:
                raise ServerError(f"{self.command[0]}: processes survive SIGKILL")
            time.sleep(POLL_S)
        _children.discard(self)
        self.process = None

    def log_tail(self) -> str:
        """The last 4 KiB of the output."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


def descendants(pid: int) -> list[int]:
    """Ids of all processes below `pid`, from /proc (none where there is no /proc)."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # ended meanwhile
        parent = int(stat.rpartition(")")[2].split()[1])
        parents.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _alive(pid: int) -> bool:
    # An orphan that nobody has reaped yet (state Z) is as good as gone.
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def run_tool(command: Sequence[str], owner: Owner, stdin: bytes = b"") -> str:
    """Run a helper such as initdb to its end, as `owner`. Raises ServerError with its output."""
    user = None if owner.uid < 0 else owner.uid
    group = None if owner.gid < 0 else owner.gid
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        timeout=READY_S_MAX * 2,
        check=False,
        cwd="/",
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise ServerError(f"{command[0]} failed ({done.returncode}):\n{output[-LOG_TAIL_BYTES:]}")
    return output


def remove_folder(folder: Path) -> None:
    """Remove a scratch folder and what is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    _folders.discard(folder)


@atexit.register
def _leave_nothing() -> None:
    for child in list(_children):
        child.end(child.death_signal, seconds_max=5)
    for folder in list(_folders):
        remove_folder(folder)
