# SPDX-License-Identifier: Apache-2.0
"""What the daemon tells of a race: alert, exemplar, page, captures."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from dashboards.build import build
from lab.inside.client import Client
from lab.inside.systemd import Box
from tests.build.installed import (
    CAPTURES,
    CONFIG,
    DAEMON,
    get,
    metric,
    race,
    until,
)
from tests.build.paths import REPO

PROMETHEUS = "http://127.0.0.1:9090"


@pytest.fixture
def prometheus(share: Path, tmp_path: Path) -> Iterator[None]:
    rules = (REPO / "dashboards/prometheus/rules.yml").read_text()
    # The shipped rules, but they forget in half a minute, so that the test sees it resolve.
    rules = rules.replace("[15m]", "[30s]").replace("< 900", "< 30")
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 2s, evaluation_interval: 2s}\n"
        f"rule_files: [{tmp_path}/rules.yml]\n"
        "scrape_configs:\n- job_name: ghesrace\n"
        "  static_configs: [{targets: ['127.0.0.1:10049']}]\n"
    )
    with (share / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
             f"--storage.tsdb.path={tmp_path}/data", "--enable-feature=exemplar-storage",
             "--web.listen-address=127.0.0.1:9090"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: "Ready" in get(f"{PROMETHEUS}/-/ready"), 90, "Prometheus")
        yield
    finally:
        process.terminate()
        process.wait()


def ask(path: str, **parameters: str) -> Any:
    url = f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    return json.loads(get(url))["data"]


def firing() -> set[str]:
    return {a["labels"]["alertname"] for a in ask("alerts")["alerts"] if a["state"] == "firing"}


def exemplar() -> str:
    now = time.time()
    found = ask(
        "query_exemplars",
        query='ghesrace_findings_total{certainty="observed"}',
        start=str(now - 600),
        end=str(now + 10),
    )
    return str(found[0]["exemplars"][-1]["labels"]["capture_id"])


def panels() -> dict[str, bool]:
    """Panel -> whether its queries gave data."""
    answers = {}
    for name, model in build().items():
        for panel in model["panels"]:
            data = []
            for target in panel["targets"]:
                expr = target["expr"].replace("$__rate_interval", "1m")
                expr = expr.replace("$job", "ghesrace").replace("$instance", "127.0.0.1:10049")
                data += ask("query", query=expr)["result"]
            answers[f"{name}: {panel['title']}"] = bool(data)
    return answers


def test_race_fires_the_alert_whose_exemplar_names_the_evidence(
    daemon: Box, prometheus: None, firmware: Client, share: Path
) -> None:
    """If this fails, an operator who installed the package is not told of a race, or not where
    its evidence is, or the evidence proves nothing."""
    until(lambda: ask("query", query="ghesrace_watching")["result"], 30, "first scrape")
    assert "GhesraceRaceObserved" not in firing()
    firmware.report("nmi", 3)
    race()
    until(lambda: "GhesraceRaceObserved" in firing(), 60, "alert fires")
    capture = until(exemplar, 60, "exemplar")
    file = share / f"{capture}.arrows"
    file.write_bytes((CAPTURES / f"{capture}.arrows").read_bytes())
    check = [sys.executable, "-m", "ghesrace", "check", "--format", "json", str(file)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert any(f["severity"] == "observed" and f["slot"] == "ghes2015:irq" for f in found)
    text = get(f"{DAEMON}/metrics")
    (share / "metrics.txt").write_text(text)
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                          text=True)  # fmt: skip
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
    assert metric('ghesrace_events_total{context="nmi",kind="notify"}', text) >= 1
    with_data = panels()
    (share / "panels.json").write_text(json.dumps(with_data, indent=1) + "\n")
    empty = {name for name, data in with_data.items() if not data}
    # These show only what is wrong, or what was asked for.
    may_be_empty = (
        "Blind hosts",
        "Daemons that don't watch",
        "Recorders that fail",
        "Missing probe points",
        "Not supported",
        "Events by CPU",
        "What keeps it",
        "Lost",
        "Losses",
        "Missed",
    )
    assert [name for name in empty if not any(word in name for word in may_be_empty)] == []
    until(lambda: "GhesraceRaceObserved" not in firing(), 120, "alert resolves")


def test_the_page_shows_the_race_and_known_clients_get_its_evidence(
    configured: Path, daemon: Box, share: Path
) -> None:
    """If this fails, an operator sees no race where there is one, or can't fetch what shows it, or
    everybody can."""
    race()
    until(lambda: metric("ghesrace_recorder_captures_total") >= 1, 60, "a capture")
    page = until(lambda: "race-observed" in (text := get(f"{DAEMON}/")) and text, 30, "the page")
    (share / "page.html").write_text(page)
    assert 'class="dot access"' in page, "no picture"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{DAEMON}/captures")
    with refused.value as error:
        assert error.code == 403
    web = Path("/etc/ghesrace/web.yml")
    web.write_text(
        f"basic_auth_users: {{eve: '{bcrypt.hashpw(b'right', bcrypt.gensalt(4)).decode()}'}}"
    )
    configured.write_text(f'{CONFIG}[web]\nconfig_file = "{web}"\n')
    daemon.do("systemctl", "reload", "ghesrace")

    def known(path: str) -> bytes:
        token = base64.b64encode(b"eve:right").decode()
        asked = urllib.request.Request(
            f"{DAEMON}{path}", headers={"Authorization": f"Basic {token}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return bytes(answer.read())

    def denied() -> bool:
        try:
            return not get(f"{DAEMON}/captures")
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 401

    until(denied, 30, "the password is asked for")
    name = known("/captures").decode().split()[0]
    file = share / f"fetched-{name}"
    file.write_bytes(known(f"/captures/{name}"))
    assert file.read_bytes() == (CAPTURES / name).read_bytes()
    (share / "known.html").write_bytes(known("/"))
    check = [sys.executable, "-m", "ghesrace", "check", str(file)]
    assert subprocess.run(check, capture_output=True).returncode == 1
