"""Load a plan's BPF programs through a child process; hold what it leaves; ask for their misses."""

from __future__ import annotations

import json
import mmap
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..btf import Btf
from ..errors import HostError
from ..events import Kind
from ..kallsyms import read_addresses
from ..plan import Plan, Probe, Transport
from ..points import families
from . import bpfcall, bpfgen, summarygen
from .bpfchild import FDS_PER_MESSAGE, MAPS, STATES, Program, Request

_MAGIC = 0x6768657372616365  # stands for the address of a per-CPU variable
_PATIENCE_S = 600.0  # LLVM under emulation takes its time
_OFFSETS = "__per_cpu_offset"  # of each CPU's variables, include/asm-generic/percpu.h
# struct bpf_prog_info (include/uapi/linux/bpf.h): recursion_misses, Linux 5.12.
_INFO_SIZE, _RECURSION_MISSES = 256, 208
_LOG_LINES = 6


def preempt_count(
    arch: str, btf: Btf, addresses: dict[str, int] | None = None
) -> tuple[str, dict[int, int]]:
    """The C expression for the preempt count on this kernel, in the layout before 7.3, and the
    variable behind its magic constant (magic -> BTF id). Raises HostError if nothing tells it.

    *addresses* of symbols are for kernels without the helpers that find a per-CPU variable
    (eaa6bcb71ef6, Linux 5.10) and the current task as such (3ca1032ab7ab, 5.11), or whose BTF has
    no variables, as Debian's 5.10 on amd64.
    """
    for rule in (rule for family in families() for rule in family.contexts):
        if arch not in rule.arch:
            continue
        wide = rule.wide_with and btf.variable(rule.wide_with) is not None
        if addresses is not None and (wide or rule.wide_with in addresses):
            continue  # kernels with that layout have the helpers
        if addresses is not None and rule.task:
            offset = _path(btf, "task_struct", rule.task)
            if offset is not None:
                return f"(u32)memory(bpf_get_current_task() + {offset})", {}
            continue
        if addresses is not None:
            if rule.member or not {rule.variable, _OFFSETS} <= addresses.keys():
                continue
            base = f"memory({addresses[_OFFSETS]:#x}ULL + 8 * me)"
            return f"(u32)memory({base} + {addresses[rule.variable]:#x}ULL)", {}
        form = "narrow({})" if wide else "{}"
        if rule.task:
            offset = _path(btf, "task_struct", rule.task)
            if offset is not None:
                return form.format(f"*(u32 *)(current_task() + {offset})"), {}
            continue
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
    arch: str, transport: Transport, btf: Btf, root: Path = Path("/")
) -> tuple[str, dict[int, int]]:
    """`preempt_count` by BTF, or else by the addresses in kallsyms. Raises HostError."""
    if transport != "perf":
        with suppress(HostError):
            return preempt_count(arch, btf)
    rules = [rule for family in families() for rule in family.contexts]
    names = {_OFFSETS, *(name for rule in rules for name in (rule.variable, rule.wide_with))} - {""}
    try:
        addresses = read_addresses(root / "proc/kallsyms", names)
    except OSError:
        addresses = {}
    return preempt_count(arch, btf, addresses)


def _path(btf: Btf, struct: str, members: tuple[str, ...]) -> int | None:
    """Offset of a member of a member of struct *struct*; each member is the next struct's name,
    but for the last."""
    offset = 0
    for member in members:
        found = btf.offsets(struct).get(member)
        if found is None:
            return None
        offset, struct = offset + found, member
    return offset


@dataclass(slots=True)
class Loaded:
    """What is in the kernel: `maps` (bpfchild.MAPS, and STATES of a summary), per probe of the plan
    its program, and the attachments in the order in which to close them. All goes with `close`."""

    maps: list[int]
    programs: list[int]
    attachments: list[int]

    def detach(self) -> None:
        """Let no program run any more; the maps stay readable."""
        for fd in self.attachments:
            os.close(fd)
        self.attachments = []

    def close(self) -> None:
        """Detach, and free programs and maps."""
        self.detach()
        for fd in [*self.programs, *self.maps]:
            os.close(fd)
        self.programs, self.maps = [], []

    def misses(self) -> list[int]:
        """Of each program, how often the kernel skipped it because it ran on that CPU already
        (bpf_prog_info.recursion_misses; 0 before 5.12, which skipped none)."""
        return [_recursion_misses(fd) for fd in self.programs]


