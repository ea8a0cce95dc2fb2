"""How many records per second of CPU get from the kernel's buffers to checked hand-offs: ghesrace's
BPF source and engine, beside a bcc script with the usual callback per event. For use in a guest.

The same storm of the control module fills either's buffers while nobody reads; then one CPU
drains them. Time is the process's own CPU time, so a slow generator costs nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from ghesrace.check import Engine
from ghesrace.events import Kind
from ghesrace.kernel import Facts, read_facts
from ghesrace.resolve import resolve
from ghesrace.sources.bpf import BpfSource
from lab.module.device import Parameters
from lab.module.run import inserted, run

STORM = Parameters(rounds=1000, turns="free", period_us=0, linger_us=0, walker=False)
BUFFER_KB = 32768
# Of the module's functions those that vmlinux lacks: by a bare name bcc finds vmlinux's.
FUNCTIONS = {
    "ghes_ioremap_pfn_irq": Kind.MAP,
    "ghes_iounmap_irq": Kind.UNMAP,
    "arch_apei_flush_tlb_one": Kind.INV_PAGE,
}
# The record as such a script has it: what happened, where, when, to which page.
SCRIPT = r"""
#include <uapi/linux/ptrace.h>
struct event { u64 ts; u64 arg; u32 cpu; u32 kind; };
BPF_PERF_OUTPUT(events);
static inline int emit(struct pt_regs *ctx, u32 kind) {
    struct event e = {};
    e.ts = bpf_ktime_get_ns(); e.arg = PT_REGS_PARM1(ctx);
    e.cpu = bpf_get_smp_processor_id(); e.kind = kind;
    events.perf_submit(ctx, &e, sizeof(e));
    return 0;
}
"""


def ghesrace(facts: Facts) -> tuple[int, int, float]:
    """Records, hand-offs and CPU seconds."""
    with BpfSource(resolve(facts, backend="bpf"), {}, buffer_kb=BUFFER_KB) as source:
        run(STORM)
        source.stop()
        engine = Engine(source.plan)
        begin = time.process_time()
        for batch in source.batches():
            engine.feed(batch)
        engine.finish()
        spent = time.process_time() - begin
    report = engine.report()
    # Nothing that was in a ring is lost; a probe can be skipped by an interrupt that hits it.
    assert set(report.losses) <= {"missed"}, report.losses
    return report.events, sum(slot.handoffs for slot in report.slots), spent


def bcc_script() -> tuple[int, int, float]:
    """Records, hand-offs and CPU seconds of the usual bcc script."""
    from bcc import BPF

    programs = "".join(
        f"int on_{kind}(struct pt_regs *ctx) {{ return emit(ctx, {int(kind)}); }}\n"
        for kind in FUNCTIONS.values()
    )
    module = BPF(text=SCRIPT + programs)
    for function, kind in FUNCTIONS.items():
        module.attach_kprobe(event=function, fn_name=f"on_{int(kind)}")
    seen: Counter[int] = Counter()
    last_cpu = -1
    handoffs = lost = 0

    def on_event(_cpu: int, data: Any, _size: int) -> None:
        nonlocal last_cpu, handoffs
        event = module["events"].event(data)
        seen[event.kind] += 1
        if event.kind == Kind.MAP:
            handoffs += last_cpu not in (-1, event.cpu)
            last_cpu = event.cpu

    def on_loss(count: int) -> None:
        nonlocal lost
        lost += count

    module["events"].open_perf_buffer(on_event, page_cnt=1024, lost_cb=on_loss)
    run(STORM)
    begin = time.process_time()
    module.perf_buffer_consume()
    spent = time.process_time() - begin
    module.cleanup()
    assert not lost, lost
    return sum(seen.values()), handoffs, spent


def measure() -> dict[str, tuple[int, int, float]]:
    """Both, one after the other in one boot: records, hand-offs, CPU seconds."""
    with inserted():
        facts = read_facts()
        return {"ghesrace, bpf": ghesrace(facts), "bcc script": bcc_script()}
