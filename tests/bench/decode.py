# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.decode [RUNS]`: how fast records become events, compiled and uncompiled.

Ring-buffer pages of four CPUs to events, and one CPU's BPF rings to program order; the best of RUNS
alternations (3), each a process of its own, in CPU time. Needs neither root nor a guest. Prints a
table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from ghesrace import compiled
from ghesrace.plan import Fetch, Plan, Probe, Slot
from ghesrace.sources.bpf.rings import CONTEXTS, RECORD, in_order
from ghesrace.sources.ring.decode import Attached, Decoder, SlotTable
from ghesrace.sources.ring.pages import PageLayout, decode
from tests.build import pages

RECORDS = {"0": 60_000, "1": 6_000}  # by GHESRACE_PURE
REPEATS = 10
IRQ = 644
SETTER = {"index": Fetch(1, 32), "phys": Fetch(2), "prot": Fetch(3)}
FLAGS = 0x19  # hard interrupt, interrupts off


def chunks(records: int) -> dict[int, bytearray]:
    """Pages with the traffic of one slot: map, flush, copy, unmap, flush."""
    flush = pages.payload(3, ("u64", 0x4000), ("u64", 0x5000), flags=FLAGS)
    maps = pages.payload(1, ("u32", IRQ), ("u64", 0x5000), ("u64", 0x63), flags=FLAGS)
    copy = (("u64", 0x5000), ("u32", 20), ("s32", 1), ("u32", IRQ))
    unmaps = pages.payload(1, ("u32", IRQ), ("u64", 0), ("u64", 0), flags=FLAGS)
    bodies = [maps, flush, pages.payload(2, *copy, flags=FLAGS), unmaps, flush] * 16
    page = pages.page(1000, *(pages.data_event(100, body) for body in bodies))
    return {cpu: bytearray(page * (records // len(bodies) // 4)) for cpu in range(4)}


def decoder() -> Decoder:
    """A decoder of these events."""
    slots = (Slot("IRQ", IRQ, 0xFFFFFFFFFF57B000, "report"),)
    copy = {
        "phys": "$arg2:x64",
        "size": "$arg3:u32",
        "from_phys": "$arg4:s32",
        "index": "$arg5:u32",
    }
    probes = (
        Probe("set", "MAP", "native_set_fixmap", "kprobe", SETTER, "UNMAP"),
        Probe("copy", "COPY", "ghes_copy_tofrom_phys", "kprobe", copy),
        Probe("range", "INV_RANGE", "f", "kprobe", {"addr": Fetch(1), "end": Fetch(2)}),
    )
    formats = (
        pages.make_format(1, index="u32", phys="u64", prot="u64"),
        pages.make_format(2, phys="u64", size="u32", from_phys="s32", index="u32"),
        pages.make_format(3, addr="u64", end="u64"),
    )
    plan = Plan("x86_64", "bench", slots, probes)
    attached = [Attached(i, p, f) for i, (p, f) in enumerate(zip(probes, formats, strict=True))]
    return Decoder(SlotTable(plan), attached, PageLayout(), 0, Counter())


def rings(records: int) -> list[np.ndarray]:
    """Half of a CPU's records a task's, a third interrupts', the rest NMIs', in random order."""
    of = np.random.default_rng(1).choice(CONTEXTS, records, p=[1 / 2, 0, 1 / 3, 1 / 6])
    made = []
    for level in range(CONTEXTS):
        mine = of == level
        ring = np.zeros(int(mine.sum()), RECORD)
        ring["event"]["seq"], ring["event"]["ctx"] = np.arange(len(ring)), level
        for other in range(CONTEXTS):
            ring["at"][:, other] = (np.cumsum(of == other) - (of == other))[mine]
        made.append(ring)
    return made


def best(do: Callable[[], int]) -> float:
    """Things a second of CPU time, in the fastest of some repeats."""
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        count = do()
        times.append(time.process_time() - begin)
    return count / min(times)


def measure() -> dict[str, float]:
    """Records a second by what is done, in this process's mode."""
    count = RECORDS["1" if compiled.pure() else "0"]
    raw, near, made = chunks(count), np.zeros(CONTEXTS, np.int64), rings(count)
    return {
        "pages to records": best(lambda: len(decode(b"".join(raw.values())))),
        "pages to events": best(lambda: len(decoder().feed(raw))),
        "rings to program order": best(lambda: len(in_order(made, near, 0))),
    }


def main() -> None:
    """Alternate between the modes; print the best of each."""
    if sys.argv[1:] == ["--inside"]:
        print(json.dumps(measure()))
        return
    found: dict[str, dict[str, float]] = {"0": {}, "1": {}}
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        for pure, most in found.items():
            command = [sys.executable, "-m", "tests.bench.decode", "--inside"]
            said = subprocess.check_output(command, env=os.environ | {compiled.PURE: pure})
            for name, rate in json.loads(said).items():
                most[name] = max(most.get(name, 0), rate)
    print("| records a second of one CPU | compiled | uncompiled |\n| --- | ---: | ---: |")
    for name, rate in found["0"].items():
        print(f"| {name} | {rate:,.0f} | {found['1'][name]:,.0f} |")


if __name__ == "__main__":
    main()
