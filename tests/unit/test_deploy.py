# SPDX-License-Identifier: Apache-2.0
"""docs/deploy.md: each file that it shows is checked as its own tool checks it."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import _jsonnet  # type: ignore[import-not-found,import-untyped,unused-ignore]
import promql_parser
import pytest
import yaml
from prometheus_client import generate_latest

from dashboards.build import build
from ghesrace import cli
from ghesrace.service.config import load
from ghesrace.service.metrics import access
from ghesrace.service.watch import Watch
from tests.build.paths import REPO
from tests.build.trace import plan
from tests.unit.service.metrics.watched import published
from tests.unit.test_dashboards import exported, rules, selected

PAGE = (REPO / "docs/deploy.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
FILES = [
    (match[1], text)
    for _, text in BLOCKS
    if (match := re.match(r"(?:#|//) (/\S+)\n", text)) is not None
]
QUERIES = [text for kind, text in BLOCKS if kind == "promql"]
UNIT = (REPO / "systemd/ghesrace.service").read_text()


def files(ending: str) -> list[tuple[str, str]]:
    found = [(name, text) for name, text in FILES if name.endswith(ending)]
    assert found
    return found


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with what the page takes for granted: certificates, a password, the rules."""
    root = tmp_path_factory.mktemp("root")
    textfiles = "var/lib/prometheus/node-exporter"
    for folder in ("etc/ghesrace", "etc/prometheus/ghesrace", "usr/share/ghesrace", textfiles):
        (root / folder).mkdir(parents=True)
    names = ["-keyout", root / "etc/ghesrace/host.key", "-out", root / "etc/ghesrace/host.crt"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", *names],
        check=True,
        capture_output=True,
    )
    shutil.copy(root / "etc/ghesrace/host.crt", root / "etc/prometheus/hosts-ca.crt")
    (root / "etc/prometheus/ghesrace.password").write_text("example")
    shutil.copytree(REPO / "dashboards", root / "usr/share/ghesrace/dashboards")
    for name, text in FILES:
        write(root, name, text)
    return root


def write(root: Path, name: str, text: str) -> Path:
    """Put the file of the page below *root*, with its own paths there, too."""
    path = root / name[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(re.sub(r"(?<=[\s\"'])/(etc|usr|var)/", rf"{root}/\1/", text))
    return path


def test_every_file_that_is_shown_is_checked() -> None:
    """A new snippet that no test looks at."""
    known = ("web.yml", "ghesrace.toml", ".conf", "prometheus.yml", "hall-1.yml", ".jsonnet")
    assert len(FILES) + len(QUERIES) == len(BLOCKS)
    assert all(name.endswith(known) for name, _ in FILES)


@pytest.mark.slow
def test_configurations_are_good(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon would refuse what the page shows."""
    for name, text in files("ghesrace.toml"):
        path = write(etc, name, text)
        assert cli.main(["daemon", "--check-config", "--config", str(path)]) == 0
        assert capsys.readouterr().out.endswith(": good\n")
        assert load(path).web.listen == ((":10049",) if "10049" in text else ())


@pytest.mark.slow
def test_web_configuration_lets_in_who_knows_the_word(etc: Path) -> None:
    """The page's own example would lock its reader out, or let everybody in."""
    granted = access.load(etc / "etc/ghesrace/web.yml")
    assert granted.tls is not None
    for word, allowed in (("example", True), ("wrong", False)):
        header = b64encode(f"prometheus:{word}".encode()).decode()
        assert granted.allowed(f"Basic {header}") is allowed


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_takes_what_is_prometheus(etc: Path) -> None:
    """Prometheus would refuse to start."""
    tried = [
        ["check", "config", etc / "etc/prometheus/prometheus.yml"],
        ["check", "web-config", etc / "etc/ghesrace/web.yml"],
        # It waits until then whether more targets come: 30 s if nothing is said.
        [
            *("check", "service-discovery", "--timeout=1s"),
            *(etc / "etc/prometheus/prometheus.yml", "ghesrace"),
        ],
    ]
    for command in tried:
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_a_site_renders_its_own_rules_and_dashboards(etc: Path, tmp_path: Path) -> None:
    """Who follows the page has alerts and panels that lead nowhere, or none at all."""
    [(name, _)] = files(".jsonnet")
    made = json.loads(_jsonnet.evaluate_file(f"{etc}{name}"))
    assert set(made) == {"rules.yml", "ghesrace-fleet.json", "ghesrace-host.json"}
    shipped = json.dumps([made["rules.yml"], *build().values()])
    assert json.dumps(made).count("https://wiki.example.org/ghesrace/") == (
        shipped.count('"runbook_url"') + shipped.count('"Runbook"')
    )
    (tmp_path / "rules.yml").write_text(json.dumps(made["rules.yml"]))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_the_hosts_and_the_rules(etc: Path) -> None:
    """Names in one file that another one does not have."""
    found = yaml.safe_load((etc / "etc/prometheus/prometheus.yml").read_text())
    assert all(Path(name).exists() for name in found["rule_files"])
    (job,) = found["scrape_configs"]
    assert f'job="{job["job_name"]}"' in (REPO / "dashboards/prometheus/rules.yml").read_text()
    assert Path(job["tls_config"]["ca_file"]).exists()
    user = job["basic_auth"]["username"]
    assert user in yaml.safe_load((etc / "etc/ghesrace/web.yml").read_text())["basic_auth_users"]
    targets = Path(job["file_sd_configs"][0]["files"][0])
    for path in targets.parent.glob(targets.name):
        groups = yaml.safe_load(path.read_text())
        assert all(re.fullmatch(r"[\w.-]+:10049", t) for group in groups for t in group["targets"])


def test_drop_ins_are_of_directives_that_the_unit_has(etc: Path) -> None:
    """A drop-in with a misspelled directive changes nothing, and systemd only warns."""
    for name, text in files(".conf"):
        assert name.startswith("/etc/systemd/system/ghesrace.service.d/")
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        assert parser.sections() == ["Service"]
        assert all(f"\n{key}=" in UNIT for key in parser["Service"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_verifies_the_drop_ins(tmp_path: Path) -> None:
    """systemd ignores a value that it can't read: the port stays closed, or everything open."""
    unit = tmp_path / "ghesrace.service"
    unit.write_text(UNIT.replace("@bindir@/ghesrace", "/bin/true"))
    (tmp_path / "ghesrace.service.d").mkdir()
    for name, text in files(".conf"):
        (tmp_path / "ghesrace.service.d" / Path(name).name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "ghesrace" in line] == []


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_is_exported(query: str) -> None:
    """Nobody finds the bad host by a query that is always empty."""
    promql_parser.parse(query)
    names = selected(query)
    assert names
    assert names <= exported() | {"up"}


def test_every_alert_is_spoken_of() -> None:
    """An alert wakes somebody up who does not know whether to care."""
    told = set(re.findall(r"`(Ghesrace\w+)`", PAGE))
    assert told == {rule["alert"] for rule in rules("alert")}


def test_sizes_are_those_of_a_host_with_two_slots(tmp_path: Path) -> None:
    """Whoever sizes a Prometheus for 200 hosts reckons with a number that is no longer true."""
    shown = published(Watch(plan(), 3600), tmp_path)
    samples = [sample for family in shown.collect() for sample in family.samples]
    series = len(samples) + sum("slot" in sample.labels for sample in samples)
    said = re.search(r"\| series per host \| about (\d+);", PAGE)
    assert said
    assert abs(series - int(said[1])) < 20, series
    assert 15_000 < len(generate_latest(shown)) < 25_000
