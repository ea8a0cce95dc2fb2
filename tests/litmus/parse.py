# SPDX-License-Identifier: Apache-2.0
"""Reads a litmus case (README.md) into a plan, an event stream and what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ghesrace.checker.patterns.torn_edit import OTHER_TABLE, SAME_TABLE
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
from ghesrace.plan import Plan, Probe, Slot
from ghesrace.points import IMPLIES

CASES = Path(__file__).parent / "cases"
FIRST_ADDRESS = 0xFFFFFFFFFF57B000
STEP = 10_000
KINDS = {
    "notify": Kind.NOTIFY,
    "end": Kind.NOTIFY_END,
    "map": Kind.MAP,
    "map-end": Kind.MAP_END,
    "unmap": Kind.UNMAP,
    "unmap-end": Kind.UNMAP_END,
    "copy": Kind.COPY,
    "copy-end": Kind.COPY_END,
    "read": Kind.READ,
    "write": Kind.WRITE,
    "invlpg": Kind.INV_PAGE,
    "inv-range": Kind.INV_RANGE,
    "inv-all": Kind.INV_ALL,
    "bcast": Kind.BCAST_RANGE,
    "bcast-all": Kind.BCAST_ALL,
    "bcast-end": Kind.BCAST_END,
    "back": Kind.NMI_REF,
    "edit": Kind.EDIT,
    "edit-end": Kind.EDIT_END,
    "shootdown": Kind.SHOOTDOWN,
}
VERDICTS = ("race-observed", "race-predicted", "inconclusive", "clean")
CLASSES = ("fresh", "broadcast", "map-flush", "same-frame", "incidental", "none", "uncertain")
ONCE = ("expect", "online", "pti", "clock-error", "untraced")


class LitmusError(ValueError):
    """A case can't be read; the message begins with file:line."""


# Pattern, severity, CPUs, frames (None where the file says nothing), access ("" likewise).
Expected = tuple[str, str, tuple[int, int], tuple[int, int] | None, str]
HARMLESS = {"same-table": SAME_TABLE, "other-table": OTHER_TABLE}


@dataclass(slots=True)
class Case:
    """One case. `classes`: slot name -> class -> episodes, of each slot that has any.
    `harmless`: overlaps of the pattern torn_edit that are no hazard, by name.
    """

    name: str
    plan: Plan
    stream: Events
    expect: str
    classes: dict[str, dict[str, int]]
    reasons: list[str]
    findings: list[Expected]
    harmless: dict[str, int]


