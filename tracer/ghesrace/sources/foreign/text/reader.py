# SPDX-License-Identifier: Apache-2.0
"""This module reads traces that are text: ftrace's `trace`, `trace-cmd report` (with or without -l)
and `perf script`.

Arrow's compiled regular expressions take the lines apart, a chunk at a time. They are RE2's, which
take linear time whatever the text is. A line that is no event's is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ghesrace.errors import InputError
from ghesrace.plan import Unseen
from ghesrace.sources.foreign.eventmap import ENTRY_BYTES, EventMap, EventType, Rule, recognise
from ghesrace.sources.foreign.reader import Block
from ghesrace.sources.ring.pages import UNCOUNTED, EventFormat, Records

from .pages import (
    FIELDS_PER_EVENT,
    LAYOUT,
    MAX_TS,
    Columns,
    lost_page,
    pages,
    text_format,
)

# Text is an Arrow array of lines or of parts of lines. It is Any because Arrow's stubs know too few
# of the compute functions.
Text = Any
pc: Any = pyarrow.compute

_CHUNK = 4 << 20
_MAX_LINE = 1 << 20
_KEPT_BYTES = 96 << 20  # bytes of pages kept from the first pass for the second
_MAX_TYPES = 4096
_SAMPLE = 1 << 16

_TIME = r"(?P<s>\d{1,18})(?:\.(?P<f>\d{6}|\d{9}))?:\s+"
_EVENT = r"(?P<event>[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?):(?P<rest>\s.*|)\n?$"
# These letters stand before the stamp; kernel/trace/trace_output.c and trace-cmd's lib/traceevent
# print them.
_FLAGS = r"[dDbBX.][^\s:]{3,5}"
FORMS = {
    "ftrace": (
        r"^.*?-(?P<pid>\d{1,9})\s+(?:\(\s*[\d-]+\)\s+)?\[(?P<cpu>\d{1,4})\]\s+"
        rf"(?:(?P<flags>{_FLAGS})\s+)?" + _TIME + _EVENT
    ),
    "latency": (
        rf"^.*?-(?P<pid>\d{{1,9}})\s+(?P<cpu>\d{{1,4}})(?P<flags>{_FLAGS})\s+" + _TIME + _EVENT
    ),
    "perf": (
        r"^\s*\S.*?\s(?:\d{1,9}/\s*)?(?P<pid>\d{1,9})\s+\[(?P<cpu>\d{1,4})\](?P<flags>)\s+"
        + _TIME
        + r"(?:\d+\s+)?"
        + _EVENT
    ),
}
# The kernel, trace-cmd, and perf --show-lost-events each tell of lost events in their own words.
_LOST = (
    r"CPU:(?P<cpu>\d{1,4}) \[(?:LOST (?P<a>\d{1,9} )?EVENTS|(?P<b>\d{1,9} )?EVENTS DROPPED)\]"
    r"|(?P<perf>PERF_RECORD_LOST\w*)\D*(?P<c>\d{1,9})?"
)
_OVERWRITTEN = re.compile(rb"^# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})", re.M)
_PLACE = re.compile(
    r"^\s*\((?P<at>\[[^\]]*\]|[\w.]+)(?:\+0x(?P<off>[0-9a-f]{1,16})(?:/0x[0-9a-f]+)?)?"
    r"(?: \[(?P<in>\w+)\])?"
    r"(?: <- (?P<of>[\w.]+)(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)?(?: \[(?P<mod>\w+)\])?)?\)"
)
_VALUE = r"(?P<v>0x[0-9a-fA-F]{1,16}|-?\d{1,18})(?:[\s,)}\]]|$)"
_NAMED = re.compile(r"(?:^|[\s,({])([A-Za-z_]\w*)[=:]\s?(?:0x[0-9a-fA-F]{1,16}|-?\d{1,18})")
# These are the TRACE_FLAG_* that stand for what the letters show.
_IRQS_OFF, _HARDIRQ, _SOFTIRQ, _NMI = 0x01, 0x08, 0x10, 0x40
_WHERE = {"Z": _NMI | _HARDIRQ, "z": _NMI, "H": _HARDIRQ | _SOFTIRQ, "h": _HARDIRQ, "s": _SOFTIRQ}


@dataclass(slots=True)
class _Known:
    event: EventType
    rule: Rule | None


class TextReader:
    """This reads one text file; see foreign.reader.Reader. *form* is a key of FORMS, and *given*
    the map file.

        reader = TextReader(path, form_of(path.read_bytes()[:65536]), EventMap())
    """

    layout = LAYOUT

    def __init__(self, path: Path, form: str, given: EventMap) -> None:
        self.path = path
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
        self._flagged = self._nmis = self._micro = self._plain = False
        self._surveyed = False
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
            self._note()

    def _parsed(self) -> Iterator[Block]:
        self.truncated.clear()
        lost: dict[int, int] = {}
        newest: dict[int, int] = {}
        begun = self._overwritten()
        waiting: Block | None = None
        for lines in self._chunks():
            columns = self._columns(lines, lost)
            if columns is None:
                continue
            for cpu in np.unique(columns.cpu).tolist():
                mine = np.flatnonzero(columns.cpu == cpu)
                if begun and cpu not in newest:
                    columns.lost[mine[0]] = UNCOUNTED
                newest[cpu] = int(columns.ts[mine[-1]])
            if waiting is not None:
                yield Block(waiting.chunks, int(columns.ts[0]))
            waiting = Block(pages(columns), None)
        rest = {cpu: lost_page(newest.get(cpu, 0), n) for cpu, n in lost.items()}
        if waiting is not None and not rest:
            yield waiting
        elif rest:
            if waiting is not None:
                yield Block(waiting.chunks, max(newest.values()))
            yield Block(rest, None)

    def _chunks(self) -> Iterator[Text]:
        """Yield whole lines, some MiB at a time. A last line without its end is left out."""
        rest = b""
        with self.path.open("rb") as file:
            while data := file.read(_CHUNK):
                data = rest + data
                cut = data.rfind(b"\n") + 1
                rest = data[cut:]
                if len(rest) > _MAX_LINE:
                    raise InputError(f"{self.path}: a line of more than 1 MiB", "is it a trace?")
                if cut:
                    yield _lines(data[:cut])
        if rest.strip():
            self.truncated.append("the text ends in the middle of a line")

    def _overwritten(self) -> bool:
        """Return whether the head of a `trace` says that older events were overwritten."""
        with self.path.open("rb") as file:
            match = _OVERWRITTEN.search(file.read(_SAMPLE))
        return match is not None and int(match[2]) > int(match[1])

    def _columns(self, lines: Text, lost: dict[int, int]) -> Columns | None:
        """Return the events of some lines, or None if they have none. *lost* (CPU -> number) has
        the events lost before each CPU's next event; it is updated."""
        found = pc.extract_regex(lines, pattern=FORMS[self._form])
        good = np.asarray(found.is_valid()).nonzero()[0]
        part = found.take(pa.array(good))
        ts, valid = self._stamps(part)
        good, part, ts = good[valid], part.take(pa.array(valid)), ts[valid]
        gone = self._losses(lines)
        if not len(good):
            for cpu, count in zip(gone[1].tolist(), gone[2].tolist(), strict=True):
                _add(lost, cpu, count)
            return None
        ident = self._idents(part)
        values = np.zeros((len(good), FIELDS_PER_EVENT), np.uint64)
        whole = np.ones(len(good), np.bool_)
        rest = part.field("rest")
        for name, known in self._known.items():
            rule = known.rule
            if rule is None or not rule.fields:
                continue
            rows = np.flatnonzero(ident == self._ids[name])
            if not len(rows):
                continue
            text = rest.take(pa.array(rows))
            order = [n for n in known.event.format.fields if not n.startswith("common_")]
            for theirs in dict.fromkeys(rule.fields.values()):
                numbers, there = _numbers(text, theirs)
                values[rows, order.index(theirs)] = numbers
                whole[rows] &= there
        cpu = _integers(part.field("cpu"))
        flags = self._flags(part)
        pid = _integers(part.field("pid"))
        # An event whose arguments can't be read ("(fault)") counts as lost.
        holes = np.flatnonzero(~whole)
        at = np.concatenate((np.searchsorted(good, gone[0]), holes))
        which = np.concatenate((gone[1], cpu[holes]))
        counts = np.concatenate((gone[2], np.ones(len(holes), np.int64)))
        before = np.zeros(len(good), np.int64)
        self._place(before, cpu, whole, at, which, counts, lost)
        keep = np.flatnonzero(whole)
        if not len(keep):
            return None
        return Columns(
            cpu[keep], ts[keep], pid[keep], flags[keep], ident[keep], before[keep], values[keep]
        )

    def _place(
        self,
        before: npt.NDArray[np.int64],
        cpu: npt.NDArray[np.int64],
        whole: npt.NDArray[np.bool_],
        at: npt.NDArray[np.int64],
        which: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        lost: dict[int, int],
    ) -> None:
        """Put each loss before the next event of its CPU. A loss without such an event stays in
        *lost*."""
        everyone = sorted({*np.unique(cpu).tolist(), *lost, *which[which >= 0].tolist()})
        for number in everyone:
            mine = np.flatnonzero((cpu == number) & whole)
            early = lost.pop(number, 0)
            if early and len(mine):
                before[mine[0]] = early
            elif early:
                lost[number] = early
            hits = np.flatnonzero((which == number) | (which < 0))
            target = np.searchsorted(mine, at[hits])
            for hit, index in zip(hits.tolist(), target.tolist(), strict=True):  # per loss
                count = UNCOUNTED if which[hit] < 0 else int(counts[hit])
                if index < len(mine):
                    row = int(mine[index])
                    old = int(before[row])
                    before[row] = UNCOUNTED if UNCOUNTED in (old, count) else old + count
                else:
                    _add(lost, number, count)

    def _losses(
        self, lines: Text
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return, for each line that tells of lost events, its index, the CPU (-1 for all) and the
        number of events (UNCOUNTED if the line does not say how many)."""
        likely = np.flatnonzero(np.asarray(pc.match_substring_regex(lines, _LOST)))
        found = pc.extract_regex(lines.take(pa.array(likely)), pattern=_LOST)
        cpu = _integers(found.field("cpu"), -1)
        count = sum(_integers(found.field(name)) for name in "abc")
        count = np.where(count > 0, count, UNCOUNTED) if len(likely) else np.zeros(0, np.int64)
        return likely.astype(np.int64), cpu, count

    def _stamps(self, part: Text) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Return the stamps (ns), and the indices of those that are possible."""
        seconds, fraction = _integers(part.field("s")), part.field("f")
        digits = np.asarray(pc.binary_length(fraction)).astype(np.int64)
        scale = np.where(digits == 6, 1000, 1)
        whole = np.where(digits > 0, 10**9, 1)
        valid = np.flatnonzero(seconds < MAX_TS // whole)
        self._micro |= bool((digits == 6).any())
        self._plain |= bool((digits == 0).any())
        seconds = np.minimum(seconds, MAX_TS // whole)
        ts: npt.NDArray[np.int64] = seconds * whole + _integers(fraction) * scale
        return ts, valid

    def _flags(self, part: Text) -> npt.NDArray[np.int64]:
        encoded = part.field("flags").dictionary_encode()
        table = []
        for raw in encoded.dictionary.to_pylist():
            text = raw.decode("latin-1")
            where = text[2:3]
            self._flagged |= bool(text)
            self._nmis |= where in "zZ" and bool(where)
            table.append((_IRQS_OFF if text[:1] in ("d", "D") else 0) | _WHERE.get(where, 0))
        flags: npt.NDArray[np.int64] = np.array(table, np.int64)[np.asarray(encoded.indices)]
        return flags

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

    def _meet(self, label: str, sample: str) -> None:
        ident = self._ids[label] = len(self._ids) + 1
        system, _, name = label.rpartition(":")
        place = _PLACE.match(sample)
        symbol = module = ""
        returns = False
        if place is not None:
            returns = place["of"] is not None
            symbol = (place["of"] if returns else place["at"]) or ""
            module = (place["mod"] or place["in"] if returns else place["in"]) or ""
            if re.fullmatch(r"[0-9a-f]{8,16}", symbol):
                symbol = ""
            elif not returns and int(place["off"] or "0", 16) >= ENTRY_BYTES:
                symbol += f"+0x{place['off']}"  # Inside a function it is no symbol that we know.
        fields = list(dict.fromkeys(_NAMED.findall(sample)))[:FIELDS_PER_EVENT]
        made = text_format(label, ident, fields)
        event = EventType(system, name, made, symbol, module, returns)
        rule = recognise(event, self._given)
        self.formats[ident] = (system, made)
        self._known[label] = _Known(event, rule if isinstance(rule, Rule) else None)

    def _note(self) -> None:
        """Add what the text can't contain to `unseen`, which is known after the first pass."""
        every = ("stale",)
        if not self._flagged:
            what = "contexts: in what (task, softirq, irq, NMI) each event happened"
            why = "the text has no latency columns: use trace.dat, or ftrace's own `trace`"
            self.unseen.append(Unseen(what, why, every))
        elif self._form == "latency" and not self._nmis:
            what = "which events happened in NMIs"
            why = "`trace-cmd report -l` (3.1.6) prints an NMI as an interrupt: use the trace.dat"
            self.unseen.append(Unseen(what, why, every))
        if self._form == "perf":
            what = "the order of events of one CPU that have the same stamp"
            why = "perf script sorts by time; --ns keeps the most of it"
            self.unseen.append(Unseen(what, why, every))
        if self._plain:
            what = "times in nanoseconds: some stamps have no fraction"
            self.unseen.append(Unseen(what, "they are taken as they are", every))
        what = "probe hits that the kernel skipped (kprobe_profile)"
        self.unseen.append(Unseen(what, "not in a text", every))


def form_of(sample: bytes) -> str | None:
    """Return the key of FORMS that fits the most lines of *sample*, or None if none fits any.

    >>> form_of(b"  bash-812   [003] d..1.  2725.104981: map: phys=0x1000\\n")
    'ftrace'
    """
    lines = _lines(sample)
    counts = {
        form: int(pc.sum(pc.match_substring_regex(lines, pattern)).as_py() or 0)
        for form, pattern in FORMS.items()
    }
    best = max(counts, key=lambda form: counts[form])
    return best if counts[best] else None


def _lines(data: bytes) -> Text:
    """Return the lines of *data*, each with its newline; nothing is copied."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    offsets = np.concatenate(([0], ends)).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    lines: Text = pa.Array.from_buffers(pa.large_binary(), len(ends), buffers)
    return lines


def _integers(text: Text, empty: int = 0) -> npt.NDArray[np.int64]:
    """Return the decimal numbers of at most 18 digits in *text*, and *empty* where there is
    none."""
    trimmed = pc.ascii_trim_whitespace(text.cast(pa.large_string()))
    there = pc.not_equal(trimmed, "")
    numbers = pc.if_else(there, trimmed, str(empty)).cast(pa.int64())
    return np.asarray(numbers.fill_null(empty)).astype(np.int64)


def _numbers(text: Text, name: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Return the value of the argument *name* in each text as 64 bits, and whether there is one."""
    pattern = rf"(?:^|[\s,({{]){re.escape(name)}[=:]\s?{_VALUE}"
    value = pc.extract_regex(text, pattern=pattern).field("v").cast(pa.large_string())
    value = pc.fill_null(value, "")
    there = np.asarray(pc.not_equal(value, ""))
    negative = pc.starts_with(value, "-")
    positive = pc.if_else(pc.or_(negative, pc.equal(value, "")), "0", value).cast(pa.uint64())
    signed = pc.if_else(negative, value, "0").cast(pa.int64())
    numbers = np.asarray(positive) | np.asarray(signed).astype(np.int64).view(np.uint64)
    return numbers.astype(np.uint64), np.asarray(there, np.bool_)


def _add(lost: dict[int, int], cpu: int, count: int) -> None:
    if cpu >= 0:
        old = lost.get(cpu, 0)
        lost[cpu] = UNCOUNTED if UNCOUNTED in (old, count) else old + count
