"""The dashboard for everybody: by keyboard, on a phone, in dark and light, read aloud, at rest."""

import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.integration.dashboard import canned
from tests.integration.dashboard.canned import NOW_S
from tests.integration.dashboard.stand_in import StandIn
from tests.integration.dashboard.tab import Tab

MakeStandIn = Callable[..., StandIn]

# Text against what is behind it, layer by layer (WCAG 2.2, 1.4.3). 4.5, or 3 for large text.
_POOR_CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) =>
    [r, g, b].map((c, i) => c * a + under[i] * (1 - a)).concat(1);
  const behind = (node) => {
    const layers = [];
    for (; node; node = node.parentElement) {
      const layer = parse(getComputedStyle(node).backgroundColor);
      layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility({ visibilityProperty: true })) {
      continue;
    }
    const style = getComputedStyle(node);
    const back = behind(node);
    const [a, b] = [light(over(parse(style.color), back)), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24
      || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) {
      poor.add(`${ratio.toFixed(2)} ${node.className}: ${walker.currentNode.data.slice(0, 30)}`);
    }
  }
  return { seen, poor: [...poor] };
})()"""


@pytest.fixture
def busy(stand_in: MakeStandIn) -> StandIn:
    """Something of every kind to see: findings of each level, a stalled route, incidents."""
    levels = ("critical", "warning", "info")
    findings = [
        {"level": level, "route": "main", "text": f"{level} things go on", "advice": "Look."}
        for level in levels
    ]
    route = canned.postgres(state="away", reason="upstream_reset", away_s=3, waiting=2)
    other = canned.postgres(name="other", state="draining", clients=0, counts={})
    report = canned.report(postgres=[route, other])
    report.incidents.insert(0, canned.incident(4, 3, NOW_S, ended_s=None))
    return stand_in(
        canned.status(report, well=False, summary="main: the upstream is away.", findings=findings)
    )


def open_all(tab: Tab) -> None:
    tab.js("[...document.querySelectorAll('details')].forEach((one) => { one.open = true; })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_reader_and_text_stands_out(
    tab: Tab, busy: StandIn, scheme: str
) -> None:
    tab.colours(scheme)
    tab.open(busy.url)
    open_all(tab)
    page = tab.js("getComputedStyle(document.body).backgroundColor")
    assert page == {"light": "rgb(243, 245, 247)", "dark": "rgb(12, 18, 24)"}[scheme]
    found = tab.js(_POOR_CONTRAST)
    assert found["seen"] > 200
    assert found["poor"] == []


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_narrow_screen_needs_no_sideways_scrolling(tab: Tab, busy: StandIn, width: int) -> None:
    tab.resize(width, 740)
    tab.open(busy.url)
    open_all(tab)
    tab.js("[...document.querySelectorAll('.more')].forEach((one) => one.click())")
    assert tab.js("document.documentElement.scrollWidth") <= width
    # And nothing is cut off: what is wider than the screen can be scrolled by itself.
    beyond = tab.js("""[...document.querySelectorAll("main *")].filter((one) =>
      one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1
      && !one.closest(".scroller, .visually-hidden, .lane-track")).map((one) => one.className)""")
    assert beyond == []


def test_the_tables_of_a_phone_fit(tab: Tab, busy: StandIn) -> None:
    tab.resize(360, 740)
    tab.open(busy.url)
    wide = tab.js("""[...document.querySelectorAll(".scroller")].filter((one) =>
      one.scrollWidth > one.clientWidth).map((one) => one.parentNode.dataset.table)""")
    assert set(wide) <= {"workers"}


def test_the_keyboard_reaches_everything_and_shows_where_it_is(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    order: list[str] = []
    tab.press("Tab")
    while not tab.js("document.activeElement === document.body"):  # beyond the last one
        order.append(tab.js("document.activeElement.textContent.trim().slice(0, 24)"))
        assert len(order) < 40
        visible = tab.js("""(() => {
          const at = document.activeElement;
          const shown = at.matches("input") ? at.nextElementSibling : at;
          const box = shown.getBoundingClientRect();
          return getComputedStyle(shown).outlineStyle !== "none" && box.width > 20
            && box.top >= 0 && box.bottom <= innerHeight;
        })()""")
        assert visible, order
        tab.press("Tab")
    assert order[0] == "Skip to the verdict"
    assert sum(" PM" in text or " AM" in text for text in order) == 4  # incidents
    assert order[-2:] == ["status as JSON", "metrics"]
    tab.js("document.querySelector('.incidents summary').focus()")
    tab.press("Enter")
    assert tab.js("document.querySelector('.incidents details').open")
    tab.js("document.querySelector('.choices label:last-child input').focus()")
    tab.press("ArrowLeft")
    assert tab.js("document.querySelector('.choices input:checked').parentNode.innerText") == "24 h"


def test_the_skip_link_leads_to_the_verdict(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    tab.press("Tab")
    tab.press("Enter")
    assert tab.js("document.activeElement.id") == "main"


def test_a_screen_reader_finds_names_for_everything(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    open_all(tab)
    nodes = tab.tree()
    roles = {role: [name for one, name in nodes if one == role] for role, _ in nodes}
    for role in ("table", "button", "radio", "link", "heading", "image", "figure", "list"):
        assert roles.get(role), role
    for role in ("table", "button", "radio", "link", "heading", "image", "region"):
        assert all(roles.get(role, ["x"])), f"{role} without a name: {roles[role]}"
    assert any("Cache hit rate, the last 1" in name for name in roles["image"])
    assert tab.js("document.documentElement.lang") == "en"
    levels = tab.js(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_say_what_their_cells_belong_to(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    faulty = tab.js("""[...document.querySelectorAll("table")].filter((one) =>
      !one.caption?.textContent || one.querySelectorAll("thead th:not([scope=col])").length
      || [...one.tBodies[0].rows].some((row) => row.cells[0].scope !== "row")
    ).map((one) => one.outerHTML)""")
    assert faulty == []
    twice = tab.js("""[...document.querySelectorAll("[id]")].map((one) => one.id)
      .filter((id, i, all) => all.indexOf(id) !== i)""")
    assert twice == []


def test_only_the_verdict_is_read_aloud(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    live = tab.js(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')]"
        ".map((one) => one.textContent)"
    )
    assert live == ["Trouble: main: the upstream is away."]


def test_nothing_moves_for_those_who_do_not_want_it(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    assert tab.js("document.getAnimations().length") > 0
    tab.colours("light", motion="reduce")
    assert tab.js("document.getAnimations().length") == 0


def test_the_policy_stops_what_the_page_would_not_do(tab: Tab, busy: StandIn) -> None:
    tab.open(busy.url)
    for act in (
        "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
        "document.body.appendChild(document.createElement('script')).text = 'window.pwned = 1'",
        "document.body.setAttribute('style', 'color: red')",
        "new Image().src = 'http://127.0.0.2:1/'",
    ):
        tab.js(f"(() => {{ try {{ {act}; }} catch {{}} }})()")
    tab.wait("window.violations.length >= 4")
    violations = json.dumps(tab.js("window.violations.splice(0)"))
    for directive in ("require-trusted-types-for", "style-src", "img-src"):
        assert directive in violations
    assert tab.js("window.pwned") is None
