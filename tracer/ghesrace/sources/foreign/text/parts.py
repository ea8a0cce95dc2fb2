# SPDX-License-Identifier: Apache-2.0
"""This module finds what a text has several of: buffers whose lines were merged, or runs one after
the other. Each is a part, which can be read by itself.

`trace-cmd report` of a file with instances, or of several files (a host's and its guest's), puts
the name of a buffer or file before each line, and `grep` the name of a file. Lines of different
buffers have no common order on one CPU, and CPU 0 of a guest is not CPU 0 of its host.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError

from .forms import STAMPED
from .lines import Text, pc

# trace-cmd's print_handle_file() and grep -H: the name, a colon, and the line with its blanks.
_NAMED = r"^ *(?P<b>[^\s:\[\]()#]{1,100}): +[^\s:]"
_MOST = 64


@dataclass(frozen=True, slots=True)
class Part:
    """A part is what of a text is read: its lines from `first` up to `last` (counted from 0; to the
    end if that is None), and of these only those of `buffer`, unless that is None. The buffer
    without a name is ""."""

    first: int = 0
    last: int | None = None
    buffer: str | None = None
    name: str = ""


WHOLE = Part()


class Buffers:
    """Buffers count the events of each buffer in a text, by its name.

    >>> from .lines import lines_of
    >>> buffers = Buffers()
    >>> buffers.take(lines_of(b"  guest:  a-1 [000] 1.000000: x: y\\n"))
    >>> dict(buffers.counts)
    {'guest': 1}
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def take(self, events: Text) -> None:
        """Count the lines *events*, each of which is one event's."""
        names = _names(events)
        found, first, counts = np.unique(names, return_index=True, return_counts=True)
        for at in np.argsort(first).tolist():  # in the order of the text
            name, count = found[at], counts[at]
            if name not in self.counts and len(self.counts) >= _MOST:
                raise InputError(
                    f"its lines are of more than {_MOST} buffers", "give them one by one"
                )
            self.counts[str(name)] += int(count)


def only(lines: Text, buffer: str) -> Text:
    """Return those of *lines* that may be of *buffer*: all but the events of the others.

    >>> from ghesrace.sources.foreign.text.lines import lines_of
    >>> text = b"# head\\n a: x-1 [000] 1.000000: y: z\\n b: x-1 [000] 1.000000: y: z\\n"
    >>> only(lines_of(text), "b").to_pylist()
    [b'# head\\n', b' b: x-1 [000] 1.000000: y: z\\n']
    """
    names = _names(lines)
    stamped = np.asarray(pc.match_substring_regex(lines, STAMPED), np.bool_)
    return lines.filter((names == buffer) | ~stamped)


def _names(lines: Text) -> npt.NDArray[np.str_]:
    """Return the name of each line's buffer."""
    found = pc.fill_null(pc.extract_regex(lines, pattern=_NAMED).field("b"), b"")
    encoded = found.dictionary_encode()
    table = np.array([name.decode("latin-1") for name in encoded.dictionary.to_pylist()], np.str_)
    names: npt.NDArray[np.str_] = table[np.asarray(encoded.indices)] if len(table) else table
    return names


def parts_of(buffers: Buffers, starts: list[int]) -> list[Part]:
    """Return the parts of a text, in their order: its *buffers*, if it has several, or else its
    runs, of which those after the first begin at the lines *starts*; [] if it is one part.

    >>> [(part.first, part.last) for part in parts_of(Buffers(), [40])]
    [(0, 40), (40, None)]
    """
    if len(buffers.counts) > 1:
        names = {name: name or "the lines without a name" for name in buffers.counts}
        return [Part(buffer=key, name=name) for key, name in names.items()]
    if not starts:
        return []
    return [
        Part(first, last, name=f"lines {first + 1} to {last or 'the end'}")
        for first, last in zip([0, *starts], [*starts, None], strict=True)
    ]
