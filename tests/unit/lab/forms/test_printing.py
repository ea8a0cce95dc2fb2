# SPDX-License-Identifier: Apache-2.0
"""What tools print of a recorded run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.forms import printing
from lab.inside.forms import PRINTED


def test_every_tool_prints_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that is not printed is not in the table, and nobody misses it."""
    (tmp_path / PRINTED).write_text(json.dumps({"`cat trace`": "trace-00.txt"}))
    ran: list[list[str]] = []
    monkeypatch.setattr(printing, "newer", lambda suite: ("ld.so", f"trace-cmd of {suite}"))
    monkeypatch.setattr(printing, "_version", lambda command: command[-2])
    monkeypatch.setattr(printing, "_keep", lambda command, path: ran.append(command))
    forms = printing.print_all(tmp_path)
    tools = 1 + len(printing.SUITES)
    assert len(forms) == 1 + tools * len(printing.REPORT) + len(printing.SCRIPT)
    assert len({form.file for form in forms}) == len(forms)
    assert ["trace-cmd", "report", "-t", "-l", str(tmp_path / "run.dat")] in ran
    assert ["ld.so", "trace-cmd of sid", "report", str(tmp_path / "run.dat")] in ran
    assert ["perf", "script", "-i", str(tmp_path / "perf.data"), "-F", "-cpu"] in ran
    assert forms[-1].command == "`perf script -D`"


def test_what_is_said_on_stderr_is_no_part_of_the_text(tmp_path: Path) -> None:
    """perf warns of old files there: the text would be another than people send."""
    printing._keep(["sh", "-c", "echo text; echo warning >&2; exit 3"], tmp_path / "x")
    assert (tmp_path / "x").read_text() == "text\n"
