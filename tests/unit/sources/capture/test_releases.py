# SPDX-License-Identifier: Apache-2.0
"""Captures that earlier releases wrote: they read, and judge as they did then.

`fixtures/captures/0.1.0-summary.arrows` was written by the code of that release, from what the
programs of a summary made of a run (tests/unit/sources/bpf/summary/native.py); the JSON beside it
is what that release's `ghesrace check --format json` said of it, but for one episode: its CPU had
missed a map between the threat and the read, so it is `uncertain` now, not `none`.

`0.2.0-control.arrows` was written by the daemon of that release in a guest, of the control that
races.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ghesrace import __version__, cli
from ghesrace.events import SHARED, Kind, select
from ghesrace.sources.capture.file import CaptureSource, CaptureWriter
from tests.build.paths import EXAMPLES, FIXTURES

CAPTURES = FIXTURES / "captures"
SUMMARY = CAPTURES / "0.1.0-summary.arrows"
CONTROL = CAPTURES / "0.2.0-control.arrows"


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
    as_then = SUMMARY.with_suffix(".json").read_text()
    told = f'"version": "{__version__}"'
    assert capsys.readouterr().out == as_then.replace('"version": "0.1.0"', told)
    assert json.loads(SUMMARY.with_suffix(".json").read_text())["verdict"] == "race-observed"


def test_evidence_of_0_2_0_judges_as_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, evidence that the last release kept shows another race, or none."""
    monkeypatch.chdir(CAPTURES)
    assert cli.main(["check", "--format", "json", CONTROL.name]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "race-observed"
    keys = ("pattern", "severity", "slot", "access", "count")
    assert [tuple(found[key] for key in keys) for found in told["findings"]] == [
        ("stale", "observed", "ghes2015:irq", "read", 10)
    ] * 4


@pytest.mark.parametrize(
    "path", [SUMMARY, CONTROL, *sorted(EXAMPLES.glob("*.arrows"))], ids=lambda p: p.stem
)
def test_what_is_written_again_judges_as_before(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If this fails, the format that is written now loses something that a verdict needs."""
    source = CaptureSource(path)
    with CaptureWriter(tmp_path / path.name, source.plan, source.host) as writer:
        for batch in source.batches():
            writer.write(batch)
    told = []
    for folder in (path.parent, tmp_path):
        monkeypatch.chdir(folder)
        code = cli.main(["check", "--format", "json", path.name])
        told.append((code, capsys.readouterr().out))
    assert told[0] == told[1]


# What each kind of record said in the columns of format 1, under the names of today.
_EPISODE = {"begin": "addr", "end": "size", "frame": "phys", "call": "pid", "mapper": "reserved"}
_COUNT = {"begin": "addr", "end": "ts", "count": "size", "traits": "flags", "cls": "aux"}
FORMAT_1 = {
    Kind.EPISODE: {**_EPISODE, "traits": "flags", "cls": "aux"},
    Kind.THREAT: {**_EPISODE, "traits": "flags"},
    Kind.SAMPLE: {**_EPISODE, "traits": "flags", "sample": "aux"},
    Kind.COUNT: _COUNT,
    Kind.AGAIN: {**_COUNT, "frame": "phys"},
    Kind.LOSS: {"begin": "addr", "end": "ts", "count": "size", "cause": "aux"},
}


@pytest.mark.parametrize("kind", FORMAT_1, ids=lambda kind: kind.name)
def test_columns_of_format_1_are_read_under_their_names(kind: Kind) -> None:
    """If this fails, what a record of an old file says is taken for something else."""
    table = pa.ipc.open_stream(SUMMARY).read_all()
    here = table.column("kind").to_numpy() == kind
    found = select(np.concatenate(list(CaptureSource(SUMMARY).batches())), kind)
    assert len(found) == here.sum() > 0
    for name, column in FORMAT_1[kind].items():
        assert found[name].tolist() == table.column(column).to_numpy()[here].tolist(), name
    assert set(FORMAT_1[kind]) | set(SHARED) >= set(found.dtype.names or ()) - {"cls", "frame"}
