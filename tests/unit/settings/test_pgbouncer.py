"""From pgbouncer.ini to settings: every option, the round trip, what cannot be, and no secrets."""

from pathlib import Path
from typing import Any

import pytest

from proxy.core.errors import ConfigError
from proxy.demo.certificates import TlsFiles
from proxy.settings import pgbouncer_options as options
from proxy.settings.load import load_text
from proxy.settings.model import PostgresRoute, Settings
from proxy.settings.pgbouncer_ini import Entry, Place, read_ini, read_pairs
from proxy.settings.pgbouncer_routes import (
    MAPPED,
    MAPPED_DATABASES,
    Imported,
    convert,
)
from proxy.settings.pgbouncer_yaml import Secrets, scalar, write
from tests.unit.settings.pgbouncer_names import DATABASES, PGBOUNCER, USERS

APP = "[databases]\napp = host=db.example.com\n"


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def imported(text: str, users: str = "") -> Imported:
    Path("pgbouncer.ini").write_text(text)
    if users:
        Path("userlist.txt").write_text(users)
    return convert(read_ini(Path("pgbouncer.ini")))


def settings(text: str, users: str = "", *, literal: bool = True) -> Settings:
    """The round trip: ini, YAML, the settings' own loader."""
    secrets = Secrets(literal=literal)
    yaml = write(imported(text, users), "pgbouncer.ini", secrets)
    return load_text(yaml, "f.yaml", secrets.variables)


def one(text: str, users: str = "", **how: Any) -> PostgresRoute:
    (route,) = settings(text, users, **how).postgres
    return route


def notes(text: str, users: str = "") -> str:
    return "\n".join(note.text for note in imported(text, users).notes)


