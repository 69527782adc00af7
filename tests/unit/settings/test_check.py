"""Each kind of mistake is told with its place, all at once, and without the value."""

import pytest

from proxy.core.errors import ConfigError
from proxy.settings.check import path_text
from proxy.settings.load import load_text

ENV = {"SET": "value", "EMPTY": "", "URL": "postgresql://u:9ecret@h/db", "NUMBER": "7"}
PG = "postgres:\n  - upstream: postgresql://h/db\n"
RE = "redis:\n  - upstream: redis://h\n"
TLS = "cert: /dev/null, key: /dev/null"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f.yaml", ENV)
    return caught.value.problems


def marked(text: str) -> tuple[str, str]:
    """The text without its ▶, and the ▶'s place as `f.yaml:line:column`."""
    before, _, after = text.partition("▶")
    line = before.count("\n") + 1
    return before + after, f"f.yaml:{line}:{len(before) - before.rfind(chr(10))}"


CASES: list[tuple[str, str]] = [
    # YAML itself
    ("postgres: [▶", "not YAML: expected the node content, but found '<stream end>'"),
    ("a: b▶: c", "not YAML: mapping values are not allowed here"),
    ("a: ▶*b", "not YAML: found undefined alias"),
    ("a: 1\n▶\tb: 2", "not YAML: found character that cannot start any token"),
    (PG + "▶---\nb: 1", "not YAML: but found another document"),
    ("▶- a", "expected a mapping of settings"),
    ("▶12", "expected a mapping of settings"),
    (
        PG + "log: {level: ▶!!python/name:os.system x}",
        "log.level: tags (!…) are not used in settings",
    ),
    (PG + "? ▶[a, b]\n: c", "expected a name before the colon"),
    (PG + "drain_s: 1\n▶drain_s: 2", "drain_s: given twice, first on line 3"),
    (PG + "    pool: {size: 1, ▶size: 2}", "postgres[0].pool.size: given twice, first on line 3"),
    (
        PG + "    pool: {size: $▶{SET}}",
        "not YAML: expected ',' or '}', but got '{'; inside { } or [ ] put",
    ),
    (
        PG + "    listen: *▶:6432",
        "not YAML: expected alphabetic or numeric character, but found ':'; a v",
    ),
    (PG + '    name: ▶"abc', "not YAML: the value that begins here has no end"),
    # unknown
    (PG + "▶logs: {}", "logs: unknown setting; did you mean log?"),
    (PG + "    pool: {▶sise: 1}", "postgres[0].pool.sise: unknown setting; did you mean size?"),
    (PG + "    ▶zzzz: 1", "postgres[0].zzzz: unknown setting; expected one of name, listen, "),
    (
        PG + "    tls:\n      ▶<<: {}",
        "postgres[0].tls['<<']: unknown setting; expected one of mode, ",
    ),
    (
        RE + "    cache: {▶negative_ttl: 1}",
        "redis[0].cache.negative_ttl: unknown setting; did you mean n",
    ),
    # missing, and of the wrong shape
    ("postgres:\n  - ▶name: x", "postgres[0].upstream: required"),
    ("postgres:\n  - ▶upstream: ", "postgres[0].upstream: required"),
    ("postgres:\n  - ▶just text", "postgres[0]: expected a mapping of settings (name: value)"),
    ("postgres:\n  ▶main: {}", "postgres: expected a list (lines that start with -)"),
    ("postgres: ▶text", "postgres: expected a list (lines that start with -)"),
    (PG + "log: ▶info", "log: expected a mapping of settings (name: value)"),
    (PG + "    auth: {users: ▶[a]}", "postgres[0].auth.users: expected a mapping (name: value)"),
    (PG + "    pool: ▶5", "postgres[0].pool: expected a mapping of settings (name: value)"),
    # numbers, switches, sizes, choices
    (PG + "    pool: {size: ▶0}", "postgres[0].pool.size: expected at least 1"),
    (PG + "    pool: {size: ▶10001}", "postgres[0].pool.size: expected at most 10000"),
    (PG + "    pool: {size: ▶'x'}", "postgres[0].pool.size: expected a whole number"),
    (PG + "    pool: {size: ▶true}", "postgres[0].pool.size: expected a whole number"),
    (PG + "    pool: {size: ▶1.5}", "postgres[0].pool.size: expected a whole number"),
    (PG + "    pool: {size: ▶[1]}", "postgres[0].pool.size: expected a whole number"),
    (PG + "    pool:\n      size: ▶6432:5432", "postgres[0].pool.size: expected a whole number"),
    (PG + "    pool: {size: ▶'${SET}'}", "postgres[0].pool.size: expected a whole number"),
    (PG + "drain_s: ▶soon", "drain_s: expected a number"),
    (PG + "drain_s: ▶.inf", "drain_s: expected a number"),
    (PG + "drain_s: ▶2024-01-01", "drain_s: expected a number"),
    (PG + "drain_s: ▶-1", "drain_s: expected at least 0"),
    (RE + "    cache: {ttl_s: ▶0}", "redis[0].cache.ttl_s: expected more than 0"),
    (RE + "    cache: {enabled: ▶yes}", "redis[0].cache.enabled: expected true or false"),
    (RE + "    cache: {enabled: ▶1}", "redis[0].cache.enabled: expected true or false"),
    (
        RE + "    cache: {max_bytes: ▶64M}",
        "redis[0].cache.max_bytes: expected a size such as 64MiB",
    ),
    (RE + "    cache: {max_bytes: ▶-1}", "redis[0].cache.max_bytes: expected at least 0"),
    (RE + "    cache: {max_bytes: ▶true}", "redis[0].cache.max_bytes: expected a size such as"),
    (PG + "log: {level: ▶trace}", "log.level: expected 'debug', 'info', 'warning' or 'error'"),
    (
        PG + "    resilience: {replay: ▶on}",
        "postgres[0].resilience.replay: expected 'off', 'reads' or",
    ),
    (
        PG + "    resilience: {doubt_sqlstate: ▶8007}",
        "postgres[0].resilience.doubt_sqlstate: expected a",
    ),
    # what does not exist yet
    (
        PG + "    pool: {mode: ▶transaction}",
        "postgres[0].pool.mode: transaction pooling does not exist",
    ),
    (PG + "    pool: {mode: ▶statement}", "postgres[0].pool.mode: expected session"),
    (
        PG + "workers: ▶65",
        "workers: expected a number of processes, 1 to 64, or auto",
    ),
    (PG + "workers: ▶true", "workers: expected a number of processes"),
    (PG + "workers: ▶21", "workers: expected at most 20: pool.size and pool.clients of main"),
    # names, addresses, lists
    (PG + "    name: ▶a b", "postgres[0].name: expected a name: 1 to 63 letters"),
    (PG + "    name: ▶7", "postgres[0].name: expected a name"),
    (
        PG + "    listen: ▶6432",
        "postgres[0].listen[0]: expected host:port, [IPv6]:port or an absolute path; for loopback "
        "write 127.0.0.1:6432",
    ),
    (
        PG + "    listen: ▶':6432'",
        "postgres[0].listen[0]: expected host:port, [IPv6]:port or an absolute"
        " path; every interface is *:6432",
    ),
    (PG + "    listen: [127.0.0.1:1, ▶'::1']", "postgres[0].listen[1]: expected host:port"),
    (PG + "    listen: [127.0.0.1:1, ▶h:70000]", "postgres[0].listen[1]: expected host:port"),
    (PG + "    listen: ▶[]", "postgres[0].listen: expected at least one address"),
    (PG + "    listen: ▶{a: b}", "postgres[0].listen[0]: expected host:port"),
    (
        RE + "    listen: ▶/" + "x" * 107,
        "redis[0].listen[0]: a Unix socket's path has at most 107 bytes",
    ),
    (
        RE + "    cache: {include: [a, ▶7]}",
        "redis[0].cache.include[1]: expected text; put it in quotes",
    ),
    (RE + "    cache: {include: [▶'']}", "redis[0].cache.include[0]: expected a pattern of 1 to"),
    (RE + "    cache: {include: ▶x}", "redis[0].cache.include: expected a list"),
    # upstreams and secrets
    ("postgres:\n  - upstream: ▶redis://h", "postgres[0].upstream: expected postgresql://…"),
    (
        "postgres:\n  - upstream: ▶12",
        "postgres[0].upstream: expected a PostgreSQL URL or a key=value DSN",
    ),
    (
        "postgres:\n  - upstream: ▶host=h zork=1",
        "postgres[0].upstream: zork: unknown parameter of a",
    ),
    ("redis:\n  - upstream: ▶postgres://h", "redis[0].upstream: expected redis://…"),
    ("redis:\n  - upstream: ▶[]", "redis[0].upstream: expected a Redis URL"),
    (PG + "    password: ▶123", "postgres[0].password: expected text; put it in quotes"),
    (
        PG + "    auth: {users: {a: ▶12}}",
        "postgres[0].auth.users.a: expected text; put it in quotes",
    ),
    (
        PG + "    auth: {users: {a b: ▶''}}",
        "postgres[0].auth.users['a b']: expected a password or a SCRAM",
    ),
    (
        PG + "    auth: {users: {a: ▶md5" + "0" * 32 + "}}",
        "postgres[0].auth.users.a: an md5 verifier",
    ),
    (
        PG + "    auth: {users: {a: ▶SCRAM-SHA-256$4096:x$y:z}}",
        "postgres[0].auth.users.a: expected SCRAM-",
    ),
    (PG + "    tls: {cert: ▶7}", "postgres[0].tls.cert: expected the path of a file"),
    # the environment
    (
        "postgres:\n  - upstream: ▶${NOPE}",
        "postgres[0].upstream: the environment variable NOPE is not",
    ),
    (
        "postgres:\n  - upstream: ▶${NOPE:?say it}",
        "postgres[0].upstream: the environment variable NOPE: say it",
    ),
    (
        "postgres:\n  - upstream: ▶${EMPTY:?}",
        "postgres[0].upstream: the environment variable EMPTY: not set or empty",
    ),
    (
        "postgres:\n  - upstream: ▶${NO-PE}",
        "postgres[0].upstream: expected ${VAR}, ${VAR:-default} or",
    ),
    ("postgres:\n  - upstream: ▶x${", "postgres[0].upstream: expected ${VAR}, ${VAR:-default} or"),
    (
        "postgres:\n  - upstream: ▶'${EMPTY}'",
        "postgres[0].upstream: expected an upstream URL, got an empty",
    ),
    # rules between settings
    ("▶log: {}", "expected at least one route under postgres or redis"),
    ("▶", "expected at least one route under postgres or redis"),
    (PG + "    tls: ▶{mode: allow}\n", "postgres[0].tls.cert: required with tls.mode allow"),
    (
        PG + "    tls:\n      ▶mode: verify-ca\n      " + TLS.replace(", ", "\n      "),
        "postgres[0].tls.client_ca: required with tls.mode verify-ca",
    ),
    (
        PG + f"    tls: {{mode: require, {TLS}, client_ca: ▶/x}}",
        "postgres[0].tls.client_ca: has no effect",
    ),
    (PG + "    pool: {size: 2, warm: ▶3}", "postgres[0].pool.warm: expected at most pool.size, 2"),
    (
        RE + "    cache: {max_bytes: 1, max_entry_bytes: ▶2}",
        "redis[0].cache.max_entry_bytes: expected at most cache.max_bytes",
    ),
    (
        PG + "    auth: {method: ▶scram-sha-256}",
        "postgres[0].auth.method: scram-sha-256 needs a password",
    ),
    (
        RE + "    auth: {method: ▶password}",
        "redis[0].auth.method: password needs a password in the",
    ),
    (
        PG + "    auth: {method: trust, users: ▶{a: b}}",
        "postgres[0].auth.users: has no effect: it needs ",
    ),
    (
        PG + "    auth: {trust_anywhere: ▶true}",
        "postgres[0].auth.trust_anywhere: has no effect: it needs",
    ),
    (
        "postgres:\n  - upstream: ▶postgresql://:9ecret@h/db",
        "postgres[0].upstream: a password is given, b",
    ),
    ("redis:\n  - upstream: ▶redis://u@h", "redis[0].upstream: a user is given, but no password"),
    (
        PG + "    auth: {method: ▶trust}\n    listen: 0.0.0.0:1",
        "postgres[0].auth.method: trust is for ",
    ),
    (
        RE + "    auth: {method: ▶trust}\n    listen: db:1",
        "redis[0].auth.method: trust is for loopback",
    ),
    (
        PG + "    listen: '[::]:1'\n    tls: {mode: ▶disable}",
        "postgres[0].tls.mode: passthrough asks for",
    ),
    (
        PG + "    listen: '*:1'\n    tls: {mode: ▶allow, " + TLS + "}",
        "postgres[0].tls.mode: passthrough ",
    ),
    (
        PG + "  - upstream: host=k\n    name: ▶main\n    listen: 127.0.0.1:1",
        "postgres[1].name: expected a",
    ),
    (
        PG + "    listen: [127.0.0.1:1, ▶127.0.0.1:1]",
        "postgres[0].listen[1]: 127.0.0.1:1 is already liste",
    ),
    (
        "postgres:\n  - upstream: ▶postgresql://localhost:6432/db",
        "postgres[0].upstream: leads back to thi",
    ),
    # files
    (
        PG + "    tls: {mode: allow, cert: ▶nope.pem, key: /dev/null}",
        "postgres[0].tls.cert: cannot read the file: No such file or directory",
    ),
    (
        "postgres:\n  - upstream: ▶host=h sslmode=verify-ca sslrootcert=/nope",
        "postgres[0].upstream: cannot read the file: No such file or directory",
    ),
    (
        "postgres:\n  - upstream_file: ▶nope",
        "postgres[0].upstream_file: cannot read the file: No such fi",
    ),
    (
        PG + "    upstream_file: ▶/dev/null",
        "postgres[0].upstream_file: expected upstream or upstream_file",
    ),
    (PG + "    password_file: ▶/dev/null", "postgres[0].password_file: the file is empty"),
    (PG + "    password_file: ▶7", "postgres[0].password_file: expected the path of a file"),
    (
        PG + "    auth: {users_file: ▶/}",
        "postgres[0].auth.users_file: cannot read the file: Is a directo",
    ),
]


