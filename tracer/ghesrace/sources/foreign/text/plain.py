# SPDX-License-Identifier: Apache-2.0
"""This module finds the plain lines of a text, which most lines of most texts are, and has them
read by compiled code. careful.py reads the rest, and everything new.

A line is plain if what careful.py would make of it is known beforehand. So it has the form that the
text has, with the CPU's bracket as the first one in it; a task of 15 letters at most, printable
ones, without a "-" if it has a blank; a buffer's name, letters of the context, and an event with
the place behind its name as they stood in lines that careful.py has read; and then, if arguments
of the event are wanted, nothing but `name=number`, each of them once at least, or else nothing with
"[", "LOST", or "-" before a digit.

Each regular expression that careful.py would try then has one answer. FORMS has its only match, as
no second "-123 [" or "123 [" is in the line. joined.TWICE has none: it needs a second process. LOST
has none, as its words do not fit into a task or an argument's name, and no place that is learnt has
them. A head begins with "#", or has no CPU. The buffer's name, the letters and the event are those
of a line that was read before. And a wanted argument is the first of its name in the line, as no
place that is learnt has "=" or ":" in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import breaks, heads, words
from .forms import FORMS
from .lines import Data, Text

Ints = npt.NDArray[np.int64]

_MOST = 4096  # words that are known
_PLACES = 4 * _MOST  # in the table: a power of two
_FIELD = 3  # numbers of an argument: see words.py
_BLOCK = 4096  # lines whose heads are read at a time
_FORMS = list(FORMS)
# No event is learnt that could be taken for another line, tell of losses, or hide an argument.
_NEVER = re.compile(rb"\[\d|-\d|LOST|\[EVENTS|\(.*[=:]", re.S)
_LETTERS = re.compile(rb"[\w.#]{4,9}", re.ASCII)


@dataclass(slots=True)
class Parsed:
    """These lines of a text are events: `at` are their numbers among the lines, in order, `cpu`,
    `ts` (ns), `pid` and `flags` (TRACE_FLAG_*) what their heads say, `of` the numbers of their
    buffers, `ident` those of their events, `values` their arguments (shape (n, fields)). An
    event that is not `whole` can't be read."""

    at: Ints
    cpu: Ints
    ts: Ints
    pid: Ints
    flags: Ints
    of: Ints
    ident: Ints
    values: npt.NDArray[np.uint64]
    whole: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def none(cls, width: int) -> Parsed:
        """Return no events, with *width* arguments."""
        none = np.zeros(0, np.int64)
        values = np.zeros((0, width), np.uint64)
        return cls(none, none, none, none, none, none, none, values, np.zeros(0, np.bool_))

    def pick(self, rows: npt.NDArray[np.intp]) -> Parsed:
        """Return those at the indices *rows*."""
        return Parsed(*(column[rows] for column in self.columns))

    def among(self, at: Ints) -> Parsed:
        """Return these as of more lines, among which these lines have the numbers *at*."""
        return Parsed(at[self.at], *self.columns[1:])

    @property
    def columns(self) -> list[npt.NDArray[Any]]:
        """These are the columns in their order."""
        return [getattr(self, one.name) for one in fields(self)]


