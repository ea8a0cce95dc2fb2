# SPDX-License-Identifier: Apache-2.0
"""The doctor's answers as text."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ghesrace.doctor.text import print_check, print_summary
from tests.build.hosts import Willing, checks


@pytest.mark.parametrize("width", [60, 80, 200])
def test_text(healthy: Path, width: int):
    """Lines would wrap on a terminal, or control codes end up in a log file."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    for check in checks(healthy, Willing(refusal="x" * 300)).values():
        print_check(check, console)
    print_summary(False, console)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in out.getvalue()
    assert any(line.startswith("HEST") and " ok " in line for line in lines)
