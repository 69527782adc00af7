"""The dashboard's files, read as text: complete, self-contained, and with a word for every name."""

import re
import tomllib
from dataclasses import fields
from enum import StrEnum
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import pytest

from proxy.core import report
from proxy.core.reasons import Reason, in_words
from proxy.observe import dashboard
from proxy.redis.protocol.insight import Bypassed

ROOT = Path(__file__).resolve().parents[4]
FOLDER = Path(dashboard.__file__).parent
SCRIPTS = sorted(FOLDER.glob("*.js"))
BYTES_MAX = 120_000  # of everything: a page for a bad moment comes at once
ASSETS = dashboard.assets()


class Page(HTMLParser):
    """What index.html refers to, and what a strict policy would not run."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [text for name in ("href", "src") if (text := named.get(name))]
        self.inline += [f"{tag} {name}" for name in named if name == "style" or name[:2] == "on"]
        self._script = tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)
        self._script = False


@pytest.fixture(scope="module")
def page() -> Page:
    made = Page()
    made.feed(ASSETS["/"].body.decode())
    return made


def test_every_file_is_served_with_its_type() -> None:
    names = {file.name for file in FOLDER.iterdir() if file.suffix in {".js", ".css", ".svg"}}
    assert set(ASSETS) == {"/"} | {f"/dashboard/{name}" for name in names}
    assert ASSETS["/"].content_type == "text/html; charset=utf-8"
    assert ASSETS["/dashboard/app.js"].content_type.startswith("text/javascript")
    assert ASSETS["/dashboard/icon.svg"].content_type == "image/svg+xml"
    assert len({asset.etag for asset in ASSETS.values()}) == len(ASSETS)


def test_the_wheel_has_every_file() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["proxy"]
    names = [str(file.relative_to(ROOT / "proxy")) for file in FOLDER.glob("*.*")]
    missing = [
        name
        for name in names
        if not name.endswith(".py") and not any(fnmatch(name, one) for one in patterns)
    ]
    assert missing == []


def test_the_page_is_small() -> None:
    assert sum(len(asset.body) for asset in ASSETS.values()) <= BYTES_MAX


def test_the_page_refers_to_its_own_files_only(page: Page) -> None:
    own = {"api/v1/status", "metrics"}
    links = {link for link in page.links if not link.startswith("#")}
    assert {f"/{link}" for link in links - own} <= set(ASSETS)
    assert links >= {"dashboard/style.css", "dashboard/app.js", "dashboard/icon.svg"}


def test_nothing_inline(page: Page) -> None:
    assert page.inline == []


@pytest.mark.parametrize("path", [*SCRIPTS, FOLDER / "style.css", FOLDER / "index.html"])
def test_nothing_from_elsewhere_and_no_markup_from_text(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text) == []
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    banned += r"|createContextualFragment|DOMParser|cssText|localStorage"
    assert re.findall(banned, text) == []


def test_imports_lead_to_files() -> None:
    for path in SCRIPTS:
        for name in re.findall(r'(?:from|import\()\s*"\./([^"]+)"', path.read_text()):
            assert (FOLDER / name).exists(), f"{path.name}: {name}"


def test_every_script_is_used() -> None:
    text = "".join(path.read_text() for path in SCRIPTS)
    unused = [path.name for path in SCRIPTS if f'"./{path.name}"' not in text]
    assert unused == ["app.js"]


def test_the_policy_allows_nothing_but_our_own_files() -> None:
    policy = dict(
        part.split(" ", 1) for part in dashboard.HEADERS["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert "unsafe" not in str(policy)


@pytest.mark.parametrize(("name", "kind"), [("REASONS", Reason), ("BYPASSES", Bypassed)])
def test_every_name_has_its_words(name: str, kind: type[StrEnum]) -> None:
    assert words(name) == {str(member) for member in kind}


def test_every_error_of_the_readme_has_its_words() -> None:
    readme = (ROOT / "README.md").read_text()
    codes = set(re.findall(r"`-?((?:[0-9][0-9A-Z]{4})|UPSTREAM[A-Z]+|EXECABORT)\b", readme))
    assert {"08007", "40001", "UPSTREAMLOST"} <= codes
    assert codes <= words("ERRORS")


def test_the_words_for_reasons_are_those_of_the_status() -> None:
    """A finding, `backstay status` and the page say the same."""
    text = (FOLDER / "words.js").read_text()
    for reason in Reason:
        assert f'  {reason}: "{in_words(reason)}",\n' in text


def words(name: str) -> set[str]:
    """The keys of an object in words.js."""
    text = (FOLDER / "words.js").read_text()
    body = re.search(rf"export const {name} = {{\n(.*?)\n}};", text, re.DOTALL)
    assert body
    return set(re.findall(r'^  "?(\w+)"?:', body[1], re.MULTILINE))


@pytest.mark.parametrize(
    "shape",
    [
        report.Report,
        report.PostgresReport,
        report.PoolReport,
        report.RedisReport,
        report.CacheReport,
        report.KeyCount,
        report.WorkerReport,
        report.Incident,
        report.Latency,
    ],
)
def test_the_types_have_every_field_of_the_report(shape: type) -> None:
    known = set(re.findall(r"\b(\w+):", (FOLDER / "types.js").read_text()))
    assert {field.name for field in fields(shape)} <= known
