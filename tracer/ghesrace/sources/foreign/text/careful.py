# SPDX-License-Identifier: Apache-2.0
"""This module reads the lines of a text whatever people's traces hold, and learns what is in them.

Arrow's compiled regular expressions take the lines apart, many at a time. They are RE2's, which
take linear time whatever the text is. Lines of which nothing is new go a faster way: see plain.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ghesrace.sources.foreign.eventmap import ENTRY_BYTES, EventMap, EventType, Rule, recognise
from ghesrace.sources.ring.pages import EventFormat

from . import cuts, words
from .flags import Flags
from .forms import FORMS, Style
from .joined import several
from .lines import Text, integers, numbers, pc
from .mangled import mangled
from .pages import FIELDS_PER_EVENT, MAX_TS, text_format
from .parts import Buffers
from .plain import Parsed, Plain

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
# What has no place behind its name and is a probe's: `trace-cmd report -R`, or one of unknown form.
_PLACELESS = re.compile(r"\b__probe_|\[FAILED TO PARSE\]")
# What a string holds is no argument, even if it looks like one.
_STRING = r'"[^"]*"'
_MOST_FIELDS = 128  # MAX_TRACE_ARGS
_USER = 1 << 48  # Where a place is below this, it is in a program.
_NO_LINES = np.zeros(0, np.intp)
_BEFORE_ARGUMENTS = r"^(?P<p>\s*\([^)]*\))"
# A line ends in the place behind an event's name, or before it, or that place lost its begin.
_OPEN_PLACE = (
    r"^\s*\([\w.]*(?:\+[0-9a-fx/]*)?(?: \[\w*\]?)?(?: <[0-9a-f]*>?)?"
    r"(?: ?<-? ?[\w.]*(?:\+[0-9a-fx/]*)?(?: \[\w*\]?)?(?: <[0-9a-f]*>?)?)?\s*$"
    r"|^\s*[\w.+/]+\)(?:\s|$)"
)
_NO_MORE = r"^\s*$"
# What may be a place, whole or not.
_LIKE_A_PLACE = r"^\s*(?P<p>\([^)]*\)?)"


@dataclass(slots=True)
class _Known:
    label: str
    event: EventType
    rule: Rule | None
    filled: bool  # Something stood behind its name.

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """These are the arguments that are read, each with its place among the event's."""
        if self.rule is None or not self.rule.fields:
            return []
        order = [name for name in self.event.format.fields if not name.startswith("common_")]
        return [(name, order.index(name)) for name in dict.fromkeys(self.rule.fields.values())]


def _place_of(event: EventType) -> tuple[str, str, str]:
    """Return on what the probe of *event* sits, in words."""
    kind = "print" if event.printed else "return" if event.returns else "entry"
    return event.symbol, event.module, kind


