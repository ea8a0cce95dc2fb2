# SPDX-License-Identifier: Apache-2.0
"""Dashboards and rules against the metrics that the code exports, and against PromQL itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard

from dashboards.build import GRAFANA, build, linked, text
from dashboards.build import rules as rendered
from ghesrace.service.metrics.families import PREFIX, TABLE
from tests.build.paths import REPO

PROMETHEUS = REPO / "dashboards" / "prometheus"
RUNBOOKS = REPO / "docs" / "runbooks"
PANELS = [
    pytest.param(panel, id=f"{name}:{panel['title']}")
    for name, model in build().items()
    for panel in model["panels"]
]


def groups() -> list[dict[str, Any]]:
    return yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]


def rules(kind: str) -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


def grafana_filled(expr: str) -> str:
    return expr.replace("$__rate_interval", "5m").replace("$job", "j").replace("$instance", "i")


def dashboard_queries() -> list[str]:
    found = []
    for model in build().values():
        found += [a["expr"] for a in model["annotations"]["list"]]
        for panel in model["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    return [grafana_filled(expr) for expr in found]


def rule_queries() -> list[str]:
    return [rule["expr"] for group in groups() for rule in group["rules"]]


def selected(expr: str) -> set[str]:
    """Names of the series that *expr* selects."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "args", "param"):
            child = getattr(node, name, None)
            for item in child if isinstance(child, list) else [child]:
                if item is not None and not isinstance(item, str | float | int):
                    walk(item)

    walk(promql_parser.parse(expr))
    return found


def exported() -> set[str]:
    names = set()
    for name, (kind, _, _) in TABLE.items():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        names |= {PREFIX + name + suffix for suffix in suffixes.get(kind, ("",))}
    return names


def test_every_query_parses_and_asks_for_what_is_exported() -> None:
    """If this fails, a panel is empty or an alert can't ever fire."""
    recorded = {rule["record"] for rule in rules("record")}
    for expr in (*dashboard_queries(), *rule_queries()):
        names = selected(expr)
        assert names, expr
        assert names <= exported() | recorded | {"up"}, expr


def test_every_metric_is_on_a_dashboard() -> None:
    """If this fails, something is measured that nobody sees."""
    asked = {name for expr in dashboard_queries() for name in selected(expr)}
    unseen = {
        name
        for name in TABLE
        if not any(a.startswith(PREFIX + name) and a in exported() for a in asked)
    }
    assert unseen == set()


def test_labels_in_queries_exist() -> None:
    """If this fails, a `by` or a matcher names a label that no series has."""
    known = {label for _, _, labels in TABLE.values() for label in labels}
    known |= {"job", "instance", "le", "mode"}
    for expr in (*dashboard_queries(), *rule_queries()):
        for clause in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
            assert {label.strip() for label in clause.split(",")} <= known, expr
        for label in re.findall(r"[{,](\w+)(?:=~|!~|!=|=)\"", expr):
            assert label in known, expr


def test_values_in_matchers_exist() -> None:
    """If this fails, an alert waits for a severity, cause or answer that is never exported."""
    from ghesrace.events import Cause
    from ghesrace.service.metrics.families import SEVERITIES

    values = {
        "certainty": set(SEVERITIES),
        "cause": {cause.name.lower() for cause in Cause},
        "reproduced": {"yes", "no"},
    }
    for expr in (*dashboard_queries(), *rule_queries()):
        for label, value in re.findall(r"(\w+)!?=\"([^\"]*)\"", expr):
            if label in values:
                assert value in values[label], expr


def test_json_is_what_the_tables_say() -> None:
    """If this fails, somebody edited the JSON, or forgot `python -m dashboards.build`."""
    for name, model in build().items():
        assert (GRAFANA / name).read_text() == text(model)
    assert {p.name for p in GRAFANA.glob("*.json")} == set(build())


def test_rules_are_what_the_mixin_says() -> None:
    """If this fails, somebody edited rules.yml, or forgot `python -m dashboards.build`."""
    assert (PROMETHEUS / "rules.yml").read_text() == rendered()


