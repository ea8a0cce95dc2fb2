# SPDX-License-Identifier: Apache-2.0
"""Last, as its name says: the package goes."""

from __future__ import annotations

from pathlib import Path

from lab.inside.systemd import Box
from tests.build.installed import (
    leftovers,
)


def test_removal_leaves_nothing(box: Box) -> None:
    """If this fails, removing the package leaves probes, a unit or files behind."""
    box.do("systemctl", "start", "ghesrace", timeout=180)
    box.do("dpkg", "--purge", "ghesrace", timeout=120)
    assert leftovers() == []
    for path in ("/usr/lib/ghesrace", "/usr/bin/ghesrace", "/var/lib/ghesrace", "/etc/ghesrace"):
        assert not Path(path).exists(), path
    shown = box.run("systemctl", "show", "-P", "LoadState", "ghesrace").stdout.strip()
    assert shown in ("not-found", "masked")
