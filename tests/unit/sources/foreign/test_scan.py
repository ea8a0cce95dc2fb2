# SPDX-License-Identifier: Apache-2.0
"""The first pass over a foreign trace."""

from __future__ import annotations

from pathlib import Path

from tests.build.texts import judged


def test_second_probe_on_a_function_is_left_out(text: Path) -> None:
    """Every map would be there twice: the first of each pair is never unmapped nor flushed."""
    expected, _ = judged(text)
    once = text.read_text()
    lines = once.splitlines(keepends=True)
    text.write_text(
        "".join(x + (x.replace(": m:", ": also:") if ": m:" in x else "") for x in lines)
    )
    report, _ = judged(text)
    assert report.slots == expected.slots
    assert any("also" in unseen.what for unseen in report.unseen)
