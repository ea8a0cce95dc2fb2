# SPDX-License-Identifier: Apache-2.0
"""This module says what a text cannot contain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ghesrace.plan import Unseen

from .flags import Flags
from .forms import Style
from .runs import Runs

_EVERY = ("stale", "torn_edit", "overlap")


@dataclass(frozen=True, slots=True)
class Found:
    """This was found in a text: of which form it is (a key of FORMS), how it prints, whether stamps
    have no fraction (`plain`), and how many lines can't be read, with some `examples`."""

    form: str
    style: Style
    plain: bool
    unread: int
    examples: list[str]


def unseen_of(found: Found, flags: Flags, runs: Runs, moved: int) -> Iterator[Unseen]:
    """Yield what the text in which this was *found* can't contain, or does not. *moved* is how
    often a CPU's stamps go back within a run.

    list(unseen_of(found, flags, runs, moved=0))
    """
    if not flags.flagged:
        what = "contexts: in what (task, softirq, irq, NMI) each event happened"
        why = "the text has no latency columns: use trace.dat, or ftrace's own `trace`"
        yield Unseen(what, why, _EVERY)
    elif not flags.contexts:
        what = "which events happened in NMIs"
        why = (
            "no event is marked as an NMI's, and neither kernels before 4.7 nor trace-cmd "
            "(3.1.6, 3.2) mark them: use the trace.dat"
        )
        yield Unseen(what, why, _EVERY)
    if found.form == "perf":
        what = "the order of events of one CPU that have the same stamp"
        why = "perf script sorts by time; --ns keeps the most of it"
        yield Unseen(what, why, _EVERY)
        what = "events that perf lost"
        why = "perf script shows them only with --show-lost-events, or on stderr (2>&1)"
        yield Unseen(what, why, _EVERY)
    if found.plain:
        what = "times in nanoseconds: some stamps have no fraction"
        yield Unseen(what, "they are taken as they are", _EVERY)
    if found.style.bare:
        what = "which numbers are decimal: all are taken for hexadecimal"
        why = "addresses have no 0x, as kernels before 3.14 print them"
        yield Unseen(what, why, _EVERY)
    if found.unread:
        what = f"{found.unread:,} lines with a CPU and a stamp, or parts of such: "
        what += "; ".join(found.examples)
        yield Unseen(what, "they can't be read, and count as lost", _EVERY)
    if moved:
        what = f"what stood where {moved:,} times a CPU's stamps go back"
        why = "lines were moved: what happened between the two stamps counts as lost"
        yield Unseen(what, why, _EVERY)
    for number, first in enumerate(runs.starts, 2):
        shift = (runs.gaps[number - 2][1] - first) / 1e9
        what = f"what happened between run {number - 1} and run {number} in the text"
        why = (
            f"its stamps begin anew at {first / 1e9:.6f} s, as after another boot or in a log "
            f"that was appended to; they are shown {shift:.6f} s later. Judge "
            f"each by itself: --run 1 to --run {len(runs.starts) + 1}"
        )
        yield Unseen(what, why, _EVERY)
    what = "probe hits that the kernel skipped (kprobe_profile)"
    yield Unseen(what, "not in a text", _EVERY)
