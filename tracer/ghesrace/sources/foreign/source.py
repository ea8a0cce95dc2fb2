# SPDX-License-Identifier: Apache-2.0
"""The foreign source yields the batches of a trace that another tool recorded. It makes two passes
over the file: the first finds out what is in it (scan.py) and makes a plan, and the second yields
the batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ghesrace.errors import InputError, UsageError
from ghesrace.events import ALL_CPUS, Cause, Events, Kind, joined, loss, mark
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
    are, if not at *path*, and *run* the number of the only buffer or run in it that is to be judged
    (from 1); UsageError if it has none such.

        source = ForeignSource("trace.dat", load_map(Path("map.toml")))
        for batch in source.batches():
            engine.feed(batch)
    """

    def __init__(
        self,
        path: str | Path,
        given: EventMap | None = None,
        *,
        stored: Path | None = None,
        run: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.counters: Counter[str] = Counter()
        self.warnings: list[str] = []
        self.truncated = False
        given = given or EventMap()
        try:
            chosen = _choose(self.path, given, stored or self.path, run)
            self._reader, self._survey, others, left_out = chosen
            self.plan = _planned(self._survey, self._reader, given, others, left_out)
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
        first = True
        end = survey.last_ts + 1
        for block in self._reader.blocks():
            final = block.mark is None
            events = decoder.feed(block.chunks)
            events = blinded(events, blind)
            parts = [events]
            parts += [loss(g.begin, g.end, g.cause, g.cpu, g.count) for g in block.lost]
            if first:
                parts += self._of_the_whole(start, end)
            first = False
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
            yield joined([*parts, mark(done)])

    def _of_the_whole(self, start: int, end: int) -> Iterator[Events]:
        """Yield losses that last from the begin of the trace to its end."""
        for cause, count in self._reader.whole:
            yield loss(start, end, cause, count=min(count, 2**31))
        if self._survey.unpaired:
            yield loss(start, end, Cause.UNREAD, count=min(self._survey.unpaired, 2**31))
        for point, use in enumerate(self._survey.uses.values()):
            # No map of this function is known, and so none of its slot may be.
            if use.blind and use.rule.kind == Kind.MAP.name:
                yield loss(start, end, Cause.PROBE_GONE, point=point)

    def _unplaced(self, start: int, end: int) -> Iterator[Events]:
        """Yield losses that the trace counts or shows without saying when they happened."""
        for stats in self._reader.stats:
            cpu = stats.get("CPU", -1)
            dropped = stats.get("dropped events", 0) + stats.get("commit overrun", 0)
            if dropped > 0:
                known = cpu in self._survey.cpus
                yield loss(
                    start, end, Cause.DROPPED, cpu if known else ALL_CPUS, min(dropped, 2**31)
                )
        told = sum(max(s.get("overrun", 0), 0) for s in self._reader.stats)
        more = told - self.counters["lost:overrun"]
        if more > 0 and not self.counters["uncounted losses"]:
            yield loss(start, end, Cause.OVERRUN, count=min(more, 2**31))
        for point, use in enumerate(self._survey.uses.values()):
            missed = self._reader.missed.get(use.event.name, 0)
            if missed > 0:
                yield loss(start, end, Cause.MISSED, count=min(missed, 2**31), point=point)
        if self.truncated:
            yield loss(start, end, Cause.TRUNCATED)


@dataclass(frozen=True, slots=True)
class _Run:
    """A part of a file that may be judged by itself: one of its buffers, or one of its runs."""

    name: str
    reader: Reader
    survey: Survey

    @property
    def events(self) -> int:
        """This is how many events of it concern us."""
        return sum(use.count for use in self.survey.uses.values())


def _choose(
    path: Path, given: EventMap, stored: Path, run: int | None
) -> tuple[Reader, Survey, list[Unseen], bool]:
    """Return the reader of what is to be judged of *path*, what is in that, what else the file has,
    and whether that was left out without having been asked for.

    *run* is the number of the part that is asked for. Else all runs of a text are judged together,
    but of several buffers only the one that has the most events that concern us. Raises UsageError
    if there is no such part.
    """
    found = readers(path, given, stored)
    merged = True
    if isinstance(found[0], TextReader):
        survey = _surveyed(found[0], given)
        parts = found[0].parts()
        merged = bool(parts) and parts[0].part.buffer is not None
        if survey is not None and (not parts or (run is None and not merged)):
            _one_of(path, run, [found[0].part.name])
            return found[0], survey, [], False
        found = list(parts)
    names = [_name(reader) for reader in found]
    _one_of(path, run, names)
    if run is not None and not merged:
        # What is in the other runs is not even looked at.
        chosen = _Run(names[run - 1], found[run - 1], Survey.of(found[run - 1], given))
        return chosen.reader, chosen.survey, [_others(names, run, None)], False
    runs = [_Run(n, r, Survey.of(r, given)) for n, r in zip(names, found, strict=True)]
    best = int(np.argmax([r.events for r in runs])) if run is None else run - 1
    counts = [r.events for r in runs]
    others = len(runs) > 1 and (run is not None or sum(counts) > counts[best])
    unseen = [_others(names, best + 1, counts)] if others else []
    return runs[best].reader, runs[best].survey, unseen, bool(unseen) and run is None


def _surveyed(reader: TextReader, given: EventMap) -> Survey | None:
    """Return what is in the whole text, or None if that can't be told, but may be of its parts."""
    try:
        return Survey.of(reader, given)
    except InputError:
        reader.find_buffers()
        if not reader.parts():
            raise
        return None


def _name(reader: Reader) -> str:
    if isinstance(reader, DatReader):
        return f"buffer {reader.buffer.name}" if reader.buffer.name else "the top buffer"
    return reader.part.name if isinstance(reader, TextReader) else ""


def _one_of(path: Path, run: int | None, names: list[str]) -> None:
    """Raise UsageError unless *run* is the number of one of the runs called *names*, or None."""
    if run is None or run <= len(names):
        return
    if len(names) == 1:
        raise UsageError(f"{path} has one run only", "leave --run out")
    listed = "; ".join(f"{n}: {name}" for n, name in enumerate(names, 1))
    raise UsageError(f"{path} has no run {run}", f"its runs are {listed}")


def _others(names: list[str], chosen: int, counts: list[int] | None) -> Unseen:
    """Return what is said of the runs called *names* of which the one with the number *chosen* is
    judged, and of which *counts* says how many events concern us."""
    listed = [
        f"{n} ({name}{'' if counts is None else f': {counts[n - 1]:,} events'})"
        for n, name in enumerate(names, 1)
        if n != chosen
    ]
    why = f"run {chosen} ({names[chosen - 1]}) alone is judged: only in one is the order known"
    return Unseen(f"events of other runs in the file: {', '.join(listed)}", why, ("stale",))


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


def _planned(
    survey: Survey, reader: Reader, given: EventMap, others: list[Unseen], left_out: bool
) -> Plan:
    """Return the plan, in which *others* is what else the file has; with *left_out* the verdict is
    never clean because of that."""
    plan = make_plan(survey, reader, given)
    if survey.handlers and isinstance(reader, DatReader):
        known = reader.addresses("ghes_notify_nmi")
        ours = any(u.event.system.startswith("ghesrace_") for u in survey.uses.values())
        # The filter of our own script lets only GHES handlers pass.
        if not ours and not survey.handlers <= known:
            plan = without_reference(survey, plan, "nmi:nmi_handler was recorded for others too")
    if left_out:
        checked = {**plan.not_checked, "stale": f"{others[0].what} are not judged: see --run"}
        plan = replace(plan, not_checked=checked)
    return replace(plan, unseen=(*plan.unseen, *others))