class Careful:
    """This reads the lines of one text. *form* is a key of FORMS, *style* how the text prints, and
    *given* the map file. `formats` has the system and the format of each event by its id.

        events, bad, twice = careful.read(lines, Buffers())
    """

    def __init__(self, form: str, style: Style, given: EventMap) -> None:
        self.formats: dict[int, tuple[str, EventFormat]] = {}
        self.flags = Flags(style)
        self.micro = self.plain = False  # stamps in microseconds, or without a fraction
        self.width = 0  # of the events that are known, how many arguments are wanted at most
        self._form = form
        self._style = style
        self._given = given
        self._known: dict[str, _Known] = {}
        self._ids: dict[str, int] = {}
        self._places = np.zeros(0, np.int64)

    def event_type(self, ident: int) -> EventType:
        """Return what the event with the id *ident* is."""
        return self._known[self.formats[ident][1].name].event

    @property
    def in_micro(self) -> bool:
        """Whether stamps without a fraction are microseconds."""
        return self._form == "latency-format"

    @property
    def wanted(self) -> list[str]:
        """These are the names of the events that concern us."""
        return [known.label for known in self._known.values() if known.rule is not None]

    def impossible(self, events: Parsed) -> npt.NDArray[np.bool_]:
        """Return which of *events* have an address of which the end is missing."""
        found = np.zeros(len(events), np.bool_)
        ident, values = np.ascontiguousarray(events.ident), np.ascontiguousarray(events.values)
        width, flat = values.shape[1], values.reshape(-1)
        cuts.find_cut(
            ident.data, flat.data, width, self._addresses().data, found.view(np.uint8).data
        )
        return found

    def _addresses(self) -> npt.NDArray[np.int64]:
        """Return the columns of the address and of the end of each event by its id, -1 if it has
        none; see cuts.find_cut."""
        if len(self._places) != 2 * (len(self._ids) + 1):
            self._places = np.full(2 * (len(self._ids) + 1), -1, np.int64)
            for name, known in self._known.items():
                columns, theirs = dict(known.wanted), known.rule.fields if known.rule else {}
                for place, ours in enumerate(("addr", "end")):
                    if ours in theirs:
                        self._places[2 * self._ids[name] + place] = columns[theirs[ours]]
        return self._places

    @property
    def once(self) -> list[int]:
        """These are the ids of the events that no CPU has twice at one time."""
        return [self._ids[n] for n, k in self._known.items() if k.rule and k.rule.kind in _ONCE]

    def read(
        self, lines: Text, buffers: Buffers
    ) -> tuple[Parsed, npt.NDArray[np.intp], npt.NDArray[np.intp], Text]:
        """Return the events among *lines*, the indices of the lines that are none, and of those
        that are several in one, and the events' fields for `teach`."""
        if not len(lines):
            return Parsed.none(FIELDS_PER_EVENT), _NO_LINES, _NO_LINES, None
        found = pc.extract_regex(lines, pattern=FORMS[self._form])
        good = np.asarray(found.is_valid()).nonzero()[0]
        part = found.take(pa.array(good))
        ts, valid = self.stamps(part, self.in_micro)
        bad = np.setdiff1d(np.arange(len(lines)), good[valid])
        twice = several(lines)
        if len(twice):
            valid = valid[~np.isin(good[valid], twice)]
            bad = np.setdiff1d(bad, twice)
        good, part, ts = good[valid], part.take(pa.array(valid)), ts[valid]
        ident = self._idents(part)
        rest = part.field("rest")
        ident[self._cut(ident, rest)] = 0
        self._tell_apart(ident, rest)
        ident[self._mangled(ident, rest)] = 0
        values, there = self._values(ident, rest)
        events = Parsed(
            at=good.astype(np.int64),
            cpu=integers(part.field("cpu")),
            ts=ts,
            pid=integers(part.field("pid")),
            flags=self.flags.take(part.field("flags")),
            of=buffers.numbers(lines.take(pa.array(good))),
            ident=ident,
            values=values,
            whole=(ident > 0) & there,
        )
        return events, bad, twice, part

    def teach(self, plain: Plain, events: Parsed, part: Text) -> None:
        """Let *plain* know what is in *events* and their fields *part*, which `read` returned."""
        if plain.full or not len(events):
            return
        plain.learn(words.FLAGS, self.flags.known.items())
        places = pc.fill_null(
            pc.extract_regex(part.field("rest"), pattern=_BEFORE_ARGUMENTS).field("p"), b""
        )
        colon = pa.scalar(b":", pa.large_binary())
        names = pc.binary_join_element_wise(part.field("event"), places, colon)
        encoded = names.dictionary_encode()
        which = np.asarray(encoded.indices)
        known = {self._ids[name]: one for name, one in self._known.items()}
        for number, word in enumerate(encoded.dictionary.to_pylist()):
            ident = int(events.ident[int(np.argmax(which == number))])
            if plain.full:
                break
            if ident:
                wanted = [(name.encode(), at) for name, at in known[ident].wanted]
                plain.learn_event(word, ident, wanted)

    def _values(
        self, ident: npt.NDArray[np.int64], rest: Text
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """Return the arguments of the events *ident*, and which of them have all that are wanted.
        *rest* is what stands behind their names."""
        values = np.zeros((len(ident), FIELDS_PER_EVENT), np.uint64)
        whole = np.ones(len(ident), np.bool_)
        if pc.any(pc.match_substring(rest, '"')).as_py():
            rest = pc.replace_substring_regex(rest, pattern=_STRING, replacement='""')
        for name, known in self._known.items():
            rows = np.flatnonzero(ident == self._ids[name])
            if not len(rows):
                continue
            text = rest.take(pa.array(rows))
            for theirs, column in known.wanted:
                read, there = numbers(text, theirs, self._style.bare)
                values[rows, column] = read
                whole[rows] &= there
        return values, whole

    def stamps(
        self, part: Text, micro: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Return the stamps (ns), and the indices of those that are possible. *micro* says that
        stamps without a fraction are microseconds."""
        seconds, fraction = integers(part.field("s")), part.field("f")
        digits = np.asarray(pc.binary_length(fraction)).astype(np.int64)
        scale = np.where(digits == 6, 1000, 1)
        whole = np.where(digits > 0, 10**9, 1000 if micro else 1)
        valid = np.flatnonzero(seconds < MAX_TS // whole)
        self.micro |= micro or bool((digits == 6).any())
        self.plain |= not micro and bool((digits == 0).any())
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
                rest = part.field("rest").filter(pa.array(index == number))
                whole = rest.filter(pc.invert(pc.match_substring_regex(rest, _OPEN_PLACE)))
                filled = whole.filter(pc.invert(pc.match_substring_regex(whole, _NO_MORE)))
                best = next(some for some in (filled, whole, rest) if len(some))
                self._meet(name, best[0].as_py().decode("latin-1"))
            ids.append(self._ids.get(name, 0))
        named: npt.NDArray[np.int64] = np.array(ids, np.int64)[index]
        return named

    def _meet(self, label: str, sample: str, key: str | None = None) -> None:
        key = key or label
        ident = self._ids[key] = len(self._ids) + 1
        event = self._type(label, sample, ident)
        event = replace(event, format=replace(event.format, name=key))
        found = recognise(event, self._given)
        rule = found if isinstance(found, Rule) else None
        if rule is not None and rule.fields:
            # What is wanted comes first: the rest is not written into pages.
            names = [name for name in event.format.fields if not name.startswith("common_")]
            first = list(dict.fromkeys(rule.fields.values()))
            ordered = first + [name for name in names if name not in first]
            event = replace(event, format=text_format(key, ident, ordered))
            self.width = max(self.width, len(first))
        self.formats[ident] = (event.system, event.format)
        self._known[key] = _Known(label, event, rule, bool(sample.strip()))

    def _type(self, label: str, sample: str, ident: int) -> EventType:
        """Return what the event *label* is, by what stands behind its name."""
        system, _, name = label.rpartition(":")
        place = _PLACE.match(sample)
        symbol = module = address = ""
        returns = False
        printed = place is None and self._form != "perf" and not _PLACELESS.search(sample)
        if place is not None:
            returns = place["of"] is not None
            symbol = (place["of"] if returns else place["at"]) or ""
            # Before the arrow is the place in the caller to which the function returned.
            module = place["mod" if returns else "in"] or ""
            if re.fullmatch(r"[0-9a-f]{8,16}", symbol):
                address = symbol if self._form == "perf" else ""
                symbol = f"0x{symbol}" if int(symbol, 16) < _USER else ""
            elif not returns and int(place["off"] or "0", 16) >= ENTRY_BYTES:
                symbol += f"+0x{place['off']}"  # Inside a function it is no symbol that we know.
        fields = list(dict.fromkeys(_NAMED.findall(re.sub(_STRING, '""', sample))))
        # Which of them are wanted is not known yet; `_meet` puts those first.
        made = text_format(label, ident, fields, _MOST_FIELDS)
        return EventType(system, name, made, symbol, module, returns, address, printed)

    def _cut(self, ident: npt.NDArray[np.int64], rest: Text) -> npt.NDArray[np.bool_]:
        """Return which of the events *ident* end in the place behind their names or before it, or
        have only the end of it, and may concern us. *rest* is what stands behind the names."""
        cut = np.asarray(pc.match_substring_regex(rest, _OPEN_PLACE), np.bool_).copy()
        ends = np.asarray(pc.match_substring_regex(rest, _NO_MORE), np.bool_)
        if not (cut.any() or ends.any()):
            return cut
        ours = {known.label for known in self._known.values() if known.rule is not None}
        for name, known in self._known.items():
            mine = ident == self._ids[name]
            if known.label not in ours and known.filled:
                cut &= ~mine
            elif known.filled:
                cut |= mine & ends
        return cut

    def _tell_apart(self, ident: npt.NDArray[np.int64], rest: Text) -> None:
        """Give those events an *ident* of their own that share their name with events on another
        function, or were printed, and may concern us. *rest* is what stands behind the name."""
        for name, known in list(self._known.items()):
            rows = np.flatnonzero(ident == self._ids[name])
            if not len(rows) or self._given.rule(known.event)[0]:
                continue
            places = pc.extract_regex(rest.take(pa.array(rows)), pattern=_BEFORE_ARGUMENTS)
            encoded = pc.fill_null(places.field("p"), b"").dictionary_encode()
            which = np.asarray(encoded.indices)
            for number, raw in enumerate(encoded.dictionary.to_pylist()):
                found = self._type(known.label, raw.decode("latin-1"), 0)
                if not (found.symbol or found.printed):
                    continue
                if _place_of(found) == _place_of(known.event):
                    continue
                if known.rule is None and recognise(found, self._given) is None:
                    continue
                key = " ".join((known.label, *_place_of(found)))
                mine = rows[which == number]
                if key not in self._ids and len(self._ids) < _MAX_TYPES:
                    sample = rest[int(mine[0])].as_py().decode("latin-1")
                    self._meet(known.label, sample, key)
                ident[mine] = self._ids.get(key, 0)

    def _mangled(self, ident: npt.NDArray[np.int64], rest: Text) -> npt.NDArray[np.bool_]:
        """Return which of the events *ident* have a name that concerns us, and a place that is what
        a console left of the one of that name. *rest* is what stands behind the names."""
        found = np.zeros(len(ident), np.bool_)
        places: dict[str, set[str]] = {}
        for known in self._known.values():
            if known.rule is not None and known.event.symbol and not known.event.printed:
                places.setdefault(known.label, set()).add(known.event.symbol)
        for name, known in self._known.items():
            ours = known.rule is not None and not known.event.printed
            rows = np.flatnonzero(ident == self._ids[name])
            if ours or known.label not in places or not len(rows):
                continue
            told = pc.extract_regex(rest.take(pa.array(rows)), pattern=_LIKE_A_PLACE)
            encoded = pc.fill_null(told.field("p"), b"").dictionary_encode()
            which = np.asarray(encoded.indices)
            for number, raw in enumerate(encoded.dictionary.to_pylist()):
                event = self._type(known.label, raw.decode("latin-1"), 0)
                if raw and (
                    event.printed or any(mangled(event.symbol, one) for one in places[known.label])
                ):
                    found[rows[which == number]] = True
        return found
