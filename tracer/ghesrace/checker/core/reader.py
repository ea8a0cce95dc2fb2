# SPDX-License-Identifier: Apache-2.0
"""Events of one CPU, in its program order, become holds and episodes with their bounds.

What belongs to an episode, its own flushes and its access, is decided here and nowhere else;
whether it was safe is the judge's business.
"""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.edits import Edits
from ghesrace.checker.core.facts import Facts
from ghesrace.checker.core.late import pull_back
from ghesrace.checker.core.pages import Pages
from ghesrace.checker.core.state import Cpu, Level, SlotState


class Sent:
    """One shootdown, and the handler (time, probe point) that it was sent from, if any."""

    def __init__(self, cpu: int, ctx: int, t: int, off: bool) -> None:
        self.cpu = cpu
        self.ctx = ctx
        self.t = t
        self.off = off
        self.call: tuple[int, int] | None = None


class Reader(Pages):
    """Feed it events; it fills in the slots' holds, broadcasts and own invalidations."""

    def __init__(self, facts: Facts, slots: list[SlotState], edits: Edits) -> None:
        super().__init__(facts, slots, edits)
        self.shootdowns: list[Sent] = []
        self.cpus: dict[int, Cpu] = {}
        edits.cpus = self.cpus
        self.by_number: list[Cpu | None] = []
        self.at = Cpu(w.NOWHERE, 0)  # whose event was the last
        self.start = w.NEVER  # the first event's stamp

    def event(
        self,
        ts: int,
        addr: int,
        phys: int,
        size: int,
        seq: int,
        pid: int,
        point: int,
        number: int,
        slot: int,
        kind: int,
        ctx: int,
        flags: int,
        index: int,
    ) -> None:
        """Take one event (fields as in EVENT), the *index*th of the stream."""
        self.index = index
        cpu = self.at
        if cpu.number != number:
            cpu = self.at = self.cpu_of(number, ts)
        if ts < cpu.last_t:
            pull_back(self.slots, cpu, ts)
        cpu.last_t = ts
        cpu.pos += 1
        if cpu.top > ctx:
            self.come_down(cpu, ctx, ts, seq)
        if ctx == w.TASK:
            self.in_task(cpu, ts)
        cpu.top = ctx
        level = cpu.levels[ctx]
        if level.active and level.pending:
            self.settle(cpu, level, ctx, ts, kind)
        if self.edits.count:
            self.edits.went_on(number, ctx, ts)
        if not level.active or (ctx == w.TASK and pid != level.pid):
            if level.active:
                self.leave(cpu, level, ts, seq)
            level.active = True
            level.pid = pid
            self.edge(cpu, level, ts, seq)
            self.set_since(cpu, level, ctx)
        if kind == w.K_MAP:
            if slot >= 0:
                self.map(cpu, level, ctx, ts, phys, seq, pid, point, slot)
        elif kind == w.K_UNMAP:
            if slot >= 0:
                self.unmap(cpu, level, ctx, ts, seq, pid, point, slot)
        elif kind in (w.K_INV_PAGE, w.K_INV_RANGE, w.K_INV_ALL):
            self.invalidate(cpu, level, ctx, ts, addr, size, slot, kind)
        elif kind in (w.K_READ, w.K_WRITE):
            self.access(cpu, level, ts, addr, seq, slot, kind)
        elif kind in (w.K_BCAST_RANGE, w.K_BCAST_ALL):
            self.broadcast(cpu, level, ctx, ts, addr, size, kind)
        elif kind == w.K_BCAST_END:
            self.told(cpu, level, ctx, ts)
        elif kind == w.K_COPY:
            self.copy(cpu, level, ts, seq, flags)
        elif kind == w.K_COPY_END:
            self.copy_end(cpu, level, ts, seq)
        elif kind == w.K_MAP_END:
            self.map_end(level, slot)
        elif kind == w.K_UNMAP_END:
            self.unmap_end(cpu, level, slot, ts, seq)
        elif kind == w.K_EDIT:
            self.edits.begin_edit(number, ctx, ts, cpu.pos, addr, size, pid, point)
        elif kind == w.K_EDIT_END:
            self.edits.end_edit(number, ctx, ts, pid, point)
        elif kind == w.K_SHOOTDOWN:
            self.shootdown(cpu, level, ctx, ts, point, flags)
        elif kind in (w.K_NOTIFY, w.K_NOTIFY_END, w.K_NMI_REF):
            outside = level.calls == 0
            if kind == w.K_NOTIFY:
                self.edits.begin_call(number, ctx, ts, cpu.pos, point)
                if outside:
                    level.call_t, level.call_point = ts, point
                level.calls += 1
            elif kind == w.K_NOTIFY_END:
                self.edits.end_call(number, ctx, ts, True)
                level.calls -= level.calls > 0
                outside = level.calls == 0
            # A task's own ghes_proc(), as in ghes_probe(), has the lock taken around it.
            if not self.facts.is_nested(point) or (outside and ctx == w.TASK):
                self.close_all(cpu, level, ts, seq)
                self.edge(cpu, level, ts, seq)
                level.in_handler = kind == w.K_NOTIFY
        if level.mapped:
            level.mapped = False
            for place in level.used:
                episode = place.episode
                if episode is not None and not episode.unmapped:
                    episode.last_first, episode.last_pos = ts, cpu.pos
                    level.mapped = True
        if kind in (w.K_NOTIFY, w.K_COPY):
            level.opening = index
        elif kind == w.K_UNMAP:
            level.opening = -1
        elif level.opening >= 0:
            level.opening = index
        level.last_t = ts
        level.last_pos = cpu.pos
        level.last_kind = kind

    def cpu_of(self, number: int, ts: int) -> Cpu:
        """The state of the CPU of an event, which may be its first, at *ts* (ns)."""
        cpu = self.by_number[number] if number < len(self.by_number) else None
        if cpu is None:
            self.by_number += [None] * (number + 1 - len(self.by_number))
            cpu = Cpu(number, len(self.slots))
            self.by_number[number] = self.cpus[number] = cpu
            self.start = min(self.start, ts)
            for state in self.slots:
                state.cells.append(cpu.cells[state.number])
        return cpu

    def come_down(self, cpu: Cpu, ctx: int, ts: int, seq: int) -> None:
        """The CPU left all contexts above *ctx*, where it goes on."""
        for above in range(cpu.top, ctx, -1):
            level = cpu.levels[above]
            if level.active:
                if level.pending:
                    self.settle(cpu, level, above, ts)
                if level.telling:
                    self.told(cpu, level, above, ts)  # Its function has returned.
                self.leave(cpu, level, ts, seq)
                level.active = False

    def in_task(self, cpu: Cpu, ts: int) -> None:
        """A task goes on: nothing that the CPU interrupted is under way."""
        if cpu.top != w.TASK or ts - cpu.last_task >= w.TASKS_APART_NS:
            cpu.tasks.append(ts)
            cpu.last_task = ts

    def edge(self, cpu: Cpu, level: Level, ts: int, seq: int) -> None:
        """A handler is entered or left here, or the context is."""
        level.edge_t, level.edge_seq, level.edge_pos = ts, seq, cpu.pos
        level.since_pos = cpu.pos
        level.edge_index = self.index
        level.in_handler = False
        level.opening = -1
        level.copy_depth = 0
        level.copy_pos = w.NOWHERE
        for place in level.used:
            place.pre_first = w.NEVER
            self.drop_stray(place)

    def set_since(self, cpu: Cpu, level: Level, ctx: int) -> None:
        """This context began behind what went on in it or in a lower one; what ran in a higher one
        may have interrupted it."""
        level.since_pos = w.NOWHERE
        for number in range(ctx + 1):
            other = cpu.levels[number]
            if other.last_pos > level.since_pos:
                level.since_pos = other.last_pos

    def leave(self, cpu: Cpu, level: Level, ts: int, seq: int) -> None:
        """The CPU went on in another context: nothing that ran in this one is under way."""
        self.close_all(cpu, level, ts, seq)
        level.calls = 0
        self.edits.end_call(cpu.number, level.ctx, ts, False)
        self.edits.left(cpu.number, level.ctx, ts)

    def close_all(self, cpu: Cpu, level: Level, ts: int, seq: int) -> None:
        """Every hold of this context is over."""
        for place in level.used:
            self.close(cpu, level, place.slot, ts, seq)
            self.missed_end(cpu, level, place.slot, ts, seq)

    def copy(self, cpu: Cpu, level: Level, ts: int, seq: int, flags: int) -> None:
        """The copy of a record was entered."""
        for place in level.used:
            slot = place.slot
            if place.hold is None:
                continue
            outer = place.episode
            if outer is not None and not outer.unmapped and place.outer is None:
                # Inside of another copy: an end was missed, or a context is not told.
                place.outer = outer
                place.episode = place.hold = None
            elif self.lock_page(slot) or not self.facts.has_handler(slot):
                pre = place.pre_first  # Under a lock per report it may be this copy's hold's.
                self.close(cpu, level, slot, ts, seq)
                place.pre_first = pre
        level.copy_depth += 1
        level.copy_t, level.copy_seq, level.copy_pos = ts, seq, cpu.pos
        level.copy_writes = bool(flags & 2)
        for place in level.used:
            self.drop_stray(place)
            if self.lock_page(place.slot):
                place.pre_first = w.NEVER

    def copy_end(self, cpu: Cpu, level: Level, ts: int, seq: int) -> None:
        """The copy returned: what it mapped is unmapped."""
        for place in level.used:
            episode = place.episode
            if self.lock_page(place.slot):
                self.close(cpu, level, place.slot, ts, seq)
            elif episode is not None and not episode.unmapped:
                self.end(cpu, level, episode, ts, seq)
                place.episode = None
        level.copy_depth = max(level.copy_depth - 1, 0)
        level.copy_pos = w.NOWHERE

    def shootdown(self, cpu: Cpu, level: Level, ctx: int, ts: int, point: int, flags: int) -> None:
        """Other CPUs are about to be interrupted, and waited for."""
        if ctx < w.IRQ and not flags & 1:
            return
        sent = Sent(cpu.number, ctx, ts, bool(flags & 1))
        if level.calls:
            sent.call = (level.call_t, level.call_point)
        self.shootdowns.append(sent)
