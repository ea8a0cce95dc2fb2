# SPDX-License-Identifier: Apache-2.0
"""GHES maps and unmaps that meet an unfinished page-table edit (DESIGN, `torn_edit`).

On one CPU the buffer's order decides, between CPUs the clock. A meeting is told once, when both
are over and the mark has passed them by the clock error.
"""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.holds import Span
from ghesrace.checker.core.losses import Losses
from ghesrace.checker.core.ranges import meets
from ghesrace.checker.core.state import Cpu, Level, SlotState

TABLE_BITS = w.PAGE_BITS + 9
TABLE = 1 << TABLE_BITS  # bytes that one table of entries maps
EDIT_KINDS = 1 << w.K_EDIT | 1 << w.K_EDIT_END
WRITE_KINDS = 1 << w.K_MAP | 1 << w.K_UNMAP | 1 << w.K_MAP_END | 1 << w.K_UNMAP_END
CALL_KINDS = 1 << w.K_NOTIFY | 1 << w.K_NOTIFY_END
MOST = 1 << 14  # spans at once; only a damaged or foreign file has more


class Meeting:
    """A GHES write (or handler) `ghes` and the `edit` that it met, or may have met."""

    def __init__(self, ghes: Span, edit: Span, danger: int, result: int, assumes: bool) -> None:
        self.ghes = ghes
        self.edit = edit
        self.danger = danger
        self.result = result
        self.assumes = assumes  # that the clocks agree as they are assumed to