@pytest.mark.parametrize(("text", "message"), CASES, ids=[m[:50] for _, m in CASES])
def test_place_and_words(text: str, message: str) -> None:
    text, place = marked(text)
    found = mistakes(text)
    assert found[0].startswith(f"{place}: {message}")
    # One mistake is told once (a missing certificate misses its key, too).
    assert len(found) == (2 if text.endswith("tls: {mode: allow}\n") else 1), found
    assert "9ecret" not in "\n".join(found)


def test_all_at_once_in_order() -> None:
    text = (
        "workers: 0\n"
        "postgres:\n"
        "  - upstream: host=h zork=1\n"
        "    listen: nope\n"
        "    pool: {size: 0, sise: 1}\n"
        "  - name: two\n"
        "    upstream: ${NOPE}\n"
        "    listen: 127.0.0.1:1\n"
        "  - name: three\n"
        "    upstream: postgresql://localhost:2/db\n"
        "    listen: 127.0.0.1:2\n"
        "    tls: {mode: allow}\n"
        "  - name: three\n"
        "    upstream: host=h\n"
        "    listen: 127.0.0.1:3\n"
        "log: {level: trace, level: info}\n"
    )
    assert [line.split(": ")[:2] for line in mistakes(text)] == [
        ["f.yaml:1:10", "workers"],
        ["f.yaml:3:15", "postgres[0].upstream"],
        ["f.yaml:4:13", "postgres[0].listen[0]"],
        ["f.yaml:5:18", "postgres[0].pool.size"],
        ["f.yaml:5:21", "postgres[0].pool.sise"],
        ["f.yaml:7:15", "postgres[1].upstream"],
        ["f.yaml:10:15", "postgres[2].upstream"],
        ["f.yaml:12:10", "postgres[2].tls.cert"],
        ["f.yaml:12:10", "postgres[2].tls.key"],
        ["f.yaml:13:11", "postgres[3].name"],
        ["f.yaml:16:21", "log.level"],
    ]


