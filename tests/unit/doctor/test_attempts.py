# SPDX-License-Identifier: Apache-2.0
"""What the doctor really tries: on this very kernel."""

from __future__ import annotations

from pathlib import Path

from ghesrace.doctor import checks as doctor


def test_the_running_host_is_really_tried(tmp_path: Path):
    """The real attempts would raise what is no answer, whatever the host."""
    found = list(doctor.run(output=tmp_path))
    assert {c.name for c in found} >= {"tracefs", "kprobe events", "HEST", "plan", "CPUs"}
    assert all(c.state in ("ok", "degraded", "missing") and c.found for c in found)
    assert doctor.exit_code(found) in (0, 3)
