"""The pages: links lead somewhere, the settings page is fresh, commands exist, events are known."""

import ast
import re
import textwrap
from functools import cache
from pathlib import Path

import click
import pytest

from proxy.cli import cli
from proxy.settings.load import load_text
from proxy.settings.schema import json_schema
from tools.settings_reference import TARGET, reference

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_the_settings_page_is_up_to_date() -> None:
    assert TARGET.read_text() == reference(), "run: python -m tools.settings_reference"


# ---- links --------------------------------------------------------------------------------------


@cache
def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text())


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"(?m)^#+ (.+)$", prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return frozenset(found)


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert broken == []


def test_every_page_can_be_found() -> None:
    """From the README, by links."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)[#)]", prose(page)):
            place = (page.parent / target).resolve()
            if place not in seen and place.exists():
                waiting.append(place)
    assert [page.name for page in PAGES if page not in seen] == []


# ---- commands and settings ----------------------------------------------------------------------


def code(page: Path) -> str:
    """What stands in code blocks and between backticks."""
    text = page.read_text()
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```$", text)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", prose(page))])


@by_page
def test_commands_exist(page: Path) -> None:
    names = cli.list_commands(click.Context(cli))
    used = set(re.findall(r"(?m)(?:^|[ /$(])backstay ([a-z][a-z-]+)", code(page)))
    assert used <= {*names, "run"}
    targets = set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"(?m)^make ([a-z]+)", code(page))) <= targets


@cache
def settings() -> set[str]:
    """`pool.size` and the like: the last two parts of every setting's path."""
    known = json_schema()
    pairs = set()
    for section in (known, *known["$defs"].values()):
        for name, value in section["properties"].items():
            kind = (value.get("items") or value).get("$ref", "").rpartition("/")[2]
            if kind:
                pairs |= {f"{name}.{inner}" for inner in known["$defs"][kind]["properties"]}
    return pairs


@by_page
def test_settings_exist(page: Path) -> None:
    sections = {pair.partition(".")[0] for pair in settings()} - {"postgres", "redis"}
    pattern = rf"`({'|'.join(sorted(sections))})\.([a-z_]+)`"
    used = {".".join(found) for found in re.findall(pattern, page.read_text()) if found[1] != "py"}
    assert sorted(used - settings()) == []


@cache
def defaults() -> dict[str, set[str]]:
    """Every setting's own name to its defaults, as a page writes them (`30`, `64MiB`)."""
    found: dict[str, set[str]] = {}
    for section in (json_schema(), *json_schema()["$defs"].values()):
        for name, value in section["properties"].items():
            found.setdefault(name, set()).add(str(value.get("default")).removesuffix(".0"))
    return found


@by_page
def test_defaults_are_those_of_the_model(page: Path) -> None:
    """`pool.size` (20), `hold_s` (30 s): a number in brackets behind a setting is its default."""
    known = defaults()
    wrong = [
        f"{name} ({number})"
        for name, number in re.findall(r"`(?:\w+\.)*(\w+)` \((\d+)(?: s| ms)?\)", page.read_text())
        if name in known and number not in known[name]
    ]
    assert wrong == []


@by_page
def test_settings_shown_can_be_used(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"(?ms)^ *```yaml\n(.*?)^ *```$", page.read_text()):
        (tmp_path / "users.yaml").write_text("alice: secret")
        load_text(textwrap.dedent(block), str(tmp_path / "backstay.yaml"), {})


# ---- log events ---------------------------------------------------------------------------------

EVENTS = ROOT / "docs" / "log-events.md"


@cache
def calls() -> tuple[tuple[str, ast.Call], ...]:
    """(event, call) of every event that the code records under a name of its own."""
    found = []
    for file in sorted((ROOT / "proxy").rglob("*.py")):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)) if "vents(" in text else ():
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = (
                node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            )
            first = node.args[0]
            if name in ("events", "_events") and isinstance(first, ast.Constant):
                found.append((str(first.value), node))
    return tuple(found)


def listed() -> dict[str, str]:
    """Event to its row."""
    rows = re.findall(r"(?m)^\| `([a-z_]+)` (\|.*)$", EVENTS.read_text())
    assert len(rows) == len({name for name, _ in rows})
    return dict(rows)


def test_the_events_are_those_there_are() -> None:
    ours = {"log_lines_dropped", "event_not_written", "library"}  # of the log itself
    assert set(listed()) == {name for name, _ in calls()} | ours


def test_the_fields_of_events_are_those_they_have() -> None:
    missing = []
    for event, call in calls():
        for keyword in call.keywords:
            if keyword.arg and keyword.arg != "level" and f"`{keyword.arg}`" not in listed()[event]:
                missing.append(f"{event}: {keyword.arg}")
            if keyword.arg == "level" and isinstance(keyword.value, ast.Constant):
                level = str(keyword.value.value)
                if level not in listed()[event].split("|")[1]:
                    missing.append(f"{event}: level {level}")
    assert sorted(set(missing)) == []
