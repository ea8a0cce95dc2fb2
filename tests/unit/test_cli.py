# SPDX-License-Identifier: Apache-2.0
"""The command line itself, before any command."""

from __future__ import annotations

import pytest

from ghesrace import cli


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The first two things that anybody types."""
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            cli.main([option])
        assert stop.value.code == 0
    assert "exit codes" in capsys.readouterr().out
