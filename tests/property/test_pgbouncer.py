"""Whatever stands in a pgbouncer.ini: mistakes with their places, or settings that can be used."""

import tempfile
from pathlib import Path

from hypothesis import event, given
from hypothesis import strategies as st

from proxy.core.errors import ConfigError
from proxy.settings.load import load_text
from proxy.settings.pgbouncer_ini import read_ini
from proxy.settings.pgbouncer_routes import Imported, convert
from proxy.settings.pgbouncer_yaml import Secrets, write
from tests.unit.settings.pgbouncer_names import DATABASES, PGBOUNCER, USERS

# Files that would have to exist before anything can be used.
FILES = {name for name in PGBOUNCER if name.endswith("_file") and "tls" in name}

WORDS = (
    "0 1 7 65536 99999999999 -1 x yes * a,b ::1 /tmp @a h@i 'q ${X} é md5 any trust verify-full "
    "verify-ca require allow disable transaction %zz round-robin standby"
)
words = st.sampled_from([*WORDS.split(), "", "a b"])


def values(options: dict[str, str]) -> st.SearchStrategy[dict[str, str]]:
    """Some of the options, each with its own value or one it did not expect."""
    usable = {name: value for name, value in options.items() if name not in FILES}
    one = st.sampled_from(sorted(usable)).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(*[st.just(usable[name])] * 4, words))
    )
    return st.lists(one, max_size=12).map(dict)


def pairs(given: dict[str, str]) -> str:
    return " ".join(
        f"{name}={value}" if value.startswith("'") else f"{name}='{value}'"
        for name, value in given.items()
    )


databases = st.dictionaries(
    st.sampled_from(["app", "shop", "*", '"my ""db"""', "pgbouncer", "a/b", "1"]),
    values(DATABASES).map(pairs),
    min_size=1,
    max_size=4,
)
secrets = st.one_of(
    st.just("md5" + "0" * 32),
    st.just(""),
    st.text(st.characters(exclude_characters='"\n\r\0', exclude_categories=["Cs"]), max_size=8),
)
users = st.dictionaries(
    st.text(st.characters(exclude_characters='"\n\r\0', exclude_categories=["Cs"]), min_size=1),
    secrets,
    max_size=4,
)


def converted(file: Path) -> Imported | None:
    """None if there are mistakes, each of which says where."""
    try:
        return convert(read_ini(file))
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(problem.startswith(str(file.parent)) for problem in problems)
    return None


@given(databases, values(PGBOUNCER), values(USERS), users)
def test_mistakes_or_settings_that_load(
    entries: dict[str, str], main: dict[str, str], own: dict[str, str], listed: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, userlist = Path(folder, "pgbouncer.ini"), Path(folder, "userlist.txt")
        lines = ["[databases]", *(f"{name} = {value}" for name, value in entries.items())]
        lines += ["[users]", f"ann = {pairs(own)}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in main.items()]
        file.write_text("\n".join(lines))
        userlist.write_text("".join(f'"{name}" "{word}"\n' for name, word in listed.items()))
        imported = converted(file)
        event("imported" if imported else "mistakes")
        if imported is None:
            return
        for literal in (True, False):
            how = Secrets(literal=literal)
            text = write(imported, "pgbouncer.ini", how)
            load_text(text, str(Path(folder, "f.yaml")), how.variables)


@given(st.text(), st.text())
def test_any_text(ini: str, listed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.ini").write_text(
            f"[databases]\n{ini}\n[pgbouncer]\nauth_file = u.txt\n", errors="ignore"
        )
        Path(folder, "u.txt").write_text(listed, errors="ignore")
        converted(Path(folder, "a.ini"))
