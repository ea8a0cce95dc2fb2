# SPDX-License-Identifier: Apache-2.0
"""The pages of a trace.dat: in order, and all there or said not to be."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ghesrace import cli
from ghesrace.errors import InputError
from ghesrace.events import Cause
from ghesrace.sources.files import open_file
from tests.build.paths import CORPUS
from tests.build.texts import judged, losses


def test_trace_dat_is_recognised_by_content_and_cut_ones_are_said_to_be(tmp_path: Path) -> None:
    """A name says nothing; a cut file judged as whole could be called clean."""
    whole = (CORPUS / "v6.dat").read_bytes()
    path = tmp_path / "picture.png"
    path.write_bytes(whole[:-6000])
    report, events = judged(path)
    assert report.truncated
    assert len(losses(events, Cause.TRUNCATED)) == 1
    assert cli.main(["check", str(path), "-o", str(tmp_path / "out")]) in (1, 3)
    path.write_bytes(whole[:3000])
    with pytest.raises(InputError, match="middle of its head"):
        open_file(path)


def test_missed_events_of_a_page_become_a_loss_at_their_place(tmp_path: Path) -> None:
    """An overrun that is not seen makes a lossy recording clean."""
    made = bytearray((CORPUS / "v6.dat").read_bytes())
    at = len(made) - 2 * 4096  # CPU 1 is last in the file: its last page but one
    commit = struct.unpack_from("<Q", made, at + 8)[0]
    struct.pack_into("<Q", made, at + 8, commit | 1 << 31)
    path = tmp_path / "trace.dat"
    path.write_bytes(made)
    report, events = judged(path)
    (loss,) = losses(events, Cause.OVERRUN)
    assert loss["cpu"] == 1
    assert loss["ts"] == struct.unpack_from("<Q", made, at)[0]
    assert loss["addr"] < loss["ts"]
    assert report.lost is None
