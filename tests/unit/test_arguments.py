# SPDX-License-Identifier: Apache-2.0
"""Values of a command line: what is meant, and what is none."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace import arguments

KINDS = (
    arguments.seconds,
    arguments.unknowns,
    arguments.number,
    arguments.workers,
    arguments.two_numbers,
    arguments.size,
    arguments.cpus,
    arguments.time,
    arguments.kilobytes,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (arguments.seconds, "0.5", 0.5),
        (arguments.unknowns, "losses, clock", ("losses", "clock")),
        (arguments.two_numbers, "3,5", (3, 5)),
        (arguments.size, "2KiB", 2048),
        (arguments.cpus, "0,2-3", (0, 2, 3)),
        (arguments.names, "a, b", ["a", "b"]),
        (arguments.time, "1.5", (False, 1_500_000_000)),
        (arguments.kilobytes, "64", 64),
    ],
)
def test_what_is_meant(kind: Callable[[str], object], text: str, value: object) -> None:
    """If this fails, an option does something else than it says."""
    assert kind(text) == value


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(alphabet="0123456789,.-+KMGTiB e\u0663x", max_size=12))
def test_anything_else_is_told(kind: Callable[[str], object], text: str) -> None:
    """If this fails, a typing error ends in a traceback."""
    with contextlib.suppress(argparse.ArgumentTypeError):
        kind(text)