class Edits:
    """Feed it what begins and ends; `step` tells what met."""

    def __init__(self, facts: Facts, slots: list[SlotState], losses: Losses) -> None:
        self.facts = facts
        self.slots = slots
        self.losses = losses
        self.cpus: dict[int, Cpu] = {}  # the reader's
        self.open: dict[tuple[int, int, int], Span] = {}  # edits, by who makes them and where
        self.calls: dict[tuple[int, int], Span] = {}
        self.count = 0  # of those that are open
        self.edits: list[Span] = []  # over, or not; not forgotten yet
        self.writes: list[Span] = []
        self.handlers: list[Span] = []
        self.meetings: list[Meeting] = []
        self.truncated = False
        self.told_until = 0  # which writes met before that was told by an earlier step
        self.allocating = False
        self.freeing = False
        self.status = False
        for i, implied in enumerate(facts.implies):
            ghes = facts.hides[i] & w.MAPS
            self.allocating |= bool(ghes and implied & w.MAY_ALLOCATE)
            self.freeing |= bool(ghes and implied & w.MAY_FREE)
            self.status |= bool(implied & w.UNMAPS_STATUS)
        self.wanted = bool(facts.traced >> w.K_EDIT & 1)
        self.ends_traced = bool(facts.traced >> w.K_EDIT_END & 1)

    # -- what begins and ends ----------------------------------------------------------------

    def begin_write(
        self,
        kind: int,
        cpu: Cpu,
        ctx: int,
        t: int,
        slot: int,
        point: int,
        phys: int,
    ) -> None:
        """A GHES function is about to write a PTE."""
        span = Span.of(w.WRITE, kind, cpu.number, ctx, t, cpu.pos)
        span.slot, span.point, span.phys = slot, self.facts.row(point), phys
        level = cpu.levels[ctx]
        level.writing = span
        if self.count:
            for edit in self.open.values():
                status = self.facts.implied(edit.point) & w.UNMAPS_STATUS
                if edit.cpu == cpu.number and edit.ctx < ctx and not status:
                    edit.inside = [*(edit.inside or ()), span]
        for lower in range(ctx):
            level = cpu.levels[lower]
            other = level.writing
            if other is not None and other.slot != slot:
                other.inside = [*(other.inside or ()), span]
        self.writes.append(span)

    def end_write(self, level: Level, t: int, ended: bool) -> None:
        """Its context went on."""
        span = level.writing
        if span is not None:
            level.writing = None
            span.last, span.ended = t, ended
            if span.inside is not None:
                self.tell_inside(span)

    def begin_edit(
        self,
        cpu: int,
        ctx: int,
        t: int,
        pos: int,
        addr: int,
        size: int,
        pid: int,
        point: int,
    ) -> None:
        """A page-table edit begins."""
        span = Span.of(w.EDIT, w.K_EDIT, cpu, ctx, t, pos)
        span.addr, span.size, span.pid, span.point = addr, size, pid, self.facts.row(point)
        key = self.name(cpu, ctx, pid, point)
        before = self.open.pop(key, None)
        if before is not None:
            self.close_edit(before, t, False)
        self.open[key] = span
        self.count = len(self.open)
        self.edits.append(span)

    def end_edit(self, cpu: int, ctx: int, t: int, pid: int, point: int) -> None:
        """A page-table edit is over."""
        span = self.open.pop(self.name(cpu, ctx, pid, point), None)
        if span is not None:
            self.close_edit(span, t, True)

    def name(self, cpu: int, ctx: int, pid: int, point: int) -> tuple[int, int, int]:
        """Whose edit it is: a task may be preempted in one, and go on elsewhere."""
        symbol = self.facts.symbols[self.facts.row(point)]
        if ctx == w.TASK and pid:
            return -1, pid, symbol
        return cpu, ctx, symbol

    def went_on(self, cpu: int, ctx: int, t: int) -> None:
        """An event of a context: without a trace of its end, no edit there goes on."""
        if self.ends_traced:
            return
        for key, span in list(self.open.items()):
            if span.cpu == cpu and span.ctx >= ctx:
                del self.open[key]
                self.close_edit(span, t, False)

    def left(self, cpu: int, ctx: int, t: int) -> None:
        """A context above the task's was left."""
        for key, span in list(self.open.items()) if self.count else ():
            if span.cpu == cpu and span.ctx == ctx and ctx != w.TASK:
                del self.open[key]
                self.close_edit(span, t, False)

    def close_edit(self, span: Span, t: int, ended: bool) -> None:
        span.last, span.ended = t, ended
        self.count = len(self.open)
        self.tell_inside(span)

    def begin_call(self, cpu: int, ctx: int, t: int, pos: int, point: int) -> None:
        """A handler runs in an NMI."""
        if self.status:
            span = Span.of(w.CALL, w.K_NOTIFY, cpu, ctx, t, pos)
            span.point = self.facts.row(point)
            self.calls[cpu, ctx] = span
            self.handlers.append(span)

    def end_call(self, cpu: int, ctx: int, t: int, ended: bool) -> None:
        """It returned, or its context was left."""
        span = self.calls.pop((cpu, ctx), None) if self.calls else None
        if span is not None:
            span.last, span.ended = t, ended

    # -- what met ----------------------------------------------------------------------------

    def tell_inside(self, span: Span) -> None:
        """The writes that interrupted an edit, or a write of another slot."""
        for ghes in span.inside or ():
            self.tell(ghes, span, True, True)
        span.inside = None

    def step(self, mark: int) -> list[Meeting]:
        """What met on two CPUs, as far as *mark* (ns; NEVER at the end) tells; and all since."""
        error = self.facts.error
        self.give_up(mark)
        until = mark - error
        earliest = until
        for span in self.open.values():
            earliest = min(earliest, span.t)
        over = [edit for edit in self.edits if edit.last < until]
        if over or self.allocating or self.freeing or len(self.writes) > MOST:
            self.writes.sort(key=_begin)
        for edit in over:
            if self.status and self.facts.implied(edit.point) & w.UNMAPS_STATUS:
                for call in self.handlers:
                    if call.cpu != edit.cpu and call.ctx == w.NMI and self.may_meet(call, edit):
                        self.tell_status(call, edit)
                continue
            for ghes in self.writes:
                if ghes.t > edit.last + error:
                    break
                if ghes.cpu != edit.cpu and self.may_meet(ghes, edit):
                    self.tell(ghes, edit, False, self.beside(ghes, edit))
        if self.allocating or self.freeing:
            self.meet_writes(until)
        self.told_until = until
        self.edits = lasting(self.edits, until)
        keep = earliest
        for edit in self.edits:
            keep = min(keep, edit.t)
        if self.allocating or self.freeing:
            for ghes in self.writes:
                if ghes.last >= until:  # what it meets may be over before it
                    keep = min(keep, ghes.t)
        keep -= 2 * error
        self.writes = lasting(self.writes, keep)
        self.handlers = lasting(self.handlers, keep)
        for spans in (self.writes, self.handlers, self.edits):
            if len(spans) > MOST:
                self.truncated = True
                del spans[:-MOST]
        found, self.meetings = self.meetings, []
        return found

    def give_up(self, mark: int) -> None:
        """Nothing lasts for a second: where it ended was not seen."""
        for key, span in list(self.open.items()):
            if span.t < mark - w.FORCE_CLOSE_NS:
                del self.open[key]
                self.close_edit(span, span.t + w.FORCE_CLOSE_NS, False)
        for cpu in self.cpus.values():
            for level in cpu.levels:
                ghes = level.writing
                if ghes is not None and ghes.t < mark - w.FORCE_CLOSE_NS:
                    self.end_write(level, ghes.t + w.FORCE_CLOSE_NS, False)
        for span in list(self.calls.values()):
            if span.t < mark - w.FORCE_CLOSE_NS:
                self.end_call(span.cpu, span.ctx, span.t + w.FORCE_CLOSE_NS, False)

    def meet_writes(self, until: int) -> None:
        """Writes of two slots on two CPUs, where one may allocate."""
        error = self.facts.error
        for number in range(len(self.writes)):
            one = self.writes[number]
            if one.last >= until:
                continue
            for after in range(number + 1, len(self.writes)):
                other = self.writes[after]
                if other.t > one.last + error:
                    break
                if max(one.last, other.last) < self.told_until:
                    continue  # told by an earlier step
                if other.slot != one.slot and other.cpu != one.cpu and other.last < until:
                    self.tell(other, one, False, self.beside(other, one))

    def may_meet(self, ghes: Span, edit: Span) -> bool:
        """Whether the clocks leave open that they met."""
        error = self.facts.clocks.error(ghes.cpu, edit.cpu)
        return ghes.last + error >= edit.t and edit.last + error >= ghes.t

    def beside(self, ghes: Span, edit: Span, proven: bool = False) -> bool:
        """Whether the write surely took effect within the edit; by the *proven* bound?"""
        clocks = self.facts.proven if proven else self.facts.clocks
        error = clocks.error(ghes.cpu, edit.cpu)
        return edit.t + error < ghes.t and ghes.last + error < edit.last

    def tell(self, ghes: Span, edit: Span, inside: bool, surely: bool) -> None:
        """Note one meeting, and what it is."""
        danger, hazard = self.danger(ghes, edit, inside)
        if hazard and not surely:
            result = w.UNDECIDED
        elif not hazard:
            if not surely:
                return
            result = w.SAME_TABLE if danger == w.TABLE else w.OTHER_TABLE
        elif self.touched(ghes) or self.touched(edit):
            result = w.UNDECIDED
        elif danger == w.ENTRY and (edit.ended or not inside):
            result = w.OBSERVED
        else:
            result = w.PREDICTED
        assumes = not (inside or self.beside(ghes, edit, True))
        self.meetings.append(Meeting(ghes, edit, max(danger, w.ENTRY), result, assumes))

    def tell_status(self, call: Span, edit: Span) -> None:
        known = not self.touched(call) and not self.touched(edit)
        result = w.PREDICTED if known else w.UNDECIDED
        self.meetings.append(Meeting(call, edit, w.STATUS, result, False))

    def touched(self, span: Span) -> bool:
        """Whether a loss may have hidden where it ended."""
        if not self.losses.all:
            return False
        kinds = (WRITE_KINDS, EDIT_KINDS, CALL_KINDS)[span.what]
        for loss in self.losses.all:
            everywhere = span.what == w.EDIT or loss.cpu in (-1, span.cpu)
            meets = loss.begin <= span.last and span.t <= loss.end
            if loss.kinds & kinds and everywhere and meets:
                return True
        return False

    def danger(self, ghes: Span, edit: Span, inside: bool) -> tuple[int, bool]:
        """What both touch (-1: nothing), and whether that is a hazard."""
        state = self.slots[ghes.slot]
        v, known = state.address, state.known
        mine, theirs = self.facts.implied(ghes.point), self.facts.implied(edit.point)
        entry = table = False
        if edit.what == w.WRITE:
            entry = edit.slot == ghes.slot
            other_state = self.slots[edit.slot]
            u = other_state.address
            if known and other_state.known:
                table = v >> TABLE_BITS == u >> TABLE_BITS
            else:
                table = self.facts.groups[edit.slot] == self.facts.groups[ghes.slot]
        elif known and edit.size:
            entry = meets(edit.addr, edit.size, v, w.PAGE)
            table = meets(edit.addr, edit.size, v >> TABLE_BITS << TABLE_BITS, TABLE)
        allocates = bool(mine & w.MAY_ALLOCATE) and ghes.kind != w.K_UNMAP
        beside = bool(theirs & w.MAY_ALLOCATE) and edit.kind != w.K_UNMAP
        # Two that only allocate have init_mm.page_table_lock in common.
        unsafe = (allocates or beside) if inside else (allocates != beside)
        unsafe = unsafe or bool((mine | theirs) & w.MAY_FREE)
        if entry:
            return w.ENTRY, True
        return (w.TABLE if table else -1), table and unsafe


def lasting(spans: list[Span], until: int) -> list[Span]:
    """Those that are not over before *until* (ns)."""
    found = []
    for span in spans:
        if span.last >= until:
            found.append(span)
    return found


def _begin(span: Span) -> int:
    return span.t
