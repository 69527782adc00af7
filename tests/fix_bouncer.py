"""A real PgBouncer in front of a server."""

import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.demo.child import Child, remove_folder, scratch_folder, unprivileged_owner
from proxy.demo.ports import free_port
from proxy.demo.servers import PostgresServer


class Bouncer:
    """One PgBouncer in front of a server."""

    def __init__(self, server: PostgresServer, mode: str) -> None:
        owner = unprivileged_owner()
        self.port = free_port()
        self.folder: Path = scratch_folder(owner)
        program = shutil.which("pgbouncer")
        assert program is not None
        users, ini = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text('"postgres" ""\n"app_trust" ""\n')
        ini.write_text(
            f"[databases]\napp = host=127.0.0.1 port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = {mode}\n"
            "admin_users = postgres\n"
            "default_pool_size = 3\nmax_client_conn = 50\nserver_login_retry = 1\n"
        )
        for file in (users, ini):
            file.chmod(0o644)
        self.child = Child([program, str(ini)], self.folder / "log", owner=owner)

    def start(self) -> None:
        self.child.start()
        self.child.wait_ready(self._answers)

    def restart(self) -> None:
        self.child.end(signal.SIGTERM)
        self.start()

    def close(self) -> None:
        self.child.kill_tree()
        remove_folder(self.folder)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


MakeBouncer = Callable[[PostgresServer, str], Bouncer]


@pytest.fixture
def make_bouncer() -> Iterator[MakeBouncer]:
    made: list[Bouncer] = []

    def make(server: PostgresServer, mode: str) -> Bouncer:
        made.append(Bouncer(server, mode))
        made[-1].start()
        return made[-1]

    yield make
    for bouncer in made:
        bouncer.close()
