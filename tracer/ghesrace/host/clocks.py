# SPDX-License-Identifier: Apache-2.0
"""This measures how far apart the clocks of two CPUs can be, by a ping-pong between them.

CPU x stamps a ping (t0), CPU y stamps its receipt (t1), x stamps the answer (t2). Causality puts
y's clock, seen from x's, between t1 - t2 and t1 - t0; the tightest of many rounds bounds it. A
round with t1 outside [t0, t2] proves a warp, for which the kernel's own check_tsc_warp() looks too
(arch/x86/kernel/tsc_sync.c).
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ghesrace.errors import HostError

# This is assumed where the ping-pong can prove no less, as a busy or emulated host answers late.
# The clock mono may step by less than this between CPUs at a timekeeping update
# (ktime_get_mono_fast_ns in kernel/time/timekeeping.c).
ASSUMED_NS = 1000
_BUDGET_NS = 600_000_000  # for all pairs together
_ROUNDS = 2_000
_PING, _PONG, _STAMP = 0, 1, 2  # 8-byte cells; each has a single writer
_STOP = 2**63


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison says what the worst pair of CPUs showed.

    No difference of two clocks can exceed `bound_ns` (ns). A difference of `warp_ns` (ns) was seen;
    it is 0 where no stamp contradicted causality.
    """

    bound_ns: int
    warp_ns: int

    @property
    def error_ns(self) -> int:
        """This is the error to reckon with, in ns. It is the proven bound or, if that is looser
        than ASSUMED_NS, the assumed one, and never below a warp that was seen.

        >>> Comparison(bound_ns=60, warp_ns=0).error_ns
        60
        """
        return max(self.warp_ns, min(self.bound_ns, ASSUMED_NS))


def compare(cpus: Sequence[int] | None = None, clock: int = time.CLOCK_MONOTONIC) -> Comparison:
    """Compare *clock* between the first of *cpus* and each other one.

    That takes about 0.6 s at most for all pairs together. By default *cpus* are those that this
    process may run on. With more than two the result is doubled, since any two CPUs differ by at
    most two such steps. Raises OSError if a CPU cannot be used.

    >>> compare([0])  # one CPU agrees with itself
    Comparison(bound_ns=0, warp_ns=0)
    """
    home = os.sched_getaffinity(0)
    given = sorted(home) if cpus is None else list(cpus)
    if len(given) < 2:
        return Comparison(0, 0)
    try:
        pairs = [_pair(given[0], cpu, clock, _BUDGET_NS // (len(given) - 1)) for cpu in given[1:]]
    finally:
        os.sched_setaffinity(0, home)
    steps = 1 if len(pairs) == 1 else 2
    return Comparison(
        steps * max(pair.bound_ns for pair in pairs), steps * max(pair.warp_ns for pair in pairs)
    )


def judge(stamps: Sequence[tuple[int, int, int]], limit_ns: int) -> Comparison:
    """Return the bound and the warp that the rounds *stamps*, each (t0, t1, t2) in ns, prove. The
    bound is *limit_ns* where no round says less.

    >>> judge([(0, 40, 100)], limit_ns=1_000)
    Comparison(bound_ns=60, warp_ns=0)
    """
    low = max((t1 - t2 for _, t1, t2 in stamps), default=-limit_ns)
    high = min((t1 - t0 for t0, t1, _ in stamps), default=limit_ns)
    return Comparison(min(max(abs(low), abs(high)), limit_ns), max(0, low, -high))


def _pair(here: int, there: int, clock: int, budget_ns: int) -> Comparison:
    with mmap.mmap(-1, mmap.PAGESIZE) as shared, memoryview(shared) as raw, raw.cast("Q") as cells:
        child = os.fork()
        if child == 0:
            failed = True
            try:
                _answer(cells, there, clock)
                failed = False
            finally:
                os._exit(failed)
        try:
            stamps = _ask(cells, here, clock, budget_ns)
        finally:
            cells[_PING] = _STOP
            status = os.waitpid(child, 0)[1]
    if status:
        raise OSError(f"cannot run on CPU {there} to compare its clock")
    return judge(stamps, budget_ns)


def _answer(cells: memoryview, cpu: int, clock: int) -> None:
    os.sched_setaffinity(0, {cpu})
    seen = 0
    give_up = time.monotonic_ns() + 5 * _BUDGET_NS
    while True:
        ping = cells[_PING]
        if ping == seen:
            if time.monotonic_ns() > give_up:
                return
            continue
        if ping == _STOP:
            return
        cells[_STAMP] = time.clock_gettime_ns(clock)
        cells[_PONG] = seen = ping


def _ask(cells: memoryview, cpu: int, clock: int, budget_ns: int) -> list[tuple[int, int, int]]:
    os.sched_setaffinity(0, {cpu})
    stamps: list[tuple[int, int, int]] = []
    end = time.monotonic_ns() + budget_ns
    for number in range(1, _ROUNDS + 1):
        before = time.clock_gettime_ns(clock)
        cells[_PING] = number
        while cells[_PONG] != number:
            if time.monotonic_ns() > end:
                return stamps
        after = time.clock_gettime_ns(clock)
        stamps.append((before, cells[_STAMP], after))
    return stamps


_CLOCKS = {
    "mono": time.CLOCK_MONOTONIC,
    "mono_raw": time.CLOCK_MONOTONIC_RAW,
    "boot": time.CLOCK_BOOTTIME,
}


def clock_now(clock: str) -> int:
    """Return the time now, in ns, on the trace clock *clock* (kernel/trace/trace.c:trace_clocks[]).

    Raises HostError for a clock that user space can't read.

    >>> clock_now("mono") <= clock_now("mono")
    True
    """
    try:
        return time.clock_gettime_ns(_CLOCKS[clock])
    except KeyError:
        raise HostError(
            f"the trace clock {clock!r} has no counterpart in user space",
            f"use one of {', '.join(_CLOCKS)}",
        ) from None
