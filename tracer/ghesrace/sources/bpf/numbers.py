# SPDX-License-Identifier: Apache-2.0
"""This module says in C what differs from boot to boot: kernel addresses (KASLR moves them), the
thread ids of filters, and how many records a ring holds.

For this boot they are plain numbers, which clang folds as it likes. For a program pack (pack.py),
which other boots load, each of them is a placeholder: a 64-bit constant behind an empty asm, so
that clang can neither fold it nor make it of another one, and has to load it by an instruction of
its own (BPF_LD_IMM64). `patched` puts a boot's numbers in their place.
"""

from __future__ import annotations

from . import instructions

FIRST = 0x67686573_00000000  # the first placeholder; no address of any kernel, nor a small number
MOST = 1 << 16  # placeholders of one text
_ADDRESS = 1 << 32  # What is below is an index, a size, a bit mask: the same on every boot.


class Numbers:
    """These numbers are of this boot alone, and stand in the C text as they are.

    >>> Numbers().said(0xffffffff81000000, "0xffffffff81000000ULL")
    '0xffffffff81000000ULL'
    """

    packed = False

    def said(self, value: int, plain: str, *, varies: bool | None = None) -> str:
        """Return C for *value*, which is *plain* where it is written as it is. *varies* says
        whether it differs from boot to boot; by default an address does."""
        return plain


class Placeholders(Numbers):
    """These numbers are of any boot: the C text has placeholders, whose `values` are this boot's.
    Each use has one of its own, so that the text does not depend on which numbers are equal.

    >>> numbers = Placeholders()
    >>> numbers.said(644, "644"), numbers.said(0xffffffff81000000, "0xffffffff81000000ULL")
    ('644', 'BOOT(0x6768657300000000ULL)')
    >>> numbers.values == {FIRST: 0xffffffff81000000}
    True
    """

    packed = True

    def __init__(self) -> None:
        self.values: dict[int, int] = {}

    def said(self, value: int, plain: str, *, varies: bool | None = None) -> str:
        """See Numbers.said."""
        if not (value >= _ADDRESS if varies is None else varies):
            return plain
        placeholder = FIRST + len(self.values)
        self.values[placeholder] = value
        return f"BOOT({placeholder:#x}ULL)"


def placeholders(code: bytes) -> set[int]:
    """Return the placeholders in *code*."""
    return {number for number in instructions.numbers(code) if 0 <= number - FIRST < MOST}


def patched(code: bytes, values: dict[int, int]) -> bytes:
    """Return the instructions with *values* in the place of their placeholders. Raises ValueError
    if one has no value, because such a program would filter by nonsense."""
    if missing := placeholders(code) - values.keys():
        raise ValueError(f"no number for the placeholder {min(missing):#x}")
    return instructions.change_numbers(code, values)
