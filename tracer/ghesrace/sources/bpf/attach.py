# SPDX-License-Identifier: Apache-2.0
"""This module makes the maps, and loads and attaches every program. It takes instructions and
returns descriptors.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ghesrace.errors import HostError
from ghesrace.host import syscalls

from .cache import Compiled, Map
from .compile import Refused
from .instructions import name_variables

# The numbers are those of enum bpf_prog_type and, for programs of the tracing type, of enum
# bpf_attach_type.
_TYPES = {"kprobe": 2, "raw-tracepoint": 17, "tracing": 26}
_ATTACH = {"fentry": 24, "fexit": 25}
_PERF_TYPE_TRACEPOINT = 2
_PERF_EVENT_IOC_SET_BPF, _PERF_EVENT_IOC_ENABLE = 0x40042408, 0x2400
RING_MAPS = ("cpus", "records")
STATES = "states"  # a summary's map, which follows RING_MAPS
_LOG_SIZE = 1 << 22
# The first is how much is read of struct bpf_prog_info (include/uapi/linux/bpf.h), the second the
# offset of recursion_misses in it (since Linux 5.12), in bytes.
_INFO_SIZE, _RECURSION_MISSES = 256, 208
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class BpfProgram:
    """This describes one program to load and attach. `function` is its C function, `type` one of
    program.PROGRAM_TYPE's, and `target` what it is attached to: a kernel function (whose BTF id is
    `btf_id`), a tracepoint's name, or the id of a probe event. Programs of higher `lateness` are
    attached later and detached sooner."""

    function: str
    type: str
    mechanism: str
    target: str
    btf_id: int = 0
    lateness: int = 0


@dataclass(slots=True)
class Loaded:
    """This holds the descriptors of what is in the kernel: `maps` (RING_MAPS, and STATES of a
    summary) and `programs`, both in the order in which they were asked for, and the `attachments`
    by lateness. `close` frees all of it."""

    maps: list[int]
    programs: list[int]
    attachments: dict[int, list[int]]

    def detach(self) -> None:
        """Let no program run any more. The maps stay readable."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # Each close waits for the kernel's RCU readers.
            while self.attachments:
                fds = self.attachments.pop(max(self.attachments))
                list(pool.map(os.close, fds))

    def close(self) -> None:
        """Detach the programs, then free programs and maps."""
        self.detach()
        for fd in [*self.programs, *self.maps]:
            os.close(fd)
        self.programs, self.maps = [], []

    def misses(self) -> list[int]:
        """Return how often the kernel skipped each program because it ran on that CPU already
        (bpf_prog_info.recursion_misses). It is 0 before Linux 5.12, which skipped none. Raises
        HostError if the kernel does not tell."""
        return [_recursion_misses(fd) for fd in self.programs]


def _recursion_misses(fd: int) -> int:
    try:
        info = syscalls.info(fd, _INFO_SIZE)
    except PermissionError:
        # Before c8644cd0efe7 (Linux 5.19), bpf(2) refuses whoever gave up CAP_BPF, as the daemon
        # does, but they can still read this file, which has the number since 5.12 too.
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
        found = re.search(r"^recursion_misses:\t(\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    except OSError as error:
        raise HostError(f"the kernel does not tell a program's misses: {error.strerror}") from error
    return int.from_bytes(info[_RECURSION_MISSES : _RECURSION_MISSES + 8], "little")


def attached(
    code: Compiled,
    programs: tuple[BpfProgram, ...],
    *,
    maps: tuple[str, ...] = RING_MAPS,
    variables: dict[int, int],
    cpu: int,
) -> Loaded:
    """Make the maps of *code*, load and attach *programs*, and return what is in the kernel then.

    *maps* names the maps whose descriptors are wanted. *variables* maps each 64-bit constant that
    stands for the address of a per-CPU kernel variable to the variable's BTF id, for which bcc has
    no syntax. *cpu* is any online CPU. Raises Refused, and leaves nothing behind then.

        code = compiled(text, ("p0",))
        programs = (BpfProgram("p0", "kprobe", "kprobe", target="1812"),)
        loaded = attached(code, programs, variables={}, cpu=0)
    """
    with contextlib.suppress(OSError, ValueError):
        # Before Linux 5.11 (d5299b67dd59) maps and programs count as locked memory.
        infinity = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (infinity, infinity))
    loaded = Loaded([], [-1] * len(programs), {})
    with _undone(loaded):
        for one in code.maps:
            loaded.maps.append(_made(one))
        for n in sorted(range(len(programs)), key=lambda n: programs[n].lateness):
            program = programs[n]
            text = name_variables(code.with_maps(program.function, loaded.maps), variables)
            fd = loaded.programs[n] = _load(program, text)
            found = _attach(program, fd, cpu)
            loaded.attachments.setdefault(program.lateness, []).append(found)
    names = [one.name for one in code.maps]
    wanted = [loaded.maps[names.index(name)] for name in maps]
    for fd in set(loaded.maps) - set(wanted):
        os.close(fd)  # The programs that use the map keep it.
    loaded.maps = wanted
    return loaded


@contextmanager
def _undone(loaded: Loaded) -> Iterator[None]:
    """Free what is *loaded* if anything interrupts the block, even Ctrl-C."""
    try:
        yield
    except BaseException:
        loaded.programs = [fd for fd in loaded.programs if fd >= 0]
        loaded.close()
        raise


def _made(one: Map) -> int:
    try:
        return syscalls.create_map(
            one.kind, one.key_size, one.value_size, one.entries, one.flags, one.name
        )
    except OSError as error:
        raise Refused("load", f"map {one.name}: {error.strerror}") from error


def _load(program: BpfProgram, code: bytes) -> int:
    kind, attach = _TYPES[program.type], _ATTACH.get(program.mechanism, 0)

    def load(log: bytearray | None) -> int:
        return syscalls.load(
            kind, code, program.function, attach=attach, btf_id=program.btf_id, log=log
        )

    try:
        return load(None)
    except OSError as error:
        log = bytearray(_LOG_SIZE)
        with contextlib.suppress(OSError):  # The second try fetches the verifier's reasons.
            os.close(load(log))
        said = log.rstrip(b"\0").decode("utf-8", "replace")
        what = f"{program.mechanism} on {program.target}: {error.strerror}"
        raise Refused("load", what, said) from error


def _attach(program: BpfProgram, fd: int, cpu: int) -> int:
    try:
        if program.type == "tracing":
            return syscalls.open_raw_tracepoint(fd, None)
        if program.type == "raw-tracepoint":
            return syscalls.open_raw_tracepoint(fd, program.target.partition(":")[2])
        return _on_probe_event(int(program.target), fd, cpu)
    except OSError as error:
        kind = "event " if program.type == "kprobe" else ""
        what = f"{program.mechanism} on {kind}{program.target}: {error.strerror}"
        raise Refused("attach", what) from error


def _on_probe_event(event: int, program: int, cpu: int) -> int:
    """Attach *program* to the probe event with this id. The perf event is made on one CPU only, but
    the program runs on all of them, because it belongs to the trace event."""
    made = syscalls.perf_event(_PERF_TYPE_TRACEPOINT, event, cpu)
    try:
        fcntl.ioctl(made, _PERF_EVENT_IOC_SET_BPF, program)
        fcntl.ioctl(made, _PERF_EVENT_IOC_ENABLE, 0)
    except BaseException:
        os.close(made)
        raise
    return made
