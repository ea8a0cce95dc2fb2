# SPDX-License-Identifier: Apache-2.0
"""docs/deploy.md under the unit: its files as they stand there, in the places that it names."""

from __future__ import annotations

import base64
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.inside.systemd import Box
from tests.build.installed import DAEMON, get, until
from tests.build.paths import REPO

FILE = re.compile(r"^```\w+\n(# (/\S+)\n.*?)^```$", re.M | re.S)
TEXTFILE = Path("/var/lib/prometheus/node-exporter/ghesrace.prom")
TLS = DAEMON.replace("http:", "https:")


@pytest.fixture
def written(box: Box, configured: Path) -> Iterator[Callable[[str, str], None]]:
    """What writes the file of the page that ends with a name and has a word in it.

    The guest's disk is smaller than what captures may take by default, so that is less."""
    found = [(Path(name), text) for text, name in FILE.findall(_page())]
    made = []

    def write(ending: str, word: str) -> None:
        [(path, text)] = [one for one in found if one[0].name == ending and word in one[1]]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text + ("\n[recorder]\nbudget_mib = 64\n" if path == configured else ""))
        made.append(path)

    try:
        yield write
    finally:
        box.run("systemctl", "stop", "ghesrace")
        for path in set(made) - {configured}:
            path.unlink()
        box.do("systemctl", "daemon-reload")


def _page() -> str:
    return (REPO / "docs/deploy.md").read_text()


def _asked(path: str, word: str = "") -> str:
    """What the daemon says at *path* to Prometheus, whose password is *word*, by TLS."""
    context = ssl.create_default_context(cafile="/etc/ghesrace/host.crt")
    token = base64.b64encode(f"prometheus:{word}".encode()).decode()
    asked = urllib.request.Request(f"{TLS}{path}", headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(asked, timeout=60, context=context) as answer:
        return bytes(answer.read()).decode()


def test_tls_a_password_and_the_port_work_as_the_page_says(
    box: Box, written: Callable[[str, str], None]
) -> None:
    """If this fails, who follows the page has a daemon that does not start, can't read its key
    under the unit, or lets everybody in."""
    written("web.yml", "cert_file")
    written("ghesrace.toml", "10049")
    written("port.conf", "IPAddressAllow")
    box.do("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab",
           "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "/etc/ghesrace/host.key",
           "-out", "/etc/ghesrace/host.crt")  # fmt: skip
    box.do("chmod", "600", "/etc/ghesrace/host.key", "/etc/ghesrace/host.crt")
    assert box.do("ghesrace", "daemon", "--check-config").endswith(": good\n")
    box.do("systemctl", "daemon-reload")
    box.do("systemctl", "restart", "ghesrace", timeout=400)
    until(lambda: _asked("/-/ready") == "watching\n", 120, "ready, without a password")
    assert "\nghesrace_watching 1.0\n" in _asked("/metrics", "example")
    for path in ("/metrics", "/", "/runbooks/blind"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            _asked(path, "wrong")
        with refused.value as error:
            assert error.code == 401, path
    allowed = box.do("systemctl", "show", "-P", "IPAddressAllow", "ghesrace")
    assert "192.0.2.17/32" in allowed


def test_a_host_without_a_port_writes_for_node_exporter(
    box: Box, written: Callable[[str, str], None]
) -> None:
    """If this fails, who follows the page has a host that nobody hears of."""
    written("ghesrace.toml", "[textfile]")
    written("textfile.conf", "ReadWritePaths")
    box.do("systemctl", "daemon-reload")
    box.do("systemctl", "restart", "ghesrace", timeout=400)
    try:
        until(lambda: "\nghesrace_watching 1.0\n" in TEXTFILE.read_text(), 120, "it is written")
        with pytest.raises(urllib.error.URLError):
            get(f"{DAEMON}/-/healthy")
    finally:
        TEXTFILE.unlink(missing_ok=True)
