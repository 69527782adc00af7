"""The schema in config/ is the model's, and the examples there are good and complete."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings.load import load_file
from proxy.settings.model import Settings
from proxy.settings.schema import json_schema

CONFIG = Path(__file__).resolve().parents[3] / "config"
# `backstay.schema.json` and the manifests of other tools are not settings.
EXAMPLES = [f for f in sorted(CONFIG.glob("*.yaml")) if "backstay.schema.json" in f.read_text()]


def test_the_committed_schema_is_up_to_date() -> None:
    text = (CONFIG / "backstay.schema.json").read_text()
    assert text == json.dumps(json_schema(), indent=2) + "\n", (
        "run: backstay schema > config/backstay.schema.json"
    )


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which the variables and files of the examples exist."""
    secrets = {
        "postgres_password": "p",
        "postgres_users.yaml": "alice: p",
        "reports_url": "postgresql://reader@db3.internal/app?sslrootcert=system",
        "queue_url": "rediss://queue.internal:6379/0",
        "queue_users.yaml": "bob: p",
        "backstay_admin_token": "0123456789abcdef",
        "redis_password": "p",
        "tls.crt": "-",
        "tls.key": "-",
        "clients.crt": "-",
    }
    for name, content in secrets.items():
        (tmp_path / name).write_text(content)
    return {
        "BACKSTAY_POSTGRES_UPSTREAM": "postgresql://db.internal/app",
        "BACKSTAY_REDIS_UPSTREAM": "redis://redis.internal/0",
        "BACKSTAY_SECRETS": str(tmp_path),
        "BACKSTAY_TLS": str(tmp_path),
        "REPORTS_PASSWORD": "p",
        "ANALYST_PASSWORD": "p",
        "WORKER_PASSWORD": "p",
        "QUEUE_PASSWORD": "p",
    }


def test_there_are_examples() -> None:
    assert [f.name for f in EXAMPLES] == ["backstay.yaml", "full.yaml", "minimal.yaml"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_load(file: Path, env: dict[str, str]) -> None:
    settings = load_file(file, env)
    assert settings.postgres
    assert settings.redis


def test_the_commented_example_says_the_defaults(env: dict[str, str]) -> None:
    text = (CONFIG / "backstay.yaml").read_text()
    minimal = load_file(CONFIG / "minimal.yaml", env)
    assert load_file(CONFIG / "backstay.yaml", env) == minimal
    plain = re.sub(r"(?m)^( *)# (?=[a-z_]+: )", r"\1", text)
    for section in ({"$defs": {}, **json_schema()}, *json_schema()["$defs"].values()):
        for name in section["properties"]:
            assert re.search(rf"\b{name}:", plain), f"{name} is missing in backstay.yaml"


def test_what_is_commented_out_is_right_too(env: dict[str, str], tmp_path: Path) -> None:
    """Uncommented, every `# name: value` line of the example is a setting that exists."""
    text = (CONFIG / "backstay.yaml").read_text()
    lines = re.findall(r"(?m)^( +)# ([a-z_]+): ", text)
    assert len(lines) >= 18
    known = {name for section in json_schema()["$defs"].values() for name in section["properties"]}
    assert {name for _, name in lines} <= known


def check(schema: dict[str, Any], root: dict[str, Any], value: Any) -> bool:
    """JSON Schema, as much of it as ours uses."""
    if "$ref" in schema:
        return check(root["$defs"][schema["$ref"].rpartition("/")[2]], root, value)
    if "anyOf" in schema and not any(check(s, root, value) for s in schema["anyOf"]):
        return False
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int,
        "number": (int, float), "boolean": bool, "null": type(None),
    }  # fmt: skip
    kind = schema.get("type")
    if kind and not isinstance(value, kinds[kind]):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties", True)
        return set(schema.get("required", ())) <= set(value) and all(
            check(properties[k], root, v) if k in properties
            else extra is not False and (extra is True or check(extra, root, v))
            for k, v in value.items()
        )  # fmt: skip
    if isinstance(value, list):
        return all(check(schema.get("items", {}), root, item) for item in value)
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return False
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high:
            return False
    return value in schema.get("enum", [value]) and value == schema.get("const", value)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_editors_find_nothing_wrong_with_the_examples(file: Path) -> None:
    schema = json_schema()
    assert check(schema, schema, yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("postgres: [{upstream: x, pool: {size: '${SIZE:-3}', mode: '${M}'}}]", True),
        ("postgres: [{upstream_file: x}]", True),
        ("postgres: [{listen: [a, b], upstream: x}]", True),
        ("workers: 1", True),
        ("log: {level: debug, sql: true}", True),
        ("redis: [{upstream: x, cache: {max_bytes: 3, ttl_s: 1.5}}]", True),
        ("postgres: [{name: x}]", False),
        ("postgres: [{upstream: x, pool: {size: many}}]", False),
        ("postgres: [{upstream: x, pool: {size: 0}}]", False),
        ("postgres: [{upstream: x, pool: {mode: transaction}}]", False),
        ("workers: many", False),
        ("workers: auto", True),
        ("log: {level: trace}", False),
        ("logs: {}", False),
    ],
)
def test_what_editors_say(text: str, good: bool) -> None:
    schema = json_schema()
    assert check(schema, schema, yaml.safe_load(text)) is good


def test_defaults_stand_in_the_schema() -> None:
    pool = json_schema()["$defs"]["PostgresPool"]["properties"]
    assert pool["size"]["default"] == 20
    assert pool["size"]["description"] == "Links per user and database. Reloadable."
    assert Settings.model_fields["workers"].description.endswith("Needs a restart.")  # type: ignore[union-attr]
