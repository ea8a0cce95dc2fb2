# SPDX-License-Identifier: Apache-2.0
"""The demo's two verdicts, without a guest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from ghesrace.errors import EXIT_INTERNAL, EXIT_OK
from lab import demo, paths


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, int]:
    """What each capture ends with; captures run their traffic."""
    codes = {demo.STOCK: 0, demo.CONTROL: 1}

    def capture_while(traffic: Callable[[], None], file: Path, *arguments: str) -> int:
        traffic()
        assert arguments == ("--check",)
        return codes[file.name]

    monkeypatch.setenv(paths.ENV, str(tmp_path))
    monkeypatch.setattr(demo, "capture_while", capture_while)
    monkeypatch.setattr(demo, "storm", lambda *_: lambda: None)
    monkeypatch.setattr(demo, "inserted", nullcontext)
    summary = {"junk_reads": 7, "reads": 9}
    monkeypatch.setattr(demo, "run", lambda _: SimpleNamespace(summary=summary))
    return codes


@pytest.mark.parametrize(
    ("stock", "control", "code"),
    [(0, 1, EXIT_OK), (0, 0, EXIT_INTERNAL), (1, 1, EXIT_INTERNAL), (3, 1, EXIT_INTERNAL)],
)
def test_only_the_expected_verdicts_are_a_success(
    guest: dict[str, int], stock: int, control: int, code: int
) -> None:
    """A demo that shows nothing, or a race on a stock kernel, would end well."""
    guest.update({demo.STOCK: stock, demo.CONTROL: control})
    assert demo.main(["--inside"]) == code


def test_it_says_what_the_module_itself_saw(
    guest: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The reader would have the checker's word only."""
    demo.main(["--inside"])
    assert "7 junk reads of 9" in capsys.readouterr().out