def mistakes(text: str, users: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        imported(text, users)
    return caught.value.problems


def section(name: str, entries: dict[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())


# ---- every option -------------------------------------------------------------------------------


def test_the_tables_know_every_option_and_no_other() -> None:
    assert PGBOUNCER.keys() == MAPPED | options.PGBOUNCER.keys()
    assert not MAPPED & options.PGBOUNCER.keys()
    assert DATABASES.keys() == MAPPED_DATABASES | options.DATABASES.keys()
    assert not MAPPED_DATABASES & options.DATABASES.keys()
    assert USERS.keys() == options.USERS.keys()


@pytest.mark.parametrize("name", sorted(options.PGBOUNCER))
def test_options_without_a_place_have_a_comment(name: str) -> None:
    text = notes(APP + section("pgbouncer", {name: PGBOUNCER[name]}))
    assert f"{name}: {options.PGBOUNCER[name]}" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("name", sorted(options.DATABASES))
def test_options_of_databases_without_a_place(name: str) -> None:
    text = notes(f"[databases]\napp = host=h {name}={DATABASES[name]}\n")
    assert f"[databases] app: {name}: {options.DATABASES[name]}" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("name", sorted(options.USERS))
def test_options_of_users(name: str) -> None:
    text = notes(APP + f"[users]\nann = {name}={USERS[name]}\n")
    assert f"[users] ann: {name}" in text


def test_all_at_once(tls_files: TlsFiles) -> None:
    own = {
        "client_tls_key_file": str(tls_files.key),
        "client_tls_cert_file": str(tls_files.certificate),
        "server_tls_ca_file": str(tls_files.ca),
        "server_tls_key_file": str(tls_files.client_key),
        "server_tls_cert_file": str(tls_files.client_certificate),
    }
    pairs = " ".join(f"{name}={value}" for name, value in DATABASES.items())
    text = f"[databases]\napp = {pairs}\n" + section("users", {"ann": "pool_size=3"})
    text += section("peers", {"1": "host=/tmp"}) + section("pgbouncer", PGBOUNCER | own)
    found = settings(text, '"web" "s3cret"\n')
    (route,) = found.postgres
    assert found.log.level == "debug"
    assert (found.admin.users, found.admin.stats_users) == (("root",), ("stats", "dog"))
    assert [str(address) for address in route.listen] == [
        "127.0.0.1:6432",
        "/run/pgbouncer/.s.PGSQL.6432",
    ]
    assert (route.pool.size, route.pool.warm, route.pool.clients) == (7, 2, 90)
    assert (route.pool.lifetime_s, route.pool.idle_s) == (900, 300)
    assert (route.pool.connect_timeout_s, route.pool.login_timeout_s) == (7.5, 30)
    assert route.resilience.hold_s == 9
    assert (route.keepalive.idle_s, route.keepalive.interval_s) == (20, 6)
    assert route.keepalive.count == 4
    assert route.tls.mode == "allow"
    url = route.upstream
    assert (url.target, url.user, url.password) == ("db.example.com:5433", "web", "s3cret")
    assert (url.dbname, url.sslmode, url.sslrootcert) == ("other", "verify-ca", str(tls_files.ca))
    assert (url.target_session_attrs, url.keepalives) == ("read-write", False)
    assert url.client_encoding == "UTF8"
    assert url.options == "-cdatestyle=ISO -ctimezone=Europe/Berlin"


# ---- [databases] --------------------------------------------------------------------------------


def test_databases_of_one_server_share_a_route() -> None:
    text = "[databases]\napp = host=h\nshop = host=h dbname=shop\n* = host=h\n"
    (route,) = imported(text).routes
    assert route.databases == ["app", "shop", "*"]
    assert one(text).name == "app"


def test_servers_get_ports_of_their_own() -> None:
    text = "[databases]\na = host=h\nb = host=i\n"
    text += "* = port=5433\n[pgbouncer]\nlisten_addr = 127.0.0.1, ::1\nlisten_port = 7000\n"
    routes = settings(text).postgres
    assert [list(map(str, route.listen)) for route in routes] == [
        ["127.0.0.1:7000", "[::1]:7000"],
        ["127.0.0.1:7001", "[::1]:7001"],
        ["127.0.0.1:7002", "[::1]:7002"],
    ]
    assert [route.name for route in routes] == ["a", "b", "main"]
    assert routes[2].upstream.target == "/tmp/.s.PGSQL.5433"
    assert "applications need the new ports (a: 7000, b: 7001, *: 7002)" in notes(text)


def test_different_bounds_are_different_routes() -> None:
    text = "[databases]\na = host=h pool_size=3\nb = host=h pool_size=4\n"
    assert [route.pool.size for route in settings(text).postgres] == [3, 4]


def test_names_that_are_no_route_names() -> None:
    text = '[databases]\n"my ""db""" = host=h\n"my-db" = host=i\n'
    assert [route.name for route in settings(text).postgres] == ["my--db", "my-db"]
    text = '[databases]\n"my db" = host=h\nmy-db = host=i\n'
    assert [route.name for route in settings(text).postgres] == ["my-db", "my-db-2"]


def test_hosts() -> None:
    for given, target, random in (
        ("host=10.0.0.1,10.0.0.2 port=5433", "10.0.0.1:5433, 10.0.0.2:5433", True),
        ("host=a,b load_balance_hosts=disable", "a:5432, b:5432", False),
        ("host=2001:db8::1", "[2001:db8::1]:5432", False),
        ("host=/var/run/postgresql", "/var/run/postgresql/.s.PGSQL.5432", False),
        ("", "/tmp/.s.PGSQL.5432", False),
    ):
        upstream = one(f"[databases]\napp = {given}\n").upstream
        assert (upstream.target, upstream.load_balance_hosts) == (target, random), given


def test_aliases_and_forced_users_are_said() -> None:
    text = notes("[databases]\napp = host=h dbname=real user=web password='it''s s3cret'\n")
    assert "clients that ask for app must ask for real instead" in text
    assert "clients must log in as web themselves" in text
    assert "s3cret" not in text
    route = one("[databases]\napp = host=h dbname=real user=web password='it''s s3cret'\n")
    assert route.upstream.password == "it's s3cret"
    assert route.auth_method == "scram-sha-256"


def test_a_forced_user_with_the_password_of_the_list() -> None:
    text = "[databases]\napp = host=h user=web\n[pgbouncer]\nauth_file = userlist.txt\n"
    assert one(text, '"web" "pw"\n').upstream.password == "pw"
    assert one(text, '"web" "md5abcdef0123456789abcdef0123456789"\n').upstream.password is None


# ---- logins -------------------------------------------------------------------------------------

LISTED = APP + "[pgbouncer]\nauth_file = userlist.txt\nauth_type = scram-sha-256\n"
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$" + ":".join(["A" * 43 + "="] * 2)


def test_listed_users() -> None:
    users = f'"ann" "pa""ss ${{x}}\\w"\n; no user\n\n"bob" "{VERIFIER}" ""\n"no one" ""\n'
    route = one(LISTED, users)
    assert route.auth_method == "scram-sha-256"
    secrets = {name: secret.get_secret_value() for name, secret in route.auth.users.items()}
    assert secrets == {"ann": 'pa"ss ${x}\\w', "bob": VERIFIER}


def test_secrets_stay_out_by_default() -> None:
    users = '"ann" "s3cret"\n"1-of:us" "s3cret2"\n"Ann" "s3cret3"\n'
    text = write(imported(LISTED, users), "pgbouncer.ini", secrets := Secrets())
    assert "s3cret" not in text
    assert secrets.variables == {
        "ANN_PASSWORD": "s3cret",
        "USER_1_OF_US_PASSWORD": "s3cret2",
        "ANN_PASSWORD_2": "s3cret3",
    }
    assert "ANN_PASSWORD, USER_1_OF_US_PASSWORD, ANN_PASSWORD_2" in text
    route = one(LISTED, users, literal=False)
    assert route.auth.users["Ann"].get_secret_value() == "s3cret3"
    assert "s3cret" not in repr(imported(LISTED, users))


def test_md5_secrets() -> None:
    md5 = '"bob" "md5abcdef0123456789abcdef0123456789"\n'
    assert one(LISTED, md5).auth_method == "passthrough"
    assert "all secrets are md5" in notes(LISTED, md5)
    assert "these users are left out: bob" in notes(LISTED, md5 + '"ann" "pw"\n')
    assert list(one(LISTED, md5 + '"ann" "pw"\n').auth.users) == ["ann"]


@pytest.mark.parametrize("kind", ["hba", "pam", "ldap", "cert"])
def test_the_server_decides(kind: str) -> None:
    text = APP + f"[pgbouncer]\nauth_type = {kind}\nauth_file = userlist.txt\n"
    assert one(text, '"ann" "pw"\n').auth_method == "passthrough"
    assert f"auth_type = {kind}: the password is asked for, and the server decides" in notes(text)


def test_passwords_that_are_looked_up() -> None:
    assert one(LISTED + "auth_user = lookup\n", '"ann" "pw"\n').auth_method == "passthrough"
    text = LISTED.replace("host=db.example.com", "host=db.example.com auth_user=lookup")
    assert one(text, '"ann" "pw"\n').auth_method == "passthrough"


def test_trust() -> None:
    text = APP + "[pgbouncer]\nauth_type = trust\nlisten_addr = *\n"
    route = one(text)
    assert route.auth_method == "trust"
    assert route.auth.trust_anywhere
    assert not one(text.replace("*", "127.0.0.1")).auth.trust_anywhere


def test_passwords_in_clear_stay_on_this_machine(tls_files: TlsFiles) -> None:
    text = APP + "[pgbouncer]\nlisten_addr = *\n"
    assert list(map(str, one(text).listen)) == ["127.0.0.1:6432"]
    assert "only this machine may connect" in notes(text)
    text += f"client_tls_sslmode = require\nclient_tls_cert_file = {tls_files.certificate}\n"
    text += f"client_tls_key_file = {tls_files.key}\n"
    assert list(map(str, one(text).listen)) == ["*:6432"]


def test_a_user_list_that_is_not_here() -> None:
    text = notes(LISTED)
    assert "auth_file: cannot read the file: No such file or directory" in text
    assert one(LISTED).auth_method == "passthrough"


# ---- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_pool_modes_that_are_not_here(mode: str) -> None:
    made = imported(APP + f"[pgbouncer]\npool_mode = {mode}\n")
    (note,) = made.notes
    assert note.decide
    assert "pooling is not available: a client holds its link until it leaves" in note.text


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("query_wait_timeout = 0", "resilience.hold_s", 86_400),
        ("server_idle_timeout = 0", "pool.idle_s", 86_400),
        ("server_lifetime = 0", "pool.lifetime_s", 1),
        ("server_connect_timeout = 0", "pool.connect_timeout_s", 600),
        ("client_login_timeout = 99999", "pool.login_timeout_s", 3600),
        ("default_pool_size = 0", "pool.size", 10_000),
        ("min_pool_size = 50", "pool.warm", 20),
    ],
)
def test_numbers_at_their_ends(line: str, path: str, value: float) -> None:
    route = one(APP + f"[pgbouncer]\n{line}\n")
    group, _, key = path.partition(".")
    assert getattr(getattr(route, group), key) == value
    name = line.partition(" ")[0]
    assert name == "min_pool_size" or f"{line} becomes {path}: {value:g}" in notes(
        APP + f"[pgbouncer]\n{line}\n"
    )