def test_a_site_sets_what_differs_in_the_mixin() -> None:
    """If this fails, a key of _config does nothing, and a site edits what is rendered."""
    config = """{ selector: 'cluster="a"', job: 'ras', runbookUrl: 'https://wiki.test/%s',
      raceWindow: '7m', newSeconds: 7, blindSeconds: 7, blindFor: '7m', downFor: '7m',
      losingFor: '7m', harmlessLosses: 'none', clockUncertainSeconds: '7', restartsPerHour: 7,
      losingWindow: '7m', rareWindow: '7m', clockFor: '7m', refusedFor: '7m', recorderFor: '7m',
      hostFor: '7m' }"""
    made = yaml.safe_load(rendered(config))["groups"]
    shipped = {str(rule): rule for group in groups() for rule in group["rules"]}
    for group in made:
        for rule in group["rules"]:
            assert str(rule) not in shipped
            assert set(re.findall(r"(?:ghesrace_\w+|up)(?=[\[ )>=<]|$)", rule["expr"])) == set()
            assert rule["expr"].count('cluster="a"') >= 1
            for link in [rule["annotations"]["runbook_url"]] if "alert" in rule else []:
                assert link.startswith("https://wiki.test/")
    by_name = {rule.get("alert", rule.get("record")): rule for g in made for rule in g["rules"]}
    assert by_name["GhesraceDown"]["expr"] == 'up{cluster="a",job="ras"} == 0'
    assert 'cause!~"none"' in by_name["GhesraceLosingEvents"]["expr"]
    assert {rule["for"] for rule in by_name.values() if "for" in rule} == {"7m"}
    rare = ("LosingEvents", "ClockUncertain", "RecorderFailing", "Restarting")
    assert all("[7m]" in by_name[f"Ghesrace{name}"]["expr"] for name in rare)
    assert "[7m]" in by_name["GhesraceRaceObserved"]["expr"]
    assert "> 7" in by_name["GhesraceBlind"]["expr"]
    assert "> 7" in by_name["GhesraceClockUncertain"]["expr"]
    assert "> 7" in by_name["GhesraceRestarting"]["expr"]


def links(models: dict[str, dict[str, Any]]) -> list[str]:
    panels = [panel for model in models.values() for panel in model["panels"]]
    return [link["url"] for p in panels for link in p["fieldConfig"]["defaults"]["links"]]


@pytest.mark.slow
def test_panels_link_to_the_runbooks_that_alerts_link_to() -> None:
    """If this fails, a site's alerts lead to its wiki, and its panels to a port that speaks TLS or
    is not there."""
    shipped = build()
    assert linked() == {f"ghesrace-{name}": model for name, model in shipped.items()}
    urls = links(shipped)
    assert urls
    names = [url.rpartition("/")[2] for url in urls]
    assert links(linked("{ runbookUrl: 'https://wiki.test/%s' }")) == [
        f"https://wiki.test/{name}" for name in names
    ]
    host = "https://${__field.labels.instance}/runbooks/"
    assert links(linked(f"{{ panelRunbookUrl: '{host}%s' }}")) == [host + name for name in names]


def test_every_alert_names_its_host() -> None:
    """If this fails, somebody is woken up by an alert of no host."""
    for alert in rules("alert"):
        assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
        assert "absent(" not in alert["expr"]
        for grouped in re.findall(r"sum by \(([^)]*)\)", alert["expr"]):
            assert "instance" in grouped


