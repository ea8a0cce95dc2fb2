# SPDX-License-Identifier: Apache-2.0
"""This module reads traces that are text: ftrace's `trace`, `trace-cmd report` (with or without -l)
and `perf script`.

Arrow's compiled regular expressions take the lines apart, a chunk at a time. They are RE2's, which
take linear time whatever the text is. A line that is no event's is skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.errors import InputError
from ghesrace.events import ALL_CPUS, Cause
from ghesrace.plan import Unseen
from ghesrace.sources.foreign.eventmap import ENTRY_BYTES, EventMap, EventType, Rule, recognise
from ghesrace.sources.foreign.reader import Block, Gap
from ghesrace.sources.ring.pages import UNCOUNTED, EventFormat, Records

from . import lost as lost_lines
from .entries import Entries
from .flags import Flags
from .forms import FORMS, HARMLESS, HEAD, STAMPED, Style, read_begin
from .joined import CUT, pieces_of, several
from .lines import Text, behind, integers, lines_of, numbers, pc, unix_lines
from .notes import Found, unseen_of
from .pages import FIELDS_PER_EVENT, LAYOUT, MAX_TS, Columns, pages, text_format
from .parts import WHOLE, Buffers, Part, only, parts_of
from .runs import Runs
from .steps import Repeats, Steps

_CHUNK = 4 << 20
_MAX_LINE = 1 << 20
_KEPT_BYTES = 96 << 20  # bytes of pages kept from the first pass for the second
_MAX_TYPES = 4096
_ONCE = ("MAP", "MAP_END", "UNMAP", "UNMAP_END")  # No CPU does one of these twice at one time.

_PLACE = re.compile(
    r"^\s*\((?P<at>\[[^\]]*\]|[\w.]+)(?:\+0x(?P<off>[0-9a-f]{1,16})(?:/0x[0-9a-f]+)?)?"
    r"(?: \[(?P<in>\w+)\])?(?: <[0-9a-f]+>)?"
    r"(?: <- (?P<of>[\w.]+)(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)?(?: \[(?P<mod>\w+)\])?"
    r"(?: <[0-9a-f]+>)?)?\)"
)
# An argument that can't be read the first time may be read the next time.
_NAMED = re.compile(
    r"(?:^|[\s,({])([A-Za-z_]\w*)[=:]\s?"
    r"(?:0x[0-9a-fA-F]{1,16}|-?\d{1,20}\b|[0-9a-f]{1,16}\b|\(fault\))"
)


@dataclass(slots=True)
class _Known:
    label: str
    event: EventType
    rule: Rule | None


def _place_of(event: EventType) -> tuple[str, str, str]:
    """Return on what the probe of *event* sits, in words."""
    return event.symbol, event.module, "return" if event.returns else "entry"


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
        self.truncated: list[str] = []
        self.missed: dict[str, int] = {}
        self.stats: list[dict[str, int]] = []
        self.unseen: list[Unseen] = []
        self.formats: dict[int, tuple[str, EventFormat]] = {}
        self._form = form
        self._given = given
        self._known: dict[str, _Known] = {}
        self._ids: dict[str, int] = {}
        self._micro = self._plain = False
        self._style = style
        self._flags = Flags(style)
        self._runs = Runs()
        self._steps, self._repeats = Steps(), Repeats()
        self.unread = 0  # lines with a CPU and a stamp that can't be read
        self._unread: Counter[str] = Counter()  # what some of them look like
        self.whole: list[tuple[Cause, int]] = []
        self._surveyed = self._counted = False
        self._kept: list[Block] | None = None

    @property
    def clock_error_ns(self) -> int:
        """This error (ns) is assumed; it is larger for stamps in microseconds, which are
        rounded."""
        return 2000 if self._micro else 1000

    def event_type(self, ident: int, records: Records | None, row: int) -> EventType:
        """See foreign.reader.Reader."""
        return self._known[self.formats[ident][1].name].event

    def blocks(self) -> Iterator[Block]:
        """See foreign.reader.Reader. A trace that fits into memory is parsed only once."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Block] | None = [] if not self._surveyed else None
        size = 0
        for block in self._parsed():
            size += sum(map(len, block.chunks.values()))
            if kept is not None and size <= _KEPT_BYTES:
                kept.append(block)
            else:
                kept = None
            yield block
        if not self._surveyed:
            self._surveyed = True
            self._kept = kept
            found = Found(self._form, self._style, self._plain, self.unread, list(self._unread))
            self.unseen += unseen_of(found, self._flags, self._runs, self._steps.count)

    def _parsed(self) -> Iterator[Block]:
        self.truncated.clear()
        self.whole.clear()
        self._unread.clear()
        self.unread = 0
        self._runs = Runs()
        self._steps, self._repeats = Steps(), Repeats()
        self._buffers = Buffers()
        self._starts.clear()
        self._line, self._open_head, self._offset = self.part.first, None, 0
        entries = Entries()
        lost: dict[int, int] = {}
        newest: dict[int, int] = {}
        waiting: Block | None = None
        gaps: list[Gap] = []
        for lines in self._chunks():
            columns, more = self._columns(lines, lost, newest, entries)
            self._line += len(lines)
            gaps += more
            if columns is None:
                continue
            for cpu in np.unique(columns.cpu).tolist():
                mine = np.flatnonzero(columns.cpu == cpu)
                newest[cpu] = int(columns.ts[mine[-1]])
            if waiting is not None:
                begins = [gap.begin for gap in gaps]
                yield replace(waiting, mark=min([int(columns.ts[0]), *begins]))
            waiting = Block(pages(columns), None, tuple(gaps))
            gaps = []
        self.truncated += entries.finish()
        self._counted = entries.told
        # Other orders of one run's lock holds must not take a part of another run's.
        self.whole += [(Cause.CLOCK, 0)] if self._runs.starts else []
        if waiting is not None:
            end = max(newest.values())
            for cpu, count in lost.items():
                gaps.append(Gap(newest.get(cpu, 0), end, Cause.OVERRUN, cpu, max(count, 0)))
            yield replace(waiting, lost=(*waiting.lost, *gaps))

    def _chunks(self) -> Iterator[Text]:
        """Yield the part's whole lines, some MiB at a time. A last line without its end is left
        out."""
        rest = b""
        skip, left = self.part.first, self.part.last
        left = None if left is None else left - skip
        with self.path.open("rb") as file:
            while data := file.read(_CHUNK):
                data = rest + data
                cut = data.rfind(b"\n") + 1
                rest = data[cut:]
                if len(rest) > _MAX_LINE:
                    raise InputError("it has a line of more than 1 MiB", "is it a trace?")
                piece = data[:cut]
                if skip:
                    piece, skip = behind(piece, skip)
                if not piece:
                    continue
                lines = lines_of(unix_lines(piece))[:left]
                if self.part.buffer is not None:
                    lines = only(lines, self.part.buffer)
                yield lines
                left = None if left is None else left - len(lines)
                if left == 0:
                    return
        if rest:  # The next line may be cut in the blanks that it begins with.
            self.truncated.append("the text ends in the middle of a line")

    def _columns(
        self, lines: Text, lost: dict[int, int], newest: dict[int, int], entries: Entries
    ) -> tuple[Columns | None, list[Gap]]:
        """Return the events of some lines, or None if they have none, and where lines can't be
        read. *lost* (CPU -> number) has the events lost before each CPU's next event, and is
        updated; *newest* has the stamp (ns) of each CPU's last event before these lines."""
        found = pc.extract_regex(lines, pattern=FORMS[self._form])
        good = np.asarray(found.is_valid()).nonzero()[0]
        part = found.take(pa.array(good))
        ts, valid = self._stamps(part, self._form == "latency-format")
        bad = np.setdiff1d(np.arange(len(lines)), good[valid])
        twice = several(lines)
        if len(twice):
            valid = valid[~np.isin(good[valid], twice)]
            bad = np.setdiff1d(bad, twice)
        good, part, ts = good[valid], part.take(pa.array(valid)), ts[valid]
        odd = self._odd(lines, bad, twice)
        gone = lost_lines.told(lines)
        heads = np.flatnonzero(np.asarray(pc.match_substring_regex(lines, HEAD)))
        self._buffers.take(lines.take(pa.array(good)))
        overwritten = entries.take(lines, np.union1d(good, odd.at))
        cpu = integers(part.field("cpu"))
        before_runs = len(self._runs.gaps)
        offsets = self._runs.place(cpu, ts, np.searchsorted(good, heads).tolist())
        gaps = [Gap(b, e, Cause.CLOCK, ALL_CPUS, 0) for b, e in self._runs.gaps[before_runs:]]
        ts = ts + offsets
        self._note_starts(good, heads, offsets)
        self.unread += len(odd.at)
        if not len(good):
            for number, count in zip(gone[1].tolist(), gone[2].tolist(), strict=True):
                lost_lines.add(lost, number, count)
                self.whole += [(Cause.OVERRUN, max(count, 0))] if number < 0 else []
            return None, gaps + lost_lines.gaps(good, cpu, ts, odd, newest)
        ident = self._idents(part)
        values = np.zeros((len(good), FIELDS_PER_EVENT), np.uint64)
        whole = np.ones(len(good), np.bool_)
        rest = part.field("rest")
        self._tell_apart(ident, rest)
        whole &= ident > 0
        for name, known in self._known.items():
            rule = known.rule
            rows = np.flatnonzero(ident == self._ids[name])
            if not len(rows):
                continue
            text = rest.take(pa.array(rows))
            if rule is None or not rule.fields:
                continue
            order = [n for n in known.event.format.fields if not n.startswith("common_")]
            for theirs in dict.fromkeys(rule.fields.values()):
                read, there = numbers(text, theirs, self._style.bare)
                values[rows, order.index(theirs)] = read
                whole[rows] &= there
        once = [self._ids[n] for n, k in self._known.items() if k.rule and k.rule.kind in _ONCE]
        whole &= ~(self._repeats.take(cpu, ts, ident, values) & np.isin(ident, once))
        flags = self._flags.take(part.field("flags"))
        gaps += self._steps.take(cpu, ts, flags)
        pid = integers(part.field("pid"))
        before = np.zeros(len(good), np.int64)
        lost_lines.place(
            before, cpu, whole, np.searchsorted(good, gone[0]), gone[1], gone[2], lost, newest
        )
        for number in set(np.unique(cpu[whole]).tolist()) - newest.keys():
            first = int(np.flatnonzero((cpu == number) & whole)[0])
            before[first] = UNCOUNTED if good[first] >= overwritten else before[first]
        # An event whose arguments can't be read ("(fault)") can't be read either.
        holes, keep = np.flatnonzero(~whole), np.flatnonzero(whole)
        odd = odd.plus(good[holes], cpu[holes], ts[holes], 1)
        self.unread += len(holes)
        for number in holes[:3].tolist():
            self._name(lines[int(good[number])].as_py())
        gaps += lost_lines.gaps(good[keep], cpu[keep], ts[keep], odd, newest)
        if not len(keep):
            return None, gaps
        columns = Columns(
            cpu[keep], ts[keep], pid[keep], flags[keep], ident[keep], before[keep], values[keep]
        )
        return columns, gaps

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

    def _odd(
        self, lines: Text, bad: npt.NDArray[np.intp], twice: npt.NDArray[np.intp]
    ) -> lost_lines.Odd:
        """Return which of the lines *bad*, that no form fits, and of the lines *twice*, which are
        several in one, have a CPU and may be a probe's."""
        odd = self._stamped(lines, bad)
        if not len(twice):
            return odd
        pieces, of = pieces_of(lines, twice)
        more = self._stamped(pieces, np.arange(len(pieces)))
        # Behind the end of a line that was lost there may have been more lines.
        return odd.plus(of[more.at], more.cpu, more.ts, 0)

    def _stamped(self, lines: Text, bad: npt.NDArray[np.intp]) -> lost_lines.Odd:
        """Return which of the lines *bad* have a CPU and may be a probe's, and their stamps (ns,
        put off as their run is; -1 if impossible, or if the line ends before it)."""
        text = lines.take(pa.array(bad))
        told = pc.or_(
            pc.match_substring_regex(text, lost_lines.LOST),
            pc.match_substring_regex(text, HARMLESS),
        )
        text, bad = text.filter(pc.invert(told)), bad[~np.asarray(told, np.bool_)]
        self.whole += [(Cause.OVERRUN, count) for count in lost_lines.told_by_perf(text)]
        found = pc.extract_regex(text, pattern=STAMPED)
        stamped = np.asarray(found.is_valid())
        cut = pc.extract_regex(text, pattern=CUT)
        ends = np.flatnonzero(np.asarray(cut.is_valid()) & ~stamped)
        there = stamped.nonzero()[0]
        found = found.take(pa.array(there))
        for number in [*there[:3].tolist(), *ends[:3].tolist()]:
            self._name(text[int(number)].as_py())
        first = np.asarray(pc.not_equal(found.field("cpu"), b""))
        cpu = np.where(first, integers(found.field("cpu")), integers(found.field("cpu2")))
        stamps = []
        for suffix in ("", "2"):
            fields = [found.field(name + suffix) for name in ("s", "f")]
            part = pa.StructArray.from_arrays(fields, names=["s", "f"])
            ts, valid = self._stamps(part, bool(suffix) and self._form == "latency-format")
            good = np.zeros(len(ts), np.bool_)
            good[valid] = True
            stamps.append(np.where(good, ts + self._runs.offset, -1))
        odd = lost_lines.Odd(bad[there], cpu, np.where(first, *stamps), np.ones(len(there), "i8"))
        on = integers(cut.take(pa.array(ends)).field("cpu"))
        return odd.plus(bad[ends], on, np.full(len(ends), -1), 1)

    def _name(self, line: bytes) -> None:
        """Remember what a line that can't be read looks like."""
        if len(self._unread) < 3:
            self._unread[line.decode("latin-1").strip()[:100]] += 1

    def _stamps(
        self, part: Text, micro: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Return the stamps (ns), and the indices of those that are possible. *micro* says that
        stamps without a fraction are microseconds."""
        seconds, fraction = integers(part.field("s")), part.field("f")
        digits = np.asarray(pc.binary_length(fraction)).astype(np.int64)
        scale = np.where(digits == 6, 1000, 1)
        whole = np.where(digits > 0, 10**9, 1000 if micro else 1)
        valid = np.flatnonzero(seconds < MAX_TS // whole)
        self._micro |= micro or bool((digits == 6).any())
        self._plain |= not micro and bool((digits == 0).any())
        seconds = np.minimum(seconds, MAX_TS // whole)
        ts: npt.NDArray[np.int64] = seconds * whole + integers(fraction) * scale
        return ts, valid

    def _idents(self, part: Text) -> npt.NDArray[np.int64]:
        """Return the id of each event; an event of a new name gets a new id."""
        encoded = part.field("event").dictionary_encode()
        index = np.asarray(encoded.indices)
        ids = []
        for number, raw in enumerate(encoded.dictionary.to_pylist()):
            name = raw.decode("ascii", "replace")
            if name not in self._ids and len(self._ids) < _MAX_TYPES:
                first = int(np.argmax(index == number))
                self._meet(name, part.field("rest")[first].as_py().decode("latin-1"))
            ids.append(self._ids.get(name, 0))
        named: npt.NDArray[np.int64] = np.array(ids, np.int64)[index]
        return named

    def _meet(self, label: str, sample: str, key: str | None = None) -> None:
        key = key or label
        ident = self._ids[key] = len(self._ids) + 1
        event = self._type(label, sample, ident)
        event = replace(event, format=replace(event.format, name=key))
        rule = recognise(event, self._given)
        self.formats[ident] = (event.system, event.format)
        self._known[key] = _Known(label, event, rule if isinstance(rule, Rule) else None)

    def _type(self, label: str, sample: str, ident: int) -> EventType:
        """Return what the event *label* is, by what stands behind its name."""
        system, _, name = label.rpartition(":")
        place = _PLACE.match(sample)
        symbol = module = ""
        returns = False
        if place is not None:
            returns = place["of"] is not None
            symbol = (place["of"] if returns else place["at"]) or ""
            # Before the arrow is the place in the caller to which the function returned.
            module = place["mod" if returns else "in"] or ""
            if re.fullmatch(r"[0-9a-f]{8,16}", symbol):
                symbol = ""
            elif not returns and int(place["off"] or "0", 16) >= ENTRY_BYTES:
                symbol += f"+0x{place['off']}"  # Inside a function it is no symbol that we know.
        fields = list(dict.fromkeys(_NAMED.findall(sample)))[:FIELDS_PER_EVENT]
        made = text_format(label, ident, fields)
        return EventType(system, name, made, symbol, module, returns)

    def _tell_apart(self, ident: npt.NDArray[np.int64], rest: Text) -> None:
        """Give those events an *ident* of their own that share their name with events on another
        function, and may concern us. *rest* is what stands behind the name."""
        for name, known in list(self._known.items()):
            rows = np.flatnonzero(ident == self._ids[name])
            if not len(rows) or self._given.rule(known.event)[0]:
                continue
            places = pc.extract_regex(rest.take(pa.array(rows)), pattern=r"^(?P<p>\s*\([^)]*\))")
            encoded = pc.fill_null(places.field("p"), b"").dictionary_encode()
            which = np.asarray(encoded.indices)
            for number, raw in enumerate(encoded.dictionary.to_pylist()):
                found = self._type(known.label, raw.decode("latin-1"), 0)
                if not found.symbol or _place_of(found) == _place_of(known.event):
                    continue
                if known.rule is None and recognise(found, self._given) is None:
                    continue
                key = " ".join((known.label, *_place_of(found)))
                mine = rows[which == number]
                if key not in self._ids and len(self._ids) < _MAX_TYPES:
                    sample = rest[int(mine[0])].as_py().decode("latin-1")
                    self._meet(known.label, sample, key)
                ident[mine] = self._ids.get(key, 0)

    @property
    def contexts(self) -> bool:
        """This is false if the text can't tell contexts, or takes an NMI for an interrupt."""
        return self._flags.contexts

    @property
    def unknowns(self) -> frozenset[str]:
        """See foreign.reader.Reader."""
        found = {"skipped-probes", "clock"}
        if not self._counted:
            found.add("losses")
        if self._style.bare:
            found.add("arguments")
        return frozenset(found)
