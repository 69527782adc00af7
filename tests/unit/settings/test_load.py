"""Where settings come from: files, secrets in files, the environment."""

from pathlib import Path

import pytest

from proxy.core.errors import ConfigError
from proxy.settings.load import FILE_BYTES_MAX, find, from_environment, load, load_file, load_text

URL = "postgresql://u:9ecret@h/db"


def problems_of(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, str(folder / "f.yaml"), {})
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


# ---- which file ---------------------------------------------------------------------------------


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    (home / ".config/backstay").mkdir(parents=True)
    work.mkdir()
    monkeypatch.chdir(work)
    env = {"HOME": str(home)}
    assert find(env) is None

    in_home = home / ".config/backstay/backstay.yaml"
    in_home.touch()
    assert find(env) == in_home
    Path("backstay.yaml").touch()
    assert find(env) == Path("backstay.yaml")
    # What is said is meant, even when it is not there.
    assert find({**env, "BACKSTAY_CONFIG": "/nope.yaml"}) == Path("/nope.yaml")
    assert find({**env, "BACKSTAY_CONFIG": ""}) == Path("backstay.yaml")


def test_the_flag_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("flag", "variable"):
        Path(f"{name}.yaml").write_text(f"redis:\n  - {{name: {name}, upstream: 'redis://h'}}\n")
    env = {"BACKSTAY_CONFIG": "variable.yaml"}
    assert load(Path("flag.yaml"), env=env).redis[0].name == "flag"
    assert load(env=env).redis[0].name == "variable"


