# SPDX-License-Identifier: Apache-2.0
"""A condition is a tree that says what must hold in the kernel for an event to be recorded. Each
backend says it in its own words, by `rendered`.
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

# The operator "&" holds if the field has one of the value's bits.
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "&"]
State = Literal["interrupts-off", "softirq", "irq", "nmi"]


@dataclass(frozen=True, slots=True)
class Compare:
    """This holds if a field of the probe, a name in `fetch.FIELDS`, compares so with the value.

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
    """This holds if the CPU is in one of these states: a softirq, a hard interrupt, an NMI or, in
    any context, with interrupts off."""

    context: tuple[State, ...]

    def _nonsense(self) -> str | None:
        return None if self.context else "context"


@dataclass(frozen=True, slots=True)
class InTask:
    """This holds if the CPU runs the thread that has this id."""

    task: int

    def _nonsense(self) -> str | None:
        return None if 0 <= self.task < 2**32 else "task"


@dataclass(frozen=True, slots=True)
class AllOf:
    """This holds if every one of its parts does."""

    all: tuple[Condition, ...]

    def _nonsense(self) -> str | None:
        return None if self.all else "all"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """This holds if at least one of its parts does."""

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
    """Return the field that is wrong in a group whose parts were read, or None; a `Text` is never a
    part of a tree."""
    parts = parts_of(group)
    fit = isinstance(parts, tuple) and not any(isinstance(part, Text) for part in parts)
    return None if fit else "all" if isinstance(group, AllOf) else "any"


def parts_of(group: AllOf | AnyOf) -> tuple[Condition, ...]:
    """Return the members of *group*."""
    return group.all if isinstance(group, AllOf) else group.any


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Yield what *condition* asks of the event, from left to right; of a `Text` that is nothing.

    >>> [leaf.value for leaf in leaves(AnyOf((Compare("index", "==", 644), InTask(1))))
    ...  if isinstance(leaf, Compare)]
    [644]
    """
    if isinstance(condition, AllOf | AnyOf):
        for part in parts_of(condition):
            yield from leaves(part)
    elif not isinstance(condition, Text):
        yield condition


def rendered(
    condition: Condition, leaf: Callable[[Leaf], str], *, brackets: tuple[str, str] = ("(", ")")
) -> str:
    """Return *condition* with `&&` and `||` between what *leaf* makes of each leaf.

    Groups in groups, and leaves that test bits or the context, stand in *brackets*. Raises
    TypeError for a `Text`, which has no leaves: whoever may show it has to do that without this.

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
    """Return the value as people read that field, which is in hexadecimal for addresses.

    >>> number(Compare("addr", ">=", 0xFF00))
    '0xff00'
    """
    return f"{compare.value:#x}" if compare.field in HEXADECIMAL else str(compare.value)
