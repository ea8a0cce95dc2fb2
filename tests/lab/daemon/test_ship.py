# SPDX-License-Identifier: Apache-2.0
"""The units that ship captures, as docs/ship.md has them used, with a folder as the store."""

from __future__ import annotations

import grp
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.inside.systemd import Box
from tests.build.installed import CAPTURES, metric, race, until

STORE = Path("/var/evidence")
SHIP_TOML = Path("/etc/ghesrace/ship.toml")
CREDENTIALS = Path("/etc/ghesrace/ship.credentials")
SERVICE = "ghesrace-ship.service"
STARTERS = ("ghesrace-ship.path", "ghesrace-ship.timer")
DROP_IN = f"[Service]\nReadWritePaths={STORE}\nUMask=0027\n"


def state(box: Box, name: str) -> str:
    return box.do("systemctl", "show", "-P", name, SERVICE).strip()


def said(box: Box) -> str:
    return box.do("journalctl", "-q", "-u", SERVICE, "-o", "cat")


@pytest.fixture
def store(box: Box) -> Iterator[Path]:
    """A folder as the store, and the units configured for it; nothing of them runs yet."""
    before = CREDENTIALS.read_bytes()
    place = Path("/etc/systemd/system") / f"{SERVICE}.d/store.conf"
    box.do("install", "-d", "-m", "2770", "-g", "ghesrace", str(STORE))
    place.parent.mkdir(exist_ok=True)
    place.write_text(DROP_IN)
    SHIP_TOML.write_text(f'to = "file://{STORE}"\nsettle = 1\n')
    box.do("systemctl", "daemon-reload")
    try:
        yield STORE
    finally:
        box.run("systemctl", "stop", *STARTERS, SERVICE)
        box.run("systemctl", "reset-failed", SERVICE)
        SHIP_TOML.unlink()
        CREDENTIALS.write_bytes(before)
        place.unlink()
        box.do("systemctl", "daemon-reload")


def test_installation_ships_nothing(box: Box) -> None:
    """If this fails, `apt install` sends evidence away, or a path unit fails on each host."""
    for unit in (*STARTERS, SERVICE):
        assert box.run("systemctl", "is-active", unit).stdout.strip() == "inactive", unit
        assert box.run("systemctl", "is-enabled", unit).stdout.strip() in ("disabled", "static")
    stat = CREDENTIALS.stat()
    assert (stat.st_mode & 0o777, stat.st_uid, stat.st_size) == (0o600, 0, 0)


def test_the_service_reads_the_credential_and_tells_nothing_of_it(box: Box, store: Path) -> None:
    """If this fails, keys never reach the store's client, or a typo in them ends in the journal."""
    CREDENTIALS.write_text("password = swordfish")  # No TOML: it lacks quotes.
    box.do("systemctl", "start", SERVICE)
    until(lambda: state(box, "ActiveState") == "failed", 120, "it refuses the credential")
    assert state(box, "ExecMainStatus") == "2"
    assert "the credential ghesrace-ship is no TOML" in said(box)
    assert "swordfish" not in said(box)


def test_a_new_capture_arrives_in_the_store_once(daemon: Box, store: Path) -> None:
    """If this fails, evidence stays on its host where everything was set up as the page says."""
    CREDENTIALS.write_text("auto_mkdir = true\n")  # What fsspec's client of folders takes.
    daemon.do("systemctl", "start", *STARTERS)
    before = set(CAPTURES.glob("*.arrows"))
    race()
    until(lambda: metric("ghesrace_recorder_captures_total") >= 1, 60, "a capture")
    capture = until(lambda: (set(CAPTURES.glob("*.arrows")) - before).pop(), 60, "its file")
    # The recorder writes on for two seconds; what was sent before is sent anew when it is whole.
    daemon.do("systemctl", "stop", "ghesrace")
    content = capture.read_bytes()

    def whole() -> Path | None:
        sent = store.glob(f"*/{capture.stem}-*.arrows")
        return next((path for path in sent if path.read_bytes() == content), None)

    arrived = until(whole, 180, "it arrives")
    manifest = json.loads(Path(f"{arrived}.host.json").read_text())
    assert hashlib.sha256(content).hexdigest() in json.dumps(manifest)
    stat = arrived.stat()
    assert (stat.st_mode & 0o777, grp.getgrgid(stat.st_gid).gr_name) == (0o640, "ghesrace")
    assert stat.st_uid != 0  # It runs as nobody that the host knows.

    def over() -> bool:
        return state(daemon, "ActiveState") == "inactive"

    until(over, 120, "the service ends")
    assert state(daemon, "Result") == "success"
    sent = {path.stem.rpartition("-")[0] for path in store.glob("*/*.arrows")}
    assert sent >= {path.stem for path in CAPTURES.glob("*.arrows")}
    there = {p.name for p in store.glob("*/*")}
    assert not [name for name in there if name.endswith(".part")]
    # What the timer does once an hour: it finds nothing that is new.
    daemon.do("systemctl", "start", SERVICE)
    until(over, 120, "the service ends")
    assert {p.name for p in store.glob("*/*")} == there
