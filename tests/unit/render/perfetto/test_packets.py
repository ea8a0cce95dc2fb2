# SPDX-License-Identifier: Apache-2.0
"""Tracks, slices and flows as Perfetto's own classes read them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ghesrace.render.perfetto.packets import Packets
from tests.build.perfetto import decoded


def written(path: Path, clock: str = "mono") -> tuple[io.BufferedWriter, Packets]:
    file = path.open("wb")
    return file, Packets(file, clock)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """If this fails, Perfetto shows something else than was meant, or nothing."""
    path = tmp_path / "x.pftrace"
    file, packets = written(path)
    top = packets.track("top", None, "all of it")
    low = packets.track("low", top)
    packets.begin(low, 10, "outer", {"why": "because"}, [3])
    packets.instant(low, 12, "now", None, [3])
    packets.end(low, 20)
    file.close()
    found = decoded(path)
    assert found.tracks == [("top",), ("top", "low")]
    assert found.descriptions["top",] == "all of it"
    now, outer = found.on("low")
    assert (outer.name, outer.begin, outer.end, outer.notes) == (
        "outer",
        10,
        20,
        {"why": "because"},
    )
    assert (now.name, now.begin, now.end) == ("now", 12, 12)
    assert found.flow(3) == [outer, now]
    assert packets.written == path.stat().st_size


@pytest.mark.parametrize(
    ("clock", "number"), [("mono", 3), ("mono_raw", 5), ("boot", 6), ("x86-tsc", None)]
)
def test_stamps_are_of_the_clock_that_they_are_of(
    tmp_path: Path, clock: str, number: int | None
) -> None:
    """If this fails, Perfetto takes stamps of one clock for another's and shifts them, or, where it
    can't convert them, drops them all."""
    path = tmp_path / "x.pftrace"
    file, packets = written(path, clock)
    packets.instant(packets.track("top"), 123_456_789_012_345_678, "now")
    file.close()
    found = decoded(path)
    assert found.primary_clock == number
    assert found.clocks == {number or 0}
    assert found.slices[0].begin == 123_456_789_012_345_678


def test_names_that_command_terminals_are_escaped(tmp_path: Path) -> None:
    """Names come from whoever made the recording."""
    path = tmp_path / "x.pftrace"
    file, packets = written(path)
    packets.instant(packets.track("a\x1bb"), 1, "c\x00d", {"e": "f\x07"})
    file.close()
    [one] = decoded(path).slices
    assert (one.track, one.name, one.notes) == (("a\\x1bb",), "c\\x00d", {"e": "f\\x07"})
