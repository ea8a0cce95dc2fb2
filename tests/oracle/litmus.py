# SPDX-License-Identifier: Apache-2.0
"""A record as a litmus case that people can read, with what the oracle says of it."""

from __future__ import annotations

from ghesrace.events import PAGE_SIZE, Cause, Context, Flag, Kind

from .judge import Judgement
from .kernel import FIRST_FRAME, KINDS
from .record import Ev, Loss, Record

STEP = 10_000
WORDS = {
    Kind.NOTIFY: "notify",
    Kind.NOTIFY_END: "end",
    Kind.MAP: "map",
    Kind.MAP_END: "map-end",
    Kind.UNMAP: "unmap",
    Kind.UNMAP_END: "unmap-end",
    Kind.COPY: "copy",
    Kind.COPY_END: "copy-end",
    Kind.READ: "read",
    Kind.WRITE: "write",
    Kind.INV_PAGE: "invlpg",
    Kind.INV_RANGE: "inv-range",
    Kind.INV_ALL: "inv-all",
    Kind.BCAST_RANGE: "bcast",
    Kind.BCAST_ALL: "bcast-all",
    Kind.BCAST_END: "bcast-end",
    Kind.NMI_REF: "back",
    Kind.EDIT: "edit",
    Kind.EDIT_END: "edit-end",
    Kind.SHOOTDOWN: "shootdown",
}
ORDER = ("fresh", "broadcast", "map-flush", "same-frame", "incidental", "none", "uncertain")


class Unsayable(ValueError):
    """The litmus language has no words for a record."""


def text(record: Record, truth: Judgement, about: list[str], source: str) -> str:
    """The case: header, columns, events, losses. Raises Unsayable."""
    lines = [f"about: {line}" for line in about]
    lines.append(f"source: {source}")
    plan = record.plan
    lines += [f"slot: {slot.name} {slot.lock}" for slot in plan.slots]
    missing = [WORDS[k] for k in KINDS if not record.traced(k)]
    if missing:
        lines.append(f"untraced: {' '.join(missing)}")
    for probe in plan.probes:
        proven = [what for what in probe.implies if plan.proves(probe, what)]
        assumed = [what for what in probe.implies if what not in proven]
        for words in (assumed, proven and [*proven, "proven"]):
            if words:
                lines.append(f"implies: {WORDS[Kind[probe.kind]]} {' '.join(words)}")
    if plan.pti:
        lines.append("pti: yes")
    columns = max([*(cpu for cpu, events in record.cpus.items() if events), 0]) + 1
    if len(plan.cpus) != columns:
        lines.append(f"online: {len(plan.cpus)}")
    if plan.clock_error_ns != 1000:
        lines.append(f"clock-error: {plan.clock_error_ns}")
    lines.append(f"expect: {truth.verdict}")
    for slot, counts in sorted(truth.classes().items()):
        told = ", ".join(f"{word} {counts[word]}" for word in ORDER if counts.get(word))
        lines.append(f"classes {plan.slots[slot].name}: {told}")
    return "\n".join([*lines, "", *_columns(record, columns)]) + "\n"


def _columns(record: Record, columns: int) -> list[str]:
    rows = _rows(record)
    width = max([5, *(len(cell) for _, cell in rows)])
    lines = [" | ".join(f"CPU {n}".ljust(width) for n in range(columns)).rstrip()]
    for cpu, cell in rows:
        if cpu is None:
            lines.append(cell)
        else:
            cells = ["".ljust(width)] * cpu + [cell.ljust(width)]
            lines.append(" | ".join(cells).rstrip())
    return lines


def _rows(record: Record) -> list[tuple[int | None, str]]:
    """(CPU or None for a loss, text) of each line, in time order."""
    late: dict[int, int] = {}
    rows: list[tuple[int, int, Ev]] = []
    for events in record.cpus.values():
        low = 1 << 63
        for at in range(len(events) - 1, -1, -1):
            event = events[at]
            low = min(low, event.ts)
            if low < event.ts:
                late[id(event)] = event.ts - low
            rows.append((low, at, event))
    rows.sort(key=lambda row: (row[0], row[2].cpu, row[1]))
    marks = [(one.begin, 0, one) for one in record.losses]
    marks += [(one.end, 1, one) for one in record.losses]
    marks.sort(key=lambda m: m[:2])
    made: list[tuple[int | None, str]] = []
    now = 1_000_000
    stacks: dict[int, list[int]] = {}
    for ts, _, event in rows:
        while marks and marks[0][0] < ts:
            made.append((None, _loss(record, *marks.pop(0)[1:])))
        cell = _cell(record, event, stacks.setdefault(event.cpu, []))
        step = ts - now
        if id(event) in late:
            cell += f" @late {late[id(event)]}"
            step = STEP  # The language has a late stamp or a step, not both.
        elif step != STEP:
            cell += f" @+{step}"
        if step < 0:
            raise Unsayable("an event stamped late is nearer to the next than a line is")
        now += step
        made.append((event.cpu, cell))
    made += [(None, _loss(record, *mark[1:])) for mark in marks]
    return made


def _cell(record: Record, event: Ev, stack: list[int]) -> str:
    word = WORDS[Kind(event.kind)]
    inner = stack[-1] if stack else int(Context.TASK)
    if event.kind == Kind.NOTIFY:
        inner = int(Context.IRQ)
        stack.append(event.ctx)
    elif event.kind == Kind.NMI_REF:
        inner = event.ctx
    given = "" if event.ctx == inner else Context(event.ctx).name.lower() + " "
    if event.kind == Kind.NOTIFY_END and stack:
        stack.pop()
    return given + word + _operands(record, event)


def _operands(record: Record, event: Ev) -> str:
    kind = Kind(event.kind)
    slots = record.plan.slots
    name = f" {slots[event.slot].name}" if event.slot > 0 else ""
    if kind in (Kind.MAP, Kind.COPY):
        letter = chr(ord("A") + ((event.frame or 0) - FIRST_FRAME) // PAGE_SIZE)
        write = " write" if kind == Kind.COPY and event.flags & Flag.WRITE else ""
        return f" {letter}{name if kind == Kind.MAP else write}"
    if kind in (Kind.UNMAP, Kind.MAP_END, Kind.UNMAP_END):
        return name
    if kind in (Kind.READ, Kind.WRITE):
        return name
    if kind in (Kind.INV_PAGE, Kind.INV_RANGE, Kind.BCAST_RANGE, Kind.EDIT):
        where = _address(record, event.addr)
        if kind == Kind.INV_PAGE or (kind != Kind.INV_RANGE and event.size == PAGE_SIZE):
            return "" if where == slots[0].name else f" {where}"
        return f" {where} {event.size:#x}"
    return " off" if kind == Kind.SHOOTDOWN and event.flags & Flag.IRQS_OFF else ""


def _address(record: Record, address: int) -> str:
    for slot in record.plan.slots:
        distance = address - (slot.address or 0)
        if not distance:
            return slot.name
        if abs(distance) < 8 * PAGE_SIZE:
            return f"{slot.name}{'+' if distance > 0 else '-'}{abs(distance):#x}"
    return f"{address:#x}"


def _loss(record: Record, end: int, one: Loss) -> str:
    if not end:
        return "-- lossy"
    words = ["-- lost", one.cause.name.lower()]
    if one.cpu is not None:
        words.append(f"CPU {one.cpu}")
    if one.kinds is not None and one.cause != Cause.NMI_UNMATCHED:
        words.append(f"of {WORDS[Kind(min(one.kinds))]}")
    if one.count:
        words.append(f"count {one.count}")
    return " ".join(words)
