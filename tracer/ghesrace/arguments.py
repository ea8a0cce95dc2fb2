# SPDX-License-Identifier: Apache-2.0
"""What the values on a command line mean. Each raises argparse.ArgumentTypeError for what is none.

>>> size("8G"), cpus("0,2-3"), two_numbers("4")
(8589934592, (0, 2, 3), (4, 4))
"""

from __future__ import annotations

import argparse
import re

from .errors import GhesraceError
from .unknowns import UNKNOWNS


def seconds(text: str) -> float:
    """Return a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 10**8:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def unknowns(text: str) -> tuple[str, ...]:
    """Return names of what a recording can't tell (unknowns.py)."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in UNKNOWNS:
            known = ", ".join(UNKNOWNS)
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {known}")
    return names


def number(text: str) -> int:
    """Return the number of a run, from 1."""
    if not text.isdecimal() or not 0 < int(text) < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a run (from 1)")
    return int(text)


def workers(text: str) -> int:
    """Return a number of processes."""
    if not text.isdecimal() or not 0 < int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes (1 to 1024)")
    return int(text)


def two_numbers(text: str) -> tuple[int, int]:
    """Return `3` or `3,5` as two numbers."""
    first, _, second = text.partition(",")
    return number(first), number(second if second else first)


def size(text: str) -> int:
    """Return a size such as 500M in bytes; K is 1,024."""
    units = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
    found = re.fullmatch(r"(\d{1,12})([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 500M or 8G")
    return int(found[1]) << units[found[2].upper()]


def cpus(text: str) -> tuple[int, ...]:
    """Return CPUs such as 0,2-3."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = first, last if dash else first
        if not all(end.isdecimal() and len(end) < 6 for end in ends):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of CPUs like 0,2-3")
        found += range(int(ends[0]), int(ends[1]) + 1)
    return tuple(found)


def names(text: str) -> list[str]:
    """Return names that commas part."""
    return [name.strip() for name in text.split(",")]


def time(text: str) -> tuple[bool, int]:
    """Return a time as `show` takes it: whether it is relative, and ns."""
    from .render.selection import nanoseconds

    try:
        return nanoseconds(text, "s")
    except GhesraceError as error:
        raise argparse.ArgumentTypeError(str(error).replace("\n ", ":")) from error


def kilobytes(text: str) -> int:
    """Return a positive number of KiB."""
    if not text.isdecimal() or not 0 < int(text) <= 2**30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of KiB")
    return int(text)
