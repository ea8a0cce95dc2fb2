# SPDX-License-Identifier: Apache-2.0
"""Where a report is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ghesrace import cli
from ghesrace.commands.output import opened, opened_binary
from ghesrace.errors import UsageError
from tests.build.paths import REPO

EXAMPLE = REPO / "examples" / "stock.arrows"


@pytest.mark.parametrize(
    "command",
    [
        ("check", "--format", "json"),
        ("show",),
        ("check", "--format", "html"),
        ("check", "--format", "perfetto"),
        ("diff", str(EXAMPLE)),
    ],
)
def test_an_input_is_not_written_over(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a slip of the fingers empties the only evidence of a race."""
    path = tmp_path / "host.arrows"
    shutil.copy(EXAMPLE, path)
    before = path.read_bytes()
    link = tmp_path / "link.arrows"
    link.symlink_to(path)
    for output in (path, link):
        assert cli.main([*command, "-o", str(output), str(path)]) == 2
        assert "is an input" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_bytes_that_find_no_room_are_told(tmp_path: Path) -> None:
    """If this fails, a full disk is told as an input that can't be read, or cuts a trace in
    silence."""
    with opened_binary(tmp_path / "fits") as out:
        out.write(b"some")
    assert (tmp_path / "fits").read_bytes() == b"some"
    with (
        pytest.raises(UsageError, match="can't write /dev/full: No space left"),
        opened_binary(Path("/dev/full")) as out,
    ):
        out.write(b"some")
    with (
        pytest.raises(UsageError, match="can't write /dev/full: No space left"),
        opened(Path("/dev/full")) as report,
    ):
        report.write("some")
    with pytest.raises(UsageError, match="Is a directory"):
        opened_binary(tmp_path)
