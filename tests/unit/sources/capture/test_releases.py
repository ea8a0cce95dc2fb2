# SPDX-License-Identifier: Apache-2.0
"""Captures that earlier releases wrote: they read, and judge as they did then.

`fixtures/captures/0.1.0-summary.arrows` was written by the code of that release, from what the
programs of a summary made of a run (tests/unit/sources/bpf/summary/native.py); the JSON beside it is
what that release's `ghesrace check --format json` said of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ghesrace import cli
from ghesrace.events import Kind
from ghesrace.sources.capture.file import CaptureSource

CAPTURES = Path(__file__).resolve().parents[2] / "fixtures" / "captures"
SUMMARY = CAPTURES / "0.1.0-summary.arrows"


def test_a_summary_of_0_1_0_reads() -> None:
    """If this fails, a user's capture of the last release is refused or read as another."""
    source = CaptureSource(SUMMARY)
    records = np.concatenate(list(source.batches()))
    assert not source.truncated
    assert source.plan.summary
    counts = {kind.name: int((records["kind"] == kind).sum()) for kind in Kind}
    assert {name: n for name, n in counts.items() if n} == {
        "EPISODE": 5,
        "THREAT": 5,
        "SAMPLE": 26,
        "COUNT": 17,
        "AGAIN": 2,
        "LOSS": 1,
        "MARK": 5,
    }
    # Of the very bytes that the release's own reader made of it.
    digest = hashlib.sha256(records.tobytes()).hexdigest()
    assert digest == "6a887d1a3f5613050ab44219a9d0f7701d9f3db3d0c135fa02bb8c1308325fcd"


def test_a_summary_of_0_1_0_judges_as_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the same capture gets another verdict, class or witness than it had."""
    monkeypatch.chdir(CAPTURES)
    assert cli.main(["check", "--format", "json", SUMMARY.name]) == 1
    assert capsys.readouterr().out == SUMMARY.with_suffix(".json").read_text()
    assert json.loads(SUMMARY.with_suffix(".json").read_text())["verdict"] == "race-observed"
