# SPDX-License-Identifier: Apache-2.0
"""CPUs in true time: who runs, who is interrupted, who waits for a lock, what takes effect when.

A discrete-event simulation. Times are whole ns; two steps of one CPU never share one. What comes
out is the log of effects (for `truth`) and each CPU's records in buffer order (for `tracer`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from ghesrace.events import Context, Kind

from .kernel import Does, Kernel, Op, Part, Task


@dataclass(slots=True)
class Record:
    """One event as its CPU's buffer holds it: its place is taken first, the clock read then.

    `place` and `clock` are the true times (ns) of the two, `task` and `step` say whose event it is,
    `guarded` whether it came while another probe of its CPU ran (a kprobe is then skipped).
    """

    cpu: int
    ctx: Context
    op: Op
    task: int
    step: int
    pid: int
    place: int
    clock: int = 0
    guarded: bool = False
    size: int = 0  # of an NMI_REF: ns since the handler's entry


@dataclass(slots=True)
class Effect:
    """One effect, at a true time (ns). `page` numbers the episode within its task."""

    at: int
    does: Does
    cpu: int
    slot: int
    task: int
    page: int
    phys: int = 0
    part: Part = Part.LUCK
    sender: int = -1  # of an invalidation: who ordered it


@dataclass(slots=True)
class Hold:
    """One hold of a slot's lock, in true time (ns)."""

    slot: int
    cpu: int
    task: int
    begin: int
    end: int = -1


@dataclass(slots=True)
class History:
    """All that happened in one world."""

    effects: list[Effect] = field(default_factory=list)
    buffers: list[list[Record]] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    end: int = 0


def answer_of(task: int, cpu: int) -> int:
    """The number of the answer that *cpu* gives to the broadcast of *task*: negative."""
    return -1 - (task << 16 | cpu)


def asked_by(answer: int) -> tuple[int, int]:
    """The task and the CPU of an answer's number."""
    return (-1 - answer) >> 16, (-1 - answer) & 0xFFFF


_RUNS, _BLOCKED, _SENT, _ANSWERED = range(4)


class _Frame:
    """A task that a CPU runs, or has interrupted."""

    __slots__ = (
        "asker", "ctx", "entry", "gaps", "guard", "masked", "number", "ops", "part", "record",
        "rest", "state", "step", "waits",
    )  # fmt: skip

    def __init__(self, number: int, ctx: Context, ops: list[Op], gaps: Callable[[], int]) -> None:
        self.number, self.ctx, self.ops, self.gaps = number, ctx, ops, gaps
        self.step = 0
        self.part = 0  # of the step: 0 its record's place, 1 the clock, then each effect
        self.rest = 0  # ns until its next part, where it is interrupted
        self.masked = ctx >= Context.IRQ
        self.guard = False
        self.state = _RUNS
        self.record: Record | None = None
        self.waits = 0  # answers that its broadcast still lacks
        self.asker: tuple[int, _Frame] | None = None  # the sender whose broadcast this answers
        self.entry = 0


