# SPDX-License-Identifier: Apache-2.0
"""`ghesrace daemon`: what it does before it watches."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace import cli


def test_bad_configuration_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, --check-config says yes to a file that the daemon refuses."""
    file = tmp_path / "x.toml"
    file.write_text("[web]\nlissten = []\n")
    assert cli.main(["daemon", "--check-config", "--config", str(file)]) == 2
    assert "web.listen?" in capsys.readouterr().err
    assert cli.main(["daemon", "--config", str(file)]) == 2
    file.write_text('[web]\nconfig_file = "/none.yml"\n')
    assert cli.main(["daemon", "--check-config", "--config", str(file)]) == 2
    file.write_text("")
    assert cli.main(["daemon", "--check-config", "--config", str(file)]) == 0
