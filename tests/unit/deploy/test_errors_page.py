"""docs/errors.md knows every error that the proxy can give, and every reason."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.reasons import Reason
from proxy.postgres.protocol import say as postgres_say
from proxy.postgres.protocol.messages import error_fields
from proxy.postgres.protocol.say import Said, Wait
from proxy.redis.protocol import say as redis_say

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "errors.md").read_text()

# What each text is made with, so that the placeholders of the page come out.
SAMPLES: dict[str, list[tuple[Any, ...]]] = {
    "rolled_back": [("…", None)],
    "doubt": [("…",)],
    "done": [()],
    "mid_result": [(7,)],
    "in_failed_transaction": [()],
    "cancelled": [(None,)],
    "state_lost": [("…",)],
    "gone": [(7,)],
    "starting": [(7,)],
    "hold_full": [(7, True), (7, False)],
    "pool_full": [(7, 7)],
    "opened_too_slowly": [(7,)],
    "too_many_clients": [(7,)],
    "login_timeout": [(7,)],
    "protocol_violation": [("…",)],
    "shutting_down": [(), (True,)],
    "internal_error": [()],
    "replication_refused": [()],
    "tls_required": [()],
    "password_needs_tls": [()],
    "client_certificate_required": [()],
    "upstream_login_failed": [("…", "")],
    "password_failed": [("…".encode(),)],
    "password_empty": [()],
    "no_user": [()],
    "unsupported_protocol": [(3, 9)],
    "login_violation": [("…",)],
    "waiting": [(7, 30, wait) for wait in Wait],
    "notifications_missed": [()],
}
IN_SERVERS_WORDS = {"login_violation"}  # any clause of the login; the page says so in general


def makers() -> dict[str, Callable[..., Said]]:
    """The functions that make the texts a PostgreSQL client can see."""
    return {
        name: function
        for name, function in inspect.getmembers(postgres_say, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(function).return_annotation is Said
    }


def test_every_text_is_sampled() -> None:
    assert set(makers()) == set(SAMPLES)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_postgres_errors_are_on_the_page(name: str) -> None:
    for arguments in SAMPLES[name]:
        said = makers()[name](*arguments)
        fields = error_fields(bytes(said[5 : 1 + int.from_bytes(said[1:5])]))
        message = re.sub(r"\d+(\.\d+)?", lambda m: "N.N" if "." in m[0] else "N", fields["M"])
        if name not in IN_SERVERS_WORDS:
            assert f"`{message}`" in PAGE
        assert said.reason in PAGE
        is_notice = fields["V"] in ("NOTICE", "WARNING")
        place = rf"{fields['V']} `{said.sqlstate}`" if is_notice else rf"### {said.sqlstate} "
        assert re.search(place, PAGE), f"{said.sqlstate} has no heading"


def test_what_makes_an_outcome_unknown_is_on_the_page() -> None:
    """Every text that follows `may have been executed, or not`."""
    found = set()
    for file in (ROOT / "proxy" / "postgres").rglob("*.py"):
        text = file.read_text()
        tree = ast.parse(text)
        named = {
            ast.unparse(one.targets[0]): one.value
            for one in tree.body
            if isinstance(one, ast.Assign)
        }
        for node in ast.walk(tree) if "Action.DOUBT" in text else ():
            if not isinstance(node, ast.Call) or len(node.args) != 3:
                continue
            if ast.unparse(node).startswith("Decision(Action.DOUBT, "):
                for part in ast.walk(node.args[2]):
                    found |= set(strings(named.get(ast.unparse(part), part)))
    assert len(found) >= 5
    for why in (*found, "the statement writes, and its first run may have been saved"):
        assert f"`{why}`" in PAGE


def strings(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_no_sqlstate_of_the_page_is_made_up() -> None:
    known = {"08007"}
    for name, samples in SAMPLES.items():
        known |= {makers()[name](*arguments).sqlstate for arguments in samples}
    assert set(re.findall(r"(?m)^### ([0-9A-Z]{5}) ", PAGE)) <= known


# ---- Redis --------------------------------------------------------------------------------------


def redis_lines() -> Iterator[str]:
    """Every error line: the constants of `say`, and the texts given to `say.error`."""
    for value in vars(redis_say).values():
        if isinstance(value, bytes) and value.startswith(b"-"):
            yield value.decode().strip()
    for file in sorted((ROOT / "proxy" / "redis").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if ast.unparse(node.func) in ("say.error", "error"):
                yield "-ERR " + shown(node.args[0])


def shown(node: ast.expr) -> str:
    """A text with `…` for what is filled in; only its start where it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
    return ""


def test_redis_errors_are_on_the_page() -> None:
    lines = set(redis_lines())
    assert len(lines) >= 15
    quoted = [text.rstrip("…") for text in re.findall(r"`(-[^`]+)`", PAGE)]
    missing = [line for line in lines if not any(line.startswith(text) for text in quoted)]
    assert missing == []
    for line in (redis_say.upstream_down("x"), redis_say.upstream_lost("x")):
        assert f"`{line.decode().strip()[:-1]}…`" in PAGE


# ---- reasons ------------------------------------------------------------------------------------


def test_the_reasons_are_those_there_are() -> None:
    table = PAGE.partition("## Reasons")[2]
    listed = re.findall(r"(?m)^\| `([a-z_]+)` \|", table)
    assert listed == [reason.value for reason in Reason]
