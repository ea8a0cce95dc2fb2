# SPDX-License-Identifier: Apache-2.0
"""Each alert fires once, on the right host, with a link that opens, and on no quiet host.

Five hosts: quiet, plain HTTP; racing, plain HTTP; TLS and a password; one that can't be traced (the
daemon as it starts on the machine that runs the test, if that is one); one that listens nowhere and
writes a file for node_exporter. A real Prometheus has the mixin's rules, in which a second stands
for a minute. Needs Debian's prometheus and prometheus-node-exporter, root, and two minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.build import rules
from ghesrace.host.facts import read_facts
from tests.alerts.fleet import Host, Prometheus, Receiver, free_port, opens, until, with_tls
from tests.alerts.host import HIDES

PLAYED = ["-m", "tests.alerts.host"]
REAL = ["-m", "ghesrace", "daemon", "--config"]
NODE_EXPORTER = "prometheus-node-exporter"


class Fleet:
    """All of it, running."""

    def __init__(self, folder: Path) -> None:
        self.ca = with_tls(folder, "certificate") / "cert.pem"
        web = f'[web]\nconfig_file = "{self.ca.parent}/web.yml"\n'
        ports = [free_port() for _ in range(4)]
        textfiles = folder / "textfiles"
        textfiles.mkdir()
        to_file = f'[textfile]\ndirectory = "{textfiles}"\nseconds = 1'
        self.quiet = Host(folder, "quiet", PLAYED, "", ports[0])
        self.racing = Host(folder, "racing", PLAYED, "", ports[1])
        self.tls = Host(folder, "tls", PLAYED, "", ports[2])
        self.tls.good = self.tls.good.replace("[web]\n", web)
        self.tls.stop()
        self.tls.file.write_text(self.tls.good)
        self.tls.start()
        self.unsupported = Host(folder, "unsupported", REAL, "", ports[3])
        self.textfile = Host(folder, "textfile", PLAYED, to_file)
        self.hosts = [self.quiet, self.racing, self.tls, self.unsupported, self.textfile]
        node = free_port()
        with (folder / "node.log").open("wb") as log:
            self.node = subprocess.Popen(
                [NODE_EXPORTER, "--collector.disable-defaults", "--collector.textfile",
                 f"--collector.textfile.directory={textfiles}",
                 f"--web.listen-address=127.0.0.1:{node}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.name = {host: f"127.0.0.1:{host.port}" for host in self.hosts}
        self.name[self.textfile] = f"127.0.0.1:{node}"
        self.receiver = Receiver()
        plain = [self.name[h] for h in (self.quiet, self.racing, self.unsupported)]
        targets: list[dict[str, object]] = [
            {"targets": plain},
            {"targets": [self.name[self.tls]], "labels": {"__scheme__": "https"}},
        ]
        self.prometheus = Prometheus(
            folder, f"http://{self.name[self.quiet]}", targets, self.ca, node, self.receiver.port
        )

    def stop(self) -> None:
        self.prometheus.stop()
        self.node.terminate()
        self.node.wait(30)
        for host in self.hosts:
            if host.process.poll() is None:
                host.stop()
        self.receiver.close()

    def started(self, host: Host) -> float:
        """When *host* started, as Prometheus knows it."""
        query = f'ghesrace_start_timestamp_seconds{{instance="{self.name[host]}"}}'
        found = self.prometheus.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else 0.0

    def up(self) -> bool:
        """Whether each host's own series are there."""
        found = self.prometheus.ask("query", query="ghesrace_start_timestamp_seconds")["result"]
        return {one["metric"]["instance"] for one in found} == set(self.name.values())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    for program in ("prometheus", "promtool", NODE_EXPORTER, "openssl"):
        assert shutil.which(program), f"{program} is missing: make lab-venv"
    assert os.getuid() == 0, "the daemon takes root"
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        until(made.up, 60, "all hosts are scraped")
        yield made
    finally:
        made.stop()