def test_verification_without_a_ca() -> None:
    text = APP + "[pgbouncer]\nserver_tls_sslmode = verify-ca\n"
    upstream = one(text).upstream
    assert (upstream.sslmode, upstream.sslrootcert) == ("verify-full", "system")
    assert "the machine's own authorities are used, and the name is verified" in notes(text)
    local = "[databases]\napp = host=/tmp\n[pgbouncer]\nserver_tls_sslmode = verify-full\n"
    assert one(local).upstream.sslmode == "prefer"


def test_unknown_options_are_said() -> None:
    text = notes(APP + "[pgbouncer]\nzork = 1\n")
    assert text == "zork: PgBouncer 1.25 has no option of that name"


def test_included_files() -> None:
    Path("more").mkdir()
    Path("more/databases.ini").write_text("app = host=h\n%include deeper.ini\n")
    Path("more/deeper.ini").write_text("[pgbouncer]\nlisten_port = 7000\n")
    text = "; comment\n[databases]\n%include more/databases.ini\nmax_client_conn = 7\n"
    route = one(text)
    assert (str(route.listen[0]), route.pool.clients) == ("127.0.0.1:7000", 7)


def test_the_last_of_two_counts() -> None:
    text = APP + "[pgbouncer]\nlisten_port = 1\nlisten_port = 2\n"
    assert str(one(text).listen[0]) == "127.0.0.1:2"


