# SPDX-License-Identifier: Apache-2.0
"""This limits how much memory the rings of one CPU may take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LEAST_KB = 256
_OF_RAM, _OF_CGROUP = 64, 4


def ring_kb(cpus: int, *, most: int, charged: bool, root: Path = Path("/")) -> int:
    """Return how many KiB the rings of each CPU may take: *most*, or less where the rings of all
    *cpus* would take over 1/64 of RAM.

    With *charged* they may not take over a quarter of what our cgroup may have either, such as the
    unit's MemoryHigh=. BPF maps are charged to it (d5299b67dd59, Linux 5.11), and the tracing ring
    buffer is not. *root* is where /proc and /sys are.

    >>> ring_kb(8, most=4_096, charged=False, root=Path("/nowhere"))  # the RAM is not known
    4096
    """
    total = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.M)
    shares = [int(total[1]) // _OF_RAM] if total else []
    if charged:
        shares += [limit // 1024 // _OF_CGROUP for limit in _limits(root)]
    share = min(shares, default=most * max(cpus, 1)) // max(cpus, 1)
    return max(_LEAST_KB, min(most, share))


def limit_bytes(root: Path = Path("/")) -> int | None:
    """Return how many bytes we may have, by RAM and by the limits of our cgroup; None if nothing
    tells. *root* is where /proc and /sys are.

    >>> limit_bytes(Path("/nowhere")) is None
    True
    """
    total = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.M)
    return min([*([int(total[1]) << 10] if total else []), *_limits(root)], default=None)


def _limits(root: Path) -> Iterator[int]:
    """Yield the bytes that our cgroup and those above it may have, by memory.high and memory.max of
    cgroup v2."""
    own = re.search(r"^0::/(.*)$", _text(root / "proc/self/cgroup"), re.M)
    top = root / "sys/fs/cgroup"
    parts = own[1].split("/") if own else []
    for depth in range(len(parts) + 1):
        for name in ("memory.high", "memory.max"):
            text = _text(top.joinpath(*parts[:depth], name)).strip()
            if text.isdecimal():  # "max" is no limit.
                yield int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
