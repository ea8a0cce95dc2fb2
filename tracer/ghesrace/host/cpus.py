# SPDX-License-Identifier: Apache-2.0
"""This reads the lists in which the kernel says which CPUs there are."""

from __future__ import annotations


def parse_cpus(text: str) -> tuple[int, ...]:
    """Return the CPUs of a list such as /sys/devices/system/cpu/online (bitmap_parselist in
    lib/bitmap.c).

    Parts that are no number or range are left out.

    >>> parse_cpus("0-3,8")
    (0, 1, 2, 3, 8)
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)