@pytest.mark.parametrize("panel", PANELS)
def test_panel_lint(panel: dict[str, Any]) -> None:
    """If this fails, a panel breaks dashboard-linter's rules: misleads, or shows another host."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        expr = target["expr"]
        assert "SEL" not in expr
        selectors = re.findall(r"\{[^}]*\}", expr)
        assert len(selectors) == len(re.findall(r"ghesrace_\w+", expr))
        for selector in selectors:
            assert 'job=~"$job"' in selector
            assert 'instance=~"$instance"' in selector
        for counter in re.finditer(r"(\w*)\(ghesrace_\w+_total", expr):
            assert counter[1] in ("rate", "increase"), expr
        if panel["type"] == "timeseries" and "[" in expr:
            assert "[$__rate_interval]" in expr
    for link in panel["fieldConfig"]["defaults"]["links"]:
        assert (RUNBOOKS / f"{link['url'].rpartition('/')[2]}.md").exists()


def unknown(given: Any, taken: Any, where: str) -> list[str]:
    """Where in *given* something is that *taken* has not, or has otherwise."""
    if isinstance(given, dict) and isinstance(taken, dict):
        inner = [unknown(given[key], taken.get(key), f"{where}.{key}") for key in given]
    elif isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        pairs = enumerate(zip(given, taken, strict=True))
        inner = [unknown(mine, theirs, f"{where}[{n}]") for n, (mine, theirs) in pairs]
    else:
        return [] if given == taken else [where]
    return [place for places in inner for place in places]


@pytest.mark.parametrize("name", build())
def test_grafanas_own_types_take_every_key(name: str) -> None:
    """Grafana leaves out in silence what its schema has not: a unit, a link, how a value is shown.

    grafana-foundation-sdk is made from that schema: what it reads and writes again, it knows.
    """
    register_default_plugins()
    model = build()[name]
    written = json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(model)))
    assert unknown(model, written, name) == []
    model["panels"][0]["fieldConfig"]["defaults"]["unitt"] = "s"
    assert unknown(model, written, "x") == ["x.panels[0].fieldConfig.defaults.unitt"]


def test_a_fleet_of_hundreds_is_readable() -> None:
    """If this fails, 200 hosts are 200 lines, in which nobody sees the one that is wrong."""
    for panel in build()["fleet.json"]["panels"]:
        for target in panel["targets"]:
            expr = target["expr"]
            by = re.match(r"(?:sum|count) by \(([^)]*)\)", expr)
            summed = by is not None and "instance" not in by[1]
            filtered = re.search(r" (?:> 0|== 0|> 60)\)?$", expr) is not None
            assert summed or filtered or expr.startswith("topk(10, "), panel["title"]
            if filtered and not expr.startswith("topk("):
                assert panel["type"] in ("table", "stat"), panel["title"]
        for link in panel["fieldConfig"]["defaults"]["links"]:
            assert "${__field.labels.instance}" in link["url"], "with All there is no $instance"


def test_dashboards_are_templated_and_link_to_each_other() -> None:
    """If this fails, a dashboard is tied to one Prometheus or one host."""
    models = build()
    for model in models.values():
        names = [v["name"] for v in model["templating"]["list"]]
        assert names == ["datasource", "job", "instance"]
        assert not model["editable"]
        ids = [p["id"] for p in model["panels"]]
        assert len(set(ids)) == len(ids)
    assert "ghesrace-host" in models["fleet.json"]["links"][0]["url"]
    assert "ghesrace-fleet" in models["host.json"]["links"][0]["url"]


def test_every_alert_says_what_it_is_and_has_a_runbook() -> None:
    """If this fails, somebody is woken up and not told what to do."""
    named = set()
    for alert in rules("alert"):
        assert re.fullmatch(r"Ghesrace[A-Z]\w+", alert["alert"])
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        page = alert["annotations"]["runbook_url"].rpartition("/")[2].removesuffix(".md")
        named.add(page)
        body = (RUNBOOKS / f"{page}.md").read_text()
        assert alert["alert"] in body
        for part in ("## What it means", "## What to do"):
            assert part in body, page
    pages = {p.stem for p in RUNBOOKS.glob("*.md")}
    assert pages == named


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_tests_the_rules() -> None:
    """If this fails, an alert fires for nothing, or not for what it is there for."""
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            ["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    cases = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    tested = {t["alertname"] for case in cases for t in case.get("alert_rule_test", ())}
    assert tested == {alert["alert"] for alert in rules("alert")}
