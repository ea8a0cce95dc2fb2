# SPDX-License-Identifier: Apache-2.0
"""Traces as ftrace prints them, of the control module's functions; what the checker says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ghesrace.checker.report import Report
from ghesrace.events import Cause, Events, Kind
from ghesrace.sources.files import open_file
from tests.build.judging import judge

# How much of the buffer the text is of, and how much was written.
HEAD = "# tracer: nop\n# entries-in-buffer/entries-written: {}/{}   #P:2\n"


def line(cpu: int, us: int, text: str, flags: str = "d.h1.") -> str:
    """One event of *cpu* at *us* microseconds."""
    return f"          <idle>-0       [{cpu:03}] {flags}  {us / 1e6:.6f}: {text}\n"


def visit(cpu: int, us: int, pfn: int, flags: str = "d.h1.", page: int = 0xFFC90000) -> str:
    """One report of the 2015 protocol: map, read, unmap, local flush."""
    address = f"{0xFFFFC90000000000 + page:#x}"
    return "".join(
        line(cpu, us + 2 * n, text, flags)
        for n, text in enumerate(
            (
                f"m: (ghes_ioremap_pfn_irq+0x0/0x40 [old]) pfn={pfn}",
                f"r: (memcpy_fromio+0x0/0xb0) src={address} n=20",
                f"u: (ghes_iounmap_irq+0x0/0x40 [old]) vaddr={address}",
                f"f: (arch_apei_flush_tlb_one+0x0/0x10 [old]) addr={address}",
            )
        )
    )


def race(gap: int = 1000) -> str:
    """CPU 1 visits, CPU 0, then CPU 1 again with another frame: a stale window on CPU 1."""
    return "".join(visit(n % 2, 1_000_000 + n * gap, 0x100 + n) for n in range(6))


def foreign_visit(cpu: int, us: int, pfn: int, address: int) -> str:
    """One map, whose return tells the slot, and its unmap, in the words of MAP."""
    texts = (f"in: (0) a={pfn}", f"back: (0 <- 0) b={address:#x}", "out: (0) c=1")
    return "".join(line(cpu, us + 2 * n, t) for n, t in enumerate(texts))


def edited(cpu: int, us: int, begin: int, inside: str, end: bool = True) -> str:
    """A vunmap of one page at *begin*, with *inside* in its midst."""
    entry = f"e: (__vunmap_range_noflush+0x0/0x2e0) start={begin:#x} end={begin + 4096:#x}"
    back = "x: (vunmap_range+0x2c/0x40 <- __vunmap_range_noflush)"
    made = line(cpu, us, entry, "....") + inside
    return made + line(cpu, us + 40, back, "....") if end else made


MAP = """\
[[event]]
event = "z/in"
kind = "map"
fields = { pfn = "a" }
end = { event = "z/back", fields = { addr = "b" } }
[[event]]
event = "z/out"
kind = "unmap"
implies = ["page-after-clear"]
"""


def judged(path: Path, map_file: Path | None = None) -> tuple[Report, Events]:
    """The report on a foreign trace, and its events; each batch of them must end with a MARK."""
    source = open_file(path, map_file)
    batches = list(source.batches())
    assert all(batch["kind"][-1] == Kind.MARK for batch in batches)
    return judge(source.plan, *batches), np.concatenate(batches)


def losses(events: Events, cause: Cause) -> Events:
    """The LOSS records of one cause."""
    return events[(events["kind"] == Kind.LOSS) & (events["aux"] == cause)]
