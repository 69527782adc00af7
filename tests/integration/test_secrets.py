"""Promise 8: secrets planted everywhere, and looked for wherever Backstay tells something."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from proxy.demo.certificates import TlsFiles
from proxy.demo.cutter import Cut, Target
from proxy.demo.ports import free_port
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer, RedisServer
from proxy.service.postgres_options import postgres_options
from proxy.service.redis_options import redis_options
from proxy.settings.load import load
from tests.fix_backstay import Backstay
from tests.fix_cutter import ThreadCutter
from tests.integration.admin_client import AdminClient, EventStream

pytestmark = pytest.mark.servers

PLANTED = {
    "the upstream URL's password": ROLE_PASSWORDS["app_scram"],
    "the Redis URL's password": "app-Pa55word",
    "another Redis user's password": "reader-Pa55word",
    "a password in users": "l1sted-user-passw0rd",
    "a password a client tried": "tr1ed-and-wrong-passw0rd",
    "a Redis password a client tried": "red1s-wrong-passw0rd",
    "the passphrase of the key": "k3y-file-passphrase",
    "the admin token": "adm1n-token-of-sixteen",
    "a token somebody tried": "wrong-t0ken-of-sixteen",
    "a SQL literal": "sql-l1teral-value",
    "a literal in flight": "l1teral-in-flight",
    "a bind value": "b1nd-parameter-value",
    "a prepared text": "pr3pared-statement-text",
    "the value of a setting": "s3tting-of-the-session",
    "a row that is copied": "c0pied-row-value",
    "a Redis key": "9f86d081884c7d659a2f",
    "a Redis value": "red1s-value-of-a-key",
    "a Lua script": "lua-scr1pt-argument",
}


@pytest.mark.timeout(90)
def test_no_secret_gets_out(
    make_backstay: Callable[..., Backstay],
    postgres: PostgresServer,
    redis: RedisServer,
    tls_files: TlsFiles,
    tmp_path: Path,
) -> None:
    with (
        ThreadCutter(Target(address=("127.0.0.1", postgres.port))) as pg_hop,
        ThreadCutter(Target(address=("127.0.0.1", redis.port))) as redis_hop,
    ):
        proxy = make_backstay(**_config(pg_hop.port, redis_hop.port, _key(tls_files, tmp_path)))
        told: dict[str, str] = {}
        admin = AdminClient(proxy.config["admin"]["listen"], PLANTED["the admin token"])
        with EventStream(admin.listen) as events:
            _use_postgres(proxy, pg_hop, told)
            _use_redis(proxy, redis_hop, told)
            admin.act("reload", PLANTED["a token somebody tried"])
            incident = events.until("incident")
            told["events"] = json.dumps([incident, events.until("status")])
        _look(admin, told)
        told["the console"] = _console(proxy)
        told["the settings"] = _settings(proxy.file)
        proxy.file.write_text(proxy.file.read_text() + "nonsense: true\n")
        told["a refused reload"] = admin.act("reload").body.decode()
        proxy.stop()
        told["the log"] = proxy.log_text()
    for event in ("link_lost", "restored", "redis_link_lost", "refused", "reload_refused"):
        assert f'"{event}"' in told["the log"], event
    found = [(what, where) for what in PLANTED for where in told if PLANTED[what] in told[where]]
    assert found == []


def _config(pg_port: int, redis_port: int, key: Path) -> dict[str, Any]:
    scram, redis_password = PLANTED["the upstream URL's password"], "app-Pa55word"
    url = (
        f"host=127.0.0.1 port={pg_port} dbname=app user=app_scram password='{scram}'"
        f" sslmode=prefer sslcert={key.with_suffix('.crt')} sslkey={key}"
        f" sslpassword={PLANTED['the passphrase of the key']}"
    )
    cache = {
        "upstream": f"redis://app:{redis_password}@127.0.0.1:{redis_port}",
        "auth": {
            "method": "password",
            "users": {"reader": PLANTED["another Redis user's password"]},
        },
    }
    users = {"listed": PLANTED["a password in users"]}
    return {
        "postgres": [{"name": "main", "upstream": url, "auth": {"users": users}}],
        "redis": [{"name": "cache", **cache}],
        "admin": {
            "listen": f"127.0.0.1:{free_port()}",
            "token": PLANTED["the admin token"],
            "users": ["app_scram"],
        },
    }


def _key(tls_files: TlsFiles, folder: Path) -> Path:
    """The client's key behind its passphrase, and its certificate beside it."""
    key = folder / "client.key"
    passphrase = f"pass:{PLANTED['the passphrase of the key']}"
    command = ["openssl", "pkey", "-in", str(tls_files.client_key), "-aes256", "-passout"]
    subprocess.run([*command, passphrase, "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    (folder / "client.crt").write_bytes(tls_files.client_certificate.read_bytes())
    return key


def _use_postgres(proxy: Backstay, hop: ThreadCutter, told: dict[str, str]) -> None:
    texts: list[str] = []
    for password in (PLANTED["a password a client tried"], ""):
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(proxy.dsn("app_scram"), password=password)
        texts.append(str(refused.value))
    with psycopg.connect(proxy.dsn("app_scram"), autocommit=True) as session:
        session.execute(f"set app.secret = '{PLANTED['the value of a setting']}'")
        session.execute(f"prepare p as select '{PLANTED['a prepared text']}'")
        session.execute("select %s", [PLANTED["a bind value"]], prepare=True)
        with pytest.raises(psycopg.Error):
            session.execute(f"select '{PLANTED['a SQL literal']}' from nowhere")  # the server's own
        session.execute("create temp table t (a text)")
        with session.cursor().copy("copy t from stdin") as copy:
            copy.write_row([PLANTED["a row that is copied"]])
        session.execute("drop table t")
        hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        with suppress(psycopg.Error):
            session.execute("select %s", [PLANTED["a bind value"]], prepare=True)
    for sql in (
        f"do $$ begin perform pg_sleep(0.5), '{PLANTED['a literal in flight']}'; end $$",
        f"select pg_sleep(0.5), '{PLANTED['a literal in flight']}'",
    ):
        with psycopg.connect(proxy.dsn("app_scram"), autocommit=True) as session:
            cut = threading.Timer(0.2, lambda: hop.call(lambda cutter: cutter.cut_all(Cut.RST)))
            cut.start()
            try:
                session.execute(sql)
            except psycopg.Error as error:
                texts += [str(error), repr(error.diag.message_detail), repr(error.diag.context)]
            cut.join()
    told["errors of PostgreSQL routes"] = "\n".join(texts)


def _use_redis(proxy: Backstay, hop: ThreadCutter, told: dict[str, str]) -> None:
    texts: list[str] = []
    port, key = proxy.port("redis"), f"session:{PLANTED['a Redis key']}:user"
    with (
        redis.Redis(port=port, password=PLANTED["a Redis password a client tried"]) as wrong,
        pytest.raises(redis.exceptions.AuthenticationError) as refused,
    ):
        wrong.get(key)
    texts.append(str(refused.value))
    with redis.Redis(port=port, username="app", password="app-Pa55word") as client:
        client.set(key, PLANTED["a Redis value"])
        for _ in range(30):
            client.get(key)
            client.get(f"missing:{key}")
        client.eval("return ARGV[1]", 1, key, PLANTED["a Lua script"])
        hop.call(lambda cutter: cutter.refuse())
        hop.call(lambda cutter: cutter.cut_all(Cut.RST))
        for command in ((("SET", key, PLANTED["a Redis value"])), ("NOSUCH", key)):
            with pytest.raises(redis.exceptions.ResponseError) as down:
                client.execute_command(*command)
            texts.append(str(down.value))
        hop.call(lambda cutter: cutter.accept())
        client.get(key)
    told["errors of Redis routes"] = "\n".join(texts)


def _look(admin: AdminClient, told: dict[str, str]) -> None:
    for path in ("/metrics", "/api/v1/status", "/readyz", "/healthz", "/"):
        answer = admin.ask(path)
        told[path] = f"{answer.headers} {answer.body.decode()}"
    assert '"session:*:user"' in told["/api/v1/status"], "keys are told as shapes"
    answer = admin.ask("/api/v1/status?keys=full", token=PLANTED["a token somebody tried"])
    told["an answer to a wrong token"] = answer.body.decode()


def _console(proxy: Backstay) -> str:
    tables = ("CONFIG", "CLIENTS", "SERVERS", "POOLS", "USERS", "DATABASES", "KEYS")
    with psycopg.connect(proxy.dsn("app_scram", "backstay"), autocommit=True) as console:
        return repr([console.execute(f"SHOW {what}").fetchall() for what in tables])


def _settings(file: Path) -> str:
    """What the settings look like in a traceback, and the mistakes in a file that holds them."""
    settings = load(file)
    options = [postgres_options(settings.postgres[0], False), redis_options(settings.redis[0])]
    bad = file.with_name("bad.yaml")
    text = file.read_text()
    bad.write_text(text.replace("auth:", "auhh:").replace("users:", "user5:"))
    command = [sys.executable, "-m", "proxy", "check-config", "-c", str(bad)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 78
    return "\n".join((repr(settings), str(settings), *map(repr, options), checked.stderr))
