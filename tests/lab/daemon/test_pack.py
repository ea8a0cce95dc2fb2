# SPDX-License-Identifier: Apache-2.0
"""A program pack under the shipped unit, where Python finds no bcc (docs/packs.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.inside.systemd import Box
from tests.build.installed import CONFIG, drop_in, leftovers, metric, race, ready, until

PACK = Path("/etc/ghesrace/fleet.pack")
HIDE = "InaccessiblePaths=/usr/lib/python3/dist-packages/bcc"
COMPILED = Path("/run/ghesrace")  # what bcc made since boot


@pytest.fixture(scope="module")
def built(box: Box) -> bytes:
    """A pack for this kernel, by the installed ghesrace."""
    box.do("ghesrace", "bpf", "build", "-o", str(PACK), timeout=900)
    return PACK.read_bytes()


@pytest.fixture
def packed(box: Box, built: bytes, configured: Path) -> Iterator[Path]:
    """The unit without bcc, and a configuration that names the pack."""
    file = drop_in(box, "no-bcc.conf", f"[Service]\n{HIDE}\n")
    try:
        PACK.write_bytes(built)
        PACK.chmod(0o644)
        digest = hashlib.sha256(PACK.read_bytes()).hexdigest()
        source = f'backend = "bpf"\npack = "{PACK}"\npack_sha256 = "{digest}"\n'
        configured.write_text(f"{CONFIG}[source]\n{source}")
        yield configured
    finally:
        box.run("systemctl", "stop", "ghesrace")
        PACK.unlink(missing_ok=True)
        file.unlink()
        box.do("systemctl", "daemon-reload")


def compiled() -> set[Path]:
    return {path for path in COMPILED.rglob("*") if path.is_file()}


def test_the_daemon_watches_by_a_pack_without_bcc(box: Box, packed: Path) -> None:
    """If this fails, a fleet whose hosts have a pack and no bcc is watched by ftrace, or not at
    all, or the unit's limits don't let the pack be read or loaded."""
    import_bcc = ["/usr/bin/python3", "-c", "from bcc import BPF"]
    hidden = box.run("systemd-run", "--wait", "--pipe", "-q", "-p", HIDE, *import_bcc)
    assert "Error" in hidden.stderr, "bcc is there all the same"
    box.do(*import_bcc)
    config = ["--config", str(packed), "--format", "json"]
    said = json.loads(box.run("ghesrace", "doctor", *config, timeout=400).stdout)
    states = {check["name"]: check for check in said["checks"]}
    assert states["program pack"]["state"] == "ok", states["program pack"]
    for path in compiled():
        path.unlink()
    box.run("systemctl", "reset-failed", "ghesrace")
    box.do("systemctl", "restart", "ghesrace", timeout=400)
    until(ready, 60, "ready")
    assert metric('ghesrace_source_info{backend="bpf"') == 1
    assert compiled() == set()
    race()
    found = 'ghesrace_findings_total{certainty="observed",pattern="stale"'
    until(lambda: metric(found) > 0, 60, "the race is found")
    box.do("systemctl", "stop", "ghesrace")
    assert leftovers() == []


def test_a_pack_that_was_exchanged_ends_the_start(box: Box, packed: Path) -> None:
    """If this fails, whoever exchanges the pack has root's daemon load what they made."""
    PACK.write_bytes(PACK.read_bytes() + b"\n")
    box.run("systemctl", "reset-failed", "ghesrace")
    assert box.run("systemctl", "start", "ghesrace", timeout=180).returncode
    status = box.do("systemctl", "show", "-P", "ExecMainStatus", "ghesrace").strip()
    assert status == "2"
    assert "its SHA-256 is" in box.do("journalctl", "-q", "-u", "ghesrace", "-o", "cat")
