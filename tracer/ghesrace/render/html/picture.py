# SPDX-License-Identifier: Apache-2.0
"""This draws a finding: lanes of CPUs and contexts, bars from map to unmap, and the stale
translation from where it was live to where it was used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from ghesrace.checker.findings import Finding, Step
from ghesrace.render.findings import heads
from ghesrace.render.lines import microseconds, seconds

WIDTH = 1000  # of a picture, in its own units
_LEFT, _RIGHT = 150, 40  # of what is drawn in time
_BEGIN = 40  # of the first step, in what is drawn in time
_TOP, _LANE = 34, 74
_LEAST = 46  # units between two steps
_STACK = 15  # units between labels that would touch

# What a bar begins with, and what ends it.
_ENDS = {"map": ("map", "unmap"), "edit": ("end",)}

Mark = Literal["notify", "map", "unmap", "flush", "access", "other", "unseen"]

_MARKS: dict[str, Mark] = {
    "notify": "notify",
    "map": "map",
    "unmap": "unmap",
    "inv_page": "flush",
    "inv_range": "flush",
    "inv_all": "flush",
    "bcast_range": "flush",
    "bcast_all": "flush",
    "read": "access",
    "write": "access",
}
_LABELS = {
    "inv_page": "flush",
    "inv_range": "flush",
    "inv_all": "flush all",
    "bcast_range": "broadcast",
    "bcast_all": "broadcast",
    "running": "other code",
    "fill?": "may load",
}


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane is one context of one CPU; `y` is its middle."""

    label: str
    y: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A dot is one step. `whisker` is how far, to the left and right, it may have happened as well;
    `tip` is what a tooltip says of it."""

    x: float
    y: float
    mark: Mark
    label: str
    label_y: float
    n: int | None
    tip: str
    whisker: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar is a stretch of a lane: a translation of one frame (`frame` is p, q or other) that is
    live or, if it is `stale`, one that a TLB may still hold."""

    x: float
    width: float
    y: float
    frame: Literal["p", "q", "other"]
    stale: bool
    tip: str


@dataclass(slots=True)
class Picture:
    """A picture has all that a template draws, in units of which WIDTH make its usual width. What
    is drawn in time begins at `left`, from where all places in time are counted."""

    height: float
    lanes: list[Lane] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    scale: list[tuple[float, str]] = field(default_factory=list)
    width: float = WIDTH
    left: float = _LEFT


def picture(finding: Finding, clock_error_ns: int) -> Picture:
    """Return the picture of a *finding*. Stamps of two CPUs may differ by *clock_error_ns*, which
    the whiskers of y's steps show.

    The steps stand in their order, and time between them is compressed: what takes a thousand times
    as long is drawn some three times as wide. Of another order than the recorded one the distances
    mean nothing.

    >>> steps = [Step("x", 2, 1_000, 0, "irq", "map", "maps"),
    ...          Step("y", 8, 5_000, 1, "nmi", "read", "reads")]
    >>> made = picture(Finding("stale", "observed", "read", "a", (0, 1), (1, 2), "", steps), 0)
    >>> [lane.label for lane in made.lanes], [dot.n for dot in made.dots]
    (['CPU 0 = x, irq', 'CPU 1 = y, nmi'], [2, 8])
    """
    steps = finding.steps
    at = _places(steps, finding.reordered)
    lanes = _lanes(finding)
    made = Picture(_TOP + _LANE * len(lanes) + 26)
    made.width = max(WIDTH, _LEFT + (at[-1] if at else 0) + _RIGHT)
    made.lanes = list({id(lane): lane for lane in lanes.values()}.values())
    made.lanes.sort(key=lambda lane: lane.y)
    made.height = _TOP + _LANE * len(made.lanes) + 26
    where = [lanes[_key(step)].y for step in steps]
    made.bars = _bars(finding, at, where)
    made.dots = _dots(finding, at, where, clock_error_ns)
    if not finding.reordered:
        made.scale = _scale(steps, at)
    return made


def _key(step: Step) -> tuple[str, int, str]:
    return step.side, step.cpu, step.context


def _lanes(finding: Finding) -> dict[tuple[str, int, str], Lane]:
    """Return the lane of each side, CPU and context. A step without a context of its own is in its
    side's first lane."""
    lanes: dict[tuple[str, int, str], Lane] = {}
    traced = [step for step in finding.steps if step.ts is not None]
    for step in sorted([*traced, *finding.steps], key=lambda step: step.side):
        key = _key(step)
        if key in lanes:
            continue
        mine = [lane for (side, *_), lane in lanes.items() if side == step.side]
        if step.ts is None and mine:
            lanes[key] = mine[0]
            continue
        number = len({id(lane) for lane in lanes.values()})
        label = f"CPU {step.cpu} = {step.side}, {step.context}"
        if not mine:
            label = heads(finding)[step.side == "y"]
        lanes[key] = Lane(label, _TOP + _LANE * number + _LANE / 2)
    return lanes


