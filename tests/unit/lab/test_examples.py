# SPDX-License-Identifier: Apache-2.0
"""The captures of examples/, and what makes them again, without a guest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.model import Class
from ghesrace.errors import TransientError
from lab import boot, examples, paths
from lab.examples import EXAMPLES, Example, judged
from tests.build.captures import check
from tests.build.paths import EXAMPLES as FOLDER
from tests.build.paths import REPO

README = (FOLDER / "README.md").read_text()
LARGEST = 64 << 10  # bytes


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_each_is_judged_as_its_readme_says(example: Example) -> None:
    """A newcomer tries these first: another verdict than the one promised costs all trust."""
    path = FOLDER / example.file
    [row] = re.findall(rf"^\| `{re.escape(example.file)}` \|(.*)\|$", README, flags=re.M)
    verdict, found, _ = (cell.strip() for cell in row.split("|"))
    report = judged(path)
    assert report.verdict.word == example.verdict == verdict
    told = sorted({f"{f.pattern.replace('_', ' ')} {f.severity}" for f in report.findings})
    assert ", ".join(told) == found or (found == "nothing" and not told)
    assert example.shown(report)
    assert check("-q", path) == (0 if verdict == "clean" else 1)
    assert path.stat().st_size < LARGEST


def test_arm64_is_saved_by_its_broadcasts() -> None:
    """The one example of another architecture shows its mechanism, between two CPUs."""
    report = judged(FOLDER / "arm64.arrows")
    slots = {slot.name: slot for slot in report.slots if slot.episodes}
    assert set(slots) == {"GHES_IRQ", "GHES_SEA"}
    assert slots["GHES_SEA"].handoffs > 10
    for slot in slots.values():
        # Of the first one nobody knows what its CPU held before.
        assert slot.classes[Class.BROADCAST] >= slot.episodes - 1


def test_the_folder_holds_what_is_made_and_no_more() -> None:
    """A capture that nobody can make again, or that no test looks at."""
    assert {path.name for path in FOLDER.glob("*.arrows")} == {one.file for one in EXAMPLES}


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is recorded, in order. Each capture is that of the repository."""
    ran: list[str] = []

    def capture_while(traffic: Callable[[], None], file: Path) -> int:
        traffic()
        ran.append(file.stem)
        shutil.copy(FOLDER / file.name, file)
        return 0

    monkeypatch.setenv(paths.ENV, str(tmp_path))
    monkeypatch.setattr(examples, "capture_while", capture_while)
    monkeypatch.setattr(examples, "storm", lambda *_: lambda: None)
    monkeypatch.setattr(examples, "inserted", lambda: nullcontext(ran.append("insmod")))
    monkeypatch.setattr(examples, "run", lambda _: SimpleNamespace(summary={}))
    return ran


def test_stock_is_recorded_before_the_module_is_there(guest: list[str]) -> None:
    """With the module loaded, a stock kernel is none."""
    assert examples.main(["--inside", "--only", "control", "--only", "stock"]) == 0
    assert guest == ["stock", "insmod", "control"]
    guest.clear()
    assert examples.main(["--inside", "--only", "arm64"]) == 0
    assert guest == ["arm64"]


def test_what_does_not_show_what_it_is_for_is_not_taken(guest: list[str], tmp_path: Path) -> None:
    """A guest's bad moment would become the example."""
    wrong = replace(EXAMPLES[0], verdict="race-observed")
    with pytest.raises(TransientError, match="did not show what it is for: clean"):
        examples.record(wrong, tmp_path)
    assert guest == ["stock"] * 3


def test_captures_are_taken_out_of_the_guests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make examples` would leave the old ones; or the guest's failure be hidden."""
    ran: list[list[str]] = []

    def run(_: Any, settings: Any, command: list[str]) -> int:
        ran.append(command)
        for name in command[command.index("--inside") + 1 :]:
            if name != "--only":
                (settings.share / f"{name}.arrows").write_text(f"new {name}")
        return 0 if len(ran) == 1 else 3

    monkeypatch.setattr(boot, "run", run)
    monkeypatch.setattr(examples, "_board", lambda arch: arch)
    assert examples.main([str(tmp_path)]) == 3
    amd64 = {one.file for one in EXAMPLES if one.arch == "amd64"}
    assert {path.name for path in tmp_path.iterdir()} == amd64
    assert [command[0] == "python3" for command in ran] == [False, True]
    assert examples.main(["--only", "nothing"]) == 2


def test_the_table_asks_for_each_pattern() -> None:
    """A pattern without an example is one that nobody can look at."""
    assert {one.finding[0] for one in EXAMPLES if one.finding} == {
        *("stale", "torn_edit", "shootdown", "overlap")
    }
    assert {one.arch for one in EXAMPLES} == {"amd64", "arm64"}
    assert all(one.parameters is None or one.parameters.rounds <= 25 for one in EXAMPLES)


def test_a_guest_needs_no_library_of_the_host() -> None:
    """An arm64 guest has a userland of its own, without what talks to QEMU: nothing would be
    recorded in it."""
    code = "import sys; sys.modules['qemu'] = None; import lab.examples"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
