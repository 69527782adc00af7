"""Any text, and any data in the shape of settings, is Settings or a ConfigError with positions."""

import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import ConfigError
from proxy.settings.fields import Section
from proxy.settings.load import load_text
from proxy.settings.model import Settings

LINE = re.compile(r"f\.yaml(:\d+:\d+)?: [\w'\"\[].*\S")


def outcome(text: str) -> Settings | list[str]:
    try:
        return load_text(text, "f.yaml", {})
    except ConfigError as error:
        problems = error.problems
    assert problems
    for line in problems:
        assert LINE.fullmatch(line), line
    return problems


@given(st.text())
def test_any_text(text: str) -> None:
    outcome(text)


@given(st.text(st.sampled_from("postgres: -\n{}[]&*!|>'\"#,?%@`${VAR:}012")))
def test_any_yaml_like_text(text: str) -> None:
    outcome(text)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**6),
    st.floats(-10, 10**6),
    st.sampled_from(
        [
            "",
            "x",
            "127.0.0.1:1",
            "/run/x",
            "*:0",
            "64KiB",
            "08007",
            "${A:-1}",
            "disable",
            "trust",
            "postgresql://u:p@h/db",
            "redis://:p@h",
            "host=h",
            "session",
            "require",
            "yes",
            "reads",
        ],
    ),
    st.lists(st.sampled_from(["127.0.0.1:1", "*", 7, None]), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b c"]), st.sampled_from(["p", "", 7, None]), max_size=2),
)


def of(section: type[Section], depth: int = 0) -> st.SearchStrategy[Any]:
    """Mappings with this section's names, now and then with a wrong value or name."""
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in section.model_fields.items():
        kind = field.default_factory
        nested = isinstance(kind, type) and issubclass(kind, Section)
        values[name] = st.one_of(of(kind), leaves) if nested else leaves  # type: ignore[arg-type]
    values["zork"] = leaves
    return st.fixed_dictionaries({}, optional=values)


def routes(kind: str) -> st.SearchStrategy[Any]:
    route = Settings.model_fields[kind].annotation.__args__[0]  # type: ignore[union-attr]
    return st.one_of(st.lists(st.one_of(of(route), leaves), max_size=3), leaves)


documents = st.fixed_dictionaries(
    {},
    optional={
        "postgres": routes("postgres"),
        "redis": routes("redis"),
        "admin": st.one_of(of(Settings.model_fields["admin"].default_factory), leaves),  # type: ignore[arg-type]
        "log": st.one_of(of(Settings.model_fields["log"].default_factory), leaves),  # type: ignore[arg-type]
        "workers": leaves,
        "drain_s": leaves,
        "zork": leaves,
    },
)


@given(documents)
def test_any_data_in_the_shape_of_settings(data: dict[str, Any]) -> None:
    outcome(yaml.safe_dump(data, allow_unicode=True))
