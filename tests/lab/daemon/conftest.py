# SPDX-License-Identifier: Apache-2.0
"""The package from `make deb`, under a real systemd; the guest has no network.

`box` has it installed, `daemon` running, and `configured` is its configuration.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.inside.systemd import Box
from lab.module import device
from lab.module.build import build as build_module
from tests.build.installed import CONFIG, INSTALLED, drop_in, leftovers, ready, until
from tests.build.paths import REPO

# Half of an emulated CPU is a hundredth of a real one.
DROP_IN = "[Service]\nCPUQuota=\n"


@pytest.fixture(scope="session")
def deb() -> Path:
    release = platform.freedesktop_os_release()["VERSION_ID"]
    found = sorted((REPO / "build").glob(f"ghesrace_*+deb{release}_amd64.deb"))
    assert found, "no package: run `make deb` first"
    return found[-1]


@pytest.fixture(scope="session")
def box(share: Path, deb: Path) -> Iterator[Box]:
    """systemd with the package installed; `found` is what that made of the unit."""
    device.load(build_module())
    with Box(share / "systemd.log") as box:
        drop_in(box, "speed.conf", DROP_IN)
        begin = time.monotonic()
        box.do("dpkg", "-i", str(deb), timeout=600)
        print(f"installed in {time.monotonic() - begin:.0f} s")
        INSTALLED.extend(
            box.run("systemctl", asked, "ghesrace").stdout.strip()
            for asked in ("is-active", "is-enabled")
        )
        Path("/etc/ghesrace/ghesrace.toml").write_text(CONFIG)
        follow = ["journalctl", "-f", "-n", "all", "-u", "ghesrace", "-o", "short-precise"]
        journal = box.spawn(follow, share / "journal")
        try:
            yield box
        finally:
            box.run("systemctl", "stop", "ghesrace")
            journal.terminate()
            journal.wait()
    device.unload()


@pytest.fixture
def daemon(box: Box) -> Iterator[Box]:
    box.run("systemctl", "reset-failed", "ghesrace")
    box.do("systemctl", "start", "ghesrace", timeout=180)
    until(ready, 60, "ready")
    yield box
    box.do("systemctl", "stop", "ghesrace")
    assert leftovers() == []


@pytest.fixture
def configured(box: Box) -> Iterator[Path]:
    """The configuration; it is as it was when the test ends."""
    file = Path("/etc/ghesrace/ghesrace.toml")
    try:
        yield file
    finally:
        box.run("systemctl", "stop", "ghesrace")
        file.write_text(CONFIG)
