# SPDX-License-Identifier: Apache-2.0
"""This module writes a plan as BPF C: probes/ghesrace.bpf.c and, behind it, one program per probe.

Only what a plan says becomes C here: what is fetched, the filter, and how that makes an event's
values (sources/values.py). What a program does is in the C file.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from ghesrace.errors import HostError
from ghesrace.events import NO_SLOT, Flag, Kind
from ghesrace.host.btf import Btf
from ghesrace.plan import FIELDS, Compare, Constant, Fetch, Fetched, InTask, Plan
from ghesrace.plan.condition import Leaf, number, rendered
from ghesrace.sources.tracefs_text import FLAG_OF, place
from ghesrace.sources.values import Value, slots_by_index, values

from .numbers import Numbers

# These are the registers of the first arguments and of the return value, as byte offsets into
# struct pt_regs (arch/*/include/uapi/asm/ptrace.h), and C that tests in the flags register whether
# interrupts are off.
_REGISTERS = {
    "x86_64": ((112, 104, 96, 88, 72, 64), 80),
    "arm64": ((0, 8, 16, 24, 32, 40), 0),
}
_IRQS_OFF = {
    "x86_64": "!(*(u64 *)((void *)ctx + 144) & 0x200)",  # EFLAGS.IF
    "arm64": "!!(*(u64 *)((void *)ctx + 264) & 0x80)",  # PSTATE.I
}
_TASK = "(u32)bpf_get_current_pid_tgid()"
# This C gives the context in the bits of tracefs's common_flags (FLAG_OF), without the bit that
# says that interrupts are off.
_CONTEXT = "(level == 3 ? 0x48 : level == 2 ? 0x08 : level == 1 ? 0x10 : 0)"
CONTEXTS = 4  # a ring each
PLAIN = Numbers()
TRACING, KPROBE, RAW_TRACEPOINT = "tracing", "kprobe", "raw-tracepoint"
PROGRAM_TYPE = {
    "fentry": TRACING,
    "fexit": TRACING,
    "kprobe": KPROBE,
    "kretprobe": KPROBE,
    "raw-tracepoint": RAW_TRACEPOINT,
}


def program_name(point: int) -> str:
    """Return the name of the program of one probe, which is given by its index in the plan.

    >>> program_name(3)
    'p3'
    """
    return f"p{point}"


def source(
    plan: Plan,
    btf: Btf,
    *,
    records: int,
    cpus: int,
    preempt_count: str,
    numbers: Numbers = PLAIN,
) -> str:
    """Return the C text of *plan*. *records* is how many records a ring holds, a power of two;
    *cpus* is how many CPUs are possible; *preempt_count* is the C expression for the preempt count
    (load.find_preempt_count), *btf* is that of vmlinux, and *numbers* writes what differs from boot
    to boot. Raises HostError for what BPF can't do.

        btf = Btf.read(Path("/sys/kernel/btf/vmlinux"))
        count, _ = find_preempt_count(plan.arch, plan.transport, btf)
        print(source(plan, btf, records=4096, cpus=8, preempt_count=count))
    """
    head = begin(plan, records=records, cpus=cpus, preempt_count=preempt_count, numbers=numbers)
    programs = (ProgramText(plan, n, btf, numbers).text() for n in range(len(plan.probes)))
    return "\n".join([head, *programs]) + "\n"


def begin(
    plan: Plan, *, records: int, cpus: int, preempt_count: str, numbers: Numbers = PLAIN
) -> str:
    """Return what stands before all programs; see `source` for the arguments. Where *numbers* are
    those of any boot, the maps that have something for each CPU are of one CPU and one record, and
    whoever loads the programs makes them larger (pack.sized).

    >>> head = begin(Plan("x86_64", "6.12", (), ()), records=256, cpus=8, preempt_count="0")
    >>> head.splitlines()[0]
    '#define RECORDS 256'
    """
    perf = plan.transport == "perf"
    # Perf buffers have a size of their own: no program asks for it.
    ring = str(records) if perf else numbers.said(records, str(records), varies=True)
    entries = 1 if numbers.packed else cpus * CONTEXTS * records
    defines = (
        f"#define RECORDS {ring}\n#define CPUS {1 if numbers.packed else cpus}\n"
        f"#define ALL_RECORDS {entries}\n"
        f"#define POINTS {max(len(plan.probes), 1)}\n#define PREEMPT_COUNT ({preempt_count})\n"
    )
    if perf:
        defines += "#define PERF\n"
    return defines + c_file("ghesrace.bpf.c")


def c_file(name: str) -> str:
    """Return the text of the file *name* in probes/."""
    return resources.files("ghesrace_probes").joinpath(name).read_text("utf-8")


class ProgramText:
    """This writes the C program of the probe with the index *point* in *plan*; *numbers* writes
    what differs from boot to boot. Raises HostError for what BPF can't do."""

    enter = "ENTER();"
    reject = "SKIP();"

    def __init__(self, plan: Plan, point: int, btf: Btf, numbers: Numbers = PLAIN) -> None:
        self.numbers = numbers
        self.plan, self.point, self.probe = plan, point, plan.probes[point]
        self.type = PROGRAM_TYPE.get(self.probe.mechanism)
        if self.type is None:
            raise HostError(f"BPF can't use a {self.probe.mechanism}", "make the plan for BPF")
        if plan.arch not in _REGISTERS:
            raise HostError(
                f"nothing says where {plan.arch} has its registers", "make the plan again"
            )
        # These arguments a trampoline hands over as numbers; others are read through a helper.
        prototype = btf.function(self.probe.symbol) if self.type == TRACING else None
        self.scalar = prototype.scalar if prototype else ()
        self.values = values(self.probe)

    def text(self) -> str:
        """Return the C function."""
        probe = self.probe
        body = "\n".join(f"\t{line}" for line in self._body())
        what = f"/* {place(probe)}: {probe.kind}, {probe.mechanism} */"
        return f"{what}\nint {program_name(self.point)}(u64 *ctx)\n{{\n{body}\n}}"

    def arguments(self) -> Iterator[str]:
        """Yield the C lines that enter the program, count the hit, fetch the fields and filter."""
        probe = self.probe
        yield self.enter
        if self.type == KPROBE:
            yield self.count_hit()
        for name, fetch in probe.fields.items():
            yield f"u64 {self._name(name)} = {self._fetch(name, fetch)};"
        if probe.filter is not None:
            yield f"if (!({self._condition()})) {self.reject}"

    def count_hit(self) -> str:
        """Return C that counts a run of this program, to compare with the hits of its kprobe."""
        return f"cpu->hits[{self.point}]++;"

    def _body(self) -> Iterator[str]:
        yield from self.arguments()
        slot = str(NO_SLOT if self.probe.slot is None else self.probe.slot)
        if self.values.index is not None:
            slot = "slot"
            yield f"s16 slot = {self.slot_of_index(str(NO_SLOT))};"
            yield f"if (slot == {NO_SLOT}) SKIP();"
        columns = (self.values.addr, self.values.phys, self.values.size)
        made = ", ".join(self.value(column, "0") for column in columns)
        yield f"EMIT({self.point}, {self._kind()}, {slot}, {self._flags()}, {made});"

    def slot_of_index(self, otherwise: str) -> str:
        """Return C for the number of the slot whose fixmap index the event names. *otherwise* is C
        for the number where the index is no slot's."""
        index = self.values.index
        known = slots_by_index(self.plan).items()
        return "".join(f"(u32){index} == {n} ? {slot} : " for n, slot in known) + otherwise

    def clears(self) -> str:
        """Return C that tells whether the event is of the probe's `clear_kind`."""
        return " && ".join(f"!{name}" for name in self.values.clears) or "1"

    @staticmethod
    def value(value: Value | None, otherwise: str) -> str:
        """Return C for a *value* of the event, or *otherwise* if nothing tells it.

        >>> ProgramText.value(Value("pfn", shift=12), "0")
        'pfn << 12'
        """
        if value is None:
            return otherwise
        text = value.field
        text += f" << {value.shift}" if value.shift else ""
        text += f" - {value.minus}" if value.minus else ""
        return text + (f" + {value.plus}" if value.plus else "")

    def _kind(self) -> str:
        kind = int(Kind[self.probe.kind])
        if self.probe.clear_kind is None:
            return str(kind)
        return f"({self.clears()}) ? {int(Kind[self.probe.clear_kind])} : {kind}"

    def _flags(self) -> str:
        flags = []
        if self.type == KPROBE:
            flags.append(f"({_IRQS_OFF[self.plan.arch]} ? {int(Flag.IRQS_OFF)} : 0)")
        if self.values.writes is not None:
            flags.append(f"({self.values.writes} ? 0 : {int(Flag.WRITE)})")
        return " | ".join(flags) or "0"

    def _condition(self) -> str:
        """Return C for the probe's filter. Raises HostError if the filter is not one of ours."""
        assert self.probe.filter is not None
        try:
            return rendered(self.probe.filter, self._leaf, brackets=("( ", " )"))
        except TypeError:
            raise self.cannot("filter", "the text of an old plan") from None

    def _leaf(self, leaf: Leaf) -> str:
        if isinstance(leaf, InTask):
            return f"{_TASK} == {self.numbers.said(leaf.task, f'{leaf.task}ULL', varies=True)}"
        if isinstance(leaf, Compare):
            if leaf.field not in self.probe.fields:
                raise self.cannot("filter", leaf)
            value = self.numbers.said(leaf.value, f"{number(leaf)}ULL")
            return f"{self._name(leaf.field)} {leaf.operator} {value}"
        flags = _CONTEXT
        if self.type == KPROBE:  # Only a kprobe's registers tell whether interrupts are off.
            bit = FLAG_OF["interrupts-off"]
            flags = f"({_CONTEXT} | ({_IRQS_OFF[self.plan.arch]} ? {bit} : 0))"
        return f"{flags} & {sum(FLAG_OF[state] for state in set(leaf.context)):#x}ULL"

    def _name(self, field: str) -> str:
        """Return the C variable of a *field*. A plan may come from a file, so only a name of ours
        may become C. Raises HostError for any other."""
        if field not in FIELDS:
            raise self.cannot("fetch", field)
        return field

    def _fetch(self, name: str, fetch: Fetched) -> str:
        if isinstance(fetch, Constant):
            return self.numbers.said(fetch.constant, str(fetch.constant))
        if not isinstance(fetch, Fetch):
            raise self.cannot("fetch", fetch)
        value = self._argument(fetch)
        if fetch.offset is not None:
            value = f"memory({value} + {fetch.offset})"
        if fetch.bits == 64:
            return value
        return f"({'s' if fetch.signed else 'u'}{fetch.bits})({value})"

    def _argument(self, fetch: Fetch) -> str:
        number = fetch.argument - 1 if fetch.argument != "return" else None
        if self.type == KPROBE:
            arguments, result = _REGISTERS[self.plan.arch]
            if number is not None and number >= len(arguments):
                raise self.cannot("fetch", fetch)
            return f"*(u64 *)((void *)ctx + {result if number is None else arguments[number]})"
        if number is None:
            if self.type == RAW_TRACEPOINT:
                raise self.cannot("fetch", fetch)
            return "returned(ctx)"
        scalar = self.type == RAW_TRACEPOINT or self.scalar[number : number + 1] == (True,)
        return f"ctx[{number}]" if scalar else f"argument(ctx, {number})"

    def cannot(self, do: str, what: object) -> HostError:
        """Return the error which says that BPF can't *do* that to *what*."""
        text = f"BPF can't {do} {what!r:.80} of {self.probe.symbol}"
        return HostError(text, "make a plan on this kernel: `ghesrace plan`")