def test_nothing_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(env={})
    (line,) = caught.value.problems
    assert "-c FILE" in line
    assert "BACKSTAY_POSTGRES_UPSTREAM" in line
    assert "BACKSTAY_REDIS_UPSTREAM" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the file: No such file or directory"),
        (b"\xff\xfe", "the file is not UTF-8 text"),
        (b"#" * (FILE_BYTES_MAX + 1), "the file is larger than 4194304 bytes"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "f.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_file(file, {})
    assert caught.value.problems == [f"{file}: {message}"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfredis: [{upstream: redis://h}]")
    assert load_file(file, {}).redis[0].upstream.host == "h"


# ---- secrets in files ---------------------------------------------------------------------------


def test_secrets_come_from_files_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{URL}\n")
    (tmp_path / "password").write_text(" pass word \r\n")
    (tmp_path / "users.yaml").write_text("alice: '123'\nbob: ${BOB}\n")
    text = (
        "postgres:\n"
        "  - {name: a, listen: 127.0.0.1:1, upstream_file: url}\n"
        "  - {name: b, listen: 127.0.0.1:2, upstream: 'host=h user=u', password_file: password}\n"
        "  - {name: c, listen: 127.0.0.1:3, upstream: host=h, auth: {users_file: users.yaml}}\n"
        f"redis: [{{upstream: redis://h, password_file: {tmp_path}/password}}]\n"
    )
    settings = load_text(text, str(tmp_path / "f.yaml"), {"BOB": "bobs"})
    one, two, three = settings.postgres
    assert one.upstream.password == "9ecret"
    assert two.upstream.password == " pass word "  # only the line's end goes
    assert {name: secret.get_secret_value() for name, secret in three.auth.users.items()} == {
        "alice": "123",
        "bob": "bobs",
    }
    assert [route.auth_method for route in settings.postgres] == ["scram-sha-256"] * 3
    assert settings.redis[0].upstream.password == " pass word "
    shown = repr(settings)
    assert not any(secret in shown for secret in ("9ecret", "pass word", "bobs"))


def test_a_mistake_inside_a_users_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "users.yaml").write_text("alice: x\nalice: y\nbob: 12\ncarol: ${NOPE}\n")
    text = "postgres: [{upstream: host=h, auth: {users_file: users.yaml}}]\n"
    assert problems_of(text, tmp_path) == [
        "users.yaml:2:1: postgres[0].auth.users.alice: given twice, first on line 1",
        "users.yaml:3:6: postgres[0].auth.users.bob: expected text; put it in quotes",
        "users.yaml:4:8: postgres[0].auth.users.carol: the environment variable NOPE is not set",
    ]


def test_a_users_file_that_is_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "users.yaml").write_text('"alice" "9ecret"\n')
    text = "postgres: [{upstream: host=h, auth: {users_file: users.yaml}}]\n"
    (line,) = problems_of(text, tmp_path)
    assert line.startswith("users.yaml:1:9: postgres[0].auth.users: not YAML")
    assert "9ecret" not in line
    (tmp_path / "users.yaml").write_text("- alice\n")
    assert problems_of(text, tmp_path) == [
        "users.yaml:1:1: postgres[0].auth.users: expected a mapping (name: value)"
    ]


def test_a_bad_url_in_a_file_is_told_where_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:9ecret@h/db?sslmode=x")
    text = "postgres:\n  - upstream_file: url\n"
    assert problems_of(text, tmp_path) == [
        "f.yaml:2:20: postgres[0].upstream: sslmode: expected disable, allow, prefer, require, "
        "verify-ca or verify-full"
    ]


def test_an_unreadable_secret_is_one_mistake(tmp_path: Path) -> None:
    text = (
        "postgres:\n"
        "  - {name: a, listen: 127.0.0.1:1, upstream_file: nope}\n"
        "  - name: b\n"
        "    listen: 127.0.0.1:2\n"
        "    upstream: host=h user=u\n"
        "    password_file: nope\n"
        "    auth: {method: scram-sha-256}\n"
        "redis:\n"
        "  - upstream: redis://h\n"
        "    auth: {method: password, users_file: nope}\n"
    )
    assert [line.split(": ")[1] for line in problems_of(text, tmp_path)] == [
        "postgres[0].upstream_file",
        "postgres[1].password_file",
        "redis[0].auth.users_file",
    ]


def test_certificates_are_looked_for_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "crt").touch()
    text = "redis: [{upstream: redis://h, tls: {mode: allow, cert: crt, key: key}}]\n"
    assert problems_of(text, tmp_path) == [
        "f.yaml:1:66: redis[0].tls.key: cannot read the file: No such file or directory"
    ]
    (tmp_path / "key").touch()
    settings = load_text(text, str(tmp_path / "f.yaml"), {})
    assert settings.redis[0].tls.key == tmp_path / "key"


def test_certificates_of_a_disabled_tls_need_not_exist() -> None:
    text = "redis: [{upstream: redis://h, tls: {mode: disable, cert: /nope, key: /nope}}]\n"
    assert load_text(text, "f.yaml", {}).redis[0].tls.mode == "disable"


# ---- the environment alone ----------------------------------------------------------------------


def test_routes_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:9ecret@r/1\n")
    settings = from_environment(
        {"BACKSTAY_POSTGRES_UPSTREAM": URL, "BACKSTAY_REDIS_UPSTREAM_FILE": str(tmp_path / "url")}
    )
    assert [str(a) for a in settings.postgres[0].listen] == ["127.0.0.1:6432"]
    assert settings.postgres[0].upstream.user == "u"
    assert [str(a) for a in settings.redis[0].listen] == ["127.0.0.1:6380"]
    assert settings.redis[0].upstream.password == "9ecret"


def test_all_listen_where_the_environment_says() -> None:
    env = {"BACKSTAY_REDIS_UPSTREAM": "redis://:9ecret@r", "BACKSTAY_LISTEN_HOST": "*"}
    settings = from_environment(env)
    assert [str(a) for a in settings.redis[0].listen] == ["*:6380"]
    assert [str(a) for a in settings.admin.listen] == ["*:9127"]
    env["BACKSTAY_LISTEN_HOST"] = "[::1]"
    assert [str(a) for a in from_environment(env).admin.listen] == ["[::1]:9127"]


def test_one_route_is_enough() -> None:
    settings = from_environment({"BACKSTAY_REDIS_UPSTREAM": "redis://r"})
    assert (len(settings.postgres), len(settings.redis)) == (0, 1)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            {"BACKSTAY_POSTGRES_UPSTREAM": "postgresql://u:9ecret@h/?zork=1"},
            "environment: BACKSTAY_POSTGRES_UPSTREAM: zork: unknown parameter of a PostgreSQL URL",
        ),
        (
            {"BACKSTAY_POSTGRES_UPSTREAM": "postgresql://127.0.0.1:6432/db"},
            "environment: BACKSTAY_POSTGRES_UPSTREAM: leads back to this route's own listener; "
            "expected the server's address",
        ),
        (
            {"BACKSTAY_REDIS_UPSTREAM": "redis://r", "BACKSTAY_LISTEN_HOST": "a b"},
            "environment: BACKSTAY_LISTEN_HOST: expected host:port, [IPv6]:port or an "
            "absolute path",
        ),
        (
            {"BACKSTAY_REDIS_UPSTREAM_FILE": "/nope"},
            "environment: BACKSTAY_REDIS_UPSTREAM_FILE: cannot read the file: "
            "No such file or directory",
        ),
        (
            {"BACKSTAY_REDIS_UPSTREAM": "redis://r", "BACKSTAY_REDIS_UPSTREAM_FILE": "/nope"},
            "environment: BACKSTAY_REDIS_UPSTREAM_FILE: expected BACKSTAY_REDIS_UPSTREAM or "
            "BACKSTAY_REDIS_UPSTREAM_FILE, not both",
        ),
    ],
)
def test_mistakes_in_the_environment(env: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_environment(env)
    assert caught.value.problems == [line]
