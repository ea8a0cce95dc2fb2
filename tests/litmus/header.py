# SPDX-License-Identifier: Apache-2.0
"""The header of a litmus case: the machine, the plan, and what ghesrace must say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ghesrace.events import PAGE_SIZE
from ghesrace.plan import Implied, Plan, Probe, Slot
from ghesrace.points import ARCHES, IMPLIES

from .words import (
    CAUSES,
    CLASSES,
    FIRST_ADDRESS,
    HARMLESS,
    KINDS,
    PATTERNS,
    VERDICTS,
    Place,
    frame,
)

# Pattern, severity, CPUs, frames (None where the file says nothing), access ("" likewise).
Expected = tuple[str, str, tuple[int, int], tuple[int, int] | None, str]

MANY = ("about", "source", "slot", "implies", "reason", "finding", "harmless")
ONCE = ("expect", "online", "arch", "pti", "clock-error", "clock-drift", "contexts", "untraced")
ONCE += ("not-checked",)
OF_A_SLOT = ("classes ", "because ")
OF_A_PAIR = "clock-error CPU "


@dataclass(slots=True)
class Header:
    """The lines above the columns' heads, as they stand; the methods read them."""

    place: Place
    lines: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    cpus: int = 0

    def take(self, text: str) -> None:
        """Take one line. Raises LitmusError."""
        key, colon, value = text.partition(":")
        key, value = key.strip(), value.strip()
        once = key in ONCE or key.startswith((*OF_A_SLOT, OF_A_PAIR))
        if not colon or not (key in MANY or once):
            raise self.place.error(f"{text.strip()!r} is no header line; see README.md")
        if not value:
            raise self.place.error(f"{key!r} says nothing")
        if key in self.lines and once:
            raise self.place.error(f"{key!r} stands here twice")
        self.lines.setdefault(key, []).append((self.place.line, value))

    def end(self, text: str) -> None:
        """Take the line of column heads: everything above it is complete. Raises LitmusError."""
        for key in ("about", "source", "expect"):
            if key not in self.lines:
                raise self.place.error(f"the header has no line {key!r}")
        for number, head in enumerate(text.split("|")):
            if head.split() != ["CPU", str(number)]:
                raise self.place.error(f"column head {head.strip()!r} should be 'CPU {number}'")
            self.cpus += 1
        for line, value in self.values("slot") or [(self.place.line, "irq report")]:
            name, *lock = value.split()
            if len(lock) > 1:
                raise self.place.error("a slot line is NAME [page|report]", line)
            unit = self.place.choice(*lock or ["report"], ("page", "report"), line)
            address = FIRST_ADDRESS + len(self.slots) * 16 * PAGE_SIZE
            self.slots.append(Slot(name, len(self.slots), address, unit))  # type: ignore[arg-type]

    def values(self, key: str) -> list[tuple[int, str]]:
        """The lines of that *key*: number and value."""
        return self.lines.get(key, [])

    def one(self, key: str, default: str) -> tuple[int, str]:
        """The only line of that *key*: number and value."""
        return (self.values(key) or [(self.place.line, default)])[0]

    def integer(self, key: str, default: int) -> int:
        """The number that the only line of that *key* gives."""
        line, text = self.one(key, str(default))
        return self.place.number(text, line)

    def told(self, key: str, words: tuple[str, str]) -> bool:
        """Whether the line of that *key* says the second of the two *words*."""
        line, text = self.one(key, words[0])
        return self.place.choice(text, words, line) == words[1]

    def words(self, key: str, among: tuple[str, ...]) -> list[str]:
        """The words of the only line of that *key*, all of them among these."""
        line, text = self.one(key, "")
        return [self.place.choice(word, among, line) for word in text.split()]

    # -- the machine -----------------------------------------------------------------------------

    def plan(self) -> Plan:
        """The plan under which the case was recorded."""
        untraced = [KINDS[word] for word in self.words("untraced", tuple(KINDS))]
        implied: dict[str, tuple[str, ...]] = {}
        proven = []
        for line, value in self.values("implies"):
            event, *what = value.split()
            self.place.choice(event, tuple(KINDS), line)
            known = what[-1:] == ["proven"]
            what = what[:-1] if known else what
            for word in what:
                self.place.choice(word, IMPLIES, line)
                if known:
                    name = KINDS[event].name.lower()
                    proven.append(Implied(name, "f", word, "proven", "the case says so"))
            implied[KINDS[event].name] = (*implied.get(KINDS[event].name, ()), *what)
        probes = [
            Probe(kind.name.lower(), kind.name, "f", "kprobe", implies=implied.get(kind.name, ()))
            for kind in KINDS.values()
            if kind not in untraced
        ]
        line, arch = self.one("arch", "x86_64")
        return Plan(
            self.place.choice(arch, ARCHES, line),
            "litmus",
            tuple(self.slots),
            tuple(probes),
            cpus=tuple(range(self.integer("online", self.cpus))),
            pti=self.told("pti", ("no", "yes")),
            clock_error_ns=self.integer("clock-error", 1000),
            pair_errors_ns=self.pair_errors(),
            clock_drift_ns=self.integer("clock-drift", 0),
            contexts=not self.contexts_unknown,
            implications=tuple(proven),
        )

    @property
    def contexts_unknown(self) -> bool:
        """Whether the source can't tell contexts: all of its events seem to be a task's."""
        return self.told("contexts", ("known", "unknown"))

    def pair_errors(self) -> tuple[tuple[int, int, int], ...]:
        """What `clock-error CPU X CPU Y: NS` says: X < Y and ns, of each pair that has a line."""
        found = []
        for key, ((line, text), *_) in self.lines.items():
            if not key.startswith(OF_A_PAIR):
                continue
            match = re.fullmatch(r"clock-error CPU (\d+) CPU (\d+)", key)
            x, y = sorted(int(cpu) for cpu in match.groups()) if match else (0, 0)
            if x == y or y >= self.cpus:
                raise self.place.error(f"{key!r} names no two CPUs of this case", line)
            found.append((x, y, self.place.number(text, line)))
        return tuple(sorted(found))

    # -- what ghesrace must say ------------------------------------------------------------------

    def expect(self) -> str:
        """The verdict."""
        line, expect = self.one("expect", "")
        return self.place.choice(expect, VERDICTS, line)

    def counts(self, what: str, among: tuple[str, ...]) -> dict[str, dict[str, int]]:
        """Lines `what SLOT: WORD N, ...`: slot name -> word -> number."""
        result: dict[str, dict[str, int]] = {}
        for key, values in self.lines.items():
            if not key.startswith(f"{what} "):
                continue
            ((line, text),) = values
            slot = self.place.choice(key.split()[1], tuple(s.name for s in self.slots), line)
            result[slot] = {}
            for item in text.split(","):
                if len(item.split()) != 2:
                    form = "CLASS N" if what == "classes" else "CAUSE N"
                    raise self.place.error(f"{item.strip()!r} is not {form}", line)
                word, count = item.split()
                result[slot][self.place.choice(word, among, line)] = self.place.number(count, line)
        return result

    def classes(self) -> dict[str, dict[str, int]]:
        """Episodes by class, of each slot that has any."""
        return self.counts("classes", CLASSES)

    def causes(self) -> dict[str, dict[str, int]]:
        """Uncertain episodes by cause, of each slot of which the case says it."""
        return self.counts("because", CAUSES)

    def findings(self) -> list[Expected]:
        """Findings that must be there."""
        result = []
        for line, value in self.values("finding"):
            match = re.fullmatch(
                r"(observed|predicted) (?:(overlap|torn-edit|shootdown) )?"
                r"CPU (\d+)(?: ([A-Z]))? CPU (\d+)(?: ([A-Z]))?(?: (read|write))?",
                value,
            )
            if match is None:
                form = "SEVERITY [PATTERN] CPU X [P] CPU Y [Q] [read|write]"
                raise self.place.error(f"a finding is {form}", line)
            severity, pattern, x, p, y, q, access = match.groups()
            frames = (frame(p), frame(q)) if p and q else None
            name = (pattern or "stale").replace("-", "_")
            result.append((name, severity, (int(x), int(y)), frames, access or ""))
        return result

    def harmless(self) -> dict[str, int]:
        """Meetings of GHES with an edit that are no hazard, by the pattern's name for them."""
        result = {}
        for line, value in self.values("harmless"):
            name, _, count = value.partition(" ")
            word = HARMLESS[self.place.choice(name, tuple(HARMLESS), line)]
            result[word] = self.place.number(count, line)
        return result

    def not_checked(self) -> tuple[str, ...]:
        """Patterns that the report must call unchecked."""
        return tuple(name.replace("-", "_") for name in self.words("not-checked", PATTERNS))
