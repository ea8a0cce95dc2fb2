# SPDX-License-Identifier: Apache-2.0
"""This module finds lines that are no longer what was printed: several in one, or only a begin."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.errors import InputError

from .forms import PERF_BEFORE_TIME
from .lines import Text, pc

_MOST = 100_000
# A task, a CPU, flags, and the stamp's first digit. A task that perf no longer knows is :-1 with
# the process -1.
_TASK = (
    r"[^\s:]-\d{1,9}\s+(?:\(\s*[\d-]+\)\s+)?"
    r"(?:\[\d{1,4}\]\s*(?:[dDbBX.][^\s:]{3,8}\s+)?|\d{1,4}[dDbBX.][^\s:]{3,8}\s+)\d"
)
_PERF_TASK = rf"\s\d{{1,9}}\s+\[\d{{1,4}}\]\s+{PERF_BEFORE_TIME}\d{{1,18}}\.\d{{6,9}}:"
# Of the first line there is a begin of its CPU, or no more than its process, and so only the next
# task is between the two. A date or a host before a task ("2026-11-30 17:18:30", "node-1 kernel:")
# is no process.
_GROUP = r"(?:\([^()]*\)\s+)?"
_FIRST = (
    rf"[^\s:]-\d{{1,9}}\s+{_GROUP}\[(?:\d{{1,4}}\]|\d{{0,4}}\s*[^\s\d.\]]).*"
    rf"|[^\s:]-\d{{1,9}}\s+{_GROUP}\d{{1,4}}(?:[dDbBX]|\.[^\d\s]).*"
    r"|[^\s:\d]-\d{1,9} +(?:\(\s*[\d-]*\)?\s+)?(?:\[?\d{1,4}\s+)?"
    r"(?:tmux: )?(?:[^\s|\[](?:[^:]|:[^\s]){0,13}?)?"
)
TWICE = rf"(?:{_FIRST}){_TASK}|\[\d{{1,4}}\]\s.*{_PERF_TASK}"
# This fits every line that TWICE fits, and takes a fraction of its time.
_LIKELY = r"-\d+\s.*-\d+\s+[\[(\d]|\]\s.*\d\s+\[\d+\]\s+[\dA-Z]"
# A line ends behind its CPU, in its flags, or in its stamp, perhaps with a mark that says so.
CUT = (
    r"-\d{1,9}\s+(?:\(\s*[\d-]+\)\s+)?\[(?P<cpu>\d{1,4})\]"
    r"(?:\s+[dDbBX.][^\s:]{0,8})?(?:\s*\d{0,18}\.?\d{0,9})?[^\w\s:]{0,3}\s*$"
)
_BEGIN = re.compile(rf"{_TASK}|{_PERF_TASK}".encode())


def several(lines: Text) -> npt.NDArray[np.intp]:
    """Return the indices of the lines that are several in one.

    >>> from .lines import lines_of
    >>> joined = lines_of(b"c\\n a-1 [000] d.h1.  1.0: x: y b-2 [001] d.h1.  2.000000: x: y\\n")
    >>> several(joined).tolist()
    [1]
    """
    likely = np.flatnonzero(np.asarray(pc.match_substring_regex(lines, _LIKELY)))
    if not len(likely):
        return likely
    there = pc.match_substring_regex(lines.take(pa.array(likely)), TWICE)
    return likely[np.asarray(there, np.bool_)]


def pieces_of(lines: Text, rows: npt.NDArray[np.intp]) -> tuple[Text, npt.NDArray[np.intp]]:
    """Return the lines that were joined to each of *lines* at *rows*, and of which of these each
    is. Raises InputError if they are too many.

    >>> from .lines import lines_of
    >>> joined = lines_of(b" a-1 [000] d.h1.  1.000000: x: y b-2 [001] d.h1.  2.000000: x: y\\n")
    >>> pieces_of(joined, np.array([0]))[1].tolist()
    [0, 0, 0]
    """
    if len(rows) > _MOST:
        raise InputError(
            f"more than {_MOST:,} of its lines are several in one",
            "lines must end where the tool ended them",
        )
    pieces, of = [], []
    for row in rows.tolist():  # This loops over damaged lines, which are few.
        line = lines[row].as_py()
        begins = [match.start() for match in _BEGIN.finditer(line)]
        for begin, end in zip([0, *begins], [*begins, len(line)], strict=True):
            pieces.append(line[begin:end])
            of.append(row)
    return pa.array(pieces, pa.large_binary()), np.array(of, np.intp)