# ---- mistakes -----------------------------------------------------------------------------------


def test_all_mistakes_at_once() -> None:
    text = (
        "early = 1\n[databases\n[zork]\n[databases]\nno equals sign\napp = host=h port=x s3cret\n"
        "b = host='h\nc = host=h@i\nd = port=70000 host=h\n[pgbouncer]\nlisten_port = s3cret\n"
        "pool_mode = s3cret\nauth_type = s3cret\nserver_tls_sslmode = s3cret\n%include\n"
        "%include nowhere.ini\nclient_tls_sslmode = verify-full\nauth_file = userlist.txt\n"
    )
    found = mistakes(text, "s3cret\n")
    told = "\n".join(found)
    for place in (1, 2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 17):
        assert f"pgbouncer.ini:{place}: " in told, place
    assert "nowhere.ini: cannot read the file" in told
    assert 'userlist.txt:1: expected "user" "password"' in told
    assert "s3cret" not in told


def test_a_file_that_includes_itself() -> None:
    (told,) = mistakes(APP + "%include pgbouncer.ini\n")
    assert told.endswith("too many files are included, or one includes itself")


def test_nothing_to_route() -> None:
    assert mistakes("[pgbouncer]\n") == ["pgbouncer.ini: expected a database in [databases]"]


def test_no_such_file() -> None:
    with pytest.raises(ConfigError, match="cannot read the file"):
        convert(read_ini(Path("nowhere.ini")))


@pytest.mark.parametrize("port", ["0", "65536"])
def test_ports(port: str) -> None:
    (told,) = mistakes(APP + f"[pgbouncer]\nlisten_port = {port}\n")
    assert told == "pgbouncer.ini:4: listen_port: expected a port, 1 to 65535"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("listen_addr = 127.0.0.1, h@i", "listen_addr: expected *, addresses or host names"),
        ("unix_socket_dir = run", "unix_socket_dir: expected an absolute path"),
    ],
)
def test_places_nobody_can_listen_on(line: str, expected: str) -> None:
    assert mistakes(APP + f"[pgbouncer]\n{line}\n") == [f"pgbouncer.ini:4: {expected}"]


def test_connection_strings() -> None:
    def pairs(text: str) -> dict[str, str]:
        read = read_pairs(Entry("app", text, Place("f", 1)))
        return {name: entry.value for name, entry in read.items()}

    assert pairs("host=h  port = 1 q='it''s = so' e=''") == {
        "host": "h",
        "port": "1",
        "q": "it's = so",
        "e": "",
    }
    assert pairs("") == {}
    for bad in ("host", "host=h'", "=h", "host='h'x"):
        with pytest.raises(ValueError, match="f:1: expected key=value pairs"):
            pairs(bad)


@pytest.mark.parametrize(
    "text",
    ["plain", "yes", "null", "007", "a: b", "- x", "", "é", "tab\there", "\U0001f600\x01", "${X}",
     '"quoted"', "back\\slash", "#x", "a #b", "*", "'", "%20", "1e3", "~", "{a}", "line\u2028end"],
)  # fmt: skip
def test_scalars_come_back_as_they_were(text: str) -> None:
    yaml = f"postgres:\n  - upstream: postgresql://h\n    auth: {{users: {{{scalar(text or 'x')}: "
    yaml += f"{scalar(text or 'x')}}}}}\n"
    (route,) = load_text(yaml, "f.yaml", {"X": "no"}).postgres
    ((_, secret),) = route.auth.users.items()
    assert secret.get_secret_value() == (text or "x")