@dataclass(slots=True)
class _Reader:
    path: Path
    line: int = 0
    header: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    now: int = 1_000_000
    handlers: dict[int, list[Context]] = field(default_factory=dict)
    lossy_since: int | None = None
    records: list[Events] = field(default_factory=list)

    def error(self, text: str, line: int | None = None) -> LitmusError:
        return LitmusError(f"{self.path}:{line or self.line}: {text}")

    def number(self, text: str, line: int | None = None) -> int:
        try:
            return int(text, 0)
        except ValueError:
            raise self.error(f"{text!r} is not a number", line) from None

    def choice(self, text: str, among: tuple[str, ...], line: int | None = None) -> str:
        if text not in among:
            raise self.error(f"{text!r} is none of {', '.join(among)}", line)
        return text

    # -- the header ------------------------------------------------------------------------

    def take_header(self, text: str) -> None:
        key, colon, value = text.partition(":")
        key, value = key.strip(), value.strip()
        known = ("about", "source", "slot", "implies", "reason", "finding", "harmless", *ONCE)
        if not colon or not (key in known or key.startswith("classes ")):
            raise self.error(f"{text.strip()!r} is no header line; see README.md")
        if not value:
            raise self.error(f"{key!r} says nothing")
        if key in self.header and (key in ONCE or key.startswith("classes ")):
            raise self.error(f"{key!r} stands here twice")
        self.header.setdefault(key, []).append((self.line, value))

    def values(self, key: str) -> list[tuple[int, str]]:
        return self.header.get(key, [])

    def one(self, key: str, default: str) -> tuple[int, str]:
        return (self.values(key) or [(self.line, default)])[0]

    def integer(self, key: str, default: int) -> int:
        line, text = self.one(key, str(default))
        return self.number(text, line)

    def end_header(self, text: str) -> None:
        """The line of column heads: everything above it is complete."""
        for key in ("about", "source", "expect"):
            if key not in self.header:
                raise self.error(f"the header has no line {key!r}")
        for number, head in enumerate(text.split("|")):
            if head.split() != ["CPU", str(number)]:
                raise self.error(f"column head {head.strip()!r} should be 'CPU {number}'")
            self.columns.append(number)
        for line, value in self.values("slot") or [(self.line, "irq report")]:
            name, *lock = value.split()
            if len(lock) > 1:
                raise self.error("a slot line is NAME [page|report]", line)
            unit = self.choice(*lock or ["report"], ("page", "report"), line)
            address = FIRST_ADDRESS + len(self.slots) * 16 * PAGE_SIZE
            self.slots.append(Slot(name, len(self.slots), address, unit))  # type: ignore[arg-type]

    def plan(self) -> Plan:
        line, text = self.one("untraced", "")
        untraced = [KINDS[self.choice(word, tuple(KINDS), line)] for word in text.split()]
        implied: dict[str, tuple[str, ...]] = {}
        for line, value in self.values("implies"):
            event, *what = value.split()
            self.choice(event, tuple(KINDS), line)
            for word in what:
                self.choice(word, IMPLIES, line)
            implied[KINDS[event].name] = (*implied.get(KINDS[event].name, ()), *what)
        probes = [
            Probe(kind.name.lower(), kind.name, "f", "kprobe", implies=implied.get(kind.name, ()))
            for kind in KINDS.values()
            if kind not in untraced
        ]
        line, pti = self.one("pti", "no")
        return Plan(
            "x86_64",
            "litmus",
            tuple(self.slots),
            tuple(probes),
            cpus=tuple(range(self.integer("online", len(self.columns)))),
            pti=self.choice(pti, ("yes", "no"), line) == "yes",
            clock_error_ns=self.integer("clock-error", 1000),
        )

    def classes(self) -> dict[str, dict[str, int]]:
        result: dict[str, dict[str, int]] = {}
        for key, values in self.header.items():
            if not key.startswith("classes "):
                continue
            ((line, text),) = values
            slot = self.choice(key.split()[1], tuple(s.name for s in self.slots), line)
            result[slot] = {}
            for item in text.split(","):
                if len(item.split()) != 2:
                    raise self.error(f"{item.strip()!r} is not CLASS N", line)
                cls, count = item.split()
                result[slot][self.choice(cls, CLASSES, line)] = self.number(count, line)
        return result

    def findings(self) -> list[Expected]:
        result = []
        for line, value in self.values("finding"):
            match = re.fullmatch(
                r"(observed|predicted) (?:(overlap|torn-edit|shootdown) )?"
                r"CPU (\d+)(?: ([A-Z]))? CPU (\d+)(?: ([A-Z]))?(?: (read|write))?",
                value,
            )
            if match is None:
                form = "SEVERITY [PATTERN] CPU X [P] CPU Y [Q] [read|write]"
                raise self.error(f"a finding is {form}", line)
            severity, pattern, x, p, y, q, access = match.groups()
            frames = (_frame(p), _frame(q)) if p and q else None
            name = (pattern or "stale").replace("-", "_")
            result.append((name, severity, (int(x), int(y)), frames, access or ""))
        return result

    def harmless(self) -> dict[str, int]:
        result = {}
        for line, value in self.values("harmless"):
            name, _, count = value.partition(" ")
            word = HARMLESS[self.choice(name, tuple(HARMLESS), line)]
            result[word] = self.number(count, line)
        return result

    # -- events ------------------------------------------------------------------------------

    def take_event(self, text: str) -> None:
        cells = [cell.strip() for cell in text.split("|")]
        used = [cpu for cpu, cell in enumerate(cells) if cell]
        if len(cells) > len(self.columns) or len(used) != 1:
            raise self.error("a line has one event, in the column of one CPU")
        cpu = used[0]
        cell, at, when = cells[cpu].partition("@")
        words = cell.split()
        if not words:
            raise self.error("a time without an event")
        event = empty(1)
        event["pid"], event["cpu"], event["seq"] = 100 + cpu, cpu, len(self.records) + 1
        step, late = STEP, 0
        if at and when.startswith("late"):
            late = self.number(when[4:].strip())
        elif at:
            step = self.number(when.strip())
        self.now += step
        event["ts"] = self.now + late
        stack = self.handlers.setdefault(cpu, [])
        given = Context[words.pop(0).upper()] if words[0].upper() in Context.__members__ else None
        if not words:
            raise self.error("a context without an event")
        name, operands = self.choice(words[0], tuple(KINDS)), words[1:]
        if name == "notify":
            stack.append(Context.IRQ if given is None else given)
        event["kind"] = KINDS[name]
        inner = stack[-1] if stack else Context.TASK
        event["ctx"] = inner if given is None else given
        if name == "back":
            event["ctx"] = Context.TASK
        if name == "end":
            if not stack:
                raise self.error("no handler runs here that could end")
            stack.pop()
        self.operands(name, operands, event)
        self.records.append(event)

    def operands(self, name: str, words: list[str], event: Events) -> None:
        """What follows an event's name, into its fields."""
        takes: dict[str, tuple[int, int]] = {
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
        }
        least, most = takes.get(name, (0, 0))
        if not least <= len(words) <= most:
            raise self.error(f"{name!r} takes {least} to {most} words, here are {len(words)}")
        if name in ("map", "copy"):
            if not re.fullmatch("[A-Z]", words[0]):
                raise self.error(f"{words[0]!r} is no frame: a letter A to Z")
            event["phys"] = _frame(words.pop(0))
        if name == "copy":
            event["size"] = 64
            if words:
                self.choice(words[0], ("write",))
                event["flags"] = Flag.WRITE
        elif name in ("map", "map-end", "unmap", "unmap-end"):
            names = tuple(slot.name for slot in self.slots)
            event["slot"] = names.index(self.choice(words[0], names)) if words else 0
        elif name == "shootdown":
            if words:
                self.choice(words[0], ("off",))
                event["flags"] = Flag.IRQS_OFF
        elif most:
            event["addr"] = self.address(words[0] if words else self.slots[0].name)
            sizes = {"read": 4, "write": 4, "bcast": PAGE_SIZE, "edit": PAGE_SIZE}
            event["size"] = self.number(words[1]) if len(words) > 1 else sizes.get(name, 0)

    def address(self, text: str) -> int:
        base = {slot.name: slot.address for slot in self.slots}
        match = re.fullmatch(r"([a-z_]\w*)([+-]\w+)?", text)
        if match is None:
            return self.number(text)
        name, offset = match.groups()
        self.choice(name, tuple(base))
        return (base[name] or 0) + (self.number(offset) if offset else 0)

    def take_loss(self, text: str) -> None:
        words = text.split()[1:]
        if words == ["lossy"]:
            self.lossy_since = self.now + STEP // 2
            return
        match = re.fullmatch(
            r"lost (\w+)(?: CPU (\d+))?(?: of ([\w-]+))?(?: count (\d+))?", " ".join(words)
        )
        if match is None or self.lossy_since is None:
            raise self.error("losses are '-- lossy' and then '-- lost CAUSE [CPU N] [of EVENT]'")
        name, cpu, event, count = match.groups()
        cause = Cause[self.choice(name.upper(), tuple(Cause.__members__))]
        point = NO_POINT
        if event:
            kind = KINDS[self.choice(event, tuple(KINDS))]
            point = [p.kind for p in self.plan().probes].index(kind.name)
        record = loss(
            self.lossy_since,
            self.now + STEP // 2,
            cause,
            cpu=int(cpu) if cpu else ALL_CPUS,
            count=int(count or 0),
            point=point,
        )
        self.records.append(record)
        self.lossy_since = None

    def case(self) -> Case:
        if self.lossy_since is not None:
            raise self.error("'-- lossy' without '-- lost'")
        plan = self.plan()
        kinds = [probe.kind for probe in plan.probes]
        stream: Events = np.concatenate([*self.records, mark(self.now + STEP)])
        for event in stream:
            name = Kind(int(event["kind"])).name
            if name in kinds:
                event["point"] = kinds.index(name)
        line, expect = self.one("expect", "")
        return Case(
            self.path.stem,
            plan,
            stream,
            self.choice(expect, VERDICTS, line),
            self.classes(),
            [text for _, text in self.values("reason")],
            self.findings(),
            self.harmless(),
        )


def _frame(letter: str) -> int:
    return 0x70000000 + (ord(letter) - ord("A")) * PAGE_SIZE


def parse(text: str, path: Path) -> Case:
    """The case in *text*. Raises LitmusError, with *path* and the line."""
    reader = _Reader(path)
    take: Callable[[str], None] = reader.take_header
    for raw in text.splitlines():
        reader.line += 1
        line = raw.partition("#")[0].rstrip()
        if not line.strip():
            continue
        if not reader.columns and line.startswith("CPU "):
            reader.end_header(line)
            take = reader.take_event
        elif reader.columns and line.startswith("--"):
            reader.take_loss(line)
        else:
            take(line)
    if not reader.columns:
        raise reader.error("no line 'CPU 0 | CPU 1 ...' begins the events")
    return reader.case()


def load(path: Path) -> Case:
    """The case in the file at *path*. Raises LitmusError."""
    return parse(path.read_text(encoding="utf-8"), path)
