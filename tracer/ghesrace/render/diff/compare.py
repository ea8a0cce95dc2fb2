# SPDX-License-Identifier: Apache-2.0
"""This decides whether B is worse than A (docs/diff.md has the rules in words).

The checker judged both. Here nothing is judged again: a fault that one side shows is looked up on
the other, and what a side left open is never taken for the absence of a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ghesrace.checker.report import Verdict
from ghesrace.errors import EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_OK

from .side import Seen, Shape, Side
from .slots import Pair, paired


class Outcome(Enum):
    """An outcome is the answer, as users see it."""

    WORSE = "worse"
    UNKNOWN = "can't be compared"
    BETTER = "better"
    SAME = "not worse"

    @property
    def exit_code(self) -> int:
        """This is the command's exit code."""
        if self is Outcome.WORSE:
            return EXIT_FINDING
        return EXIT_INCONCLUSIVE if self is Outcome.UNKNOWN else EXIT_OK


class Fate(Enum):
    """A fate says what became of a fault from A to B."""

    NEW = "new"
    GRAVER = "graver"
    UNCLEAR = "unclear"
    SAME = "still there"
    MILDER = "milder"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Change:
    """A change is one fault and what became of it. `why` says why its fate is unclear."""

    fate: Fate
    a: Seen | None
    b: Seen | None
    why: str = ""

    @property
    def seen(self) -> Seen:
        """This is the fault in B, or in A if B has it no more."""
        found = self.b or self.a
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison is what changed from A to B.

    `because` says what decided the outcome, the most important first, and `notes` what a reader
    should know beside it.
    """

    a: Side
    b: Side
    outcome: Outcome
    because: list[str]
    notes: list[str]
    slots: list[Pair]
    changes: list[Change] = field(default_factory=list)


def compare(a: Side, b: Side, accepted: tuple[str, ...] = ()) -> Comparison:
    """Return what changed from *a* to *b*. What a clean verdict rests on (unknowns.UNKNOWNS) leaves
    it open, unless *accepted* names it.

    compare(side_of(before, "before.arrows"), side_of(after, "after.arrows")).outcome
    """
    slots = paired(a, b)
    changes = _changes(a, b, slots, accepted)
    worse = [f"{c.fate.value} in B: {describe(c)}" for c in changes if c.fate in _WORSE]
    unknown = _unknown(a, b, slots, changes, accepted)
    if worse:
        outcome, because = Outcome.WORSE, worse
    elif unknown:
        outcome, because = Outcome.UNKNOWN, unknown
    elif any(c.fate in (Fate.GONE, Fate.MILDER) for c in changes):
        outcome = Outcome.BETTER
        because = [f"{c.fate.value}: {describe(c)}" for c in changes if c.fate is not Fate.SAME]
    else:
        shown = "the same was found" if changes else "nothing was found in either"
        outcome, because = Outcome.SAME, [shown]
    notes = _notes(a, b, slots)
    if worse and unknown:
        notes = [f"besides: {told}" for told in unknown] + notes
    return Comparison(a, b, outcome, because, notes, slots, changes)


_WORSE = (Fate.NEW, Fate.GRAVER)


def describe(change: Change) -> str:
    """Return what a *change* is about, as in "stale read at slot GHES_IRQ, observed 2 times"."""
    seen = change.seen
    pattern, slot, _ = seen.shape
    words = pattern.replace("_", " ") + (f" {seen.access}" if seen.access else "")
    where = f" at slot {slot}" if slot is not None else ""
    if change.a is None or change.b is None:
        return f"{words}{where}, {often(seen)}"
    return f"{words}{where}, {often(change.a)} in A, {often(change.b)} in B"


def often(seen: Seen) -> str:
    """Return how often a fault was *seen*, as in "observed 4 times, predicted once"."""
    return ", ".join(
        f"{severity} {'once' if n == 1 else f'{n:,} times'}"
        for severity in ("observed", "predicted")
        if (n := seen.counts.get(severity))
    )


def _changes(a: Side, b: Side, slots: list[Pair], accepted: tuple[str, ...]) -> list[Change]:
    """Return what became of each fault, what B has first."""
    to_a = {pair.b: pair.a for pair in slots if pair.b is not None}
    to_b = {pair.a: pair.b for pair in slots if pair.a is not None}
    changes, met = [], set()
    for shape, seen in b.faults.items():
        in_a = _moved(shape, to_a)
        before = a.faults.get(in_a) if in_a else None
        if in_a is not None and before is not None:
            met.add(in_a)
        changes.append(_of_b(before, seen, _untold(a, "A", in_a, shape, accepted)))
    for shape, seen in a.faults.items():
        if shape not in met:
            in_b = _moved(shape, to_b)
            why = _untold(b, "B", in_b, shape, accepted)
            changes.append(Change(Fate.UNCLEAR if why else Fate.GONE, seen, None, why))
    order = list(Fate)
    return sorted(changes, key=lambda change: order.index(change.fate))


def _of_b(before: Seen | None, seen: Seen, why: str) -> Change:
    """Return what became of a fault that B has *seen*, and A *before*, if it did. *why* says why A
    may have it unseen, or more gravely."""
    if before is not None and seen.grade == before.grade:
        return Change(Fate.SAME, before, seen)
    if before is not None and seen.grade < before.grade:
        return Change(Fate.MILDER, before, seen)
    fate = Fate.NEW if before is None else Fate.GRAVER
    return Change(Fate.UNCLEAR if why else fate, before, seen, why)


def _moved(shape: Shape, names: dict[str, str | None]) -> Shape | None:
    """Return the *shape* that a fault has on the other side, whose slots' *names* are given, or
    None if that side has no such slot."""
    pattern, slot, words = shape
    if slot is None:
        return shape
    other = names.get(slot)
    return None if other is None else (pattern, other, words.replace(slot, other))


def _untold(
    side: Side, letter: str, moved: Shape | None, shape: Shape, accepted: tuple[str, ...]
) -> str:
    """Return why the absence of a fault on a *side* proves nothing, or "" if it does. *moved* is
    the fault's shape there, None where its slot is not there, and *shape* that on the other."""
    pattern = shape[0]
    if pattern not in side.patterns or not side.patterns[pattern].checked:
        return f"{letter} did not check {pattern.replace('_', ' ')}"
    if moved is None and letter == "A" and side.slots and not side.foreign:
        return ""  # A's kernel had no such slot, or it would be in its plan.
    if moved is None or not side.tried(moved[1]):
        return f"{letter} has no episode at slot {shape[1] if moved is None else moved[1]}"
    reason = side.opening(moved, accepted)
    return f"{letter} leaves it open ({reason})" if reason else ""


