# SPDX-License-Identifier: Apache-2.0
"""A plan's words as C."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.errors import HostError
from ghesrace.events import Flag, Kind
from ghesrace.host.btf import Btf
from ghesrace.host.facts import read_facts
from ghesrace.plan import (
    AllOf,
    AnyOf,
    Compare,
    Constant,
    Fetch,
    FieldOf,
    InContext,
    InTask,
    Plan,
    Probe,
    Slot,
    Text,
)
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.program import source
from tests.build import trees

BTF = Btf(trees.x86_bpf_btf())
IRQ = Compare("index", "==", 644)
SLOTS = (Slot("irq", 644, 0x1000, "report"), Slot("nmi", 645, 0x2000, "report"))


def program(probe: Probe, *, arch: str = "x86_64") -> str:
    """The generated body of the one program."""
    plan = Plan(arch, "test", SLOTS, (probe,), backend="bpf")
    text = source(plan, BTF, records=16, cpus=2, preempt_count="0")
    return text[text.index("int p0(u64 *ctx)\n") :]


def test_every_probe_of_a_plan_is_a_program(tmp_path: Path):
    """If this fails, a probe of the plan is not attached, and nobody says so."""
    facts = read_facts(trees.tree(tmp_path, trees.X86_BPF, vmlinux_btf=trees.x86_bpf_btf()))
    plan = resolve(facts, backend="bpf")
    text = source(plan, BTF, records=4096, cpus=8, preempt_count="*(u32 *)0")
    assert re.findall(r"^int (p\d+)\(", text, re.M) == [f"p{n}" for n in range(len(plan.probes))]
    assert "#define RECORDS 4096\n#define CPUS 8\n" in text
    assert f"#define POINTS {len(plan.probes)}\n" in text


def test_the_transport_is_the_plans():
    """If this fails, programs write where nobody reads."""
    probe = Probe("f", "INV_ALL", "x", "kprobe")
    for transport, there in (("mapped", False), ("perf", True)):
        plan = Plan("x86_64", "t", SLOTS, (probe,), backend="bpf", transport=transport)
        text = source(plan, BTF, records=16, cpus=2, preempt_count="0")
        assert ("#define PERF\n" in text) is there


def test_the_setter_is_map_and_unmap():
    """If this fails, an unmap is taken for a map, or a slot for the other."""
    fields = {"index": Fetch(1, 32), "phys": Fetch(2), "prot": Fetch(3)}
    probe = Probe("s", "MAP", "native_set_fixmap", "fentry", fields, "UNMAP", IRQ)
    body = program(probe)
    assert "u64 index = (u32)(ctx[0]);" in body
    assert "u64 phys = ctx[1];" in body
    assert "u64 prot = argument(ctx, 2);" in body  # a struct by value
    assert "if (!(index == 644ULL)) SKIP();" in body
    assert "s16 slot = (u32)index == 644 ? 0 : (u32)index == 645 ? 1 : -1;" in body
    kind = f"(!phys && !prot) ? {int(Kind.UNMAP)} : {int(Kind.MAP)}"
    assert f"EMIT(0, {kind}, slot, 0, 0, phys, 0);" in body


def test_kprobes_read_registers_and_flags():
    """If this fails, a kprobe's program reads the wrong argument, or says irqs are on."""
    probe = Probe(
        "r",
        "INV_RANGE",
        "do_kernel_range_flush",
        "kprobe",
        {"addr": Fetch(1, offset=8), "end": Fetch(1, offset=16)},
        filter=AnyOf((AllOf((Compare("addr", "<", 0xFF), Compare("end", ">", 0x10))),)),
        slot=1,
    )
    body = program(probe)
    assert "cpu->hits[0]++;" in body
    assert "u64 addr = memory(*(u64 *)((void *)ctx + 112) + 8);" in body
    assert "if (!(( addr < 0xffULL && end > 0x10ULL ))) SKIP();" in body
    flags = f"(!(*(u64 *)((void *)ctx + 144) & 0x200) ? {int(Flag.IRQS_OFF)} : 0)"
    assert f"EMIT(0, {int(Kind.INV_RANGE)}, 1, {flags}, addr, 0, end - addr);" in body
    assert "memory(*(u64 *)((void *)ctx + 0) + 8)" in program(probe, arch="arm64")


