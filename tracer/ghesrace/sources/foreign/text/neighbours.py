# SPDX-License-Identifier: Apache-2.0
"""This module finds, for the events of a text, what is next to each of them on its own CPU."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from . import chains

Ints = npt.NDArray[np.int64]


def previous(cpu: Ints) -> Ints:
    """Return the index of each event's predecessor on its CPU, -1 where there is none. *cpu* is
    that of each event (shape (n,)).

    >>> previous(np.array([0, 1, 0, 1])).tolist()
    [-1, -1, 0, 1]
    """
    if not len(cpu):
        return np.zeros(0, np.int64)
    column = np.ascontiguousarray(cpu)
    last, before = np.full(int(cpu.max()) + 1, -1, np.int64), np.empty(len(cpu), np.int64)
    chains.find_previous(column.data, last.data, before.data)
    return before


def last_rows(cpu: Ints) -> dict[int, int]:
    """Return the index of each CPU's last event, by CPU in ascending order.

    >>> last_rows(np.array([0, 1, 0]))
    {0: 2, 1: 1}
    """
    if not len(cpu):
        return {}
    table = np.full(int(cpu.max()) + 1, -1, np.int64)
    table[cpu] = np.arange(len(cpu))  # Of several the last one stays.
    return {number: int(table[number]) for number in np.flatnonzero(table >= 0).tolist()}


class Chains:
    """These lead from each event on *cpu* to the one before it on its CPU; see `previous` and
    `last_rows`. Several who look at the same events share them."""

    def __init__(self, cpu: Ints) -> None:
        self._cpu = cpu

    @cached_property
    def before(self) -> Ints:
        """This is `previous` of the events."""
        return previous(self._cpu)

    @cached_property
    def last(self) -> dict[int, int]:
        """These are the `last_rows` of the events."""
        return last_rows(self._cpu)


def values_before(cpu: Ints, values: Ints, before: Ints, known: dict[int, int], none: int) -> Ints:
    """Return the value of each event's predecessor, whose index is *before*. Of a CPU's first
    event it is what is *known* of that CPU, or else *none*.

    >>> one = np.array([7, 8])
    >>> values_before(np.array([0, 1]), one, np.array([-1, -1]), {1: 5}, -1).tolist()
    [-1, 5]
    """
    found: Ints = values[before]
    for row in np.flatnonzero(before < 0).tolist():  # This loops over CPUs.
        found[row] = known.get(int(cpu[row]), none)
    return found
