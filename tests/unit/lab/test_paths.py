# SPDX-License-Identifier: Apache-2.0
"""The folder that host and guest share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import paths


def test_no_two_things_have_one_name(tmp_path: Path) -> None:
    """An answer would overwrite a question; and what is the lab's own be taken for a result."""
    own = [
        of(tmp_path)
        for of in (
            paths.spec,
            paths.agent,
            paths.ready,
            paths.exit_code,
            paths.playing,
            paths.requests,
        )
    ]
    assert {path.parent for path in own} == {paths.private(tmp_path)}
    results = [paths.STDOUT, paths.STDERR, paths.CONSOLE, paths.FIRMWARE, paths.GUEST]
    names = [*(path.name for path in own), *results, paths.COLLECTED, paths.RAN, paths.FAILURES]
    assert len(set(names)) == len(names)


def test_a_reader_sees_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side, which polls, would read half a request."""
    seen: list[tuple[list[str], str]] = []
    rename = Path.rename

    def look(part: Path, target: Path) -> Path:
        seen.append((sorted(p.name for p in tmp_path.glob("*.request")), part.read_text()))
        return rename(part, target)

    monkeypatch.setattr(Path, "rename", look)
    paths.publish(tmp_path / "1.request", "all of it")
    assert seen == [([], "all of it")]
    paths.publish(tmp_path / "1.request", "anew")
    assert [p.name for p in tmp_path.iterdir()] == ["1.request"]
    assert (tmp_path / "1.request").read_text() == "anew"


def test_the_repository_is_this_one() -> None:
    """The guest would import another tree than the one that is tested."""
    assert Path(__file__).is_relative_to(paths.REPO)
    assert (paths.REPO / "setup.cfg").exists()
