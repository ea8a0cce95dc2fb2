# SPDX-License-Identifier: Apache-2.0
"""This module says which BPF programs of a plan are to be compiled and attached, and what it means
if that is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ghesrace.errors import HostError
from ghesrace.events import Kind
from ghesrace.host.btf import Btf
from ghesrace.host.kallsyms import find_addresses, find_symbols
from ghesrace.plan import Plan, Probe, Transport
from ghesrace.points import families

from . import program as c_program
from .attach import BpfProgram, Loaded, attached
from .compile import Refused, compiled
from .numbers import Numbers, Placeholders
from .pack import Pack

_MAGIC = 0x6768657372616365  # a number that stands for the address of a per-CPU variable
_OFFSETS = "__per_cpu_offset"  # where each CPU's variables are (include/asm-generic/percpu.h)
_LOG_LINES = 6


def preempt_count(
    arch: str,
    btf: Btf,
    addresses: dict[str, int] | None = None,
    numbers: Numbers = c_program.PLAIN,
) -> tuple[str, dict[int, int]]:
    """Return the C expression for the preempt count on this kernel, in the layout before 7.3, and
    the kernel variable that its magic constant stands for (magic -> BTF id). Raises HostError if
    nothing tells where it is.

    *addresses* maps symbols to their addresses. It is for kernels that lack a rule's helper, or
    whose BTF has no variables, such as Debian's 5.10 on amd64. *numbers* writes them.
    """
    for rule in (rule for family in families() for rule in family.contexts):
        if arch not in rule.arch:
            continue
        named = rule.wide_with in (addresses or {})
        wide = named or bool(rule.wide_with and btf.variable(rule.wide_with) is not None)
        form = "narrow({})" if wide else "{}"
        if rule.task:
            offset = _path(btf, "task_struct", rule.task)
            read = "*(u32 *)(current_task() + {})"
            if addresses is not None:
                read = "(u32)memory(bpf_get_current_task() + {})"
            if offset is not None:
                return form.format(read.format(offset)), {}
            continue
        if addresses is not None:
            # Kernels with the wide layout have the helper, and pahole put their variables into BTF.
            if wide or rule.member or not {rule.variable, _OFFSETS} <= addresses.keys():
                continue
            offsets, variable_at = (
                numbers.said(addresses[name], f"{addresses[name]:#x}ULL")
                for name in (_OFFSETS, rule.variable)
            )
            return f"(u32)memory(memory({offsets} + 8 * me) + {variable_at})", {}
        variable = btf.variable(rule.variable)
        offset = btf.offsets(rule.variable).get(rule.member) if rule.member else 0
        if variable is not None and offset is not None:
            address = f"this_cpu_ptr((void *){_MAGIC:#x}ULL)"
            return form.format(f"*(u32 *)({address} + {offset})"), {_MAGIC: variable}
    raise HostError(
        f"{'BTF' if addresses is None else 'kallsyms'} does not say where this kernel keeps its "
        "preempt count",
        "record with --backend ftrace",
    )


def find_preempt_count(
    arch: str,
    transport: Transport,
    btf: Btf,
    root: Path = Path("/"),
    numbers: Numbers = c_program.PLAIN,
) -> tuple[str, dict[int, int]]:
    """Return what `preempt_count` does, found by BTF or else by the addresses in kallsyms. *root*
    is the folder that holds /proc, and *numbers* writes the addresses. Raises HostError.

        btf = Btf.read(Path("/sys/kernel/btf/vmlinux"))
        expression, variables = find_preempt_count("x86_64", "mapped", btf)
    """
    rules = [rule for family in families() for rule in family.contexts if arch in rule.arch]
    helpers = {rule.helper for rule in rules}
    names = {_OFFSETS, *(name for rule in rules for name in (rule.variable, rule.wide_with))} - {""}
    missing, kallsyms = set[str](), b""
    with suppress(OSError):
        kallsyms = (root / "proc/kallsyms").read_bytes()
        missing = helpers - find_symbols(kallsyms, helpers).keys()
    if transport != "perf" and not missing:
        with suppress(HostError):
            return preempt_count(arch, btf)
    return preempt_count(arch, btf, find_addresses(kallsyms, names), numbers)


def _path(btf: Btf, struct: str, members: tuple[str, ...]) -> int | None:
    """Return the offset (bytes) of the last of *members* from the begin of *struct*. Each member
    but the last must have the name of its own struct. None is returned if BTF lacks a member."""
    offset = 0
    for member in members:
        found = btf.offsets(struct).get(member)
        if found is None:
            return None
        offset, struct = offset + found, member
    return offset


@dataclass(frozen=True, slots=True)
class Written:
    """This is a plan as C, for one kernel: its `text`, the `programs` in it, and the `variables` of
    the kernel that its constants stand for. `btf` is the SHA-256 of vmlinux's BTF."""

    text: str
    programs: tuple[BpfProgram, ...]
    variables: dict[int, int]
    btf: str

    @property
    def functions(self) -> tuple[str, ...]:
        """These are the C functions of the programs."""
        return tuple(program.function for program in self.programs)


