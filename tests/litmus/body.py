# SPDX-License-Identifier: Apache-2.0
"""The body of a litmus case: what the CPUs did, and what of it was recorded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from ghesrace.events import (
    ALL_CPUS,
    NO_POINT,
    PAGE_SIZE,
    Cause,
    Context,
    Events,
    Flag,
    Kind,
    empty,
    loss,
    mark,
)

from .header import Header
from .words import KINDS, START, STEP, Place, frame

FILL = "fill"  # a TLB fill: nothing can record it
TAKES: dict[str, tuple[int, int]] = {
    "map": (1, 2),
    "unmap": (0, 1),
    "map-end": (0, 1),
    "unmap-end": (0, 1),
    "copy": (1, 2),
    "read": (0, 1),
    "write": (0, 1),
    "invlpg": (0, 1),
    "inv-range": (2, 2),
    "bcast": (0, 2),
    "edit": (0, 2),
    "shootdown": (0, 1),
    FILL: (1, 2),
}
LOST = re.compile(
    r"lost (\w+)(?: CPU (\d+))?(?: of ([\w-]+))?(?: count (\d+))?(?: since ([a-z]\w*))?"
)


@dataclass(slots=True)
class Body:
    """The lines below the columns' heads. `lossy` is when each open window began, by its name."""

    place: Place
    header: Header
    now: int = START
    handlers: dict[int, list[Context]] = field(default_factory=dict)
    lossy: dict[str, int] = field(default_factory=dict)
    records: list[Events] = field(default_factory=list)

    def take_event(self, text: str) -> None:
        """Take the line of one event. Raises LitmusError."""
        cells = [cell.strip() for cell in text.split("|")]
        used = [cpu for cpu, cell in enumerate(cells) if cell]
        if len(cells) > self.header.cpus or len(used) != 1:
            raise self.place.error("a line has one event, in the column of one CPU")
        cpu = used[0]
        cell, at, when = cells[cpu].partition("@")
        recorded = re.fullmatch(r"\((.*)\)", cell.strip())
        words = (recorded[1] if recorded else cell).split()
        if not words:
            raise self.place.error("a time without an event")
        event = empty(1)
        event["pid"], event["cpu"], event["seq"] = 100 + cpu, cpu, len(self.records) + 1
        event["ts"] = self.stamp(when.strip() if at else f"+{STEP}")
        context = Context[words.pop(0).upper()] if _is_context(words[0]) else None
        if not words:
            raise self.place.error("a context without an event")
        names = (*KINDS, FILL) if recorded else tuple(KINDS)
        name = self.place.choice(words[0], names)
        event["ctx"] = self.context(cpu, name, context)
        self.operands(name, words[1:], event)
        if not recorded:
            event["kind"] = KINDS[name]
            self.records.append(event)

    def stamp(self, when: str) -> int:
        """Advance the time as *when* says, and return the stamp of that event, ns."""
        step, error = STEP, 0
        word, _, ns = when.partition(" ")
        if word in ("late", "early"):
            error = self.place.number(ns.strip()) * (1 if word == "late" else -1)
        else:
            step = self.place.number(when)
        self.now += step
        return self.now + error

    def context(self, cpu: int, name: str, given: Context | None) -> Context:
        """The context of an event *name* on *cpu*; *given* is the one that its line says."""
        stack = self.handlers.setdefault(cpu, [])
        if name == "notify":
            stack.append(Context.IRQ if given is None else given)
        inner = stack[-1] if stack else Context.TASK
        if name == "end":
            if not stack:
                raise self.place.error("no handler runs here that could end")
            stack.pop()
        if name == "back" or self.header.contexts_unknown:
            return Context.TASK
        return inner if given is None else given

    def operands(self, name: str, words: list[str], event: Events) -> None:
        """What follows an event's name, into its fields."""
        least, most = TAKES.get(name, (0, 0))
        if not least <= len(words) <= most:
            raise self.place.error(f"{name!r} takes {least} to {most} words, here are {len(words)}")
        if name in ("map", "copy", FILL):
            if not re.fullmatch("[A-Z]", words[0]):
                raise self.place.error(f"{words[0]!r} is no frame: a letter A to Z")
            event["phys"] = frame(words.pop(0))
        if name == "copy":
            event["size"] = 64
            if words:
                self.place.choice(words[0], ("write",))
                event["flags"] = Flag.WRITE
        elif name in ("map", "map-end", "unmap", "unmap-end", FILL):
            names = tuple(slot.name for slot in self.header.slots)
            event["slot"] = names.index(self.place.choice(words[0], names)) if words else 0
        elif name == "shootdown":
            if words:
                self.place.choice(words[0], ("off",))
                event["flags"] = Flag.IRQS_OFF
        elif most:
            event["addr"] = self.address(words[0] if words else self.header.slots[0].name)
            sizes = {"read": 4, "write": 4, "bcast": PAGE_SIZE, "edit": PAGE_SIZE}
            event["size"] = self.place.number(words[1]) if len(words) > 1 else sizes.get(name, 0)

    def address(self, text: str) -> int:
        """A virtual address: SLOT, SLOT+OFFSET, SLOT-OFFSET or a number."""
        base = {slot.name: slot.address for slot in self.header.slots}
        match = re.fullmatch(r"([a-z_]\w*)([+-]\w+)?", text)
        if match is None:
            return self.place.number(text)
        name, offset = match.groups()
        self.place.choice(name, tuple(base))
        return (base[name] or 0) + (self.place.number(offset) if offset else 0)

    def take_loss(self, text: str) -> None:
        """Take a line '-- lossy' or '-- lost'. Raises LitmusError."""
        words = text.split()[1:]
        if words[:1] == ["lossy"] and len(words) <= 2:
            self.lossy[words[-1]] = self.now + STEP // 2
            return
        match = LOST.fullmatch(" ".join(words))
        name, cpu, event, count, since = match.groups() if match else [""] * 5
        window = since or "lossy"
        if match is None or window not in (*self.lossy, "start"):
            form = "'-- lossy' and then '-- lost CAUSE [CPU N] [of EVENT] [count N] [since NAME]'"
            raise self.place.error(f"losses are {form}")
        cause = Cause[self.place.choice(name.upper(), tuple(Cause.__members__))]
        point = NO_POINT
        if event:
            kind = KINDS[self.place.choice(event, tuple(KINDS))]
            probes = tuple(probe.kind for probe in self.header.plan().probes)
            if kind.name not in probes:
                raise self.place.error(f"{event!r} is untraced: none of it can be lost")
            point = probes.index(kind.name)
        record = loss(
            START if window == "start" else self.lossy.pop(window),
            self.now + STEP // 2,
            cause,
            cpu=int(cpu) if cpu else ALL_CPUS,
            count=int(count or 0),
            point=point,
        )
        self.records.append(record)

    def stream(self) -> Events:
        """Everything that was recorded, as one batch with its MARK."""
        if self.lossy:
            raise self.place.error("'-- lossy' without '-- lost'")
        points = [probe.kind for probe in self.header.plan().probes]
        stream: Events = np.concatenate([*self.records, mark(self.now + STEP)])
        for event in stream:
            name = Kind(int(event["kind"])).name
            if name in points:
                event["point"] = points.index(name)
        return stream


def _is_context(word: str) -> bool:
    return word.upper() in Context.__members__
