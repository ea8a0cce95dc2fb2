# SPDX-License-Identifier: Apache-2.0
"""What the page tells of the code of Debian's kernels."""

from __future__ import annotations

from ghesrace.plan import INVALIDATES
from lab.facts import KERNELS
from lab.patched.debian import implications


def test_each_kernel_of_the_matrix_is_proven_to_invalidate() -> None:
    """If this fails, the page leaves a kernel out, or a verdict on one rests on Linux's source."""
    told = list(implications())
    assert {release for release, *_ in told} == {path.stem for path in KERNELS.glob("*.json")}
    for release, symbol, what, state, where in told:
        assert state == "proven", f"{release}: {symbol} {what}: {where}"
        wanted = ("broadcast-after-clear",) if "arm64" in release else ("flush-inside", INVALIDATES)
        assert what in wanted
    assert len(told) == len(set(told))
