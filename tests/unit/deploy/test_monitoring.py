"""The Grafana dashboard and the alert rules ask for metrics that exist, in PromQL that parses."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from proxy.core.reasons import Reason
from proxy.observe.metrics import families, metric_names
from tests.unit.deploy.test_docs import anchors
from tools import grafana_dashboard, metrics_reference

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "config" / "prometheus" / "alerts.yml"
ALERTS_TEST = ROOT / "config" / "prometheus" / "alerts_test.yml"
PROMTOOL = shutil.which("promtool")
OF_PROMETHEUS = {"job", "instance"}
# What a label may be asked for, where the values are a fixed list.
VALUES = {"reason": {reason.value for reason in Reason}}


def known() -> dict[str, dict[str, set[str]]]:
    """Every sample's name to its labels and their values, as a report with one of each has them."""
    found: dict[str, dict[str, set[str]]] = {}
    for metric in families(metrics_reference.specimen()):
        for sample in metric.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


KNOWN = known()


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = grafana_dashboard.dashboard()["panels"]
    return found


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL); Grafana's variables stand for durations."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            plain = re.sub(r"\$__(rate_interval|range)", "5m", target["expr"])
            yield f"panel {panel['title']}", plain
    for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"]:
        for series in test["input_series"]:
            yield test["name"], series["series"]


def parts(expr: Any) -> Iterator[Any]:
    """An expression and all those in it."""
    yield expr
    if isinstance(expr, promql_parser.Call):
        children = list(expr.args)
    else:
        names = ("lhs", "rhs", "expr", "vector_selector", "param")
        children = [inner for name in names if (inner := getattr(expr, name, None)) is not None]
    for inner in children:
        yield from parts(inner)


def selectors(expr: Any) -> list[Any]:
    return [part for part in parts(expr) if isinstance(part, promql_parser.VectorSelector)]


@pytest.mark.parametrize(("where", "text"), list(queries()))
def test_queries_ask_for_what_there_is(where: str, text: str) -> None:
    expr = promql_parser.parse(text)
    found = selectors(expr)
    assert found, where
    labels: set[str] = set()
    for selector in found:
        if selector.name == "up":
            continue
        assert selector.name in KNOWN, f"{where}: no metric {selector.name}"
        mine = KNOWN[selector.name].keys() | OF_PROMETHEUS
        labels |= mine
        for matcher in selector.matchers.matchers:
            assert matcher.name in mine, f"{where}: {selector.name} has no label {matcher.name}"
            check_value(matcher, KNOWN[selector.name].get(matcher.name, set()))
    for part in parts(expr):
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            assert set(part.modifier.labels) <= labels, where


def check_value(matcher: Any, seen: set[str]) -> None:
    """A value that is asked for by name is one that the label can have."""
    if matcher.value.startswith("$") or matcher.name in OF_PROMETHEUS:
        return
    if matcher.name in ("route", "user", "database"):
        return  # the user's own names
    possible = VALUES.get(matcher.name, seen)
    if "=~" in str(matcher.op) or re.search(r"[|()]", matcher.value):
        wanted = expand(matcher.value)
    else:
        wanted = {matcher.value}
    assert wanted <= possible, f"{matcher.name}: {wanted - possible}"


def expand(pattern: str) -> set[str]:
    """The values of a pattern with alternatives, `a|b` or `x_(a|b)`."""
    match = re.fullmatch(r"([\w]*)\(([\w|]+)\)", pattern)
    start, choices = match.groups() if match else ("", pattern)
    return {start + choice for choice in choices.split("|")}


def test_the_names_are_those_of_the_metrics() -> None:
    """The specimen of the reference makes a sample of every metric there is."""
    assert set(KNOWN) - {name for name in KNOWN if name.endswith("_created")} == metric_names()


# ---- alerts -------------------------------------------------------------------------------------


def test_each_alert_says_what_and_where_to_read_on() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        about = rule["annotations"]
        assert about.keys() == {"summary", "description", "runbook"}
        path, _, anchor = about["runbook"].partition("#")
        assert (ROOT / path).exists(), rule["alert"]
        assert not anchor or anchor in anchors(ROOT / path), f"{rule['alert']}: {anchor}"


def test_the_texts_of_alerts_use_labels_that_are_left() -> None:
    for rule in rules():
        labels = set(OF_PROMETHEUS)
        for selector in selectors(promql_parser.parse(rule["expr"])):
            labels |= KNOWN.get(selector.name, {}).keys()
        for part in parts(promql_parser.parse(rule["expr"])):
            if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
                labels &= set(part.modifier.labels)
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert used <= labels, rule["alert"]


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine")
@pytest.mark.parametrize(("what", "file"), [("check", ALERTS), ("test", ALERTS_TEST)])
def test_promtool_agrees(what: str, file: Path) -> None:
    done = subprocess.run(
        [str(PROMTOOL), what, "rules", file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- dashboard ----------------------------------------------------------------------------------


def test_the_dashboard_is_up_to_date() -> None:
    text = json.dumps(grafana_dashboard.dashboard(), indent=1) + "\n"
    assert grafana_dashboard.TARGET.read_text() == text, "run: python -m tools.grafana_dashboard"


def test_panels_stand_beside_each_other() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len(set(numbers))
    taken = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= grafana_dashboard.WIDTH
        rows = range(place["y"], place["y"] + place["h"])
        columns = range(place["x"], place["x"] + place["w"])
        taken[panel["id"]] = {(row, column) for row in rows for column in columns}
    for one, other in combinations(taken.values(), 2):
        assert not one & other


def test_legends_use_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            text = re.sub(r"\$__(rate_interval|range)", "5m", target["expr"])
            expr = promql_parser.parse(text)
            labels = OF_PROMETHEUS.union(*(KNOWN[one.name] for one in selectors(expr)))
            for part in parts(expr):
                if isinstance(part, promql_parser.AggregateExpr):
                    labels &= set(part.modifier.labels) if part.modifier else set()
            assert used <= labels, panel["title"]


def test_variables_are_declared() -> None:
    dashboard = grafana_dashboard.dashboard()
    declared = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard["panels"])))
    assert used <= declared
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            name, label = re.findall(r"label_values\((\w+).*, (\w+)\)", variable["query"]["query"])[
                0
            ]
            assert label in KNOWN[name].keys() | OF_PROMETHEUS


# ---- the page -----------------------------------------------------------------------------------


def test_the_page_of_metrics_is_up_to_date() -> None:
    text = metrics_reference.TARGET.read_text()
    assert text == metrics_reference.reference(), "run: python -m tools.metrics_reference"
