# SPDX-License-Identifier: Apache-2.0
"""Metrics as a file for node_exporter."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import HostError
from ghesrace.service.metrics import textfile
from tests.unit.service.metrics.watched import published, racing


def test_textfile_is_whole_or_old(tmp_path: Path) -> None:
    """If this fails, node_exporter reads half a file, or trips over our temporary one."""
    shown = published(racing(), tmp_path)
    path = textfile.write(tmp_path, shown)
    assert path.name == "ghesrace.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    assert b"ghesrace_findings_total" in path.read_bytes()
    assert b"\nprocess_" not in path.read_bytes(), "node_exporter has its own, and drops both"
    assert [p.name for p in tmp_path.iterdir()] == ["ghesrace.prom"]
    with pytest.raises(HostError, match="another folder"):
        textfile.write(tmp_path / "none", shown)


def test_one_shot_capture_as_a_textfile(tmp_path: Path) -> None:
    """If this fails, a cron job's capture leaves no metric, or looks like a living daemon."""
    text = textfile.once(tmp_path, racing(), "ftrace").read_text()
    found = 'ghesrace_findings_total{certainty="observed",mode="capture",pattern="stale"} 5.0'
    assert found in text
    assert 'ghesrace_watching{mode="capture"} 0.0' in text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples
    assert all('mode="capture"' in line for line in samples), "it collides with a daemon's file"
    assert "ghesrace_recorder" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["ghesrace_capture.prom"]