def test_each_alert_fires_once_on_the_right_host(fleet: Fleet) -> None:
    """Somebody is woken up for the wrong host, twice, or with a link that leads nowhere; or nobody
    is."""
    always = set()
    if not any(name.startswith("ghes_") for name in read_facts().symbols):
        always = {("GhesraceUnsupported", fleet.name[fleet.unsupported])}
        until(lambda: fleet.prometheus.firing() == always, 60, "the host that can't be traced")
    # Long enough for every `for:`: a rule that fires on quiet hosts would do so now.
    time.sleep(8)
    assert fleet.prometheus.firing() == always

    def play(host: Host, *alerts: str, seconds: float = 30) -> None:
        """Wait until *alerts* fire for *host*, and nothing else does."""
        wanted = always | {(alert, fleet.name[host]) for alert in alerts}
        until(lambda: fleet.prometheus.firing() == wanted, seconds, f"{alerts} of {host.name}")

    def over(seconds: float = 90) -> None:
        until(lambda: fleet.prometheus.firing() == always, seconds, "it is over")

    fleet.racing.tell("race")
    play(fleet.racing, "GhesraceRaceObserved")
    over()
    fleet.tls.tell("luck")
    play(fleet.tls, "GhesraceRacePredicted")
    over()
    fleet.tls.tell("lose")
    play(fleet.tls, "GhesraceLosingEvents")
    over()
    fleet.racing.tell("late")
    play(fleet.racing, "GhesraceClockUncertain")
    over()
    fleet.racing.file.write_text("[web]\nlisten = 7\n")
    fleet.racing.process.send_signal(1)
    play(fleet.racing, "GhesraceConfigRefused")
    fleet.racing.file.write_text(fleet.racing.good)
    fleet.racing.process.send_signal(1)
    over()
    captures = fleet.textfile.folder / "captures"
    shutil.rmtree(captures)
    captures.touch()
    fleet.textfile.tell("race")
    play(fleet.textfile, "GhesraceRaceObserved", "GhesraceRecorderFailing")
    captures.unlink()
    captures.mkdir()
    over()
    fleet.textfile.tell("stall")
    play(fleet.textfile, "GhesraceBlind")
    fleet.textfile.kill()
    fleet.textfile.start()
    over()
    fleet.tls.kill()
    play(fleet.tls, "GhesraceDown")
    fleet.tls.start()
    over()
    fleet.tls.stop()
    fleet.tls.start(**{HIDES: "1"})
    play(fleet.tls, "GhesraceCoverageMissing")
    fleet.tls.stop()
    fleet.tls.start()
    over()
    for _ in range(4):
        before = fleet.started(fleet.racing)
        fleet.racing.stop()
        fleet.racing.start()
        until(lambda old=before: fleet.started(fleet.racing) > old, 20, "the new run is scraped")
    play(fleet.racing, "GhesraceRestarting")
    over()

    names = {host: name for name, host in ((h.name, fleet.name[h]) for h in fleet.hosts)}
    sent = sorted((alert, names[host]) for alert, host, _ in fleet.receiver.sent)
    expected = [
        ("GhesraceBlind", "textfile"),
        ("GhesraceClockUncertain", "racing"),
        ("GhesraceConfigRefused", "racing"),
        ("GhesraceCoverageMissing", "tls"),
        ("GhesraceDown", "tls"),
        ("GhesraceLosingEvents", "tls"),
        ("GhesraceRaceObserved", "racing"),
        ("GhesraceRaceObserved", "textfile"),
        ("GhesraceRacePredicted", "tls"),
        ("GhesraceRecorderFailing", "textfile"),
        ("GhesraceRestarting", "racing"),
    ]
    every = {
        rule["alert"]
        for group in yaml.safe_load(rules())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert {alert for alert, _ in expected} | {"GhesraceUnsupported"} == every
    assert sent == sorted(expected + [("GhesraceUnsupported", "unsupported")] * len(always))
    for link in set(fleet.receiver.sent.values()):
        assert opens(link, fleet.ca), link
