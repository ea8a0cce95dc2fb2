# SPDX-License-Identifier: Apache-2.0
"""Measure how fast records become checked hand-offs in ghesrace's BPF backend and in a bcc script.

    python -m lab run -- python -m tests.bench.rate [RUNS [STORM ...]]

This is for use in a guest. The backend's full stream and its summary are each measured beside a bcc
script whose Python callback runs for each event. The control module runs on both CPUs, each at its
own pace, while both sides watch. What then waits in their buffers is taken out and checked by one
thread, whose CPU time is what counts; neither attaching nor compiling is in it. A run with a loss
on either side does not count. The full stream gets the protocol of 2015, for as many rounds as its
rings hold. The summary has no rings to fill: it gets that and today's protocol, for as many rounds
as the script's buffers hold. The program prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

from ghesrace.checker.engine import Engine
from ghesrace.events import Kind
from ghesrace.host.clocks import clock_now
from ghesrace.host.facts import read_facts
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.bpf.summary.plan import summarised
from ghesrace.sources.bpf.summary.source import SummarySource
from lab.module.device import Parameters
from lab.module.run import inserted, run

Run = dict[str, float]

# This fits into the buffers of both sides, as nobody reads while it runs.
STORM = Parameters(rounds=1000, turns="free", period_us=0, linger_us=0, walker=False)
STORMS = {
    "full": STORM,
    "summary, race": replace(STORM, rounds=6000),
    "summary, safe": replace(STORM, rounds=30_000, fix="flush-on-map"),
}
BUFFER_KB, PAGES = 8192, 4096
_IDLE_POLLS = 20

# Such scripts trace the functions of the race with their arguments, and submit each hit by itself.
SCRIPT = """
#include <uapi/linux/ptrace.h>
struct event { u64 ts; u64 a; u64 b; u32 cpu; u32 kind; };
BPF_PERF_OUTPUT(events);
static inline int emit(struct pt_regs *ctx, u32 kind)
{
	struct event e = {};
	e.ts = bpf_ktime_get_ns();
	e.a = PT_REGS_PARM1(ctx);
	e.b = PT_REGS_PARM2(ctx);
	e.cpu = bpf_get_smp_processor_id();
	e.kind = kind;
	events.perf_submit(ctx, &e, sizeof(e));
	return 0;
}
int on_map(struct pt_regs *ctx) { return emit(ctx, 0); }
int on_unmap(struct pt_regs *ctx) { return emit(ctx, 1); }
int on_flush(struct pt_regs *ctx) { return emit(ctx, 2); }
"""


class Script:
    """The bcc script has a callback for each event.

    It then takes the events in the order of time, pairs a map of one CPU with the last of another,
    and asks whether the CPU flushed in between. It works from its construction on:

        script = Script()
        seconds = script.take()
        script.close()
    """

    def __init__(self) -> None:
        from bcc import BPF

        self.bpf = BPF(text=SCRIPT, cflags=["-Wno-everything"])
        # vmlinux has functions with the module's other names too, and bcc can't say which is meant.
        self.bpf.attach_kprobe(event="ghes_ioremap_pfn_irq", fn_name="on_map")
        self.bpf.attach_kprobe(event="ghes_iounmap_irq", fn_name="on_unmap")
        self.bpf.attach_kprobe(event="arch_apei_flush_tlb_one", fn_name="on_flush")
        self.count = self.lost = self.handoffs = self.unsafe = 0
        self.owner = -1
        self.frame = 0
        self.unmapped = 0
        self.flushed: dict[int, int] = {}
        self.waiting: list[tuple[int, int, int, int]] = []
        self.events = self.bpf["events"]
        self.events.open_perf_buffer(self.seen, page_cnt=PAGES, lost_cb=self.missing)

    def seen(self, _cpu: int, data: Any, _size: int) -> None:
        """Keep one event; bcc calls this for each."""
        e = self.events.event(data)
        self.waiting.append((e.ts, e.kind, e.cpu, e.a))

    def pair(self) -> None:
        """Count the hand-offs among the events that came.

        bcc reads the buffers one after the other, so the events must be sorted by time first.
        """
        self.waiting.sort()
        self.count += len(self.waiting)
        for ts, kind, cpu, frame in self.waiting:
            if kind == 0:
                if self.owner not in (-1, cpu):
                    self.handoffs += 1
                    if self.frame != frame and self.flushed.get(cpu, 0) < self.unmapped:
                        self.unsafe += 1
                self.owner, self.frame = cpu, frame
            elif kind == 1:
                self.unmapped = ts
            elif kind == 2:
                self.flushed[cpu] = ts
        self.waiting.clear()

    def missing(self, _cpu: int, count: int) -> None:
        """Count what the buffer did not take; bcc calls this."""
        self.lost += count

    def take(self) -> float:
        """Read until nothing comes any more; return the CPU seconds that this took."""
        begin, idle = time.thread_time(), 0
        spent = 0.0
        while idle < _IDLE_POLLS:
            before = self.count
            self.bpf.perf_buffer_poll(timeout=1)
            self.pair()
            idle = idle + 1 if self.count == before else 0
            if self.count != before:
                spent = time.thread_time() - begin
        return spent

    def close(self) -> None:
        """Detach the script's probes."""
        self.bpf.cleanup()


