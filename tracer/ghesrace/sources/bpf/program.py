# SPDX-License-Identifier: Apache-2.0
"""A plan as BPF C: probes/ghesrace.bpf.c and, behind it, one program per probe.

Only a plan's words become C here: its fetch expressions (Documentation/trace/kprobetrace.rst)
and filters (Documentation/trace/events.rst), which are C already but for the names. What a
program does is in the C file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

from ghesrace.errors import HostError
from ghesrace.events import NO_SLOT, PAGE_SHIFT, Flag, Kind
from ghesrace.host.btf import Btf
from ghesrace.plan import Plan, Probe

# Registers of the first arguments, of the return value and of the flags, as byte offsets into
# struct pt_regs (arch/*/include/uapi/asm/ptrace.h), and the bit that says: interrupts are off.
_REGISTERS = {
    "x86_64": ((112, 104, 96, 88, 72, 64), 80),
    "arm64": ((0, 8, 16, 24, 32, 40), 0),
}
_IRQS_OFF = {
    "x86_64": "!(*(u64 *)((void *)ctx + 144) & 0x200)",  # EFLAGS.IF
    "arm64": "!!(*(u64 *)((void *)ctx + 264) & 0x80)",  # PSTATE.I
}
_FETCH = re.compile(r"(?:\+(\d+)\()?\$(arg\d|retval)(?:\))?:([xus])(\d+)")
_CONSTANT = re.compile(r"\\(\d+):u64")
_TOKEN = re.compile(r"\s*(0x[0-9a-f]+|\d+|[a-z_]+|&&|\|\||[!=<>]=|[<>&()])")
# What a filter may ask of the event itself, and what answers here.
_COMMON = {
    "common_pid": "(u32)bpf_get_current_pid_tgid()",
    "common_flags": "(level == 3 ? 0x48 : level == 2 ? 0x08 : level == 1 ? 0x10 : 0)",
}
TRACING, KPROBE, RAW_TRACEPOINT = "tracing", "kprobe", "raw-tracepoint"
PROGRAM_TYPE = {
    "fentry": TRACING,
    "fexit": TRACING,
    "kprobe": KPROBE,
    "kretprobe": KPROBE,
    "raw-tracepoint": RAW_TRACEPOINT,
}


def program_name(point: int) -> str:
    """The name of the program of one probe, by its index in the plan."""
    return f"p{point}"


def source(plan: Plan, btf: Btf, *, records: int, cpus: int, preempt_count: str) -> str:
    """The C text. *records*: per ring, a power of two; *cpus*: possible ones; *preempt_count*:
    the C expression for it; *btf*: vmlinux's. Raises HostError for what BPF can't do.
    """
    head = begin(plan, records=records, cpus=cpus, preempt_count=preempt_count)
    programs = (ProgramText(plan, n, btf).text() for n in range(len(plan.probes)))
    return "\n".join([head, *programs]) + "\n"


def begin(plan: Plan, *, records: int, cpus: int, preempt_count: str) -> str:
    """What stands before all programs; see `source`."""
    defines = (
        f"#define RECORDS {records}\n#define CPUS {cpus}\n"
        f"#define POINTS {max(len(plan.probes), 1)}\n#define PREEMPT_COUNT ({preempt_count})\n"
    )
    if plan.transport == "perf":
        defines += "#define PERF\n"
    return defines + c_file("ghesrace.bpf.c")


def c_file(name: str) -> str:
    """A file of probes/."""
    return resources.files("ghesrace_probes").joinpath(name).read_text("utf-8")


class ProgramText:
    """The program of one probe."""

    enter = "ENTER();"
    reject = "SKIP();"

    def __init__(self, plan: Plan, point: int, btf: Btf) -> None:
        self.plan, self.point, self.probe = plan, point, plan.probes[point]
        self.type = PROGRAM_TYPE.get(self.probe.mechanism)
        if self.type is None:
            raise HostError(f"BPF can't use a {self.probe.mechanism}", "make the plan for BPF")
        # What a trampoline hands over as a number; other arguments are read through a helper.
        prototype = btf.function(self.probe.symbol) if self.type == TRACING else None
        self.scalar = prototype.scalar if prototype else ()

    def text(self) -> str:
        """The C function."""
        probe = self.probe
        body = "\n".join(f"\t{line}" for line in self._body())
        what = f"/* {probe.symbol}: {probe.kind}, {probe.mechanism} */"
        return f"{what}\nint {program_name(self.point)}(u64 *ctx)\n{{\n{body}\n}}"

    def arguments(self) -> Iterator[str]:
        """Enter, count, fetch, filter."""
        probe = self.probe
        yield self.enter
        if self.type == KPROBE:
            yield self.count_hit()
        for name, expression in probe.fields.items():
            yield f"u64 {name} = {self._fetch(expression)};"
        if probe.filter:
            yield f"if (!({_condition(probe, self._common())})) {self.reject}"

    def count_hit(self) -> str:
        """C that counts a run of this program, to compare with the hits of its kprobe."""
        return f"cpu->hits[{self.point}]++;"

    def _body(self) -> Iterator[str]:
        probe = self.probe
        yield from self.arguments()
        slot = str(NO_SLOT if probe.slot is None else probe.slot)
        if "index" in probe.fields:
            slot = "slot"
            known = [(s.index, n) for n, s in enumerate(self.plan.slots) if s.index is not None]
            choice = "".join(f"(u32)index == {index} ? {n} : " for index, n in known)
            yield f"s16 slot = {choice}{NO_SLOT};"
            yield f"if (slot == {NO_SLOT}) SKIP();"
        yield f"EMIT({self.point}, {_kind(probe)}, {slot}, {self._flags()}, {_values(probe)});"

    def _flags(self) -> str:
        flags = []
        if self.type == KPROBE:
            flags.append(f"({_IRQS_OFF[self.plan.arch]} ? {int(Flag.IRQS_OFF)} : 0)")
        if "from_phys" in self.probe.fields:
            flags.append(f"(from_phys ? 0 : {int(Flag.WRITE)})")
        return " | ".join(flags) or "0"

    def _common(self) -> dict[str, str]:
        """What a filter may ask of the event itself; only a kprobe's registers tell of bit 0."""
        if self.type != KPROBE:
            return _COMMON
        off = f"({_IRQS_OFF[self.plan.arch]} ? 1 : 0)"
        return {**_COMMON, "common_flags": f"({_COMMON['common_flags']} | {off})"}

    def _fetch(self, expression: str) -> str:
        if constant := _CONSTANT.fullmatch(expression):
            return constant[1]
        found = _FETCH.fullmatch(expression)
        if found is None:
            raise HostError(f"BPF can't fetch {expression!r}", "record with --backend ftrace")
        offset, what, sign, bits = found.groups()
        value = self._argument(what)
        if offset is not None:
            value = f"memory({value} + {offset})"
        return value if bits == "64" else f"({'s' if sign == 's' else 'u'}{bits})({value})"

    def _argument(self, what: str) -> str:
        number = int(what[3:]) - 1 if what != "retval" else -1
        if self.type == RAW_TRACEPOINT:
            return f"ctx[{number}]"
        if self.type == TRACING:
            if number < 0:
                return "returned(ctx)"
            scalar = self.scalar[number : number + 1] == (True,)
            return f"ctx[{number}]" if scalar else f"argument(ctx, {number})"
        arguments, result = _REGISTERS[self.plan.arch]
        return f"*(u64 *)((void *)ctx + {result if number < 0 else arguments[number]})"


