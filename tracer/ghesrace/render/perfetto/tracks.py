# SPDX-License-Identifier: Apache-2.0
"""This puts events on tracks: one per CPU and context for what the kernel did, one per slot, CPU
and context for translations, and one per CPU and cause for losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ghesrace.events import ALL_CPUS, Context, Kind
from ghesrace.plan import Plan
from ghesrace.render.lines import StepKey
from ghesrace.render.sentences import Row, Sentences, cause_word

from .packets import Packets

_OPENS = {
    Kind.NOTIFY: Kind.NOTIFY_END,
    Kind.COPY: Kind.COPY_END,
    Kind.EDIT: Kind.EDIT_END,
    Kind.BCAST_RANGE: Kind.BCAST_END,
    Kind.BCAST_ALL: Kind.BCAST_END,
}
_CLOSES = frozenset(_OPENS.values())
_LANES = 16  # of losses that overlap


@dataclass(slots=True)
class _Open:
    """These slices of one track are open, the innermost last, each with what ends it: a kind of the
    same symbol, as a handler may call another that is probed too."""

    track: int
    ends: list[tuple[Kind, str | None]] = field(default_factory=list)


class Tracks:
    """This draws rows on tracks below the track *root*.

    *plan* is the recording's, with names as they are shown, and *flows* are the numbers of flows
    that begin or end at an event, by its stamp, CPU and kind.

        tracks = Tracks(packets, root, plan, sentences, {})
        for row in rows(events):
            tracks.draw(row)
        tracks.close(last)
    """

    def __init__(
        self,
        packets: Packets,
        root: int,
        plan: Plan,
        say: Sentences,
        flows: Mapping[StepKey, list[int]],
    ) -> None:
        self._packets, self._say, self._flows, self._sure = packets, say, flows, plan.contexts
        # Of what begins at one probe and ends at one of the same symbol.
        self._pairs = {
            (end, probe.symbol)
            for begin, end in _OPENS.items()
            for probe in plan.probes
            if probe.kind == begin.name
        }
        self._slots = packets.track("slots", root)
        self._cpus = packets.track("CPUs", root)
        self._losses = packets.track("losses", root)
        self._made: dict[tuple[object, ...], int] = {}
        self._contexts: dict[tuple[int, int], _Open] = {}
        self._mapped: dict[tuple[str, int, int], _Open] = {}
        self._told_of: set[StepKey] = set()
        self._busy: dict[tuple[object, ...], int] = {}  # until when (ns) a lane of losses is taken

    def draw(self, row: Row) -> None:
        """Draw one *row*."""
        kind = Kind(row.kind)
        if kind == Kind.LOSS:
            self._loss(row)
        elif kind in (Kind.EPISODE, Kind.THREAT, Kind.SAMPLE):
            self._told(row)
        elif kind in (Kind.COUNT, Kind.AGAIN):
            self._packets.instant(self._cpu(row.cpu), row.ts, self._say.of(row))
        else:
            self._event(kind, row)

    def close(self, ts: int) -> None:
        """End what is open at *ts* (ns): nothing is known of what comes next."""
        for open_ones in (*self._contexts.values(), *self._mapped.values()):
            while open_ones.ends:
                open_ones.ends.pop()
                self._packets.end(open_ones.track, ts)

    def _event(self, kind: Kind, row: Row) -> None:
        here = self._context(row.cpu, row.ctx)
        flows = self._flows.get((row.ts, row.cpu, kind.name.lower()), ())
        name = self._say.of(row)
        symbol = self._say.symbol(row)
        notes = {"symbol": symbol} if symbol is not None else {}
        mapped = kind in (Kind.MAP, Kind.UNMAP)
        end = _OPENS.get(kind, kind), symbol
        if kind in _CLOSES and end not in self._pairs:
            # A trace of another tool may name the two ends differently.
            end = next((one for one in reversed(here.ends) if one[0] == kind), end)
        if kind in _CLOSES and end in here.ends:
            self._end(here, end, row.ts)
        elif kind in _OPENS:
            while end in here.ends:  # Its end was missed: it can't be inside itself.
                self._end(here, end, row.ts)
            here.ends.append(end)
            self._packets.begin(here.track, row.ts, name, notes, flows)
        else:
            self._packets.instant(here.track, row.ts, name, notes, () if mapped else flows)
        if mapped:
            self._translation(kind, row, name, flows)

    def _end(self, here: _Open, end: tuple[Kind, str | None], ts: int) -> None:
        """End the innermost slice that ends with *end*. What was open inside it is over too, though
        its own end was not seen."""
        while here.ends.pop() != end:
            self._packets.end(here.track, ts)
        self._packets.end(here.track, ts)

    def _translation(self, kind: Kind, row: Row, name: str, flows: Sequence[int]) -> None:
        """Begin or end the slice of a slot's translation. The next map ends the one before."""
        slot = self._say.slot(row) or "unknown slot"
        key = slot, row.cpu, row.ctx
        if key not in self._mapped:
            self._mapped[key] = _Open(self._lane(slot, row.cpu, row.ctx))
        mine = self._mapped[key]
        if mine.ends:
            mine.ends.pop()
            self._packets.end(mine.track, row.ts)
        if kind == Kind.MAP:
            mine.ends.append((Kind.UNMAP, None))
            self._packets.begin(mine.track, row.ts, name, None, flows)

    def _told(self, row: Row) -> None:
        """Draw an episode that a summary tells: only its begin and its end are known."""
        slot = self._say.slot(row) or "unknown slot"
        cpu = row.mapper
        begin, end = row.begin or row.ts, row.end
        key = begin, cpu, "map"
        # Several records may tell of one map; an arrow has one begin.
        flows = () if key in self._told_of else self._flows.get(key, ())
        if flows:
            self._told_of.add(key)
        track = self._lane(slot, cpu, row.ctx, Kind(row.kind).name.lower())
        self._packets.begin(track, begin, self._say.of(row), None, flows)
        self._packets.end(track, max(end, begin))

    def _loss(self, row: Row) -> None:
        cause = cause_word(row.cause)
        where = "any CPU" if row.cpu == ALL_CPUS else f"CPU {row.cpu}"
        begin, lane = min(row.begin, row.ts), 0
        while self._busy.get((where, cause, lane), 0) > begin and lane < _LANES - 1:
            lane += 1
        self._busy[where, cause, lane] = row.ts
        track = self._child(self._losses, f"{where}: {cause}", lane)
        self._packets.begin(track, begin, self._say.of(row))
        self._packets.end(track, row.ts)

    def _context(self, cpu: int, ctx: int) -> _Open:
        if (cpu, ctx) not in self._contexts:
            name = self._context_word(ctx)
            self._contexts[cpu, ctx] = _Open(self._child(self._cpu(cpu), f"CPU {cpu} {name}"))
        return self._contexts[cpu, ctx]

    def _context_word(self, ctx: int) -> str:
        word = Context(ctx).name.lower()
        return word if self._sure else f"{word}?"

    def _cpu(self, cpu: int) -> int:
        return self._child(self._cpus, f"CPU {cpu}")

    def _lane(self, slot: str, cpu: int, ctx: int, more: str = "") -> int:
        parent = self._child(self._slots, f"slot {slot}")
        name = f"{slot}: CPU {cpu} {self._context_word(ctx)} {more}".rstrip()
        return self._child(parent, name)

    def _child(self, parent: int, name: str, lane: int = 0) -> int:
        key = parent, name, lane
        if key not in self._made:
            self._made[key] = self._packets.track(name, parent)
        return self._made[key]
