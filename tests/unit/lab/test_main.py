# SPDX-License-Identifier: Apache-2.0
"""`python -m lab`: its options, its exit codes, a guest that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import TransientError
from lab import __main__ as main


def test_command_line_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A user's mistake: one message, exit 125, which no command of the guest's gives."""
    share = f"--share={tmp_path}"
    assert main.main(["run", share, "--scenario=nothing", "--", "true"]) == 125
    assert "there are: idle, nmi-storm" in capsys.readouterr().err


def test_options_of_the_command_are_its_own() -> None:
    """`run -- ls --all` must not take --all for ours."""
    args = main._parser().parse_args(["run", "--cpus", "1", "--", "ls", "--all"])
    assert (args.command, args.cpus) == (["ls", "--all"], 1)


def test_firmware_command_outside_a_guest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest's half of the command line refuses on a host."""
    monkeypatch.delenv("LAB_SHARE", raising=False)
    assert main.main(["firmware", "counts"]) == 125
    assert "not a lab guest" in capsys.readouterr().err


def test_a_guest_that_fails_is_booted_again_and_its_console_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a crash of the lab's kernel leaves no trace once the next guest is up."""
    boots: list[str] = []

    def fails_once(args: object, command: list[str], scenario: str) -> int:
        boots.append(scenario)
        (tmp_path / "console").write_text(f"boot {len(boots)}\nKernel panic\n")
        if len(boots) == 1:
            raise TransientError("QEMU is gone")
        return 0

    monkeypatch.setattr(main, "_run", fails_once)
    assert main.main(["test", "--share", str(tmp_path)]) == 0
    assert len(boots) == 2
    assert (tmp_path / "console.1").read_text() == "boot 1\nKernel panic\n"
    said = capsys.readouterr().out
    assert "QEMU is gone" in said
    assert "Kernel panic" in said
    assert "console.1" in said