def test_a_bad_admin_section_makes_no_clash_with_its_default() -> None:
    text = (
        "postgres:\n  - {upstream: host=h, listen: 127.0.0.1:9127}\nadmin: {listn: 127.0.0.1:1}\n"
    )
    assert mistakes(text) == ["f.yaml:3:9: admin.listn: unknown setting; did you mean listen?"]


def test_only_bad_routes_do_not_count_as_none() -> None:
    assert mistakes("postgres:\n  - {}\n") == ["f.yaml:2:5: postgres[0].upstream: required"]


def test_a_billion_laughs() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip("bcdefgh", "abcdefg", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    found = mistakes(text)
    assert any("too large through aliases" in line for line in found)


def test_an_alias_to_itself() -> None:
    assert any("nested too deeply" in line for line in mistakes("a: &a [*a]"))


def test_deep_nesting() -> None:
    assert "nested too deeply" in mistakes("a: " + "[" * 5000 + "]" * 5000)[0]


def test_control_characters() -> None:
    assert mistakes("a: \x00") == ["f.yaml: not YAML: control characters are not allowed"]


def test_paths() -> None:
    assert path_text(("postgres", 0, "pool", "size")) == "postgres[0].pool.size"
    assert path_text(("auth", "users", "a b")) == "auth.users['a b']"
    assert path_text(("x\n\x1b",)) == r"['x\n\x1b']"
