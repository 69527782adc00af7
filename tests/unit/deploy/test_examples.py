"""The settings files that ship: all load, say what their heads promise, and full.yaml is full."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from proxy.settings.load import load_file
from proxy.settings.model import Settings
from proxy.settings.schema import json_schema
from tests.unit.settings.test_schema import check

CONFIG = Path(__file__).resolve().parents[3] / "config"
EXAMPLES = sorted((CONFIG / "examples").glob("*.yaml"))
by_file = pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which the variables and files of the examples exist."""
    postgres, redis = "postgresql://app:9ecret@db.internal/app", "rediss://:9ecret@redis.internal/0"
    files = {
        "postgres_password": "9ecret",
        "postgres_url": postgres,
        "redis_url": redis,
        "backstay.postgres_url": postgres,
        "backstay.redis_url": redis,
        **dict.fromkeys(("tls.crt", "tls.key", "rds.pem"), "-"),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return {
        "BACKSTAY_POSTGRES_UPSTREAM": postgres,
        "BACKSTAY_REDIS_UPSTREAM": redis,
        **dict.fromkeys(
            ("BACKSTAY_SECRETS", "BACKSTAY_TLS", "CREDENTIALS_DIRECTORY"), str(tmp_path)
        ),
    }


def test_there_are_examples() -> None:
    assert [file.stem for file in EXAMPLES] == [
        "rds", "redis-only", "sidecar", "supabase", "systemd", "tls",
    ]  # fmt: skip


@by_file
def test_examples_load(file: Path, env: dict[str, str]) -> None:
    load_file(file, env)


@by_file
def test_editors_find_nothing_wrong(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../backstay.schema.json"
    schema = json_schema()
    assert check(schema, schema, yaml.safe_load(file.read_text()))


def test_the_failover_example_fails_over(env: dict[str, str]) -> None:
    main, read = load_file(CONFIG / "examples" / "rds.yaml", env).postgres
    for route, attrs in ((main, "read-write"), (read, "prefer-standby")):
        assert len(route.upstream.hosts) == 2
        assert route.upstream.target_session_attrs == attrs
        assert route.upstream.sslmode == "verify-full"
    kept = main.link_keepalive
    assert kept.idle_s + kept.count * kept.interval_s == 19  # as its comment says


def test_the_pooler_example_stays_below_what_closes_links(env: dict[str, str]) -> None:
    (route,) = load_file(CONFIG / "examples" / "supabase.yaml", env).postgres
    assert route.keepalive.ping_s < 60
    assert route.pool.lifetime_s < 3600


# ---- full.yaml ----------------------------------------------------------------------------------


def sections(kind: type[BaseModel], at: str = "") -> Iterator[str]:
    """Paths of all settings of a model; lists of routes are one level, as in `postgres.name`."""
    for name, field in kind.model_fields.items():
        inner = [
            part
            for part in (field.annotation, *get_args(field.annotation))
            if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        if inner:
            yield from sections(inner[0], f"{at}{name}.")
        else:
            yield f"{at}{name}"


def named(data: Any, at: str = "") -> Iterator[str]:
    """Paths of all settings of a file, in the same form."""
    if isinstance(data, list) and all(isinstance(item, Mapping) for item in data) and data:
        for item in data:
            yield from named(item, at)
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield f"{at}{name}"
            yield from named(value, f"{at}{name}.")


def test_full_is_full() -> None:
    """Every setting there is stands in full.yaml at least once, or its file does."""
    said = set(named(yaml.safe_load((CONFIG / "full.yaml").read_text())))
    said |= {path.removesuffix("_file") for path in said}
    assert [path for path in sections(Settings) if path not in said] == []
