# SPDX-License-Identifier: Apache-2.0
"""This module finds what is left of lines that terminals, mails and editors cut, wrapped or dressed
up: a piece without its head, and a number that lost its last digits."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import cuts
from .lines import Text, pc

# What else a terminal is told: its modes, its title, and its alphabet.
_COLOURS = re.compile(
    rb"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][0-9AB]|[=>])"
)
_ESCAPES = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&amp;", b"&"))
_PLACE = r"\w[\w.$]*\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?(?: \[\w+\])?"
# A probe's event, whatever is in front: the place that its line has behind the name, perf's place,
# a task with its CPU, a CPU that is cut, and bytes that no text has.
_EVENT = (
    rf"\({_PLACE}[ )]|<- {_PLACE}\)|\w:\s+\([0-9a-f]{{8,16}}[ )]"
    r"|\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?\)(?:\s|$)"
    r"|(?:[^\s:]-|\s)\d{1,9}\s+(?:\(\s*[\d-]+\)\s+)?\[\d{3,4}\]"
    r"|[^\s:]-\d{1,9}\s+(?:\(\s*[\d-]+\)\s+)?\[\d{0,4}[^\w\s]{0,3}\s*$"
    r"|[^\s:]-\d{1,9}\s+\d{1,4}[dDbBX.][^\s:]{2,8}(?:\s|$)"
    # Of an indented task there is the process, or of perf's a begin of the CPU.
    r"|^ +[^\s:]*[^\s:\d]-\d{1,9}\s*$|^ +\S.*\s\d{1,9} +\[\d*\s*$"
    r"|\x00"
)
# The end of a wrapped line: what a number or a place still had, and arguments.
_TAIL = (
    r"^\s{0,7}[0-9a-fx]{1,15}(?:\s+\w+=\S*)*\s*$|^=?0?x[0-9a-f]{1,16}(?:\s+\w+=\S*)*\s*$"
    r"|^\s*[A-Za-z_]\w*=(?:0x)?[0-9a-f]+(?:\s+\w+=\S*)*\s*$"
    r"|^\s*[\w.+/]*\)(?:\s+\w+=\S*)*\s*$"
)
# An event's line that ends in its place, or in an argument without its value.
_OPEN_END = (
    r"(?:\[\d{3,4}\]|\s\d{1,4}[dDbBX.][^\s:\d][^\s:]{2,7}\s).*[\w.]:\s.*"
    r"(?:=(?:0x)?|\([^()]*|[+<-]|\b0x)\n?$"
)
_FEW = 256
SIGNS = (b"\r", b"\x1b", b"&")  # Without them `unix_lines` and `undressed` change nothing.
_NONE = r"^\s*#|^\s*(?:\d+\s+)?cpus=\d"  # a comment, or how `trace-cmd report` begins


def undressed(data: bytes | bytearray) -> bytes | bytearray:
    r"""Return the whole lines *data* without a terminal's colours and HTML's escapes.

    >>> undressed(b"\x1b[01;31mmap\x1b[m: (f &lt;- g)\n")
    b'map: (f <- g)\n'
    """
    # One letter is found many times as fast as several.
    if b"\x1b" in data:
        data = _COLOURS.sub(b"", data)
    if b"&" in data and (b"&lt;" in data or b"&gt;" in data):
        for escape, letter in _ESCAPES:
            data = data.replace(escape, letter)
    return data


def debris(lines: Text, names: Iterable[str]) -> npt.NDArray[np.bool_]:
    r"""Return which of *lines*, that are no events, were part of one. *names* are those of the
    events that are wanted.

    >>> from .lines import lines_of
    >>> wrapped = b"hello\nm: (ghes_ioremap_pfn_irq+0x0/0x40) pfn=2\n56\n"
    >>> debris(lines_of(wrapped), ["m"]).tolist()
    [False, True, True]
    """
    named = "|".join(re.escape(name) for name in names)
    pattern = rf"{_EVENT}|{_TAIL}"
    if named:  # The second is a line of kprobe_profile, with hits that the kernel skipped.
        pattern += rf"|(?:^|[\s:*])(?:{named}):\s*(?:\(|$)|^\s*(?:{named})\s+\d+\s+[1-9]\d*\s*$"
    found = pc.match_substring_regex(lines, pattern)
    told = pc.and_(found, pc.invert(pc.match_substring_regex(lines, _NONE)))
    return np.asarray(told, np.bool_)


def tails(lines: Text) -> npt.NDArray[np.bool_]:
    r"""Return which of *lines*, that are no events, may be the end of the line before.

    >>> from .lines import lines_of
    >>> tails(lines_of(b"bash$\nfffc900ffc90000 end=0x1\n")).tolist()
    [False, True]
    """
    wrapped = pc.match_substring_regex(lines, rf"{_TAIL}|^\s*\(?{_PLACE}[ )]|^\s*<- ")
    told = pc.and_(wrapped, pc.invert(pc.match_substring_regex(lines, _NONE)))
    return np.asarray(told, np.bool_)


def cut_short(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which of the addresses *values* (shape (n,)) are a kernel's that lost digits: they
    begin with ffff, or as decimals with 18446, and have less than 16 digits (20), or are of the
    first page or of neither half of the address space.

    >>> cut_short(np.array([0xFFFFC9000000A000, 0xFFFFC9000000A0, 0], np.uint64)).tolist()
    [False, True, False]
    """
    found, columns = np.zeros(len(values), np.bool_), np.array([0, -1], np.int64)
    ident, flat = np.zeros(len(values), np.int64), np.ascontiguousarray(values)
    cuts.find_cut(ident.data, flat.data, 1, columns.data, found.view(np.uint8).data)
    return found


class Width:
    r"""The width at which a text's lines may be cut: some of the longest lack an argument.

    >>> from .lines import lines_of
    >>> width = Width()
    >>> width.take(lines_of(b"m: pfn=2\nu: (unm\nm: pfn=3\nm: pfn=4\n"), np.array([1]))
    >>> width.cuts
    False
    >>> width.take(lines_of(b"m: pfn=25\nm: pfn=26\nu: (unma\nm: pfn=27\n"), np.array([2]))
    >>> width.cuts
    False
    >>> width.take(lines_of(b"u: (unmap\n"), np.array([0]))
    >>> width.cuts
    True
    """

    def __init__(self) -> None:
        self._longest = self._count = 0
        self._broken = False

    def take(self, lines: Text, bad: npt.NDArray[np.intp]) -> None:
        """Take more *lines*, of which those at the indices *bad* lack an argument."""
        lengths = np.asarray(pc.binary_length(lines))
        longest = int(lengths.max(initial=0))
        if longest > self._longest:
            self._longest, self._count, self._broken = longest, 0, False
        if longest != self._longest:
            return
        rows = np.flatnonzero(lengths == longest)
        self._count += len(rows)
        few = lines.take(pa.array(rows[:: 1 + len(rows) // _FEW]))
        ends = pc.match_substring_regex(few, _OPEN_END)
        self._broken |= bool((lengths[bad] == longest).any() or np.asarray(ends).any())

    @property
    def cuts(self) -> bool:
        """Whether several lines are as long as the longest, and one of these lacks one."""
        return self._broken and self._count > 2
