# SPDX-License-Identifier: Apache-2.0
"""This module finds what a text has several of: buffers whose lines were merged, or runs one after
the other. Each is a part, which can be read by itself.

`trace-cmd report` of a file with instances, or of several files (a host's and its guest's), puts
the name of a buffer or file before each line, `grep` the name of a file, and a log the name of the
host whose kernel printed the line. Lines of different buffers have no common order on one CPU, and
CPU 0 of a guest is not CPU 0 of its host.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.errors import InputError

from .forms import STAMPED
from .lines import Text, pc
from .plain import Pieces

# An address, or anything with a letter that is no date.
_HOST = r"(?:\d{1,3}(?:\.\d{1,3}){3}|\d*[A-Za-z_][^\s\[\]<>#]*)"
_NAME = r"(?:\d{1,3}(?:\.\d{1,3}){3}|\d*[A-Za-z_][\w.-]*)"
_BAD = r"(?i:trace|debug|info|notice|warn\w*|err\w*)"
_LEVEL = rf"\[{_BAD}\]"
_DATE = (
    r"(?:<\d+>\d? ?)?(?:(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} [ \d]\d"
    r"|(?:[A-Z][a-z]{2} )?\d{4}-\d\d-\d\d)[ T]\d\d:\d\d:\d\d\S*(?: [A-Z]{2,5}| \d{4})?"
)
_LETTER = r"[^\s:\[\]()#]"
# trace-cmd's print_handle_file() and grep -H: the name, a colon, and the line with its blanks. A
# task has such a name, too, and `grep -n` puts the line's number in front. In the log of a host, or
# of several, the host's name is in front of "kernel:".
_NAMED = (
    # kdb asks for a key there; what stands in brackets may be a web page's.
    r"^ *tmux: (?:server|client)-\d|^ *more> |^ *<(?:pre|code|tt|td|p|li|div|span|samp)> "
    # perf prints so whose guest an event is of, and on which of its CPUs.
    r"|^ *(?P<g>VM: *\d+) "
    r"|^ *(?P<b>\d*[^\s:\[\]()#\d][^\s:\[\]()#]*):(?:\d{1,9}:)? +[^\s:]"
    r"|^(?:[^\s#].{0,60}?\s)?(?P<h>[\w.-]+)(?: \w+\.\w+)? kernel(?:\[\d+\])?:\s"
    # `docker compose logs` and Ansible put it before a bar.
    r"|^(?P<c>[\w.-]+) +\| "
    # `kubectl logs --prefix` and Fabric put it into brackets, others before ">", and
    # `parallel --tag` before a tab. A log may have how bad it is there.
    rf"|^ *{_LEVEL} +[^\s\[]|^ *(?:{_LEVEL} *)?\[(?P<d>{_HOST})\](?:\[[^\]]*\])*(?: out)?:? +[^\s:]"
    rf"|^ *(?P<e>{_HOST})(?:> +|:?\t *)[^\s:]"
    # syslog puts it behind the date, and a tag behind that, or the kernel's stamp.
    rf"|^{_DATE} {_BAD}\b|^{_DATE} \[?(?P<i>{_NAME})\]?"
    r"(?:(?::\d+)?:? {2,}[^\s\[(\d]|(?: [\w./-]+(?:\[\d+\])?)?: | \S+ \S+ - | \[ *\d+\.\d+\])"
    # Some put it there alone, in other brackets, or before another mark.
    rf"|^(?P<j>{_NAME}(?:/[\w.-]+)*)(?::\d+)?(?: {{2,}}[^\s\[(\d:-]| \[ *\d+\.\d+\])"
    rf"|^(?:<(?P<k>{_NAME})>|\((?P<l>{_NAME})\)) +[^\s:\d]|^(?P<m>{_NAME})(?: *\|+|[,;]) +[^\s]"
    r"|^(?:host(?:name)?|node|instance|pod)=(?P<o>[\w.-]+) "
    # What `grep -H` prints, with the blanks before the task gone. Some tasks have such names.
    rf"|^(?:kworker|irq)/|^(?P<f>{_LETTER}+\.[A-Za-z]\w{{0,7}}"
    rf"|[A-Za-z._/]{_LETTER}*/{_LETTER}+):(?:\d{{1,9}}:)?[^\s:]"
)
_NAMES = "gbhcdefijklmo"  # its groups
# What trace-cmd says of a CPU has the name of the buffer in front; the event behind it has not.
_SAID = (
    r"^ *(?:(?P<n>[^\s:\[\]()#]+): +)?CPU:\d+ "
    r"\[(?:SUBBUFFER|LOST|EVENTS DROPPED|\d+ EVENTS DROPPED)"
)
_MOST = 64
_NOTHING = pa.scalar(b"", pa.large_binary())


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
    """Buffers number the buffers of a text by their names, and count the events of each. The one
    without a name has the number 0.

    >>> from .lines import lines_of
    >>> buffers = Buffers()
    >>> numbers = buffers.numbers(lines_of(b"  guest:  a-1 [000] 1.000000: x: y\\n"))
    >>> buffers.count(numbers)
    >>> dict(buffers.counts)
    {'guest': 1}
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.known = {"": 0}  # name -> number

    def numbers(self, lines: Text) -> npt.NDArray[np.int64]:
        """Return the number of the buffer of each line."""
        found = pc.extract_regex(lines, pattern=_NAMED)
        parts = [pc.fill_null(found.field(name), b"") for name in _NAMES]  # One at most is there.
        encoded = pc.binary_join_element_wise(*parts, _NOTHING).dictionary_encode()
        names = [name.decode("latin-1") for name in encoded.dictionary.to_pylist()]
        table = [self.known.setdefault(name, len(self.known)) for name in names]
        numbers: npt.NDArray[np.int64] = np.array(table, np.int64)[np.asarray(encoded.indices)]
        return numbers

    def as_bytes(self) -> list[tuple[bytes, int]]:
        """Return the names that are known, as the text has them, and their numbers."""
        return [(name.encode("latin-1"), number) for name, number in self.known.items()]

    def count(self, of: npt.NDArray[np.int64]) -> None:
        """Count events of the buffers with the numbers *of*, in the order of the text. Raises
        InputError if there are too many buffers."""
        counts = np.bincount(of, minlength=len(self.known)).tolist()
        names = [(name, number) for name, number in self.known.items() if counts[number]]
        if any(name not in self.counts for name, _ in names):
            names.sort(key=lambda one: int(np.argmax(of == one[1])))
        for name, number in names:
            if name not in self.counts and len(self.counts) >= _MOST:
                raise InputError(
                    f"its lines are of more than {_MOST} buffers", "give them one by one"
                )
            self.counts[name] += counts[number]


