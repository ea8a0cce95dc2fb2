# SPDX-License-Identifier: Apache-2.0
"""The command line itself, before any command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ghesrace import cli
from tests.build.paths import CORPUS


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The first two things that anybody types."""
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            cli.main([option])
        assert stop.value.code == 0
    assert "exit codes" in capsys.readouterr().out


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        ["check", str(CORPUS / "two-boots.txt")],
        ["check", "--format", "json", str(CORPUS / "two-boots.txt")],
        ["doctor", "--format", "json"],
    ],
)
def test_output_that_cannot_be_written_is_told_in_one_line(
    command: list[str], closed: bool
) -> None:
    """A script that loses the report must not take it for a verdict, nor for a fault of ours."""
    redirect = ">&-" if closed else "> /dev/full"
    shell = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "ghesrace"]
    done = subprocess.run([*shell, *command], stderr=subprocess.PIPE, text=True, env=os.environ)
    reason = "Bad file descriptor" if closed else "No space left on device"
    lines = [x for x in done.stderr.splitlines() if "warning" not in x]
    assert lines == [f"ghesrace: can't write to standard output: {reason}"]
    assert done.returncode == 2
