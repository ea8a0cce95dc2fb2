# SPDX-License-Identifier: Apache-2.0
"""Lines that can't be read: which they are, and what is said of them."""

from __future__ import annotations

import numpy as np

from ghesrace.events import ALL_CPUS, Cause
from ghesrace.sources.foreign.eventmap import EventMap
from ghesrace.sources.foreign.text.careful import Careful
from ghesrace.sources.foreign.text.forms import Style
from ghesrace.sources.foreign.text.lines import lines_of
from ghesrace.sources.foreign.text.unread import Unread

TEXT = (
    b" a-1 [002] d.h1. 1.000000: ?\n"
    b"and lost 3 chunks!\n"
    b" a-1 [003] d.h1. 2.000000: f <-g\n"
    b" a-1 [004] d.h\n"
    b" a-1 [005] d.h1. 3.000000: x: y b-1 [006] d.h1. 4.000000: x: y\n"
)


def test_each_such_line_is_counted_and_named() -> None:
    """A line that is neither an event nor a loss has vanished."""
    unread = Unread(Careful("ftrace", Style(), EventMap()), whole := [])
    bad, twice = np.arange(4), np.array([4])
    odd = unread.take(lines_of(TEXT), bad, twice, offset=50)
    assert odd.cpu.tolist() == [2, 4, 5, 6]
    assert odd.at.tolist() == [0, 3, 4, 4]
    assert odd.ts.tolist() == [1_000_000_050, -1, 3_000_000_050, 4_000_000_050]
    assert odd.count.tolist() == [1, 1, 0, 0]
    assert whole == [(Cause.OVERRUN, 0)]
    assert unread.count == 4
    assert unread.examples[0] == "a-1 [002] d.h1. 1.000000: ?"
    unread.note(lines_of(TEXT), np.array([2]))
    assert unread.count == 5


def test_lines_that_lack_a_part_are_not_forgotten() -> None:
    """Options of perf script and trace-cmd leave a stamp or a CPU out, or put it elsewhere: events
    of half a trace vanished, and it was clean."""
    text = (
        b"  sleep 12 [002]  probe:f: (ffffffff81000000) a=1\n"
        b"  sleep 12  1.000000: probe:f: (ffffffff81000000) a=1\n"
        b"  sleep  12   3  1.000000:  probe:f: (ffffffff81000000) a=1\n"
        b"  sleep-12 [004]-0x9    1.000000: f: __probe_ip=ffffffff81000000\n"
        b"  sleep-12 [005] d.s1.101140487821: f: (ffffffff81000000)\n"
        b"cpus=2\n"
        b"CPU 3 is empty\n"
        b"  => vprintk [other]\n"
    )
    unread = Unread(Careful("ftrace", Style(), EventMap()), [])
    odd = unread.take(lines_of(text), np.arange(8), np.zeros(0, np.intp), offset=0)
    found = dict(
        zip(odd.at.tolist(), zip(odd.cpu.tolist(), odd.ts.tolist(), strict=True), strict=True)
    )
    second = 1_000_000_000
    assert found == {
        0: (2, -1),
        1: (ALL_CPUS, second),
        2: (ALL_CPUS, second),
        3: (4, second),
        4: (5, 101_140_487_821),
    }


HARMLESS = (
    "ghes_proc <-ghes_notify",
    "ghes_proc [ghes] <-ghes_notify [ghes]",
    "ghes_proc+0x10/0x20 <-ghes_notify+0x1/0x30",
    "ghes_proc <ffffffff81000000> <-ghes_notify <ffffffff81000100>",
    "memcpy_fromio(to=0x1, from=0xffffc900ffc90000, n=20) <-ghes_copy_tofrom_phys",
    "sys_write(fd: 1, buf: 55d0, count: 2)",
    "sys_write -> 0x2",
    "ghes_proc+0x10/0x20: trace_printk() has the option sym-offset",
    "0xffffffffc0a0b0c0: trace_printk() of a module that is gone",
    "#1     inner/outer(us):   12/13    ts:1.1",
    "PERF_RECORD_SWITCH IN ",
    "PERF_RECORD_FORK(12:12):(1:1)",
    "PERF_RECORD_MMAP2 12/12: [0x5581(0x1000) @ 0 08:01 1 1]: r-xp /bin/x",
)
HARMFUL = (
    "[UNKNOWN TYPE 1520]",
    "(ghes_ioremap_pfn_irq+0x0/0x40 <- f",
    "ghes_peek+0x10/0x20 <- ghes_copy_tofrom_phys) arg1=0x0",
    "m",
)


def test_what_other_tracers_print_is_no_loss() -> None:
    """Their lines stand among those of the probes, and touched all of them: no race was found."""
    head = "  a-1 [002] d.h1. 1.000000: "
    text = "".join(f"{head}{line}\n" for line in (*HARMLESS, *HARMFUL)).encode()
    unread = Unread(Careful("ftrace", Style(), EventMap()), [])
    every = np.arange(len(HARMLESS) + len(HARMFUL))
    odd = unread.take(lines_of(text), every, np.zeros(0, np.intp), offset=0)
    assert odd.at.tolist() == every[len(HARMLESS) :].tolist()