class Machine:
    """Runs *tasks* on *cpus* CPUs; *gap* draws how long a step takes (ns), from a task's dice."""

    def __init__(
        self,
        kernel: Kernel,
        cpus: int,
        tasks: tuple[Task, ...],
        gap: Callable[[Random], int],
    ) -> None:
        self.kernel, self.tasks, self.gap = kernel, tasks, gap
        self.history = History(buffers=[[] for _ in range(cpus)])
        self.stacks: list[list[_Frame]] = [[] for _ in range(cpus)]
        self.pending: list[list[_Frame]] = [[] for _ in range(cpus)]
        self.traced = frozenset(kernel.traced())
        self._queue: list[tuple[int, int, int, int, _Frame | None]] = []
        self._n = 0
        self._version = [0] * cpus
        self._owner: dict[int, _Frame | None] = {}
        self._held: dict[int, Hold] = {}
        self._waiting: dict[int, list[tuple[int, _Frame]]] = {}

    def run(self) -> History:
        """Everything, until nothing is left to do."""
        for number, task in enumerate(self.tasks):
            frame = self._frame(number, task.ctx, self.kernel.ops(task), task.seed)
            self._push(task.at, task.cpu, 0, frame)
        now = 0
        while self._queue:
            now, _, cpu, version, arrived = heappop(self._queue)
            if arrived is not None:
                self.pending[cpu].append(arrived)
                self._deliver(cpu, now)
            elif version == self._version[cpu]:
                self._part(cpu, now)
        assert not any(self.stacks + self.pending), "the world did not come to rest"
        self.history.effects.sort(key=lambda effect: effect.at)
        self.history.end = now
        return self.history

    def _frame(self, number: int, ctx: Context, ops: list[Op], seed: int) -> _Frame:
        dice, gap = Random(seed), self.gap
        return _Frame(number, ctx, ops, lambda: gap(dice))

    def _push(self, at: int, cpu: int, version: int, frame: _Frame | None) -> None:
        self._n += 1
        heappush(self._queue, (at, self._n, cpu, version, frame))

    def _after(self, cpu: int, now: int, wait: int) -> None:
        self._version[cpu] += 1
        self.stacks[cpu][-1].rest = now + wait  # the time itself, until it is interrupted
        self._push(now + wait, cpu, self._version[cpu], None)

    # -- interrupts ------------------------------------------------------------------------

    def _deliver(self, cpu: int, now: int) -> None:
        """Let the highest pending task interrupt what runs, if that can be interrupted."""
        waiting, stack = self.pending[cpu], self.stacks[cpu]
        if not waiting:
            return
        best = max(waiting, key=lambda frame: frame.ctx)
        if stack:
            top = stack[-1]
            closed = top.masked or top.record is not None  # a probe runs with interrupts off
            if best.ctx <= top.ctx or (best.ctx != Context.NMI and closed):
                return
            top.rest -= now  # from here on: what is left
        waiting.remove(best)
        stack.append(best)
        best.guard = any(frame.guard for frame in stack)
        best.entry = now
        self._after(cpu, now, best.gaps())

    def _done(self, cpu: int, now: int) -> None:
        """The top task is over: go on with what it interrupted, or with what waits."""
        stack = self.stacks[cpu]
        frame = stack.pop()
        self._version[cpu] += 1
        if stack:
            top = stack[-1]
            if top.state == _BLOCKED:
                self._retry(cpu, top, now)
            elif top.state != _SENT:
                self._after(cpu, now, max(top.rest, 1))
        if frame.asker is not None:
            self._answered(*frame.asker, now)
        self._deliver(cpu, now)

    # -- one part of a step ----------------------------------------------------------------

    def _part(self, cpu: int, now: int) -> None:
        frame = self.stacks[cpu][-1]
        op = frame.ops[frame.step]
        seen = op.kind is not None and op.kind in self.traced
        if frame.part == 0:
            if seen:
                self._reserve(cpu, frame, op, now)
                frame.part = 1
                self._after(cpu, now, 2 + frame.gaps() // 8)
                return
            frame.part = 2
        elif frame.part == 1:
            assert frame.record is not None
            frame.record.clock = now
            if op.kind == Kind.NMI_REF:
                frame.record.size = now - frame.entry
            frame.record, frame.guard = None, any(f.guard for f in self.stacks[cpu][:-1])
            frame.part = 2
            self._after(cpu, now, frame.gaps())
            self._deliver(cpu, now)
            return
        effect = frame.part - 2
        if effect < len(op.does) and not self._effect(cpu, now, frame, op, op.does[effect]):
            return  # it waits, and goes on by itself
        frame.part += 1
        if frame.part - 2 >= len(op.does):
            self._next(cpu, frame, now)
        else:
            self._after(cpu, now, frame.gaps())

    def _next(self, cpu: int, frame: _Frame, now: int) -> None:
        frame.step += 1
        frame.part = 0
        if frame.step == len(frame.ops):
            self._done(cpu, now)
        else:
            self._after(cpu, now, frame.gaps())
            self._deliver(cpu, now)

    def _reserve(self, cpu: int, frame: _Frame, op: Op, now: int) -> None:
        base = self.stacks[cpu][0]
        pid = 1000 + base.number if base.ctx == Context.TASK else 0
        # A tracepoint is no kprobe: nothing skips it.
        guarded = frame.guard and op.kind != Kind.NMI_REF
        record = Record(cpu, frame.ctx, op, frame.number, frame.step, pid, now, guarded=guarded)
        self.history.buffers[cpu].append(record)
        frame.record, frame.guard = record, True

    def _effect(self, cpu: int, now: int, frame: _Frame, op: Op, does: Does) -> bool:
        """Take effect; false if the task goes on at a time of its own."""
        log = self.history.effects
        if does == Does.FLUSH:
            self._flush(cpu, now, frame, op)
        elif does in (Does.SET, Does.CLEAR, Does.READ):
            slot = op.slots[0]
            log.append(Effect(now, does, cpu, slot, frame.number, op.page, op.phys, op.part))
        elif does == Does.TELL:
            return self._tell(cpu, now, frame, op)
        elif does == Does.IPI:
            return self._send(cpu, now, frame, op)
        elif does == Does.LOCK:
            return self._lock(op.slot, cpu, frame, now)
        elif does == Does.UNLOCK:
            self._unlock(op.slot, now)
        elif does == Does.MASK:
            frame.masked = True
        elif does == Does.UNMASK:
            frame.masked = frame.ctx >= Context.IRQ
        return True

    def _flush(self, cpu: int, now: int, frame: _Frame, op: Op, sender: int = -1) -> None:
        """*cpu* drops the slots that *op* covers."""
        for slot in op.slots:
            self.history.effects.append(
                Effect(now, Does.FLUSH, cpu, slot, frame.number, op.page, 0, op.part,
                       cpu if sender < 0 else sender)
            )  # fmt: skip

    # -- broadcasts --------------------------------------------------------------------------

    def _tell(self, cpu: int, now: int, frame: _Frame, op: Op) -> bool:
        """The hardware tells every CPU, each at a time of its own; then the sender goes on."""
        last = now
        for other in range(len(self.stacks)):
            at = now + (0 if other == cpu else frame.gaps() // 2)
            last = max(last, at)
            self._flush(other, at, frame, op, cpu)
        frame.part += 1
        if frame.part - 2 >= len(op.does):
            frame.step, frame.part = frame.step + 1, 0
        assert frame.step < len(frame.ops), "a broadcast is never a task's last step"
        self._after(cpu, now, last - now + frame.gaps())
        return False

    def _send(self, cpu: int, now: int, frame: _Frame, op: Op) -> bool:
        """Interrupt every other CPU, wait for all answers, then drop the own TLB's entries."""
        if frame.state == _RUNS and len(self.stacks) > 1:
            frame.state, frame.waits = _SENT, len(self.stacks) - 1
            for other in range(len(self.stacks)):
                if other != cpu:
                    number = answer_of(frame.number, other)
                    seed = self.tasks[frame.number].seed + other
                    answer = self._frame(number, Context.IRQ, self.kernel.answer(), seed)
                    answer.asker = (cpu, frame)
                    self._push(now + answer.gaps(), other, 0, answer)
            return False
        frame.state = _RUNS
        self._flush(cpu, now, frame, op)
        return True

    def _answered(self, cpu: int, frame: _Frame, now: int) -> None:
        frame.waits -= 1
        if not frame.waits:
            frame.state, frame.rest = _ANSWERED, 1
            if self.stacks[cpu][-1] is frame:
                self._after(cpu, now, frame.gaps())

    # -- locks -------------------------------------------------------------------------------

    def _lock(self, slot: int, cpu: int, frame: _Frame, now: int) -> bool:
        if self._owner.get(slot) is None:
            self._own(slot, cpu, frame, now)
            return True
        frame.state = _BLOCKED
        self._waiting.setdefault(slot, []).append((cpu, frame))
        return False

    def _own(self, slot: int, cpu: int, frame: _Frame, now: int) -> None:
        self._owner[slot] = frame
        self._held[slot] = Hold(slot, cpu, frame.number, now)
        self.history.holds.append(self._held[slot])

    def _unlock(self, slot: int, now: int) -> None:
        self._owner[slot] = None
        self._held[slot].end = now
        waiting = self._waiting.get(slot, [])
        awake = [(cpu, frame) for cpu, frame in waiting if self.stacks[cpu][-1] is frame]
        if awake:
            self._grant(slot, *awake[now % len(awake)], now)

    def _grant(self, slot: int, cpu: int, frame: _Frame, now: int) -> None:
        """A lock that is free goes to a task that spins for it."""
        self._waiting[slot].remove((cpu, frame))
        self._own(slot, cpu, frame, now + 1)
        frame.state, frame.step, frame.part = _RUNS, frame.step + 1, 0
        self._after(cpu, now, 1 + frame.gaps())

    def _retry(self, cpu: int, frame: _Frame, now: int) -> None:
        """A task that spins for a lock is on top again."""
        slot = frame.ops[frame.step].slot
        if self._owner.get(slot) is None:
            self._grant(slot, cpu, frame, now)
