# SPDX-License-Identifier: Apache-2.0
"""Write the Grafana dashboards, and the rules that the mixin makes: python -m dashboards.build.

A unit test fails if the files are not what this module makes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .panels import FLEET, HOST, Panel

GRAFANA = Path(__file__).parent / "grafana"
PROMETHEUS = Path(__file__).parent / "prometheus"
SELECTOR = 'job=~"$job",instance=~"$instance"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
VERDICTS = {
    "clean": "green",
    "inconclusive": "blue",
    "race-predicted": "orange",
    "race-observed": "red",
}


RESTARTS = f"changes(ghesrace_start_timestamp_seconds{{{SELECTOR}}}[$__rate_interval]) > 0"


def _variable(name: str, label: str, query: str, multi: bool) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        **({"allValue": ".+"} if multi else {}),
        "current": {"text": "All", "value": "$__all"} if multi else {},
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    instant = panel.kind in ("stat", "bargauge", "table")
    targets = [
        {
            "datasource": DATASOURCE,
            "expr": expr.replace("SEL", SELECTOR),
            "legendFormat": legend,
            "refId": chr(ord("A") + i),
            "instant": instant,
            "range": not instant,
            "exemplar": "findings_total" in expr and not instant,
        }
        for i, (legend, expr) in enumerate(panel.queries.items())
    ]
    links = []
    if panel.runbook:
        # Of the series that was clicked on: with "All" chosen there is no one instance. A site's
        # own place takes the place of it in the mixin (panelRunbookUrl).
        url = "http://${__field.labels.instance}/runbooks/" + panel.runbook
        links.append({"title": "Runbook", "url": url, "targetBlank": True})
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in VERDICTS.items()
        if "{{verdict}}" in panel.queries
    ]
    options: dict[str, Any] = {}
    if panel.kind in ("stat", "bargauge"):
        options["reduceOptions"] = {"calcs": ["lastNotNull"]}
    if panel.kind == "stat":
        options["textMode"] = "value_and_name"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": {"h": 8, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "links": links}, "overrides": overrides},
        "options": options,
        "targets": targets,
    }


def dashboard(uid: str, title: str, text: str, panels: list[Panel], many: bool) -> dict[str, Any]:
    """Return the JSON model of one dashboard; its panels are laid out in rows 24 columns wide.

    With *many* several instances can be chosen together.

    >>> dashboard("ghesrace-host", "One", "One host.", [], many=False)["links"][0]["title"]
    'Fleet'
    """
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:
            x, y = 0, y + 8
        placed.append(_panel(panel, number, x, y))
        x += panel.width
    other = "ghesrace-host" if many else "ghesrace-fleet"
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["ghesrace"],
        "editable": False,
        "schemaVersion": 38,
        "version": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "graphTooltip": 1,
        "links": [
            {
                "title": "Fleet" if not many else "One host",
                "type": "link",
                "url": f"/d/{other}?${{datasource:queryparam}}&${{job:queryparam}}",
                "keepTime": True,
            }
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                },
                _variable("job", "Job", "label_values(ghesrace_build_info, job)", True),
                _variable(
                    "instance",
                    "Instance",
                    'label_values(ghesrace_build_info{job=~"$job"}, instance)',
                    many,
                ),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Restarts",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "blue",
                    "expr": RESTARTS,
                },
            ]
        },
        "panels": placed,
    }


def build() -> dict[str, dict[str, Any]]:
    """Return {file name: the JSON model of a dashboard}.

    >>> sorted(build())
    ['fleet.json', 'host.json']
    """
    return {
        "fleet.json": dashboard(
            "ghesrace-fleet",
            "ghesrace / fleet",
            "All hosts: who saw a race, who is blind, who loses events.",
            FLEET,
            True,
        ),
        "host.json": dashboard(
            "ghesrace-host", "ghesrace / host", "One host in depth.", HOST, False
        ),
    }


def text(model: dict[str, Any]) -> str:
    """Return *model* as the text that is written to the file."""
    return json.dumps(model, indent=1, sort_keys=True) + "\n"


_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Recording and alert rules for ghesrace: mixin.libsonnet with its defaults, written by
# `python -m dashboards.build`. Tested by rules_test.yml:
#   promtool test rules rules_test.yml
"""


def _mixin(config: str, wanted: str) -> dict[str, Any]:
    """What the Jsonnet expression *wanted* is, where m is the mixin with *config*."""
    # It is needed here alone; whoever uses what is rendered has it not.
    import _jsonnet  # type: ignore[import-not-found,import-untyped,unused-ignore]

    snippet = f"local m = (import 'mixin.libsonnet') + {{ _config+:: {config} }}; {wanted}"
    made = _jsonnet.evaluate_snippet("mixin", snippet, jpathdir=[str(PROMETHEUS)])
    found: dict[str, Any] = json.loads(made)
    return found


def linked(config: str = "{}") -> dict[str, dict[str, Any]]:
    """Return {file name: the JSON model of a dashboard} with the links that the mixin makes of what
    *config* (Jsonnet) sets.

    linked("{ runbookUrl: 'https://wiki.example/ghesrace/%s' }")
    """
    return _mixin(config, "m.grafanaDashboards")


def rules(config: str = "{}") -> str:
    """Return the mixin's rules as Prometheus reads them, with what *config* (Jsonnet) sets.

    rules("{ job: 'ras', runbookUrl: 'https://wiki.example/ghesrace/%s' }")
    """
    import yaml

    made = _mixin(config, "{ groups: m.prometheusRules.groups + m.prometheusAlerts.groups }")
    order = ("record", "alert", "expr", "for", "labels", "annotations")
    groups = [
        {
            "name": group["name"],
            "rules": [{key: rule[key] for key in order if key in rule} for rule in group["rules"]],
        }
        for group in made["groups"]
    ]

    class Dumper(yaml.SafeDumper):
        """It writes texts of many lines as they are read."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(str, text)
    return _HEAD + yaml.dump({"groups": groups}, Dumper=Dumper, sort_keys=False, width=100)


if __name__ == "__main__":
    (PROMETHEUS / "rules.yml").write_text(rules())
    for name, model in build().items():
        (GRAFANA / name).write_text(text(model))
