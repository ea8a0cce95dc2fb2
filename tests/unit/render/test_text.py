# SPDX-License-Identifier: Apache-2.0
"""The text of a report: what it says, in 80 columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.build.captures import capture, check
from tests.build.trace import bounce, plan


def test_two_contexts_of_one_cpu_are_two_columns(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who interrupted whom is the whole point, and must fit an 80-column terminal."""
    check(everything)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    heads = [line for line in out.splitlines() if "CPU 0 = x, task" in line]
    assert any("CPU 0 = y, nmi" in line.partition("= x")[2] for line in heads)
    assert "CPU 0 = x, irq" in out
    assert "any other CPU = y" in out
    assert "overlaps that are no hazard: 2 of same table" in " ".join(out.split())


def test_text_fits_80_columns(
    observed: Path, predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People read this in a terminal and paste it into mails; no colour codes in a file."""
    for path in (observed, predicted):
        check(path)
        out = capsys.readouterr().out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert "\x1b" not in out
    target = tmp_path / "report.txt"
    check(observed, "-o", target)
    text = target.read_text()
    assert text.startswith("race-observed")
    assert "does not prove" in " ".join(text.split())
    assert "CPU 0 = x" in text


def test_unseen_and_unchecked_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not seen stands in the report, or the reader takes silence for safety."""
    blind = replace(plan(), not_checked={"stale": "no symbol unmaps a slot"})
    path = capture(tmp_path / "blind.arrows", bounce(flush=True), blind)
    assert check(path) == 3
    assert "stale: not checked: no symbol unmaps a slot" in capsys.readouterr().out
