# SPDX-License-Identifier: Apache-2.0
"""Writes a world as a litmus case that a person can read (tests/litmus/README.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ghesrace.checker.model import SAFE, Class
from ghesrace.events import ALL_CPUS, PAGE_SIZE, Cause, Context, Kind
from ghesrace.plan import Plan

from .judge import Answer, Difference, letter
from .kernel import ADDRESSES
from .machine import Record
from .tracer import EPOCH
from .truth import Truth
from .world import Played

STEP = 10_000  # ns between two lines of a case that says nothing else
HALF = STEP // 2  # ns between a line and a window of losses that begins or ends below it
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
_SLOTS = ("irq", "nmi")


@dataclass(slots=True)
class _Line:
    at: int  # effective stamp, ns
    late: int
    cpu: int
    text: str


def write(played: Played, difference: Difference, answer: Answer) -> str:
    """The case: what happened in *played*, what is wrong with the *answer*, what is right.

    `expect` and `classes` are what the true world allows at least: where the answer is wrong the
    case says `uncertain`. Whoever moves it to the cases decides what the rules say.
    """
    world, recording = played.world, played.recording
    plan = recording.plan
    lines = [
        f"about: {difference.text}.",
        *(f"about: {text}" for text in _story(played)),
        f"about: Today: {answer.report.verdict.word} ({difference.kind}).",
        f"source: python -m tests.worlds --mode {world.mode} --seed {world.seed}; shrunk",
        *(f"slot: {slot.name} {slot.lock}" for slot in _used(played)),
    ]
    for probe in plan.probes:
        for what in probe.implies:
            # One fixmap probe serves both; litmus has one for each.
            kind = "unmap" if what.endswith("after-clear") else WORDS[Kind[probe.kind]]
            known = " proven" if plan.proves(probe, what) else ""
            lines.append(f"implies: {kind} {what}{known}")
            if what == "flush-inside" and probe.clear_kind is not None:
                lines.append(f"implies: unmap {what}{known}")
    traced = {kind for p in plan.probes for kind in (p.kind, p.clear_kind)}
    untraced = [word for kind, word in WORDS.items() if kind.name not in traced]
    # What no world has is left traced: a pattern that needs it stays checked.
    untraced = [word for word in untraced if word not in ("bcast-all", "shootdown", "back")]
    if untraced:
        lines.append(f"untraced: {' '.join(untraced)}")
    if plan.arch != "x86_64":
        lines.append(f"arch: {plan.arch}")
    if len(plan.cpus) != world.cpus:
        lines.append(f"online: {len(plan.cpus)}")
    lines.append(f"clock-error: {plan.clock_error_ns}")
    for x, y, error in plan.pair_errors_ns:
        lines.append(f"clock-error CPU {x} CPU {y}: {error}")
    lines += _expected(played, answer, difference)
    return "\n".join([*lines, "", *_body(played)]) + "\n"


def _used(played: Played) -> list[object]:
    plan = played.recording.plan
    slots = {task.slot for task in played.world.tasks if task.what == "report"}
    return [slot for i, slot in enumerate(plan.slots) if i in slots or i == 0]


def _story(played: Played) -> list[str]:
    world, recording = played.world, played.recording
    kernel = world.kernel
    text = [f"The kernel: {kernel.name}."]
    least = min(clock.offset for clock in world.clocks)
    offsets = [clock.offset - least for clock in world.clocks]
    if any(offsets):
        ns = ", ".join(f"CPU {c} {o} ns" for c, o in enumerate(offsets) if o)
        text.append(f"Clocks that are ahead: {ns}.")
    if recording.lost:
        told = "recorded" if world.told else "not recorded"
        text.append(f"In parentheses: what was lost; the loss is {told}.")
    if recording.early:
        text.append("What came before the start of the recording is not shown.")
    return text


def _expected(played: Played, answer: Answer, difference: Difference) -> list[str]:
    """The verdict and classes that are right at least."""
    by_name = {episode.name: episode for episode in played.episodes}
    counts = [dict.fromkeys([c.name for c in Class], 0) for _ in _SLOTS]
    wrong = False
    worst = 0
    for at, cls in answer.episodes.items():
        episode = by_name[played.recording.maps[at]]
        said = (
            Truth.SAFE if cls in SAFE
            else {Class.INCIDENTAL: Truth.LUCKY, Class.NONE: Truth.UNSAFE}.get(cls)
        )  # fmt: skip
        right = said is None or said in (episode.truth, episode.also)
        wrong |= not right
        counts[episode.slot][cls.name if right else "UNCERTAIN"] += 1
        if right and said is not None:
            worst = max(worst, {Truth.SAFE: 0, Truth.LUCKY: 2, Truth.UNSAFE: 3}[said])
    verdict = answer.report.verdict.word
    if wrong or difference.kind.startswith("false"):
        verdict = ("inconclusive", "", "race-predicted", "race-observed")[worst]
    lines = [f"expect: {verdict}"]
    for slot, of_slot in zip(_SLOTS, counts, strict=True):
        words = [f"{c.lower().replace('_', '-')} {n}" for c, n in of_slot.items() if n]
        if words:
            lines.append(f"classes {slot}: {', '.join(words)}")
    return lines


def _body(played: Played) -> list[str]:
    rows = _lines(played)
    windows = _windows(played)
    named = len(windows) > 1
    opened: set[int] = set()
    out: list[str | list[str]] = [[f"CPU {cpu}" for cpu in range(played.world.cpus)]]
    closed: set[int] = set()
    last = EPOCH
    for i, line in enumerate(rows):
        for w, (begin, _, _) in enumerate(windows):
            # The last line from which a window can begin early enough.
            if w not in opened and begin is not None and (i == 0 or line.at > begin - HALF):
                opened.add(w)
                out.append("-- lossy" + (f" {_name(w)}" if named else ""))
        # A stamp that is late is the stamp of its line; the next line then goes back.
        step = line.at + line.late - last
        when = f" @{step:+}" if step != STEP else ""
        cells = [""] * played.world.cpus
        cells[line.cpu] = line.text + when
        out.append(cells)
        last = line.at + line.late
        for w, (begin, end, text) in enumerate(windows):
            done = end <= line.at + HALF or i == len(rows) - 1
            if (w in opened or begin is None) and done and w not in closed:
                closed.add(w)
                since = " since start" if begin is None else f" since {_name(w)}" if named else ""
                out.append(f"-- lost {text}{since}")
    table = [row for row in out if isinstance(row, list)]
    width = [max(len(row[cpu]) for row in table) for cpu in range(played.world.cpus)]
    return [
        row
        if isinstance(row, str)
        else " | ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip()
        for row in out
    ]


def _name(window: int) -> str:
    return chr(ord("a") + window)


def _windows(played: Played) -> list[tuple[int | None, int, str]]:
    """Begin (None: the start), end and words of each LOSS record."""
    plan: Plan = played.recording.plan
    found = []
    for record in played.recording.losses:
        words = [Cause(int(record["aux"])).name.lower()]
        if record["cpu"] != ALL_CPUS:
            words.append(f"CPU {record['cpu']}")
        if record["point"] < len(plan.probes):
            words.append(f"of {WORDS[Kind[plan.probes[int(record['point'])].kind]]}")
        if record["size"]:
            words.append(f"count {record['size']}")
        begin = int(record["addr"])
        found.append((begin if begin >= EPOCH else None, int(record["ts"]), " ".join(words)))
    return found


def _lines(played: Played) -> list[_Line]:
    """The records that are shown, by effective stamp, each CPU's in buffer order."""
    recording, world = played.recording, played.world
    lines = []
    for cpu, buffer in enumerate(played.history.buffers):
        shown = [row for row in buffer if (row.task, row.step) not in recording.early]
        stamps = np.array([world.clocks[cpu].read(row.clock) for row in shown], np.int64)
        effective = np.minimum.accumulate(stamps[::-1])[::-1] if len(stamps) else stamps
        for row, stamp, at in zip(shown, stamps, effective, strict=True):
            text = _text(row, played)
            if (row.task, row.step) in recording.lost:
                text = f"({text})"
            lines.append(_Line(int(at), int(stamp - at), cpu, text))
    return sorted(lines, key=lambda line: line.at)


