"""An ini that a real PgBouncer runs with, imported: the same clients are served the same way."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from proxy.cli import cli
from proxy.demo.child import Child, scratch_folder, unprivileged_owner
from proxy.demo.ports import free_port
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer, postgres_url
from tests.fix_backstay import Backstay

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer"),
]


def ini(server: PostgresServer, port: int) -> str:
    return f"""
;; as people write them
[databases]
app = host=127.0.0.1 port={server.port} dbname=app timezone='Asia/Tokyo'
* = host=127.0.0.1 port={server.port} timezone='Asia/Tokyo'

[users]
app_scram = max_user_connections=20

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = userlist.txt
pool_mode = session
default_pool_size = 2
max_client_conn = 50
server_tls_sslmode = disable
# comment
tcp_keepidle = 20
ignore_startup_parameters = extra_float_digits
"""


def asked(port: int, user: str = "app_scram") -> Any:
    url = postgres_url(("127.0.0.1", port), user, "app")
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as link:
        return link.execute("select current_user, current_setting('TimeZone')").fetchone()


def test_the_same_clients_are_served(
    postgres: PostgresServer, make_backstay: Callable[..., Backstay]
) -> None:
    owner = unprivileged_owner()
    folder: Path = scratch_folder(owner)
    port = free_port()
    users, file = folder / "userlist.txt", folder / "pgbouncer.ini"
    users.write_text(f'"app_scram" "{ROLE_PASSWORDS["app_scram"]}"\n"app_md5" "md5{"0" * 32}"\n')
    file.write_text(ini(postgres, port).replace("userlist.txt", str(users)))
    for readable in (users, file):
        readable.chmod(0o644)
    bouncer = Child([str(shutil.which("pgbouncer")), str(file)], folder / "log", owner=owner)
    bouncer.start()
    try:
        bouncer.wait_ready(lambda: _answers(port))
        before = asked(port)
    finally:
        bouncer.kill_tree()
    result = CliRunner().invoke(cli, ["import-pgbouncer", str(file), "--with-secrets"])
    assert result.exit_code == 0, result.output
    config = yaml.safe_load(result.stdout)
    proxy = make_backstay(**config)
    assert proxy.port() == port
    assert asked(port) == before == ("app_scram", "Asia/Tokyo")
    with pytest.raises(psycopg.OperationalError):
        asked(port, "app_md5")
    assert len(config["postgres"]) == 1
    shutil.rmtree(folder)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
