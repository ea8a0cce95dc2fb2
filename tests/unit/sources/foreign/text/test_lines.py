# SPDX-License-Identifier: Apache-2.0
"""Lines, and the numbers in them as kernels print them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.sources.foreign.text.lines import lines_of, numbers, unix_lines
from tests.build.paths import CORPUS
from tests.build.texts import judged


@pytest.mark.parametrize(
    ("text", "bare", "value"),
    [
        ("0xffffc900ffc90000", False, 0xFFFFC900FFC90000),
        ("18446683604861386752", False, 0xFFFFC900FFC90000),
        ("18446744073709551615", False, 2**64 - 1),
        ("18446744073709551616", False, None),
        ("9223372036854775807", False, 2**63 - 1),
        ("-9223372036854775808", False, 2**63),
        ("-1", False, 2**64 - 1),
        ("ffffc900ffc90000", False, None),
        ("ffffc900ffc90000", True, 0xFFFFC900FFC90000),
        ("100", False, 100),
        ("100", True, 0x100),
        ("-1", True, 2**64 - 1),
        ("0x100", True, 0x100),
        ("(fault)", True, None),
    ],
)
def test_numbers_are_what_the_kernel_meant(text: str, bare: bool, value: int | None) -> None:
    """A number that is read wrongly is another page or frame, or none."""
    made, there = numbers(lines_of(f"(f) pfn={text} n=1\n".encode()), "pfn", bare)
    assert there.tolist() == [value is not None]
    assert made.tolist() == [value or 0]


@pytest.mark.parametrize("name", ["wall-clock.txt", "latency-format.txt", "perf-whole.txt"])
def test_lines_that_end_as_on_windows_are_the_same(tmp_path: Path, name: str) -> None:
    """Mail programs change line ends; an argument at a line's end would be unreadable."""
    data = (CORPUS / name).read_bytes()
    path = tmp_path / "trace"
    path.write_bytes(data.replace(b"\n", b"\r\n"))
    assert unix_lines(path.read_bytes()) == data
    expected, got = judged(CORPUS / name), judged(path)
    assert got[0].verdict is expected[0].verdict
    assert (got[1] == expected[1]).all()