def test_other_words():
    """If this fails, one of the plan's fetch expressions means something else to BPF."""
    copy = {"phys": Fetch(2), "size": Fetch(3, 32), "from_phys": Fetch(4, 32, signed=True)}
    body = program(Probe("c", "COPY", "ghes_copy_tofrom_phys", "fentry", copy))
    assert "u64 from_phys = (s32)(ctx[3]);" in body
    assert f", (from_phys ? 0 : {int(Flag.WRITE)}), 0, phys, size);" in body
    ref = {"handler": Fetch(1), "delta_ns": Fetch(2)}
    body = program(Probe("n", "NMI_REF", "nmi:nmi_handler", "raw-tracepoint", ref))
    assert "u64 delta_ns = ctx[1];" in body
    assert ", 0, 0, delta_ns);" in body
    pfn = Probe("m", "MAP", "m:ghes_ioremap_pfn_irq", "kprobe", {"pfn": Fetch(1)})
    assert "0, pfn << 12, 0);" in program(pfn)
    back = Probe("e", "MAP_END", "m:ghes_ioremap_pfn_irq", "kretprobe", {"addr": Fetch("return")})
    assert "u64 addr = *(u64 *)((void *)ctx + 80);" in program(back)
    assert "u64 addr = returned(ctx);" in program(
        replace(back, symbol="ghes_proc", mechanism="fexit")
    )
    flush = {"addr": Fetch(1), "size": Constant(4096)}
    assert "u64 size = 4096;" in program(Probe("f", "INV_RANGE", "x", "kprobe", flush))


def test_context_in_a_filter():
    """If this fails, a filter by context is refused or lets everything pass."""
    probe = Probe(
        "x", "SHOOTDOWN", "x", "kprobe", filter=AnyOf((InContext(("irq", "nmi")), InTask(7)))
    )
    assert "(level == 3 ? 0x48 : level == 2 ? 0x08" in program(probe)
    assert "(u32)bpf_get_current_pid_tgid() == 7ULL" in program(probe)


@pytest.mark.parametrize(
    "probe",
    [
        Probe("a", "MAP", "x", "kprobe", {"phys": Text("$arg1:x64")}),
        Probe("a", "MAP", "x", "kprobe", {"phys": FieldOf("phys")}),
        Probe("a", "MAP", "x", "kprobe", {"phys": Fetch(7)}),
        Probe("a", "MAP", "x", "raw-tracepoint", {"phys": Fetch("return")}),
        Probe("a", "MAP", "x", "kprobe", {"phys = 0; return 1; u64 p": Fetch(1)}),
        Probe("a", "MAP", "x", "kprobe", {"phys": Fetch(1)}, filter=Text("phys == 1")),
        Probe("a", "MAP", "x", "kprobe", filter=Compare("phys", "==", 1)),
        Probe("a", "MAP", "x", "fprobe"),
    ],
)
def test_what_is_no_word_of_a_plan_is_refused(probe: Probe):
    """A plan can come from elsewhere: nothing in it may become C unread."""
    with pytest.raises(HostError):
        program(probe)


def test_a_kprobes_filter_knows_whether_interrupts_are_off():
    """If this fails, a shootdown with interrupts off in a task is filtered out."""
    fields = {"wait": Fetch(4, 8)}
    forbidden = InContext(("interrupts-off", "irq", "nmi"))
    condition = AllOf((Compare("wait", "&", 1), forbidden))
    probe = Probe("s", "SHOOTDOWN", "smp_call", "kprobe", fields, filter=condition)
    body = program(probe)
    assert "0x10 : 0) | (!(*(u64 *)((void *)ctx + 144) & 0x200) ? 1 : 0)) & 0x49ULL" in body
    # A trampoline has no registers; its context is all that it can ask.
    other = program(replace(probe, symbol="flush_tlb_all", mechanism="fentry"))
    assert "144" not in other