def _places(steps: list[Step], reordered: bool) -> list[float]:
    """Return the place of each step from left to right."""
    widths, last = [], None
    for number, step in enumerate(steps):
        gap = 0.0
        if step.ts is not None:
            if last is not None and not reordered:
                gap = math.log10(1 + max(step.ts - last, 0) / 1000)
            last = step.ts
        widths.append(0.0 if number == 0 else 1 + gap)
    room = max(WIDTH - _LEFT - _BEGIN - _RIGHT, _LEAST * (len(steps) - 1))
    unit = room / max(sum(widths), 1)
    places, x = [], float(_BEGIN)
    for width in widths:
        x += width * unit
        places.append(x)
    return places


def _dots(finding: Finding, at: list[float], where: list[float], clock_error_ns: int) -> list[Dot]:
    dots: list[Dot] = []
    ends: dict[tuple[float, int], float] = {}  # of labels: by lane and row
    for step, x, y in zip(finding.steps, at, where, strict=True):
        mark = "unseen" if step.ts is None else _MARKS.get(step.event, "other")
        label = _LABELS.get(step.event, step.event.replace("_", " "))
        half = 3.4 * len(label) + 4
        row = next((r for r in range(2) if ends.get((y, r), 0) <= x - half), 0)
        ends[y, row] = x + half
        label_y = y - 17 - _STACK * row
        whisker = _whisker(finding, step, at, clock_error_ns)
        dots.append(Dot(x, y, mark, label, label_y, step.n, _tip(step, finding), whisker))
    return dots


def _tip(step: Step, finding: Finding) -> str:
    who = f"CPU {step.cpu}, {step.context}"
    if step.ts is None:
        return f"{who}: {step.text}; no event tells when"
    zero = next(s.ts for s in finding.steps if s.ts is not None)
    since = "" if finding.reordered else f", {microseconds(step.ts - zero)} us"
    return f"{seconds(step.ts, 9)} s{since}; {who}: {step.text}"


def _whisker(
    finding: Finding, step: Step, at: list[float], error: int
) -> tuple[float, float] | None:
    """Return between which places a *step* may have happened, if that is open: of one that is not
    traced between those around it on which it depends, of y's others within the clocks' error."""
    steps = finding.steps
    if step.ts is None:
        of = {s.n: x for s, x in zip(steps, at, strict=True) if s.n}
        around = {3: (2, 6), 4: (2, 5), 8: (7, None)}.get(step.n or 0)
        if around is None or around[0] not in of:
            return None
        last = of.get(around[1]) if around[1] else at[-1]
        return (of[around[0]], last) if last is not None and last > of[around[0]] else None
    if step.side == "x" or finding.reordered or finding.cpus[0] == finding.cpus[1] or not error:
        return None
    return _between(steps, at, step.ts - error), _between(steps, at, step.ts + error)


def _between(steps: list[Step], at: list[float], ts: int) -> float:
    """Return the place of the time *ts* (ns) between the steps around it."""
    known = sorted((s.ts, x) for s, x in zip(steps, at, strict=True) if s.ts is not None)
    if ts <= known[0][0]:
        return known[0][1]
    for (t0, x0), (t1, x1) in pairwise(known):
        if ts <= t1:
            return x0 + (x1 - x0) * (ts - t0) / max(t1 - t0, 1)
    return known[-1][1]


def _bars(finding: Finding, at: list[float], where: list[float]) -> list[Bar]:
    bars: list[Bar] = []
    p, q = (f"{frame:#x}" for frame in finding.frames or (0, 0))
    for number, step in enumerate(finding.steps):
        ends = _ENDS.get(step.event)
        mine = [i for i, other in enumerate(finding.steps) if _key(other) == _key(step)]
        after = [i for i in mine if i > number]
        if ends is None or not after:
            continue
        end = next((i for i in after if finding.steps[i].event in ends), after[-1])
        frame: Literal["p", "q", "other"] = "other"
        if finding.frames and step.event == "map":
            frame = "p" if step.n == 2 else "q" if step.n == 7 else "other"
            frame = "p" if frame == "other" and step.text.split()[1:2] == [p] else frame
            frame = "q" if frame == "other" and step.text.split()[1:2] == [q] else frame
        tip = f"{step.text}; until {finding.steps[end].text}"
        bars.append(Bar(at[number], at[end] - at[number], where[number], frame, False, tip))
    stale = _stale(finding, at, where, p)
    return [*bars, *([] if stale is None else [stale])]


def _stale(finding: Finding, at: list[float], where: list[float], p: str) -> Bar | None:
    """Return the stale translation on y's lane: from its first chance to be loaded to its use."""
    numbers = {step.n: i for i, step in enumerate(finding.steps) if step.n}
    if finding.pattern != "stale" or not {2, 8} <= numbers.keys():
        return None
    first, last = numbers[2], numbers[8]
    tip = f"y's TLB may hold the translation to {p}, live from step 2 to 5, until y uses it in 8"
    return Bar(at[first], at[last] - at[first], where[last], "p", True, tip)


def _scale(steps: list[Step], at: list[float]) -> list[tuple[float, str]]:
    """Return where the scale has a time, and that time, in us since the first step."""
    zero = next((step.ts for step in steps if step.ts is not None), 0)
    found: list[tuple[float, str]] = []
    for step, x in zip(steps, at, strict=True):
        if step.ts is not None and (not found or x - found[-1][0] > 62):
            found.append((x, f"{(step.ts - zero) / 1000:,.1f}"))
    return found