def _text(row: Record, played: Played) -> str:
    op = row.op
    assert op.kind is not None
    words = [WORDS[op.kind]]
    slots = [slot.name for slot in _used(played)]  # type: ignore[attr-defined]
    slot = f" {_SLOTS[op.slot]}" if op.slot > 0 and len(slots) > 1 else ""
    if op.kind in (Kind.MAP, Kind.COPY):
        words.append(letter(op.phys))
    if op.kind == Kind.COPY and op.flags:
        words.append("write")
    if op.kind in (Kind.MAP, Kind.MAP_END, Kind.UNMAP, Kind.UNMAP_END) and slot:
        words.append(slot.strip())
    if op.kind in (Kind.READ, Kind.WRITE, Kind.INV_PAGE):
        words += _address(op.addr)
    if op.kind in (Kind.INV_RANGE, Kind.BCAST_RANGE, Kind.EDIT):
        words += [*(_address(op.addr) or ["irq"]), f"{op.size:#x}"]
    if row.op.kind == Kind.BCAST_RANGE and op.size > PAGE_SIZE:
        # Litmus slots lie 16 pages apart: a range that spans them all.
        words[1:] = [f"irq-{16 * PAGE_SIZE:#x}", f"{64 * PAGE_SIZE:#x}"]
    if row.op.kind == Kind.INV_RANGE:
        words[1:] = [f"irq-{16 * PAGE_SIZE:#x}", f"{64 * PAGE_SIZE:#x}"]
    return f"{Context(row.ctx).name.lower()} {' '.join(words)}"


def _address(addr: int) -> list[str]:
    page = addr & ~(PAGE_SIZE - 1)
    for slot, at in enumerate(ADDRESSES):
        if page == at:
            return [_SLOTS[slot]] if slot else []
    if 0 < page - ADDRESSES[0] < 16 * PAGE_SIZE:
        return [f"irq+{page - ADDRESSES[0]:#x}"]
    return [f"{page:#x}"]
