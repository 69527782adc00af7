"""Who comes to the console: every way to log in, roles, outages; what strangers learn: nothing."""

from pathlib import Path

import pytest

from proxy.demo.certificates import TlsFiles
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from proxy.postgres.protocol.console_door import ConsoleOptions
from tests import wire
from tests.integration.postgres.console_kit import console, open_console
from tests.integration.postgres.kit import Make, Proxied, eventually

pytestmark = pytest.mark.servers

PASSTHROUGH = {"auth": {"method": "passthrough"}}
SCRAM = {"auth": {"users": {"ops": "ops-secret", "exporter": "look-secret", "web": "web-secret"}}}
LISTS = ConsoleOptions(users=frozenset((b"ops",)), stats_users=frozenset((b"exporter",)))


def refusal(proxy: Proxied, user: str, **parameters: str) -> dict[str, str]:
    with pytest.raises(wire.LoginRefused) as refused:
        console(proxy, user, **parameters)
    fields: dict[str, str] = refused.value.args[0]
    return fields


def may_control(proxy: Proxied, user: str, password: str) -> bool:
    with console(proxy, user, password=password) as client:
        assert wire.rows(client.query("SHOW STATE"))
        return wire.sqlstate(client.query("RELOAD")) != "42501"


# -- scram: the proxy knows


def test_lists_decide(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, setting=SCRAM)
    operator = open_console(proxy, LISTS)
    assert may_control(proxy, "ops", "ops-secret")
    assert not may_control(proxy, "exporter", "look-secret")
    assert len(operator.asked) == 1
    assert refusal(proxy, "web", password="web-secret")["C"] == "42501"
    assert [one["user"] for one in proxy.named("console_refused")] == ["web"]
    assert proxy.counts() == {}  # not one link was needed


def test_strangers_learn_nothing(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, setting=SCRAM)
    open_console(proxy, LISTS)
    told = [refusal(proxy, user, password="wrong") for user in ("ops", "web", "nobody")]
    for fields, user in zip(told, ("ops", "web", "nobody"), strict=True):
        assert fields["C"] == "28P01"
        assert fields["M"].replace(user, "X") == told[0]["M"].replace("ops", "X")
    with pytest.raises(wire.LoginRefused) as refused:  # nor whether there is a console
        proxy.wire("ops", password="wrong")
    assert refused.value.args[0] == told[0]


# -- passthrough: only the upstream knows


def test_the_upstream_proves_the_password(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, user="app_scram", setting=PASSTHROUGH)
    open_console(proxy)
    assert may_control(proxy, "app_scram", ROLE_PASSWORDS["app_scram"])  # the URL's user
    assert not may_control(proxy, "app_md5", ROLE_PASSWORDS["app_md5"])
    for user in ("app_scram", "app_md5", "nobody_at_all"):
        with pytest.raises(wire.LoginRefused) as direct:
            proxy.wire(user, password="wrong")
        assert refusal(proxy, user, password="wrong") == direct.value.args[0]
    assert not proxy.route.pools  # what was opened for a proof is closed, and nothing is kept


def test_in_an_outage_who_was_proven_comes_in(
    proxied: Make, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.postgres.runtime.console.PROOF_S", 0.5)
    proxy = proxied(postgres, setting=PASSTHROUGH)
    open_console(proxy)
    password = ROLE_PASSWORDS["app_scram"]
    with console(proxy, "app_scram", password=password):
        pass
    with proxy.wire("app_md5"):  # a session, never at the console
        proxy.call(proxy.cutter.close)
        eventually(lambda: proxy.named("upstream_down"))
        with console(proxy, "app_scram", password=password) as client:
            (row,) = wire.rows(client.query("SHOW ROUTES"))
            assert row[2] == b"away"
        with console(proxy, "app_md5") as client:
            assert wire.rows(client.query("SHOW STATE"))
        told = refusal(proxy, "app_password")
        assert told["C"] == "57P03"
        assert refusal(proxy, "app_scram", password="wrong")["C"] == "57P03"


# -- trust


def test_trust_is_for_this_machine_only(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)  # the URL's user is postgres
    open_console(proxy)
    assert may_control(proxy, "postgres", "any")
    assert not may_control(proxy, "somebody", "any")
    open_console(proxy, LISTS)
    assert may_control(proxy, "ops", "any")
    assert refusal(proxy, "postgres")["C"] == "42501"


# -- TLS and Unix sockets


def test_tls_is_wanted_of_the_console_too(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, tmp_path: Path
) -> None:
    tls = {"mode": "require", "cert": str(tls_files.certificate), "key": str(tls_files.key)}
    proxy = proxied(postgres, setting={"listen": ["127.0.0.1:0", str(tmp_path)], "tls": tls})
    open_console(proxy)
    assert refusal(proxy, "postgres")["C"] == "28000"
    options = {"dbname": "backstay", "sslmode": "verify-full", "sslrootcert": str(tls_files.ca)}
    with proxy.connect(host="localhost", **options) as client:
        (row,) = client.execute("SHOW DATABASES").fetchall()
        assert row[0] == "main"


def test_a_unix_socket_is_this_machine(
    proxied: Make, postgres: PostgresServer, tmp_path: Path
) -> None:
    proxy = proxied(postgres, setting={"listen": ["127.0.0.1:0", str(tmp_path)]})
    open_console(proxy)
    with proxy.connect(host=str(tmp_path), port=6432, dbname="backstay") as client:
        assert client.execute("RESUME main").statusmessage == "RESUME"
