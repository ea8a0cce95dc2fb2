# SPDX-License-Identifier: Apache-2.0
"""The head of a trace.dat, and its compressed parts."""

from __future__ import annotations

import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from ghesrace.errors import InputError
from ghesrace.sources.foreign.dat.header import expand


def test_zlib_and_zstd_parts_are_expanded_and_checked() -> None:
    """A part that is shorter or longer than it claims would shift everything behind it."""
    data = b"header_page\0" * 50
    packed = {"zlib": zlib.compress(data), "zstd": pa.Codec("zstd").compress(data, asbytes=True)}
    for how, body in packed.items():
        assert expand(body, len(data), how, Path("x"), 1 << 20) == data
        for size in (len(data) - 1, len(data) + 1, 1 << 21):
            with pytest.raises(InputError):
                expand(body, size, how, Path("x"), 1 << 20)