def _widened(values: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Return *values* with *width* columns, of which those that they lack are 0."""
    made = np.zeros((len(values), width), np.uint64)
    made[:, : values.shape[1]] = values
    return made


def merged(one: Parsed, other: Parsed) -> Parsed:
    """Return the events of both, in the order of their lines."""
    if not (len(one) and len(other)):
        return one if len(one) else other
    width = max(one.values.shape[1], other.values.shape[1])
    sides = [replace(side, values=_widened(side.values, width)).columns for side in (one, other)]
    pairs = [np.concatenate(pair) for pair in zip(*sides, strict=True)]
    return Parsed(*pairs).pick(np.argsort(pairs[0], kind="stable"))


@dataclass(frozen=True, slots=True)
class Pieces:
    """A piece of a text has some `lines`: `plain` ones, and `others`, whose numbers are `at`.
    `micro` says that stamps of plain lines are in microseconds. All of it is good only until the
    next piece is taken."""

    lines: Text
    plain: Parsed
    others: Text
    at: Ints
    micro: bool

    @property
    def count(self) -> int:
        """This is how many lines there are."""
        return len(self.lines)


class Words:
    """The words that are known, as words.py takes them. `width` is how many arguments their events
    have at most.

    >>> known = Words()
    >>> known.add(words.FLAGS, b"d.h1.", 9)
    True
    >>> len(known)
    1
    """

    def __init__(self) -> None:
        self.width = 0
        self._seen: set[tuple[int, bytes]] = set()
        self.pool = np.zeros(1, np.uint8)
        self.entries, self.fields = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.table = np.full(_PLACES, -1, np.int64)
        self.after = np.zeros(words.REMEMBERED, np.int64)

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, word: tuple[int, bytes]) -> bool:
        return word in self._seen

    @property
    def micro(self) -> bool:
        """Whether a plain line had a stamp in microseconds."""
        return bool(self.after[words.MICRO_SEEN])

    @property
    def full(self) -> bool:
        """Whether no more words are taken. Lines with others are read carefully."""
        return len(self) >= _MOST

    def add(
        self, sort: int, word: bytes, value: int, wanted: Sequence[tuple[bytes, int]] = ()
    ) -> bool:
        """Let *word* stand for *value*; of an event also the names of the arguments that are
        *wanted*, and the columns of their values. Return whether there was room.

            known.add(words.EVENT, b"map: (f+0x0/0x10)", ident, [(b"phys", 0)])
        """
        code = hash_of(word)
        places = [(code + n) % _PLACES for n in range(words.PROBES)]
        place = next((place for place in places if self.table[place] < 0), None)
        self._seen.add((sort, word))
        if place is None or len(wanted) > words.MOST_FIELDS:
            return False
        self.width = max([self.width, *(column + 1 for _, column in wanted)])
        pool = self.pool.tobytes()
        first = len(self.fields) // _FIELD
        for name, column in wanted:
            self.fields = np.append(self.fields, (len(pool), len(name), column))
            pool += name
        self.table[place] = len(self.entries)
        entry = (len(pool), len(word), sort, code >> 1, value, first, len(wanted))
        self.entries = np.append(self.entries, entry)
        self.pool = np.frombuffer(pool + word, np.uint8)
        return True


def hash_of(word: bytes) -> int:
    """Return the hash by which words.py finds a word.

    >>> hash_of(b"ab") == 33 * ord("a") + ord("b")
    True
    """
    code = 0
    for letter in word:
        code = (33 * code + letter) % 2**64
    return code


class _Space:
    """This is the space that compiled code writes to. It is the same from piece to piece, as the
    system would have to make it zero anew each time."""

    def __init__(self) -> None:
        self.heads = np.empty(heads.COLUMNS * _BLOCK, np.int64)
        self.recent = np.empty(heads.SLOTS, np.int64)
        self._columns, self._values = np.zeros(0, np.int64), np.zeros(0, np.uint64)
        self._starts = np.empty(_BLOCK, np.int64)

    def starts(self, text: npt.NDArray[np.uint8]) -> Ints:
        """Return where the lines of *text* begin, and where the last one ends."""
        while (count := breaks.find_starts(text.data, self._starts.data)) > len(self._starts):
            self._starts = np.empty(count + count // 8, np.int64)
        return self._starts[:count]

    def of(self, room: int, width: int) -> tuple[Ints, npt.NDArray[np.uint64]]:
        """Return the space for *room* lines with *width* arguments each: for words, and for
        arguments."""
        if words.COLUMNS * room > len(self._columns):
            self._columns = np.empty(words.COLUMNS * (room + room // 8), np.int64)
        if room * width + 1 > len(self._values):
            self._values = np.empty((room + room // 8) * width + 1, np.uint64)
        return self._columns[: words.COLUMNS * room], self._values[: room * width + 1]


class Plain:
    """This reads the plain lines of a text whose form is the key *form* of FORMS. *bare* says that
    numbers without 0x are hexadecimal.

        pieces = plain.take(b"  bash-1 [000] d.h1. 1.000000: map: (f) phys=0x1000\\n")
        plain.learn_events({b"map: (f)": 1}, {1: [(b"phys", 0)]})
    """

    def __init__(self, form: str, bare: bool) -> None:
        self._form = _FORMS.index(form)
        self._bare = bare
        self._known = Words()
        self._space = _Space()

    @property
    def full(self) -> bool:
        """Whether nothing more can be learnt."""
        return self._known.full

    def learn(self, sort: int, table: Iterable[tuple[bytes, int]]) -> None:
        """Learn words of one *sort* (words.BUFFER or FLAGS), and the number of each."""
        for word, value in table:
            if (sort, word) in self._known or self.full:
                continue
            if word and (sort == words.BUFFER or _LETTERS.fullmatch(word)):
                self._known.add(sort, word, value)

    def learn_event(self, word: bytes, ident: int, wanted: Sequence[tuple[bytes, int]]) -> None:
        """Learn an event: its name, the colon, and the place behind it, if there is one, with the
        blanks before that. *ident* is its id, and *wanted* are the names of the arguments that are
        wanted, and the columns of their values."""
        if (words.EVENT, word) not in self._known and not self.full and not _NEVER.search(word):
            self._known.add(words.EVENT, word, ident, wanted)

    def take(self, text: Data) -> Pieces:
        """Read the plain ones of the whole lines *text*."""
        view = np.frombuffer(text, np.uint8)
        starts = self._space.starts(view)
        room, width = len(starts) - 1, self._known.width
        columns, values = self._space.of(room, width)
        found = self._read(view, starts, columns, values) if len(self._known) else 0
        at, cpu, ts, pid, flags, of, ident = columns.reshape(words.COLUMNS, room)[:, :found]
        parsed = Parsed(
            *(at, cpu, ts, pid, flags, of, ident),
            *(values[: found * width].reshape(found, width), np.ones(found, np.bool_)),
        )
        buffers = [None, pa.py_buffer(starts), pa.py_buffer(text)]
        lines: Text = pa.Array.from_buffers(pa.large_binary(), room, buffers)
        left = np.arange(0)
        if found < room:
            other = np.ones(room, np.bool_)
            other[at] = False
            left = np.flatnonzero(other)
        others = lines.take(pa.array(left)) if found else lines
        return Pieces(lines, parsed, others, left, self._known.micro)

    def _read(
        self,
        view: npt.NDArray[np.uint8],
        starts: Ints,
        columns: Ints,
        values: npt.NDArray[np.uint64],
    ) -> int:
        """Write the plain lines of *view*, which begin at *starts*, into *columns* and *values*;
        return how many they are. What heads are is written and read again while it is near."""
        known, made = self._known, 0
        space, recent = self._space.heads, self._space.recent
        text, found, numbers = view.data, columns.data, values.data
        table = known.pool.data, known.entries.data, known.table.data, known.fields.data
        after = known.after.data
        for first in range(0, len(starts) - 1, _BLOCK):
            some = starts[first : first + _BLOCK + 1]
            near = space[: heads.COLUMNS * (len(some) - 1)].data
            recent.fill(-1)
            count = heads.read_heads(text, self._form, some.data, near, recent.data)
            made = words.read_words(
                *(text, self._bare, *table, near, count, first),
                *(found, numbers, known.width, made, after),
            )
        return made