def written(
    plan: Plan,
    events: dict[int, int],
    *,
    write: Callable[..., str],
    records: int,
    cpus: int,
    numbers: Numbers = c_program.PLAIN,
    root: Path = Path("/"),
) -> Written:
    """Return *plan* as C for the kernel whose files are below *root*; see `load` for the others.
    *numbers* writes what differs from boot to boot. Raises HostError.

        written(plan, {}, write=program.source, records=4096, cpus=8).text
    """
    try:
        data = (root / "sys/kernel/btf/vmlinux").read_bytes()
    except OSError as error:
        raise HostError(
            f"no BTF: {error.strerror}", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y"
        ) from error
    btf = Btf(data)
    count, variables = find_preempt_count(plan.arch, plan.transport, btf, root, numbers)
    text = write(plan, btf, records=records, cpus=cpus, preempt_count=count, numbers=numbers)
    programs = tuple(_programs(plan, events, btf))
    return Written(text, programs, variables, hashlib.sha256(data).hexdigest())


def load(
    plan: Plan,
    events: dict[int, int],
    *,
    write: Callable[..., str],
    maps: tuple[str, ...],
    records: int,
    cpus: int,
    pack: Pack | None = None,
    root: Path = Path("/"),
) -> Loaded:
    """Compile and attach every probe of *plan*, and return what is in the kernel then.

    *events* maps a probe point to the id of its kprobe event, which must exist. *write* makes the C
    text of the plan (program.source or summary.program.source), which has the *maps*. *records* is
    how many records a ring holds, and *cpus* how many CPUs are possible. With a *pack* its programs
    are loaded instead, and nothing is compiled. Raises HostError, which says what is missing and
    which package brings it, or what in the pack is not for this host.

        loaded = load(plan, {}, write=program.source, maps=RING_MAPS, records=4096, cpus=8)
    """
    numbers = c_program.PLAIN if pack is None else Placeholders()
    found = written(
        plan, events, write=write, records=records, cpus=cpus, numbers=numbers, root=root
    )
    try:
        if isinstance(numbers, Placeholders) and pack is not None:
            packed = pack.entry(plan, found.btf, found.text)
            code = packed.for_boot(numbers.values, records=records, cpus=cpus)
        else:
            code = compiled(found.text, found.functions)
        return attached(
            code,
            found.programs,
            maps=maps,
            variables=found.variables,
            cpu=plan.cpus[0] if plan.cpus else 0,
        )
    except Refused as refused:
        raise refusal(refused, plan.release) from refused


def _lateness(probe: Probe) -> int:
    """Return how late a probe is attached. Maps come last, and go first, so that an episode that is
    seen is seen whole. The reference of NMIs comes after the entries that it refers to."""
    return {Kind.NMI_REF.name: 1, Kind.MAP.name: 2}.get(probe.kind, 0)


def _programs(plan: Plan, events: dict[int, int], btf: Btf) -> Iterator[BpfProgram]:
    for point, probe in enumerate(plan.probes):
        kind = c_program.PROGRAM_TYPE[probe.mechanism]
        target = str(events[point]) if kind == c_program.KPROBE else probe.symbol
        function = btf.function_id(target) if kind == c_program.TRACING else 0
        if function is None:
            raise HostError(f"BTF has no function {target}", "record with --backend ftrace")
        name = c_program.program_name(point)
        yield BpfProgram(name, kind, probe.mechanism, target, function, _lateness(probe))


def refusal(refused: Refused, release: str) -> HostError:
    """Return the refusal as an error that says what to do."""
    stage, what, log = refused.stage, refused.what, refused.log
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = "; ".join(lines[-_LOG_LINES:])
    ftrace = "or record with --backend ftrace"
    headers = re.search(r"kernel headers|kheaders", log, re.I)
    if stage == "bcc":
        return HostError(f"Python finds no bcc ({what})", f"apt install python3-bpfcc, {ftrace}")
    if stage == "compile" and headers:
        return HostError(
            f"bcc finds no kernel headers for {release}",
            f"apt install linux-headers-{release}, {ftrace}",
        )
    if stage == "compile":
        return HostError(f"bcc can't compile our program: {last or what}", f"report it, {ftrace}")
    if "Operation not permitted" in what or "privileges" in what:
        return HostError(
            f"the kernel refuses BPF programs: {what}",
            "run as root (CAP_BPF and CAP_PERFMON); if you are, lockdown or the container forbids "
            f"it: see `ghesrace doctor`, {ftrace}",
        )
    if stage == "load":
        return HostError(f"the kernel refuses our BPF program: {what}: {last}", ftrace[3:])
    if stage == "attach" and " on event " in what and "Permission denied" in what:
        # Debian's kernels have perf_event_paranoid=3 by default. Beyond 2 their perf_event_open(2)
        # takes CAP_SYS_ADMIN, where mainline Linux is content with CAP_PERFMON.
        return HostError(
            f"the kernel refuses perf events, which kprobes need: {what}",
            f"sysctl kernel.perf_event_paranoid=2, or CAP_SYS_ADMIN, {ftrace}",
        )
    if stage == "attach":
        return HostError(f"the kernel can't attach our BPF program: {what}", ftrace[3:])
    return HostError(f"{what}: {last}" if last else what, ftrace[3:])
