# SPDX-License-Identifier: Apache-2.0
"""Ranges of addresses, which may reach to the end of memory."""

from __future__ import annotations


def meets(addr: int, size: int, begin: int, length: int) -> bool:
    """Whether *size* bytes from *addr* on have one in common with *length* bytes from *begin* on.

    No sum is taken, which could pass 2**64: compiled it would wrap.

    >>> meets(0x1FFF, 2, 0x2000, 4096), meets(0x1FFF, 1, 0x2000, 4096)
    (True, False)
    """
    return begin - addr < size if addr <= begin else addr - begin < length
