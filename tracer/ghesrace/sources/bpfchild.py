"""The process that compiles and attaches: the only one that loads bcc, and LLVM with it.

`python -m ghesrace.sources.bpfchild FD`: reads a request (JSON) from standard input, compiles it
with bcc (or, without it, takes what it made of the same text since boot, bpfcache.py), makes the
maps, loads and attaches every program, and passes the descriptors of the maps, the programs and the
attachments through the socket FD. They keep everything alive when this process ends and gives its
100 MB back. Refusals go the same way as {"error": ..., "log": ...}.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import resource
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from . import bpfcall
from .bpfcache import Cache, Compiled, Map, place
from .bpfcode import name_variables

# enum bpf_prog_type, and enum bpf_attach_type of the tracing type.
_TYPES = {"kprobe": 2, "raw-tracepoint": 17, "tracing": 26}
_ATTACH = {"fentry": 24, "fexit": 25}
_PERF_TYPE_TRACEPOINT = 2
_PERF_EVENT_IOC_SET_BPF, _PERF_EVENT_IOC_ENABLE = 0x40042408, 0x2400
MAPS = ("cpus", "records")
STATES = "states"  # of a summary, behind them
_LOG_SIZE = 1 << 22
_MAP_INFO_SIZE = 40  # of struct bpf_map_info: as much as all kernels have
FDS_PER_MESSAGE = 200  # the kernel takes SCM_MAX_FD (253)


@dataclass(frozen=True, slots=True)
class Program:
    """One program to load and attach: its C function, bpfgen.PROGRAM_TYPE, the mechanism, and
    what it is attached to: a function (with its BTF id), a tracepoint's name, or the id of a probe
    event."""

    function: str
    type: str
    mechanism: str
    target: str
    btf_id: int = 0


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


def _version() -> str:
    """Of bcc, without loading it. Raises Refused if there is none."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        raise Refused("bcc", "no module named bcc")
    with contextlib.suppress(OSError):
        return Path(spec.origin).with_name("version.py").read_text()
    return spec.origin


def _compiled(request: Request) -> Compiled:
    """From the cache, or from LLVM."""
    cache = Cache(place(), _version())
    if (kept := cache.get(request.text)) is not None:
        return kept
    try:
        from bcc import BPF
    except ImportError as error:
        raise Refused("bcc", str(error)) from error
    try:
        module = BPF(text=request.text, cflags=["-Wno-everything"])
    except Exception as error:  # bcc raises nothing else
        raise Refused("compile", str(error)) from error
    functions = (program.function for program in request.programs)
    code = {name: bytes(module.dump_func(name.encode())) for name in functions}
    made = Compiled.of(code, lambda fd: Map.of(bpfcall.info(fd, _MAP_INFO_SIZE)))
    cache.put(request.text, made)
    return made


def _made(one: Map) -> int:
    try:
        return bpfcall.create_map(
            one.kind, one.key_size, one.value_size, one.entries, one.flags, one.name
        )
    except OSError as error:
        raise Refused("load", f"map {one.name}: {error.strerror}") from error


def _load(program: Program, code: bytes) -> int:
    kind, attach = _TYPES[program.type], _ATTACH.get(program.mechanism, 0)

    def load(log: bytearray | None) -> int:
        return bpfcall.load(
            kind, code, program.function, attach=attach, btf_id=program.btf_id, log=log
        )

    try:
        return load(None)
    except OSError as error:
        log = bytearray(_LOG_SIZE)
        with contextlib.suppress(OSError):  # again, for the verifier's reasons
            os.close(load(log))
        sys.stderr.write(log.rstrip(b"\0").decode("utf-8", "replace"))
        what = f"{program.mechanism} on {program.target}: {error.strerror}"
        raise Refused("load", what) from error


def _run(request: Request) -> list[int]:
    """Descriptors: the maps', then of each program its own and its attachment's."""
    with contextlib.suppress(OSError, ValueError):
        # Before Linux 5.11 (d5299b67dd59) maps and programs count as locked memory.
        infinity = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (infinity, infinity))
    compiled = _compiled(request)
    fds = [_made(one) for one in compiled.maps]
    names = [one.name for one in compiled.maps]
    found = [fds[names.index(name)] for name in request.maps]
    for program in request.programs:
        code = name_variables(compiled.with_maps(program.function, fds), request.variables)
        fd = _load(program, code)
        found += [fd, _attach(program, fd, request.cpu)]
    return found


def _attach(program: Program, fd: int, cpu: int) -> int:
    try:
        if program.type == "tracing":
            return bpfcall.open_raw_tracepoint(fd, None)
        if program.type == "raw-tracepoint":
            return bpfcall.open_raw_tracepoint(fd, program.target.partition(":")[2])
        # On one CPU; a program on it runs on all, as it hangs on the trace event.
        attached = bpfcall.perf_event(_PERF_TYPE_TRACEPOINT, int(program.target), cpu)
        fcntl.ioctl(attached, _PERF_EVENT_IOC_SET_BPF, fd)
        fcntl.ioctl(attached, _PERF_EVENT_IOC_ENABLE, 0)
    except OSError as error:
        kind = "event " if program.type == "kprobe" else ""
        what = f"{program.mechanism} on {kind}{program.target}: {error.strerror}"
        raise Refused("attach", what) from error
    return attached


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
