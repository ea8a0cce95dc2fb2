# SPDX-License-Identifier: Apache-2.0
"""This module says what a foreign trace cannot tell, and on what its verdict therefore rests.

What files of a kind can't tell is the reader's word (`Reader.unknowns`); what is missing in this
one is found here. What costs the verdict anyway, such as a pattern that can't be checked, is the
plan's.
"""

from __future__ import annotations

from ghesrace.unknowns import in_order

from .eventmap import EventMap
from .reader import Reader
from .scan import Survey


def unknowns(
    survey: Survey,
    reader: Reader,
    given: EventMap,
    *,
    halved: bool,
    guessed_arch: bool,
    implied: bool,
) -> tuple[str, ...]:
    """Return the names (unknowns.UNKNOWNS) of what the trace that *reader* reads and *survey*
    describes cannot tell. *given* is its map file, *halved* says that slots' addresses are the low
    32 bits of them, and *guessed_arch* that only addresses tell its architecture, and that it
    matters. *implied* says that functions are taken to invalidate where nothing is recorded.

    told = dict(halved=False, guessed_arch=False, implied=False)
    unknowns(Survey.of(reader, given), reader, given, **told)
    """
    found = set(reader.unknowns)
    if survey.mistaken or not reader.contexts:
        found.add("contexts")
    if any(use.blind for use in survey.uses.values()) or survey.changed or halved:
        found.add("arguments")
    if guessed_arch:
        found.add("architecture")
    if implied:
        found.add("implications")
    # One clock is in step with itself, and a map file may say how far several are apart.
    if given.clock_error_ns is not None or len(survey.cpus) < 2:
        found.discard("clock")
    return in_order(found)
