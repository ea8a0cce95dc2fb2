# SPDX-License-Identifier: Apache-2.0
"""What must hold in the kernel for an event to be recorded: a tree. Each backend says it in its own
words, by `rendered`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ghesrace.errors import InputError

from .fetch import HEXADECIMAL, Text, shortly
from .shape import misfit

MOST_DEPTH = 4  # of a tree: ours have 3 levels
MOST_TERMS = 1 << 14  # of a tree: 4 for each of the most slots that a plan may have

# "&": the field has one of the value's bits.
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "&"]
State = Literal["interrupts-off", "softirq", "irq", "nmi"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A field of the probe, held against a number.

    >>> Compare("index", "==", 644)
    Compare(field='index', operator='==', value=644)
    """

    field: str
    operator: Operator
    value: int

    def _nonsense(self) -> str | None:
        return None if 0 <= self.value < 2**64 else "value"


@dataclass(frozen=True, slots=True)
class InContext:
    """The CPU is in one of these states: a softirq, a hard interrupt, an NMI; or, whatever it
    does, interrupts are off."""

    context: tuple[State, ...]

    def _nonsense(self) -> str | None:
        return None if self.context else "context"


@dataclass(frozen=True, slots=True)
class InTask:
    """The CPU runs the thread of this id."""

    task: int

    def _nonsense(self) -> str | None:
        return None if 0 <= self.task < 2**32 else "task"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of these holds."""

    all: tuple[Condition, ...]

    def _nonsense(self) -> str | None:
        return None if self.all else "all"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds."""

    any: tuple[Condition, ...]

    def _nonsense(self) -> str | None:
        return None if self.any else "any"


Leaf = Compare | InContext | InTask
Condition = Leaf | AllOf | AnyOf | Text
_BY_KEY: dict[str, type[Condition]] = {
    "field": Compare,
    "context": InContext,
    "task": InTask,
    "all": AllOf,
    "any": AnyOf,
    "text": Text,
}


def read_condition(data: Any) -> Condition:
    """Return the tree that *data* (of JSON) describes. Raises InputError for what is none, and for
    one that is deeper or bigger than any of ours.

    >>> read_condition({"any": [{"field": "index", "operator": "==", "value": 644}]})
    AnyOf(any=(Compare(field='index', operator='==', value=644),))
    """
    terms = 0

    def read(data: Any, depth: int) -> Condition:
        nonlocal terms
        terms += 1
        if depth > MOST_DEPTH or terms > MOST_TERMS:
            raise InputError("a filter is deeper or bigger than any of ours")
        kinds = [kind for key, kind in _BY_KEY.items() if isinstance(data, dict) and key in data]
        if len(kinds) != 1:
            raise InputError(f"{shortly(data)} is no filter: one of {', '.join(_BY_KEY)} is needed")
        values = dict(data)
        for key in ("all", "any"):
            if isinstance(values.get(key), list | tuple):
                values[key] = tuple(read(part, depth + 1) for part in values[key])
        if isinstance(values.get("context"), list):
            values["context"] = tuple(values["context"])
        try:
            made = kinds[0](**values)
        except TypeError as error:
            raise InputError(f"{shortly(data)} is no filter: wrong keys") from error
        wrong = misfit(made) if isinstance(made, Leaf | Text) else _misplaced(made)
        wrong = wrong or made._nonsense()
        if wrong is not None:
            raise InputError(f"{shortly(data)} is no filter: its `{wrong}` is not possible")
        return made

    return read(data, 1)


def _misplaced(group: AllOf | AnyOf) -> str | None:
    """What is wrong with a group whose parts were read: text is never a part of a tree."""
    parts = parts_of(group)
    fit = isinstance(parts, tuple) and not any(isinstance(part, Text) for part in parts)
    return None if fit else "all" if isinstance(group, AllOf) else "any"


def parts_of(group: AllOf | AnyOf) -> tuple[Condition, ...]:
    """Return the members of *group*."""
    return group.all if isinstance(group, AllOf) else group.any


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Yield what *condition* asks of the event, from left to right."""
    if isinstance(condition, AllOf | AnyOf):
        for part in parts_of(condition):
            yield from leaves(part)
    elif not isinstance(condition, Text):
        yield condition


def rendered(
    condition: Condition, leaf: Callable[[Leaf], str], *, brackets: tuple[str, str] = ("(", ")")
) -> str:
    """Return *condition* with `&&` and `||` between what *leaf* makes of each leaf.

    Groups in groups, and leaves that test bits, stand in *brackets*. Text has no leaves: whoever
    may show it does so. Raises TypeError for it.

    >>> rendered(AnyOf((Compare("index", "==", 644), Compare("index", "==", 645))),
    ...          lambda leaf: f"{leaf.field} {leaf.operator} {number(leaf)}")
    'index == 644 || index == 645'
    """
    if isinstance(condition, Text):
        raise TypeError("the text of an old plan's filter is not ours to read")
    if not isinstance(condition, AllOf | AnyOf):
        return leaf(condition)
    made = []
    for part in parts_of(condition):
        text = rendered(part, leaf, brackets=brackets)
        bare = isinstance(part, InTask) or (isinstance(part, Compare) and part.operator != "&")
        made.append(text if bare else f"{brackets[0]}{text}{brackets[1]}")
    return (" && " if isinstance(condition, AllOf) else " || ").join(made)


def number(compare: Compare) -> str:
    """Return the value as people read that field: addresses in hexadecimal."""
    return f"{compare.value:#x}" if compare.field in HEXADECIMAL else str(compare.value)
