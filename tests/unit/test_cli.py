# SPDX-License-Identifier: Apache-2.0
"""The command line itself, before any command."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ghesrace import cli
from handbook.parsers import commands
from tests.build.paths import CORPUS, FIXTURES


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The first two things that anybody types."""
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            cli.main([option])
        assert stop.value.code == 0
    assert "exit codes" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands())
def test_help_names_exit_codes_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who writes a script looks there, and not into a README that is not installed."""
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "\nexit codes" in out
    assert re.search(rf"\nexamples?:\n  ghesrace {command} ", out)


@pytest.mark.tenth
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        ["check", str(CORPUS / "two-boots.txt")],
        ["check", "--format", "json", str(CORPUS / "two-boots.txt")],
        ["check", "--help"],
        ["doctor"],
        ["doctor", "--format", "json"],
        ["daemon", "--check-config", "--config", str(FIXTURES / "nothing.toml")],
        ["--help"],
        ["--version"],
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


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_finding() -> None:
    """`ghesrace check FILE | head -1` must not be exit code 1, which means a race."""
    for arguments in (["check", str(CORPUS / "boot1.txt")], ["--help"]):
        command = [sys.executable, "-m", "ghesrace", *arguments]
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run(
            command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=os.environ
        )
        os.close(theirs)
        assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
def test_standard_error_that_cannot_be_written_changes_nothing() -> None:
    """A warning that can't be told must not cost the verdict."""
    for redirect in ("2>&-", "2>/dev/full"):
        shell = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "ghesrace"]
        path = str(CORPUS / "bare-hex-recipe.txt")  # It is truncated, which is a warning.
        command = [*shell, "check", "--map", str(CORPUS / "old.toml"), path]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        assert done.returncode == 3
        assert done.stdout.startswith("inconclusive")


@pytest.mark.slow
def test_a_report_that_cannot_be_written_names_its_file() -> None:
    """It is not standard output that is full."""
    command = [sys.executable, "-m", "ghesrace", "check", str(CORPUS / "boot1.txt")]
    done = subprocess.run(
        [*command, "-o", "/dev/full"], capture_output=True, text=True, env=os.environ
    )
    assert done.stderr.startswith("ghesrace: can't write /dev/full: No space left on device\n")
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["plan", "capture"])
def test_commands_that_this_host_cannot_run_print_through_the_same(name: str) -> None:
    """They would be the only ones with a traceback, where they do run."""
    code = (
        "import sys, types\nfrom ghesrace import cli\n"
        f"made = types.ModuleType('ghesrace.commands.{name}')\n"
        f"made.{name} = lambda args: print('x' * 100_000) or 0\n"
        f"sys.modules[made.__name__] = made\nsys.exit(cli.main([{name!r}]))"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, env=os.environ
        )
    assert done.stderr == b"ghesrace: can't write to standard output: No space left on device\n"
    assert done.returncode == 2