def _kind(probe: Probe) -> str:
    kind = int(Kind[probe.kind])
    if probe.clear_kind is None:
        return str(kind)
    clear = " && ".join(f"!{name}" for name in ("phys", "prot") if name in probe.fields)
    return f"({clear}) ? {int(Kind[probe.clear_kind])} : {kind}"


def _values(probe: Probe) -> str:
    """addr, phys, size: as decode.Decoder fills them."""
    fields = probe.fields
    phys = f"pfn << {PAGE_SHIFT}" if "pfn" in fields else "phys" if "phys" in fields else "0"
    size = "size" if "size" in fields else "0"
    if "end" in fields:
        size = "end - addr" if "addr" in fields else "end"
    if "delta_ns" in fields:
        size = "delta_ns"
    return f"{'addr' if 'addr' in fields else '0'}, {phys}, {size}"


def _condition(probe: Probe, common: dict[str, str]) -> str:
    """The plan's filter as C. Raises HostError for what is none of ours."""
    text, at, made = probe.filter or "", 0, []
    while at < len(text.rstrip()):
        token = _TOKEN.match(text, at)
        word = token[1] if token else ""
        if not token or (word[0].isalpha() and word not in {*probe.fields, *common}):
            raise HostError(
                f"BPF can't filter {probe.symbol} by {text!r}", "record with --backend ftrace"
            )
        made.append(common.get(word, f"{word}ULL" if word[0].isdigit() else word))
        at = token.end()
    return " ".join(made)
