# SPDX-License-Identifier: Apache-2.0
"""This module reads traces that are text: ftrace's `trace`, `trace-cmd report` (with or without -l)
and `perf script`.

A text is read some MiB at a time. Compiled code takes the plain lines apart (plain.py), and regular
expressions the others (careful.py); here both are put together in their order. A line that is no
event's is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.events import ALL_CPUS, Cause
from ghesrace.plan import Unseen
from ghesrace.sources.foreign.eventmap import EventMap, EventType
from ghesrace.sources.foreign.reader import Block, Gap
from ghesrace.sources.ring.pages import UNCOUNTED, EventFormat, Records

from . import lost as lost_lines
from . import words
from .careful import Careful
from .chunks import Chunks
from .debris import Width
from .entries import Entries
from .forms import Style, boots_of, heads_of, is_prompt, read_begin
from .kept import Kept
from .lines import behind, first_of
from .neighbours import Chains, last_rows
from .notes import Found, unseen_of
from .pages import LAYOUT, Columns, pages
from .parts import WHOLE, Buffers, Followers, Part, maybe_of, parts_of
from .plain import Pieces, Plain, merged
from .runs import Runs
from .steps import Repeats, Steps
from .unread import Unread

_CHUNK = 3 << 20
_FIRST_CHUNK = 1 << 16  # in which most of what is in the text is learnt


class TextReader:
    """This reads one text file; see foreign.reader.Reader. *form* is a key of FORMS, *style* how
    the text prints, *given* the map file, and *part* what of the text is to be read.

        begin = read_begin(path)
        reader = TextReader(path, begin.form, begin.style, EventMap())
    """

    layout = LAYOUT

    def __init__(
        self, path: Path, form: str, style: Style, given: EventMap, part: Part = WHOLE
    ) -> None:
        self.path = path
        self.part = part
        self._buffers = Buffers()
        self._starts: list[int] = []  # the lines at which the runs after the first begin
        self._offset = 0  # of the stamps of the last event
        self._line = 0  # the number of the next piece's first line
        self._open_head: int | None = None  # the line of a head behind which no event was yet
        self.clock = self.arch = self.release = ""
        self.cpus = style.cpus
        self.truncated: list[str] = []
        self.missed: dict[str, int] = {}
        self.stats: list[dict[str, int]] = []
        self.unseen: list[Unseen] = []
        self._form = form
        self._given = given
        self._style = style
        self._careful = Careful(form, style, given)
        self._plain = Plain(form, style.bare)
        self.formats: dict[int, tuple[str, EventFormat]] = self._careful.formats
        self.whole: list[tuple[Cause, int]] = []
        self._unread, self._width = Unread(self._careful, self.whole), Width()
        self._runs = Runs()
        self._steps, self._repeats = Steps(), Repeats()
        self._surveyed = self._counted = False
        self._kept: Kept | None = None

    @property
    def clock_error_ns(self) -> int:
        """This error (ns) is assumed; it is larger for stamps in microseconds, which are
        rounded."""
        return 2000 if self._careful.micro else 1000

    def event_type(self, ident: int, records: Records | None, row: int) -> EventType:
        """See foreign.reader.Reader."""
        return self._careful.event_type(ident)

    def blocks(self) -> Iterator[Block]:
        """See foreign.reader.Reader. The lines are taken apart only once, if there is room to keep
        what was made of them."""
        if self._kept is not None:
            yield from self._kept
            return
        kept = Kept() if not self._surveyed else None
        for block in self._parsed():
            if kept is not None:
                kept.add(block)
            yield block
        if not self._surveyed:
            self._surveyed = True
            self._kept = kept if kept is not None and kept.whole else None
            unread, flags = self._unread, self._careful.flags
            found = Found(
                self._form, self._style, self._careful.plain, unread.count, unread.examples
            )
            self.unseen += unseen_of(found, flags, self._runs, self._steps.count)

    def _parsed(self) -> Iterator[Block]:
        self.truncated.clear()
        self.whole.clear()
        self._unread, self._width = Unread(self._careful, self.whole), Width()
        self._runs = Runs()
        self._steps, self._repeats = Steps(), Repeats()
        self._buffers.counts.clear()
        self._starts.clear()
        self._line, self._open_head, self._offset = self.part.first, None, 0
        entries = Entries()
        lost: dict[int, int] = {}
        newest: dict[int, int] = {}
        waiting: Block | None = None
        gaps: list[Gap] = []
        for pieces in self._pieces():
            columns, more = self._columns(pieces, lost, newest, entries)
            self._line += pieces.count
            gaps += more
            if columns is None:
                continue
            if waiting is None:
                # What can't be read before the first event may be as late as that.
                first = int(columns.ts[0])
                gaps = [replace(g, begin=g.begin or first, end=max(g.end, first)) for g in gaps]
            for cpu, row in last_rows(columns.cpu).items():
                newest[cpu] = int(columns.ts[row])
            if waiting is not None:
                begins = [gap.begin for gap in gaps]
                yield replace(waiting, mark=min([int(columns.ts[0]), *begins]))
            waiting = Block(pages(columns, self._careful.width), None, tuple(gaps))
            gaps = []
        self.truncated += entries.finish()
        self._counted = entries.told
        self.whole += [(Cause.UNREAD, 0)] if self._width.cuts else []
        # Other orders of one run's lock holds must not take a part of another run's.
        self.whole += [(Cause.CLOCK, 0)] if self._runs.starts else []
        if waiting is not None:
            end = max(newest.values())
            for cpu, count in lost.items():
                gaps.append(Gap(newest.get(cpu, 0), end, Cause.OVERRUN, cpu, max(count, 0)))
            yield replace(waiting, lost=(*waiting.lost, *gaps))

    def _pieces(self) -> Iterator[Pieces]:
        """Yield the part's whole lines, some MiB at a time. A last line without its end is left
        out."""
        skip, left = self.part.first, self.part.last
        left = None if left is None else left - skip
        size = min(_FIRST_CHUNK, _CHUNK)
        with self.path.open("rb", buffering=0) as file:
            chunks, followers = Chunks(file, _CHUNK), Followers(self._buffers)
            while (piece := chunks.take(size)) is not None:
                size = _CHUNK
                if skip:
                    piece, skip = behind(piece, skip)
                if left is not None:
                    piece = first_of(piece, left)
                if not piece:
                    continue
                pieces = followers.named(self._plain.take(piece))
                left = None if left is None else left - pieces.count
                yield pieces if self.part.buffer is None else self._only(pieces, self.part.buffer)
                if left == 0:
                    return
        # The next line may be cut in the blanks that it begins with.
        if chunks.rest and not is_prompt(chunks.last):
            self.truncated.append("the text ends in the middle of a line")

    def _only(self, pieces: Pieces, buffer: str) -> Pieces:
        """Return what of *pieces* may be of this *buffer*."""
        mine = pieces.plain.of == self._buffers.known.get(buffer, -1)
        rest = maybe_of(pieces.others, self._buffers, buffer)
        return replace(
            pieces,
            plain=pieces.plain.pick(np.flatnonzero(mine)),
            others=pieces.others.filter(pa.array(rest)),
            at=pieces.at[rest],
        )

    def _columns(
        self, pieces: Pieces, lost: dict[int, int], newest: dict[int, int], entries: Entries
    ) -> tuple[Columns | None, list[Gap]]:
        """Return the events of some lines, or None if they have none, and where lines can't be
        read. *lost* (CPU -> number) has the events lost before each CPU's next event, and is
        updated; *newest* has the stamp (ns) of each CPU's last event before these lines."""
        lines, at = pieces.others, pieces.at
        found, bad, twice, part = self._careful.read(lines, self._buffers)
        self._plain.learn(words.BUFFER, self._buffers.as_bytes())
        self._careful.teach(self._plain, found, part)
        self._careful.micro |= pieces.micro
        odd = self._unread.take(lines, bad, twice, self._runs.offset).among(at)
        events = merged(pieces.plain, found.among(at))
        events.whole &= ~(self._unread.wrapped(at, events.at) | self._careful.impossible(events))
        gone = lost_lines.told(lines)
        gone_at = at[gone[0]]
        heads, boots = at[heads_of(lines)], at[boots_of(lines)]
        self._buffers.count(events.of)
        rows, cpus = events.at, events.cpu
        if len(odd.at):
            rows, which = np.unique(np.concatenate((rows, odd.at)), return_index=True)
            cpus = np.concatenate((cpus, odd.cpu))[which]
        overwritten = entries.take(lines, at, pieces.count, rows, cpus)
        before_runs = len(self._runs.gaps)
        before_heads, before_boots = (
            np.searchsorted(events.at, h).tolist() for h in (heads, boots)
        )
        chains = Chains(events.cpu)
        offsets = self._runs.place(events.cpu, events.ts, before_heads, chains, before_boots)
        gaps = [Gap(b, e, Cause.CLOCK, ALL_CPUS, 0) for b, e in self._runs.gaps[before_runs:]]
        events.ts = events.ts + offsets
        self._note_starts(events.at, heads, offsets)
        if not len(events):
            for number, count in zip(gone[1].tolist(), gone[2].tolist(), strict=True):
                lost_lines.add(lost, number, count)
                self.whole += [(Cause.OVERRUN, max(count, 0))] if number < 0 else []
            return None, gaps + lost_lines.gaps(events.at, events.cpu, events.ts, odd, newest)
        again = self._repeats.take(events.cpu, events.ts, events.ident, events.values, chains)
        if again.any():
            events.whole &= ~(again & np.isin(events.ident, self._careful.once))
        gaps += self._steps.take(events.cpu, events.ts, events.flags, chains)
        before = np.zeros(len(events), np.int64)
        told_at = np.searchsorted(events.at, gone_at)
        lost_lines.place(before, events.cpu, events.whole, told_at, gone[1], gone[2], lost, newest)
        whole = bool(events.whole.all())
        there = chains.last if whole else last_rows(events.cpu[events.whole])
        for number in there.keys() - newest.keys():
            first = int(np.flatnonzero((events.cpu == number) & events.whole)[0])
            before[first] = UNCOUNTED if events.at[first] >= overwritten else before[first]
        # An event whose arguments can't be read ("(fault)") can't be read either.
        holes = events.pick(np.flatnonzero(~events.whole))
        kept = events if not len(holes) else events.pick(np.flatnonzero(events.whole))
        odd = odd.plus(holes.at, holes.cpu, holes.ts, 1)
        self._unread.note(pieces.lines, holes.at)
        self._width.take(pieces.lines, holes.at)
        gaps += lost_lines.gaps(kept.at, kept.cpu, kept.ts, odd, newest)
        if not len(kept):
            return None, gaps
        before = before[events.whole]
        return Columns(
            kept.cpu, kept.ts, kept.pid, kept.flags, kept.ident, before, kept.values
        ), gaps

    def _note_starts(
        self,
        good: npt.NDArray[np.intp],
        heads: npt.NDArray[np.intp],
        offsets: npt.NDArray[np.int64],
    ) -> None:
        """Note the lines at which runs begin: a run's head, or else its first event. *good* are the
        lines of the events, *heads* those of heads, and *offsets* differ from run to run."""
        before = np.concatenate(([self._offset], offsets[:-1])) if len(offsets) else offsets
        for row in np.flatnonzero(offsets != before).tolist():  # This loops over runs.
            previous = int(good[row - 1]) if row else -1
            head = heads[(heads > previous) & (heads < good[row])]
            begin = self._line + int(head[0] if len(head) else good[row])
            self._starts.append(begin if row or self._open_head is None else self._open_head)
        if len(offsets):
            self._offset, self._open_head = int(offsets[-1]), None
        left = heads[heads > (good[-1] if len(good) else -1)]
        if len(left) and self._open_head is None:
            self._open_head = self._line + int(left[0])

    def parts(self) -> list[TextReader]:
        """Return a reader for each part of the text, or [] if it is one part. That is known after
        `blocks` was read once. Raises OSError."""
        made = []
        for part in parts_of(self._buffers, self._starts):
            begin = read_begin(self.path, part.first)
            form, style = begin.form or self._form, begin.style
            made.append(TextReader(self.path, form, style, self._given, part))
        return made

    def find_buffers(self) -> None:
        """Find the buffers up to the end of the text, where `blocks` ended with an error before it:
        one that begins only later would be left out without a word. Raises InputError too."""
        self._buffers.counts.clear()
        for pieces in self._pieces():
            found, *_ = self._careful.read(pieces.others, self._buffers)
            self._buffers.count(merged(pieces.plain, found.among(pieces.at)).of)

    @property
    def contexts(self) -> bool:
        """This is false if the text can't tell contexts, or takes an NMI for an interrupt."""
        return self._careful.flags.contexts

    @property
    def unknowns(self) -> frozenset[str]:
        """See foreign.reader.Reader."""
        found = {"skipped-probes", "clock"}
        if not self._counted:
            found.add("losses")
        if self._style.bare:
            found.add("arguments")
        return frozenset(found)
