# SPDX-License-Identifier: Apache-2.0
"""Which CPUs there are: the kernel's CPU lists."""

from __future__ import annotations


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPUs of a list as in /sys/devices/system/cpu/online (lib/bitmap.c: bitmap_parselist).

    What is no number or range is left out.

    >>> parse_cpus("0-3,8")
    (0, 1, 2, 3, 8)
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)