class Followers:
    """Followers give the events behind what `trace-cmd report` says of a CPU the name of its buffer
    back, which numbers *buffers*.

        pieces = Followers(buffers).named(pieces)
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._name = b""  # which the next piece's first line lacks

    def named(self, pieces: Pieces) -> Pieces:
        """Return *pieces*, in which those events have their names."""
        before, self._name = self._name, b""
        said = pc.extract_regex(pieces.others, pattern=_SAID)
        rows = np.flatnonzero(np.asarray(said.is_valid()))
        names = {int(pieces.at[row]): said[row]["n"].as_py() for row in rows.tolist()}
        if before:
            names[-1] = before
        lacks: dict[int, bytes] = {}
        for at in sorted(names):
            name = names[at] or lacks.get(at, b"")
            if name and at + 1 < pieces.count:
                lacks[at + 1] = name
            elif name:
                self._name = name
        if not lacks:
            return pieces
        plain, others = pieces.plain, pieces.others.to_pylist()
        for row in np.flatnonzero(np.isin(plain.at, list(lacks)) & (plain.of == 0)).tolist():
            name = lacks[int(plain.at[row])].decode("latin-1")
            plain.of[row] = self._buffers.known.setdefault(name, len(self._buffers.known))
        nameless = self._buffers.numbers(pieces.others) == 0
        for row in np.flatnonzero(np.isin(pieces.at, list(lacks)) & nameless).tolist():
            if int(pieces.at[row]) not in names:
                others[row] = b" %s: %s" % (lacks[int(pieces.at[row])], others[row])
        return replace(pieces, others=pa.array(others, pa.large_binary()))


def maybe_of(lines: Text, buffers: Buffers, name: str) -> npt.NDArray[np.bool_]:
    """Return which of *lines* may be of the buffer *name*: all but the events of the others.

    >>> from ghesrace.sources.foreign.text.lines import lines_of
    >>> text = b"# head\\n a: x-1 [000] 1.000000: y: z\\n b: x-1 [000] 1.000000: y: z\\n"
    >>> maybe_of(lines_of(text), Buffers(), "b").tolist()
    [True, False, True]
    """
    of = buffers.numbers(lines)
    stamped = np.asarray(pc.match_substring_regex(lines, STAMPED), np.bool_)
    maybe: npt.NDArray[np.bool_] = (of == buffers.known.get(name, -1)) | ~stamped
    return maybe


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
