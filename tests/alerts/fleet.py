# SPDX-License-Identifier: Apache-2.0
"""Starts and stops what the fleet is made of. Everything listens on loopback only."""

from __future__ import annotations

import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt

from dashboards.build import rules
from tests.build.paths import REPO

USER, WORD = "prometheus", "the word"
# A second stands for a minute or more. %(url)s: a host of the fleet, which has the runbooks.
CONFIG = """{ runbookUrl: '%(url)s/runbooks/%%s', raceWindow: '15s', newSeconds: 15,
  blindSeconds: 6, blindFor: '6s', downFor: '3s', losingWindow: '15s', losingFor: '2s',
  rareWindow: '40s', clockFor: '2s', refusedFor: '2s', recorderFor: '2s', hostFor: '3s' }"""


def free_port() -> int:
    """A port that nothing has yet."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until *true* gives something; fail with *what* after *seconds*."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := true():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


class Host:
    """One daemon, which `tell` makes ill."""

    def __init__(self, folder: Path, name: str, module: list[str], config: str, port: int = 0):
        self.name, self.port = name, port
        self.folder = folder / name
        (self.folder / "captures").mkdir(parents=True)
        self.file = self.folder / "ghesrace.toml"
        listen = f'"127.0.0.1:{port}"' if port else ""
        self.good = (
            f'[recorder]\ndirectory = "{self.folder}/captures"\nafter_seconds = 0.1\n{config}\n'
            f'[web]\nlisten = [{listen}]\nrunbooks = "{REPO}/docs/runbooks"\n'
        )
        self.file.write_text(self.good)
        self._command = [sys.executable, *module, str(self.file)]
        self.start()

    def start(self, **environment: str) -> None:
        """Start it, or start it again."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=REPO,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def tell(self, fault: str) -> None:
        """Let its source play *fault*."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{fault}\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """Stop it as systemd does."""
        self._end(self.process.terminate)

    def kill(self) -> None:
        """Let it vanish."""
        self._end(self.process.kill)

    def _end(self, how: Callable[[], None]) -> None:
        how()
        with self.process:  # It closes the pipe, and waits.
            pass


def with_tls(folder: Path, name: str) -> Path:
    """A web configuration with a certificate of its own and a password; beside it is cert.pem."""
    place = folder / name
    place.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
         "-keyout", place / "key.pem", "-out", place / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    word = bcrypt.hashpw(WORD.encode(), bcrypt.gensalt(4)).decode()
    (place / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{{USER}: '{word}'}}\n"
    )
    for file in place.iterdir():
        file.chmod(0o600)
    return place


class Receiver:
    """Takes alerts as an Alertmanager does. `sent` has each that began firing: (name, instance,
    when it began), with its link."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, str, str], str] = {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for alert in json.loads(body):
                    labels, annotations = alert["labels"], alert["annotations"]
                    key = labels["alertname"], labels["instance"], alert["startsAt"]
                    receiver.sent[key] = annotations["runbook_url"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """Debian's, with the mixin's rules, and targets from files."""

    def __init__(self, folder: Path, runbooks: str, targets: list[dict[str, Any]], ca: Path,
                 node: int, receiver: int) -> None:  # fmt: skip
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "rules.yml").write_text(rules(CONFIG % {"url": runbooks}))
        (folder / "targets.json").write_text(json.dumps(targets))
        (folder / "word").write_text(WORD)
        config = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [f"{folder}/rules.yml"],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{receiver}"]}]}]
            },
            "scrape_configs": [
                {
                    "job_name": "ghesrace",
                    "basic_auth": {"username": USER, "password_file": f"{folder}/word"},
                    "tls_config": {"ca_file": str(ca)},
                    "file_sd_configs": [{"files": [f"{folder}/targets.json"]}],
                },
                {"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{node}"]}]},
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML.
        for what in ("config", "rules"):
            file = folder / ("prometheus.yml" if what == "config" else "rules.yml")
            subprocess.run(["promtool", "check", what, file], check=True, capture_output=True)
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={folder}/prometheus.yml",
                 f"--storage.tsdb.path={folder}/data", "--rules.alert.resend-delay=1s",
                 f"--web.listen-address={self.url.removeprefix('http://')}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: self.ask("query", query="up") or True, 60, "Prometheus")

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API says."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def firing(self) -> set[tuple[str, str]]:
        """(alert, instance) of all that fires now."""
        alerts = self.ask("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"]["instance"])
            for alert in alerts
            if alert["state"] == "firing"
        }

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


def opens(link: str, ca: Path) -> bool:
    """Whether *link* gives a page without a password."""
    context = ssl.create_default_context(cafile=str(ca))
    with urllib.request.urlopen(link, timeout=10, context=context) as answer:
        return bool(answer.read().decode().lstrip().startswith(("#", "<!--")))