def _unknown(
    a: Side, b: Side, slots: list[Pair], changes: list[Change], accepted: tuple[str, ...]
) -> list[str]:
    """Return why nobody can tell that B is not worse, or [] if it is not, but for what B has that
    A surely lacks."""
    found = [f"unclear: {describe(c)}: {c.why}" for c in changes if c.fate is Fate.UNCLEAR]
    for side, letter in ((a, "A"), (b, "B")):
        reasons = [reason for _, reason in side.open]
        rests = side.unaccepted(accepted)
        if side.verdict is Verdict.INCONCLUSIVE:
            found.append(f"{letter} is inconclusive: {'; '.join(reasons) or 'it says no reason'}")
        elif reasons and (letter == "B" or side.verdict is Verdict.CLEAN):
            found.append(f"{letter} leaves something open: {'; '.join(reasons)}")
        if rests and (letter == "B" or side.verdict is Verdict.CLEAN):
            found.append(f"{letter} rests on {', '.join(rests)}, which its recording can't tell")
    for pattern in dict.fromkeys([*a.patterns, *b.patterns]):
        in_a, in_b = (_checked(side, pattern) for side in (a, b))
        if in_a != in_b:
            only = "A" if in_a else "B"
            found.append(f"only {only} checked {pattern.replace('_', ' ')}")
    for pair in slots:
        if pair.a is not None and a.tried(pair.a) and not (pair.b and b.tried(pair.b)):
            found.append(f"only A has episodes at slot {pair.a}")
    return found


def _checked(side: Side, pattern: str) -> bool:
    return pattern in side.patterns and side.patterns[pattern].checked


def _notes(a: Side, b: Side, slots: list[Pair]) -> list[str]:
    found = []
    for pair in slots:
        if pair.how:
            found.append(f"slot {pair.a} of A is taken for {pair.b} of B: {pair.how}")
        if pair.b is not None and b.tried(pair.b) and not (pair.a and a.tried(pair.a)):
            found.append(f"only B has episodes at slot {pair.b}")
        if pair.a is None or pair.b is None:
            continue
        one, other = a.slots[pair.a], b.slots[pair.b]
        if one.handoffs and other.episodes and not other.handoffs:
            found.append(f"in B slot {pair.b} was never handed from one CPU to another")
    if a.host.get("arch") != b.host.get("arch"):
        found.append("the architectures differ")
    return found
