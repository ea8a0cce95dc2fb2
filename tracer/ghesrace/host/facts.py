# SPDX-License-Identifier: Apache-2.0
"""This reads facts about one kernel and host, as files say them. Nothing here decides anything.

Every reader takes the root of a file tree, so that a copied or made-up /proc and /sys do as well
as the running system's. That a file cannot be read is a fact too: `Facts.problems` keeps it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ghesrace import points
from ghesrace.errors import InputError
from ghesrace.events import PAGE_SIZE

from . import code, code_by_bpf, hest, kallsyms
from .btf import Btf
from .cpus import parse_cpus
from .kallsyms import Symbol

# Every kernel with kprobes has this function, whether tracefs is mounted or not.
KPROBES = "register_kprobe"
# The presence of these functions shows what BPF programs can be attached to and ask for.
BPF_FEATURES = (
    "array_map_mmap",
    "bpf_trampoline_link_prog",
    "register_ftrace_direct",
    "get_func_arg",
)
# The kernel starts at one of these: where a name is not unique, tracefs takes an offset from it.
# arm64's image begins before what kallsyms lists without CONFIG_KALLSYMS_ALL (Debian until 6.1).
ANCHORS = ("_text", "_stext")
TRACEFS = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
# These strings of tracefs's README are from kernel/trace/trace.c: readme_msg[].
_README = {
    "kprobe-events": "kprobe_events\t\t- ",
    "fprobe-events": "f[:[<group>/][<event>]] <func-name>",
    "arg": "$arg<N>",
    "retval": "$retval",
    "x-types": "x8/16/32/64",
    "maxactive": "r[maxactive]",
}
_UNREADABLE = (OSError, InputError)
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Area:
    """An area is one of /proc/vmallocinfo: its addresses [begin, end) without the guard page, the
    function that made it, and that function's module ("" for vmlinux)."""

    begin: int
    end: int
    caller: str
    module: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A plan is resolved from these facts.

    `arch` is "x86_64" or "arm64" (others as the kernel names them). `symbols` holds the functions
    that some probe file names, by plain name. `traceable` holds the (module, name) pairs that
    ftrace can hook, and `blacklist` the names that kprobes refuse; each is None if unreadable.
    `tracefs` is where it is mounted, `features` what its README and files offer ("kprobe-events",
    "fprobe-events", "arg", "retval", "instances"), and `tracepoints` the events present and their
    ids. `hest` is None without a readable table. `host` holds those points.HOST_FEATURES that
    apply. `code` reads the kernel's code, from what `code_from` names, and is None if it is
    unreadable.
    `problems` maps a subject (a file, a table) to why it could not be read.
    """

    arch: str
    release: str
    symbols: dict[str, tuple[Symbol, ...]] = field(default_factory=dict)
    traceable: frozenset[tuple[str, str]] | None = None
    blacklist: frozenset[str] | None = None
    tracefs: Path | None = None
    features: frozenset[str] = frozenset()
    tracepoints: dict[str, int] = field(default_factory=dict)
    btf: Btf | None = None
    module_btf: dict[str, Btf] = field(default_factory=dict)
    hest: tuple[hest.ErrorSource, ...] | None = None
    host: frozenset[str] = frozenset()
    cpus: tuple[int, ...] = ()
    lockdown: str | None = None
    clocks: tuple[str, ...] = ()
    clocksource: str | None = None
    areas: tuple[Area, ...] = ()
    code: code.Code | None = field(default=None, compare=False)
    code_from: str = ""
    problems: dict[str, str] = field(default_factory=dict)

    def arity(self, symbol: Symbol) -> int | None:
        """Return how many parameters *symbol* has in BTF, or None if BTF does not have it."""
        btf = self.module_btf.get(symbol.module) if symbol.module else self.btf
        prototype = btf.function(symbol.name) if btf else None
        return None if prototype is None else len(prototype.parameters)

    def to_host(self) -> dict[str, Any]:
        """Return the JSON-ready facts for a capture's metadata.

        >>> Facts("arm64", "6.12", problems={"HEST": "No such file"}).to_host()["problems"]
        {'HEST': 'No such file'}
        """
        return {
            "arch": self.arch,
            "release": self.release,
            "cpus": list(self.cpus),
            "features": sorted(self.features | self.host),
            "hest": None if self.hest is None else [source.to_dict() for source in self.hest],
            "lockdown": self.lockdown,
            "clocksource": self.clocksource,
            "problems": dict(self.problems),
        }


def read_facts(root: Path = Path("/")) -> Facts:
    """Read everything that a plan needs from the file tree at *root*. What cannot be read is told
    in `problems` instead of raised.

        facts = read_facts()
        print(facts.release, facts.features, facts.problems)
    """
    problems: dict[str, str] = {}

    def attempt(subject: str, read: Callable[[], _V], default: _V) -> _V:
        try:
            return read()
        except _UNREADABLE as error:
            problems[subject] = _reason(error)
            return default

    wanted = wanted_symbols()
    tracefs = find_tracefs(root)
    readme = (
        "" if tracefs is None else attempt("tracefs README", (tracefs / "README").read_text, "")
    )
    symbols: dict[str, tuple[Symbol, ...]] = attempt(
        "kallsyms", lambda: kallsyms.read_symbols(root / "proc/kallsyms", wanted), {}
    )
    traceable = None
    if tracefs is not None:
        functions = tracefs / "available_filter_functions"
        traceable = attempt(
            "available_filter_functions", lambda: kallsyms.read_traceable(functions, wanted), None
        )
    blacklist = root / "sys/kernel/debug/kprobes/blacklist"
    btf = attempt("BTF", lambda: Btf.read(root / "sys/kernel/btf/vmlinux"), None)
    unreadable: tuple[code.Code | None, str] = None, ""
    readable, code_from = attempt("kernel code", lambda: _code(root), unreadable)
    modules = {symbol.module for found in symbols.values() for symbol in found} - {""}
    module_btf: dict[str, Btf] = {}
    for module in sorted(modules if btf else ()):
        path = root / "sys/kernel/btf" / module
        read = attempt(f"BTF of {module}", partial(Btf.read, path, btf), None)
        if read is not None:
            module_btf[module] = read
    return Facts(
        arch=_arch(root),
        release=_text(root / "proc/sys/kernel/osrelease") or "unknown",
        symbols=symbols,
        traceable=traceable,
        blacklist=attempt("kprobe blacklist", lambda: kallsyms.read_blacklist(blacklist), None),
        tracefs=tracefs,
        features=_features(tracefs, readme),
        tracepoints=_tracepoints(tracefs),
        btf=btf,
        module_btf=module_btf,
        hest=attempt("HEST", lambda: hest.read(root), None),
        host=_host(root),
        cpus=parse_cpus(_text(root / "sys/devices/system/cpu/online") or ""),
        lockdown=_selected(_text(root / "sys/kernel/security/lockdown")),
        clocks=_clocks(tracefs),
        clocksource=_text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        code=readable,
        code_from=code_from,
        areas=attempt("vmallocinfo", lambda: _areas(root / "proc/vmallocinfo"), ()),
        problems=problems,
    )


def wanted_symbols() -> frozenset[str]:
    """Return the plain names of all functions that a plan may depend on.

    >>> "register_kprobe" in wanted_symbols()
    True
    """
    return points.symbols(points.families()) | {KPROBES, *ANCHORS, *BPF_FEATURES}


def find_tracefs(root: Path = Path("/")) -> Path | None:
    """Return where tracefs is mounted under *root*, or None.

    >>> find_tracefs(Path("/nowhere")) is None
    True
    """
    for place in TRACEFS:
        if (root / place / "trace_clock").exists():
            return root / place
    return None


def _code(root: Path) -> tuple[code.Code | None, str]:
    """Return the kernel's code, and where it is from. Raises OSError or InputError."""
    path = root / "proc/kcore"
    try:
        return code.Kcore(path), "/proc/kcore"
    except _UNREADABLE as error:
        if root != Path("/"):
            raise
        why = f"/proc/kcore: {_reason(error)}"
    try:
        return code_by_bpf.CodeByBpf(), "memory, by BPF"
    except OSError as error:
        raise InputError(f"{why}; by BPF: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    # An OSError's text ends in the path; the subject already says which file.
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return None


def _arch(root: Path) -> str:
    # /proc/sys/kernel/arch is there since 6.1 (bfca3dd3d068, "kernel/utsname_sysctl.c: print
    # kernel arch"); before that only uname(2) tells, and only about the running kernel.
    machine = _text(root / "proc/sys/kernel/arch") or platform.machine()
    return "arm64" if machine == "aarch64" else machine


def _features(tracefs: Path | None, readme: str) -> frozenset[str]:
    if tracefs is None:
        return frozenset()
    found = {name for name, text in _README.items() if text in readme}
    # The README of a kernel without kprobes still explains some of them; the files do not lie.
    if (tracefs / "kprobe_events").exists():
        found.add("kprobe-events")
    else:
        found -= {"kprobe-events", "fprobe-events"}
    if not (tracefs / "dynamic_events").exists():
        found.discard("fprobe-events")
    if (tracefs / "instances").is_dir():
        found.add("instances")
    return frozenset(found)


def _tracepoints(tracefs: Path | None) -> dict[str, int]:
    if tracefs is None:
        return {}
    found = {}
    for name in wanted_tracepoints():
        system, _, event = name.partition(":")
        text = _text(tracefs / "events" / system / event / "id")
        if text and text.isdecimal():
            found[name] = int(text)
    return found


def wanted_tracepoints() -> Iterable[str]:
    """Yield the tracepoints (`system:event`) that a plan may depend on.

    >>> "nmi:nmi_handler" in wanted_tracepoints()
    True
    """
    for family in points.families():
        for point in family.points:
            yield from (c.tracepoint for c in point.candidates if c.tracepoint)


def _host(root: Path) -> frozenset[str]:
    found: set[str] = set()
    flags = re.search(r"^flags\s*:(.*)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    words = flags.group(1).split() if flags else []
    found.update(name for name in ("pti", "hypervisor") if name in words)
    # arm64's cpuinfo does not tell; QEMU's virt names its product after the accelerator
    # (hw/arm/virt.c: virt_build_smbios), "QEMU Virtual Machine" where it emulates.
    if "KVM" in (_text(root / "sys/class/dmi/id/product_name") or ""):
        found.add("kvm")
    if _text(root / "sys/hypervisor/guest_type") == "PV":
        found.add("xen-pv")
    return frozenset(found)


def _selected(text: str | None) -> str | None:
    """Return the bracketed word of a text like "[none] integrity confidentiality", or None."""
    found = re.search(r"\[(\S+)\]", text or "")
    return found.group(1) if found else None


def _clocks(tracefs: Path | None) -> tuple[str, ...]:
    text = _text(tracefs / "trace_clock") if tracefs else None
    return tuple(word.strip("[]") for word in (text or "").split())


# A line is "0xffffc90000004000-0xffffc90000007000   12288 ghes_init+0x1a/0x2f [ghes] ioremap" for
# two pages and a guard page. %pS of a module's freed init code is a bare number, which names
# nobody, and %pK may print hashed addresses, which are no page's.
_AREA = re.compile(r"0x([0-9a-f]+)-0x([0-9a-f]+)\s+12288 (\w*ghes\w*)\+\S+(?: \[(\w+)\])? ioremap")


def _areas(path: Path) -> tuple[Area, ...]:
    """Return the GHES areas of /proc/vmallocinfo (s_show in mm/vmalloc.c)."""
    areas = []
    for line in path.read_text("ascii", "replace").splitlines():
        found = _AREA.match(line)
        if not found:
            continue
        begin, end = int(found.group(1), 16), int(found.group(2), 16)
        if end - begin == 3 * PAGE_SIZE and begin % PAGE_SIZE == 0:
            areas.append(Area(begin, end - PAGE_SIZE, found.group(3), found.group(4) or ""))
    return tuple(areas)
