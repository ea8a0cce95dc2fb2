# SPDX-License-Identifier: Apache-2.0
"""The foreign source yields the batches of a trace that another tool recorded. It makes two passes
over the file: the first finds out what is in it (scan.py) and makes a plan, and the second yields
the batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.errors import InputError
from ghesrace.events import Cause, Events, Kind, loss, mark
from ghesrace.plan import Plan, Unseen
from ghesrace.sources.foreign.dat.header import MAGIC
from ghesrace.sources.foreign.dat.reader import DatReader, open_dat
from ghesrace.sources.foreign.text.forms import read_begin
from ghesrace.sources.foreign.text.reader import TextReader
from ghesrace.sources.late import late_losses
from ghesrace.sources.nmi import NmiMatcher
from ghesrace.sources.ring.decode import Decoder, SlotTable

from .eventmap import EventMap
from .joiner import Joiner, blinded, needs_joining
from .plan import attached, make_plan, without_reference
from .reader import Reader
from .scan import Survey

_RECORD = "record with the script of `ghesrace plan --format trace-cmd`"


class ForeignSource:
    """A foreign source hands out a trace of another tool as batches; see sources.Source.

    *given* names events that are not recognised (eventmap.load_map). `truncated` and `warnings` are
    those of CaptureSource; `counters` has what LiveSource's has, as far as a file tells it. Raises
    InputError if the file is damaged or nothing in it maps a GHES slot. *stored* is where its bytes
    are, if not at *path*.

        source = ForeignSource("trace.dat", load_map(Path("map.toml")))
        for batch in source.batches():
            engine.feed(batch)
    """

    def __init__(
        self, path: str | Path, given: EventMap | None = None, *, stored: Path | None = None
    ) -> None:
        self.path = Path(path)
        self.counters: Counter[str] = Counter()
        self.warnings: list[str] = []
        self.truncated = False
        given = given or EventMap()
        try:
            self._reader, self._survey, others = _choose(self.path, given, stored or self.path)
            self.plan = _planned(self._survey, self._reader, given, others)
        except InputError as error:
            if str(path) in error.what:
                raise
            raise InputError(f"{path}: {error.what}", error.hint) from error
        self.host: dict[str, Any] = {
            "release": self._reader.release,
            "arch": self.plan.arch,
            "source": self.path.name,
        }

    def batches(self) -> Iterator[Events]:
        """See sources.Source."""
        survey, plan = self._survey, self.plan
        start = min(survey.first_ts, survey.last_ts)
        self.counters.clear()
        self.truncated = bool(self._reader.truncated)
        self.warnings = [f"{self.path}: {why}" for why in self._reader.truncated]
        probes = attached(survey, plan)
        decoder = Decoder(SlotTable(plan), probes, self._reader.layout, start, self.counters)
        joiner = Joiner(plan) if needs_joining(plan) else None
        references = any(p.kind == Kind.NMI_REF.name for p in plan.probes)
        matchers: dict[int, NmiMatcher] = {}
        blind = [n for n, use in enumerate(survey.uses.values()) if use.blind]
        promised = start
        whole = dict(self._reader.whole)
        end = survey.last_ts + 1
        for block in self._reader.blocks():
            final = block.mark is None
            events = decoder.feed(block.chunks)
            events = blinded(events, blind)
            parts = [events]
            parts += [loss(g.begin, g.end, g.cause, g.cpu, g.count) for g in block.lost]
            parts += [
                loss(start, end, cause, count=min(n, 2**31)) for cause, n in whole.items() if n
            ]
            whole = {}
            for cpu in block.chunks if references else ():
                matcher = matchers.setdefault(cpu, NmiMatcher(start))
                parts.append(matcher.feed(events[events["cpu"] == cpu], cpu))
            parts.append(late_losses(events, promised))
            if joiner is not None:
                parts[0] = joiner.feed(events, final)
            promised = max(promised, end if final else min(block.mark or 0, end))
            if final:
                parts += self._unplaced(start, end)
            done = promised if joiner is None or final else min(promised, joiner.oldest)
            yield np.concatenate((*parts, mark(done)))

    def _unplaced(self, start: int, end: int) -> Iterator[Events]:
        """Yield losses that the trace counts or shows without saying when they happened."""
        for stats in self._reader.stats:
            cpu = stats.get("CPU", -1)
            if cpu not in self._survey.cpus:
                continue
            dropped = stats.get("dropped events", 0) + stats.get("commit overrun", 0)
            if dropped > 0:
                yield loss(start, end, Cause.DROPPED, cpu, dropped)
        told = sum(max(s.get("overrun", 0), 0) for s in self._reader.stats)
        more = told - self.counters["lost:overrun"]
        if more > 0 and not self.counters["uncounted losses"]:
            yield loss(start, end, Cause.OVERRUN, count=more)
        for point, use in enumerate(self._survey.uses.values()):
            missed = self._reader.missed.get(use.event.name, 0)
            if missed > 0:
                yield loss(start, end, Cause.MISSED, count=missed, point=point)
        if self.truncated:
            yield loss(start, end, Cause.TRUNCATED)


def _choose(path: Path, given: EventMap, stored: Path) -> tuple[Reader, Survey, list[str]]:
    """Return the reader of the buffer that has the most events that concern us, what is in it, and
    the names and counts of other buffers that have some too."""
    found: list[tuple[Reader, Survey, str]] = []
    for reader in readers(path, given, stored):
        survey = Survey.of(reader, given)
        name = reader.buffer.name if isinstance(reader, DatReader) else ""
        found.append((reader, survey, name))
    counts = [sum(u.count for u in survey.uses.values()) for _, survey, _ in found]
    best = int(np.argmax(counts))
    others = [
        f"{name or 'the top buffer'}: {count:,}"
        for i, ((_, _, name), count) in enumerate(zip(found, counts, strict=True))
        if i != best and count
    ]
    return found[best][0], found[best][1], others


def readers(path: Path, given: EventMap, stored: Path | None = None) -> list[Reader]:
    """Return the readers of *path*, chosen by its content: one for each ring buffer in it. *stored*
    is where its bytes are, if not there. Raises InputError if nothing can read the file."""
    stored = stored or path
    if not stored.is_file():
        raise InputError(f"can't read {path}: not a file", "give the path of a trace")
    try:
        with stored.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return list(open_dat(path, stored))
        begin = read_begin(stored)
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"can't read {path}: {why}", "give the path of a trace") from error
    if begin.form is None:
        if begin.why_not is not None:
            raise InputError(f"{path} can't be judged: {begin.why_not}", _RECORD)
        raise InputError(
            f"{path} is neither a capture nor a trace that can be read",
            "give a file of `ghesrace capture`, a trace.dat, the text of ftrace's `trace` or of "
            "`trace-cmd report`, or of `perf script`",
        )
    return [TextReader(stored, begin.form, begin.style, given)]


def _planned(survey: Survey, reader: Reader, given: EventMap, others: list[str]) -> Plan:
    plan = make_plan(survey, reader, given)
    if survey.handlers and isinstance(reader, DatReader):
        known = reader.addresses("ghes_notify_nmi")
        ours = any(u.event.system.startswith("ghesrace_") for u in survey.uses.values())
        # The filter of our own script lets only GHES handlers pass.
        if not ours and not survey.handlers <= known:
            plan = without_reference(survey, plan, "nmi:nmi_handler was recorded for others too")
    if others:
        what = f"events in other buffers of the file: {', '.join(others)}"
        why = "one buffer is judged, the one with the most: only in one is their order known"
        checked = {**plan.not_checked, "stale": f"{what} are not judged"}
        plan = replace(
            plan, unseen=(*plan.unseen, Unseen(what, why, ("stale",))), not_checked=checked
        )
    return plan
