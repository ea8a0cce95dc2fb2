# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial.md, typed word by word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ghesrace import cli
from ghesrace.render.words import meanings
from tests.build.paths import EXAMPLES, REPO

PAGE = (REPO / "docs/tutorial.md").read_text()
TYPED = re.findall(r"^    \$ (.*)$", PAGE, re.M)
SHOWN = re.findall(r"<!-- says (\w+) -->\n\n((?:    .*\n)+)", PAGE)


@pytest.mark.slow
def test_every_command_does_what_the_page_says(tmp_path: Path) -> None:
    """The first five minutes end with an error."""
    commands = [line for line in TYPED if line.startswith("ghesrace")]
    assert len(commands) >= 6
    script = tmp_path / "ghesrace"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ghesrace "$@"\n')
    script.chmod(0o755)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for line in commands:
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PATH": path},
        )  # fmt: skip
        expected = 1 if re.search(r"check .*(control|\*)", line) else 0
        assert done.returncode == expected, (line, done.stderr)
        assert "Traceback" not in done.stderr
    assert (tmp_path / "report.json").exists()


def test_what_is_not_typed_to_ghesrace_is_there() -> None:
    """A newcomer is told of a target that is gone."""
    rest = [line for line in TYPED if not line.startswith("ghesrace")]
    assert rest == ["make venv", ". .venv/bin/activate", "echo $?", "echo $?"]
    # What `$?` is of stands right above it.
    before = [TYPED[n - 1] for n, line in enumerate(TYPED) if line == "echo $?"]
    assert before == [f"ghesrace check examples/{name}.arrows" for name in ("stock", "control")]
    assert re.search(r"^venv:", (REPO / "Makefile").read_text(), re.M)


@pytest.mark.parametrize(("name", "block"), SHOWN)
def test_what_is_shown_is_printed(
    name: str, block: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer sees something else and wonders what went wrong."""
    monkeypatch.chdir(REPO)
    cli.main(["check", f"examples/{name}.arrows"])
    out = capsys.readouterr().out
    assert re.sub(r"^    ", "", block, flags=re.M) in out


def test_words_that_it_uses_can_be_explained() -> None:
    """It sends a newcomer to `ghesrace explain`, which does not know the word."""
    words = {"episode", "fresh", "map-flush", "clean", "race-observed"}
    assert all(meanings(word) and word in PAGE for word in words)
