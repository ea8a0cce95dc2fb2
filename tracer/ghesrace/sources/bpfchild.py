"""The process that compiles and attaches: the only one that loads bcc, and LLVM with it.

`python -m ghesrace.sources.bpfchild FD`: reads a request (JSON) from standard input, compiles it
with bcc (or takes what bcc made of the same text since boot, bpfcache.py), makes the maps, loads
and attaches every program, and passes the descriptors of the maps, the programs and the
attachments through the socket FD. They keep everything alive when this process ends and gives its
100 MB back. Refusals go the same way as {"error": ..., "log": ...}.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Any

from . import bpfcall
from .bpfcache import Cache, Compiled, Map, place
from .bpfcode import name_variables

# enum bpf_prog_type, and how bcc spells an attachment of the tracing type: in the name.
_TYPES = {"kprobe": 2, "raw-tracepoint": 17, "tracing": 26}
_PREFIX = {"fentry": b"kfunc__", "fexit": b"kretfunc__"}
_PERF_TYPE_TRACEPOINT = 2
_PERF_EVENT_IOC_SET_BPF, _PERF_EVENT_IOC_ENABLE = 0x40042408, 0x2400
MAPS = ("cpus", "records")
STATES = "states"  # of a summary, behind them
_MAP_INFO_SIZE = 40  # of struct bpf_map_info: as much as all kernels have
FDS_PER_MESSAGE = 200  # the kernel takes SCM_MAX_FD (253)


@dataclass(frozen=True, slots=True)
class Program:
    """One program to load and attach: its C function, bpfgen.PROGRAM_TYPE, the mechanism, and
    what it is attached to: a function, a tracepoint's name, or the id of a probe event."""

    function: str
    type: str
    mechanism: str
    target: str


@dataclass(frozen=True, slots=True)
class Request:
    """What to compile. `variables`: 64-bit constants of the C text that stand for the address of
    a per-CPU kernel variable -> its BTF id, which bcc has no word for. `cpu`: an online one.
    `maps`: those to pass."""

    text: str
    programs: tuple[Program, ...]
    variables: dict[int, int]
    cpu: int
    maps: tuple[str, ...]

    def to_json(self) -> str:
        """For `from_json` on the other side."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """What `to_json` made."""
        data = json.loads(text)
        programs = tuple(Program(**program) for program in data["programs"])
        variables = {int(key): value for key, value in data["variables"].items()}
        return cls(data["text"], programs, variables, data["cpu"], tuple(data["maps"]))


class Refused(Exception):
    """Something that bcc or the kernel did not take: the stage, and what."""

    def __init__(self, stage: str, what: str) -> None:
        super().__init__(what)
        self.stage, self.what = stage, what


def _compiled(request: Request, version: str) -> Compiled:
    """From the cache, or from LLVM."""
    from bcc import BPF

    cache = Cache(place(), version)
    if (kept := cache.get(request.text)) is not None:
        return kept
    try:
        module = BPF(text=request.text, cflags=["-Wno-everything"])
    except Exception as error:  # bcc raises nothing else
        raise Refused("compile", str(error)) from error
    functions = (program.function for program in request.programs)
    code = {name: bytes(module.dump_func(name.encode())) for name in functions}
    made = Compiled.of(code, lambda fd: Map.of(bpfcall.info(fd, _MAP_INFO_SIZE)))
    cache.put(request.text, made)
    return made


def _made(lib: Any, one: Map) -> int:
    fd = lib.bcc_create_map(
        one.kind, one.name.encode(), one.key_size, one.value_size, one.entries, one.flags
    )
    if fd < 0:
        raise Refused("load", f"map {one.name}: {os.strerror(ctypes.get_errno())}")
    return int(fd)


def _run(request: Request) -> list[int]:
    """Descriptors: the maps', then of each program its own and its attachment's."""
    try:
        import bcc
        from bcc.libbcc import lib
    except ImportError as error:
        raise Refused("bcc", str(error)) from error
    compiled = _compiled(request, bcc.__version__)
    fds = [_made(lib, one) for one in compiled.maps]
    names = [one.name for one in compiled.maps]
    found = [fds[names.index(name)] for name in request.maps]
    for program in request.programs:
        code = name_variables(compiled.with_maps(program.function, fds), request.variables)
        name = (
            _PREFIX.get(program.mechanism, b"")
            + (program.target if program.mechanism in _PREFIX else program.function).encode()
        )
        kind = _TYPES[program.type]
        fd = lib.bcc_prog_load(kind, name, code, len(code), b"GPL", 0, 0, None, 0)
        if fd < 0:
            reason = os.strerror(ctypes.get_errno())
            raise Refused("load", f"{program.mechanism} on {program.target}: {reason}")
        found += [fd, _attach(lib, program, fd, request.cpu)]
    return found


def _attach(lib: Any, program: Program, fd: int, cpu: int) -> int:
    if program.type == "tracing":
        attached = lib.bpf_attach_kfunc(fd)
    elif program.type == "raw-tracepoint":
        attached = lib.bpf_attach_raw_tracepoint(fd, program.target.partition(":")[2].encode())
    else:
        try:
            # On one CPU; a program on it runs on all, as it hangs on the trace event. (bcc opens
            # these by name, and through debugfs only.)
            attached = bpfcall.perf_event(_PERF_TYPE_TRACEPOINT, int(program.target), cpu)
            fcntl.ioctl(attached, _PERF_EVENT_IOC_SET_BPF, fd)
            fcntl.ioctl(attached, _PERF_EVENT_IOC_ENABLE, 0)
        except OSError as error:
            what = f"{program.function} on event {program.target}: {error.strerror}"
            raise Refused("attach", what) from error
    if attached < 0:
        reason = os.strerror(ctypes.get_errno())
        raise Refused("attach", f"{program.mechanism} on {program.target}: {reason}")
    return int(attached)


def main() -> int:
    """Serve the one request. Returns 0 when everything is attached, 1 otherwise."""
    request = Request.from_json(sys.stdin.read())
    with socket.socket(fileno=int(sys.argv[1])) as line:
        try:
            found = _run(request)
        except Refused as error:
            line.sendall(json.dumps({"error": error.stage, "what": error.what}).encode())
            return 1
        for at in range(0, len(found), FDS_PER_MESSAGE):
            socket.send_fds(line, [b"."], found[at : at + FDS_PER_MESSAGE])
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # bcc's exit handlers would detach what lives on elsewhere
