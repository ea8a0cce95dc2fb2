"""The things that only trying tells: what `doctor` does to the running kernel, and undoes."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from pathlib import Path

from . import clocks
from .errors import HostError, TransientError
from .plan import Plan
from .sources import tracefs
from .sources.ftrace import definition

_BPF = {"x86_64": 321, "aarch64": 280}  # the bpf(2) system call's number
_PROG_LOAD, _SOCKET_FILTER = 5, 1
# r0 = 0; exit: the smallest program the verifier accepts.
_PROGRAM = bytes.fromhex("b700000000000000") + bytes.fromhex("9500000000000000")


class Attempts:
    """Each method tries one thing, leaves nothing behind, and raises what it met."""

    def instance(self, root: Path) -> None:
        """Make and remove a private tracefs instance. Raises HostError, TransientError."""
        tracefs.Instance.create(root).remove()

    def probe(self, root: Path, letter: str, symbol: str) -> None:
        """Define and remove one probe event (`p` or `f`) on *symbol*. Raises HostError."""
        instance = tracefs.Instance.create(root)
        try:
            instance.define(f"{letter}:{instance.name}/doctor {symbol}")
        finally:
            instance.remove()

    def refused(self, root: Path, plan: Plan) -> dict[str, str]:
        """Define every probe of *plan* with its filter; {symbol: why} of those refused.

        Raises HostError or TransientError if there is no instance to do it in.
        """
        why: dict[str, str] = {}
        instance = tracefs.Instance.create(root)
        try:
            for number, probe in enumerate(plan.probes):
                event = probe.symbol.replace(":", "/")
                try:
                    if probe.mechanism != "tracepoint":
                        event = f"{instance.name}/p{number}"
                        instance.define(definition(probe, instance.name, f"p{number}"))
                    if probe.filter:
                        instance.set(f"events/{event}/filter", probe.filter)
                except (HostError, TransientError) as error:
                    why[probe.symbol] = error.what
        finally:
            instance.remove()
        return why

    def bpf(self) -> None:
        """Load the smallest BPF program. Raises OSError with the kernel's reason.

        bpf(2); union bpf_attr of include/uapi/linux/bpf.h.
        """
        number = _BPF.get(platform.machine())
        if number is None:
            raise OSError(f"the bpf system call of {platform.machine()} is not known here")
        code, licence = ctypes.create_string_buffer(_PROGRAM), ctypes.create_string_buffer(b"GPL")
        attr = (ctypes.c_uint64 * 16)()
        attr[0] = _SOCKET_FILTER | len(_PROGRAM) // 8 << 32
        attr[1], attr[2] = ctypes.addressof(code), ctypes.addressof(licence)
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(number, _PROG_LOAD, ctypes.byref(attr), ctypes.sizeof(attr))
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.close(fd)

    def bcc(self) -> bool:
        """Whether Python can import the BPF Compiler Collection (and not PyPI's other `bcc`)."""
        found = importlib.util.find_spec("bcc")
        return bool(found and found.origin and (Path(found.origin).parent / "libbcc.py").exists())

    def clocks(self) -> clocks.Comparison:
        """Compare the clocks of the CPUs. Raises OSError."""
        return clocks.compare()