def _recursion_misses(fd: int) -> int:
    try:
        info = bpfcall.info(fd, _INFO_SIZE)
    except PermissionError:
        # Before c8644cd0efe7, Linux 5.19, bpf(2) is of use to nobody who gave up CAP_BPF, as the
        # daemon does; the file is. It has this line since 5.12 too.
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
        found = re.search(r"^recursion_misses:\t(\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    except OSError as error:
        raise HostError(f"the kernel does not tell a program's misses: {error.strerror}") from error
    return int.from_bytes(info[_RECURSION_MISSES : _RECURSION_MISSES + 8], "little")


def load(
    plan: Plan, events: dict[int, int], *, records: int, cpus: int, root: Path = Path("/")
) -> Loaded:
    """Compile and attach every probe of *plan*.

    *events*: probe point -> id of its kprobe event, made beforehand; *records*: per ring;
    *cpus*: possible CPUs. Raises HostError: what is missing, and the package that brings it.
    """
    try:
        btf = Btf.read(root / "sys/kernel/btf/vmlinux")
    except OSError as error:
        raise HostError(
            f"no BTF: {error.strerror}", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y"
        ) from error
    count, variables = find_preempt_count(plan.arch, plan.transport, btf, root)
    write = summarygen.source if plan.summary else bpfgen.source
    order = sorted(range(len(plan.probes)), key=lambda point: _lateness(plan.probes[point]))
    request = Request(
        write(plan, btf, records=records, cpus=cpus, preempt_count=count),
        tuple(_programs(plan, events, order, btf)),
        variables,
        plan.cpus[0] if plan.cpus else 0,
        (*MAPS, STATES) if plan.summary else MAPS,
    )
    found = _ask(request, plan.release)
    maps, rest = found[: len(request.maps)], found[len(request.maps) :]
    programs = [-1] * len(order)
    for point, fd in zip(order, rest[::2], strict=True):
        programs[point] = fd
    return Loaded(maps, programs, rest[1::2][::-1])


def _lateness(probe: Probe) -> int:
    """Maps come last, and go first: of an episode that is seen all is seen. The reference count
    of NMIs comes after the entries that it refers to."""
    return {Kind.NMI_REF.name: 1, Kind.MAP.name: 2}.get(probe.kind, 0)


def _programs(plan: Plan, events: dict[int, int], order: list[int], btf: Btf) -> Iterator[Program]:
    for point in order:
        probe = plan.probes[point]
        kind = bpfgen.PROGRAM_TYPE[probe.mechanism]
        target = str(events[point]) if kind == bpfgen.KPROBE else probe.symbol
        function = btf.function_id(target) if kind == bpfgen.TRACING else 0
        if function is None:
            raise HostError(f"BTF has no function {target}", "record with --backend ftrace")
        yield Program(bpfgen.program_name(point), kind, probe.mechanism, target, function)


def _ask(request: Request, release: str) -> list[int]:
    """Let the child do it; returns the descriptors that it passed."""
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as log:
        with theirs:
            command = [sys.executable, "-m", "ghesrace.sources.bpfchild", str(theirs.fileno())]
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for us: we end it, and undo all
            )
        try:
            assert child.stdin is not None
            ours.settimeout(_PATIENCE_S)
            try:
                with child.stdin as line:
                    line.write(request.to_json().encode())
                answer, fds = _receive(ours)
            except (BrokenPipeError, TimeoutError):
                answer, fds = b"", []
        finally:
            child.kill()
            child.wait()
        if fds:
            return fds
        log.seek(0)
        raise _refusal(answer, log.read().decode("utf-8", "replace"), release)


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    """Everything that comes until the other side hangs up: bytes, and descriptors."""
    text, found = b"", list[int]()
    while True:
        data, fds, _, _ = socket.recv_fds(line, mmap.PAGESIZE, FDS_PER_MESSAGE)
        text, found = text + data, found + list(fds)
        if not data:
            return text, found


def _refusal(answer: bytes, log: str, release: str) -> HostError:
    """What the child met, in words that say what to do."""
    try:
        told = json.loads(answer)
        stage, what = str(told["error"]), str(told["what"])
    except (ValueError, KeyError, TypeError):
        stage, what = "compiler", "the process that compiles BPF died"
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
        # Debian's kernels, whose default is 3: perf_event_open(2) beyond 2 takes CAP_SYS_ADMIN
        # where Linux is content with CAP_PERFMON.
        return HostError(
            f"the kernel refuses perf events, which kprobes need: {what}",
            f"sysctl kernel.perf_event_paranoid=2, or CAP_SYS_ADMIN, {ftrace}",
        )
    if stage == "attach":
        return HostError(f"the kernel can't attach our BPF program: {what}", ftrace[3:])
    return HostError(f"{what}: {last}" if last else what, ftrace[3:])