def judged(source: BpfSource) -> tuple[float, float, int, Engine]:
    """Read and judge until everything that came so far is judged.

    Returns the CPU seconds spent, those of them spent on reading, the records, and the engine.
    """
    engine = Engine(source.plan)
    batches = source.batches()
    spent = reading = 0.0
    records = 0
    # A summary stamps what it counted when it is read, so it takes a second round.
    for _ in range(2):
        end = clock_now(source.plan.clock)
        while engine.core.mark < end:
            begin = time.thread_time()
            batch = next(batches)
            read = time.thread_time()
            engine.feed(batch)
            spent += time.thread_time() - begin
            reading += read - begin
            records += int((batch["kind"] != Kind.MARK).sum())
    return spent, reading, records, engine


def once(name: str) -> Run:
    """Run the storm *name* of STORMS, watched by ghesrace and by the script; return the figures.

    `lost` is what either of them lost.
    """
    plan = resolve(read_facts(), backend="bpf")
    with ExitStack() as stack:
        made = (
            BpfSource(plan, {}, buffer_kb=BUFFER_KB)
            if name == "full"
            else SummarySource(summarised(plan), {})
        )
        source = stack.enter_context(made)
        script = Script()
        stack.callback(script.close)
        truth = run(STORMS[name])
        spent, reading, records, engine = judged(source)
        theirs = script.take()
        source.stop()
    slots = engine.report().slots
    episodes = sum(slot.episodes for slot in slots)
    found = {
        "reads": truth.summary["reads"],
        "records": records,
        "episodes": episodes,
        "hand-offs": sum(slot.handoffs for slot in slots),
        "records/s": records / spent,
        "records/s, read only": records / reading,
        "reads/s": truth.summary["reads"] / spent,
        "script records": script.count,
        "script hand-offs": script.handoffs,
        "script records/s": script.count / theirs,
        "script reads/s": truth.summary["reads"] / theirs,
        "times as many reads/s": theirs / spent,
        "lost": source.lost + script.lost,
    }
    print(name, json.dumps(found), flush=True)
    return found


def main() -> None:
    """Measure and print the medians over the runs. Raises AssertionError if each lost events."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    names = sys.argv[2:] or list(STORMS)
    medians: dict[str, Run] = {}
    with inserted():
        for name in names:
            # The first run loads, and under emulation translates, what the others run.
            once(name)
            found = [one for _ in range(runs) if not (one := once(name))["lost"]]
            assert found, f"{name}: each run lost events"
            medians[name] = {key: median(one[key] for one in found) for key in found[0]}
    print(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main()
