# SPDX-License-Identifier: Apache-2.0
"""These are the names of what a recording cannot tell, on which a verdict then rests.

A source puts them into its plan (`Plan.unknowns`), a report repeats them (`qualified_by` in JSON),
and `--accept-unknown` takes them. They are a contract: scripts depend on them (README, "What a
verdict rests on").
"""

from __future__ import annotations

from collections.abc import Iterable

# Each name says what nobody can know from the recording, and its text on what the verdict rests.
UNKNOWNS = {
    "losses": "that no event is missing: nothing in the file tells whether some are",
    "contexts": "that nothing happened in another context than it seems: the file tells none, or "
    "takes an NMI for an interrupt",
    "skipped-probes": "that the kernel skipped no probe: the file has no count of such hits",
    "arguments": "that arguments are what they were taken for: the file leaves that open",
    "architecture": "that it was recorded on the architecture that its addresses look like",
    "clock": "that the CPUs' clocks are no further apart than is assumed: the file does not tell",
    "implications": "that the kernel's code invalidates where Linux's source does: it was not read",
}


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return *names*, which are keys of UNKNOWNS, once each and in the order of UNKNOWNS.

    >>> in_order(["clock", "losses", "clock"])
    ('losses', 'clock')
    """
    found = set(names)
    return tuple(name for name in UNKNOWNS if name in found)
