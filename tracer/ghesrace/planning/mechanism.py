# SPDX-License-Identifier: Apache-2.0
"""This chooses how a function is hooked on this kernel: by the backend's safest mechanism that
serves it.

The ftrace backend prefers fprobe events to kprobe events, because their guard is per context, so
that an NMI fires them too. The BPF backend prefers fentry to kprobes, because its guard is per
program, while a kprobe's program is skipped whenever another one runs (bpf_prog_active in
kernel/trace/bpf_trace.c:trace_call_bpf).
"""

from __future__ import annotations

from ghesrace.host import hest
from ghesrace.host.facts import ANCHORS, BPF_FEATURES, Facts
from ghesrace.host.kallsyms import Symbol
from ghesrace.plan import Backend, Mechanism, Transport
from ghesrace.points import Candidate

RETURN: dict[Mechanism, Mechanism] = {
    "kprobe": "kretprobe",
    "fprobe": "fretprobe",
    "fentry": "fexit",
}
# These functions show, in this order: arrays that user space can map (fc9702273e2e, Linux 5.5); BPF
# trampolines, and their use of ftrace sites; bpf_get_func_arg() (f92c1e183604, Linux 5.17).
_MMAP, *_FENTRY, _GET_FUNC_ARG = BPF_FEATURES
# Trampolines take a struct passed by value, such as pgprot_t, since 720e6a435194 (Linux 6.1), which
# added this member.
STRUCT_ARGS = ("btf_func_model", "arg_flags")


def choose(
    facts: Facts, candidate: Candidate, symbol: Symbol, backend: Backend, *, bare: bool = False
) -> tuple[Mechanism | None, str]:
    """Return the mechanism for *symbol*, and why no better one serves ("" if nothing is to be
    said); or None, and why none serves. With *bare* its arguments are not fetched.

    >>> symbol = Symbol("ghes_proc", 0, "")
    >>> facts = Facts("x86_64", "6.12", {"ghes_proc": (symbol,)}, features={"kprobe-events"})
    >>> choose(facts, Candidate("ghes_proc"), symbol, "ftrace")
    ('kprobe', '')
    """
    if backend == "bpf":
        reason = _no_fentry(facts, candidate, symbol, bare)
        if not reason:
            return "fentry", ""
        mechanism, refused = _kprobe(facts, candidate, symbol)
        return mechanism, refused or f"not fentry: {reason}"
    # An fprobe event finds its function by name in vmlinux and modules alike, so a name that is
    # in both needs a kprobe with its `module:`.
    alone = len(facts.symbols[symbol.plain]) == 1 and not symbol.module
    if "fprobe-events" in facts.features and alone and not symbol.changed:
        return "fprobe", ""
    return _kprobe(facts, candidate, symbol)


def no_bpf(facts: Facts) -> str:
    """Return why BPF programs can't watch this kernel at all, or "".

    >>> no_bpf(Facts("x86_64", "6.12"))
    'no BTF (not read)'
    """
    if facts.btf is None:
        # BTF says which fixmap index is a slot. It is in sysfs since 341dfcf8d78e, Linux 5.4.
        # Before 4.15 vm-area slots need no index, but raw tracepoints are missing there too
        # (c4f6699dfcb8, 4.17).
        return f"no BTF ({facts.problems.get('BTF', 'not read')})"
    return ""


def transport(facts: Facts) -> Transport:
    """Return how BPF programs hand over what they see. A perf event array (a43eec304259, Linux 4.4)
    serves where the kernel has no arrays that user space can map.

    >>> transport(Facts("x86_64", "5.4", {"ghes_proc": (Symbol("ghes_proc", 0, ""),)}))
    'perf'
    """
    return "perf" if facts.symbols and _MMAP not in facts.symbols else "mapped"


def has_fentry(facts: Facts) -> bool:
    """Return whether BPF programs can be attached to functions by trampoline.

    >>> has_fentry(Facts("x86_64", "5.4"))
    False
    """
    return all(name in facts.symbols for name in _FENTRY)


def place(facts: Facts, symbol: Symbol) -> str:
    """Return how a probe event names *symbol*, or "" if nothing names it alone.

    Since b022f0c7e404 ("tracing/kprobes: Return EADDRNOTAVAIL when func matches several
    symbols", 6.7 and stable) a plain name must be unique in vmlinux and modules together. Else an
    offset from the kernel's start names it, as perf does too; with that $argN still works.

    >>> symbol = Symbol("ghes_proc", 0, "ghes")
    >>> place(Facts("x86_64", "6.12", {"ghes_proc": (symbol,)}), symbol)
    'ghes:ghes_proc'
    """
    twins = [s for s in facts.symbols[symbol.plain] if s.name == symbol.name]
    if symbol.module or len(twins) == 1:
        return symbol.place
    for name in ANCHORS if symbol.address else ():
        for anchor in facts.symbols.get(name, ()):
            if anchor.address:
                return f"{name}+{symbol.address - anchor.address:#x}"
    return ""


def _kprobe(facts: Facts, candidate: Candidate, symbol: Symbol) -> tuple[Mechanism | None, str]:
    # do_sdei_event() calls an exception in its handler, such as a kprobe's BRK, unsafe; KVM would
    # panic (arch/arm64/kernel/sdei.c).
    sdei = any(source.notify == hest.SDEI for source in facts.hest or ())
    if facts.arch == "arm64" and candidate.sdei_path and sdei:
        return None, f"{symbol.name} runs in SDEI handlers, where a kprobe (BRK) is unsafe"
    if "kprobe-events" not in facts.features:
        return None, "this kernel has no kprobe events"
    if facts.blacklist is not None and symbol.name in facts.blacklist:
        return None, f"kprobes refuse {symbol.name} (blacklist)"
    if not place(facts, symbol):
        return None, f"a module has a {symbol.name} too, and kallsyms hides their addresses"
    return "kprobe", ""


def _no_fentry(facts: Facts, candidate: Candidate, symbol: Symbol, bare: bool) -> str:
    """Return why fentry can't serve *symbol*, or ""."""
    if not has_fentry(facts):
        return "this kernel has no BPF trampolines"
    if symbol.module:
        return "bcc attaches trampolines to vmlinux only"
    if candidate.needs_flags:
        return "a trampoline has no registers, so it can't tell whether interrupts are off"
    prototype = facts.btf.function(symbol.name) if facts.btf else None
    if prototype is None:
        return f"BTF has no {symbol.name}"
    if bare:
        return ""
    if not all(prototype.scalar) and _GET_FUNC_ARG not in facts.symbols:
        return "this kernel has no bpf_get_func_arg() for its pointer arguments"
    if any(prototype.struct) and STRUCT_ARGS[1] not in _members(facts, STRUCT_ARGS[0]):
        return "this kernel's trampolines take no struct by value"
    return ""


def _members(facts: Facts, name: str) -> dict[str, int]:
    return facts.btf.offsets(name) if facts.btf else {}
