# SPDX-License-Identifier: Apache-2.0
"""File trees of made-up hosts, for everything that reads /proc and /sys.

The tracefs READMEs in fixtures/ are real: README-6.1 is that of Debian's 6.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.kernels.btfwriter import btf
from lab.kernels.kernelfile import TRACEFS, write_files

from .paths import FIXTURES

README = (FIXTURES / "README-6.1").read_text()

X86_GHES = (
    "_text",
    "register_kprobe",
    "ghes_copy_tofrom_phys",
    "__ghes_peek_estatus.isra.0",
    "ghes_notify_nmi",
    "ghes_irq_func",
    "ghes_poll_func",
    "ghes_notify_hed",
    "ghes_proc",
    "native_set_fixmap",
    "xen_set_fixmap",
    "__native_set_fixmap",
    "flush_tlb_one_kernel",
    "flush_tlb_one_user",
    "native_flush_tlb_one_user",
    "native_flush_tlb_global",
    "do_kernel_range_flush",
    "do_flush_tlb_all",
    "__flush_tlb_all",
    "flush_tlb_kernel_range",
    "flush_tlb_all",
    "memcpy_fromio",
    "memcpy_toio",
    "__vunmap_range_noflush",
    "vmap_range_noflush",
    "__vmap_pages_range_noflush",
    "smp_call_function_many_cond",
    "flush_tlb_func",
)
ARM64_GHES = (
    "_text",
    "register_kprobe",
    "ghes_copy_tofrom_phys",
    "__ghes_peek_estatus.isra.0",
    "ghes_irq_func",
    "ghes_poll_func",
    "ghes_notify_hed",
    "ghes_notify_sea",
    "ghes_sdei_normal_callback",
    "ghes_sdei_critical_callback",
    "ghes_proc",
    "__set_fixmap",
    "__memcpy_fromio",
    "__memcpy_toio",
    "__vunmap_range_noflush",
    "vmap_range_noflush",
    "__vmap_pages_range_noflush",
)
# The functions of 2.6.39 to 4.14, as lab/module has them too.
VMAREA = (
    "ghes_ioremap_pfn_irq",
    "ghes_ioremap_pfn_nmi",
    "ghes_iounmap_irq",
    "ghes_iounmap_nmi",
    "arch_apei_flush_tlb_one",
    "ghes_copy_tofrom_phys",
    "ghes_notify_nmi",
)
COPY_5 = ("buffer", "paddr", "len", "from_phys", "fixmap_idx")
X86_SLOTS = {"VSYSCALL_PAGE": 511, "FIX_APEI_GHES_IRQ": 644, "FIX_APEI_GHES_NMI": 645}
ARM64_SLOTS = {"FIX_APEI_GHES_IRQ": 1027, "FIX_APEI_GHES_SEA": 1028}
BASE = 0xFFFFFFFF81000000


def tree(
    root: Path,
    functions: Sequence[str] = X86_GHES,
    *,
    arch: str = "x86_64",
    modules: Mapping[str, Sequence[str]] | None = None,
    vmlinux_btf: bytes | None = None,
    readme: str | None = None,
    kprobes: bool = True,
    hest: bytes | None = None,
    flags: str = "fpu pge",
    hidden: bool = False,
    not_traceable: Sequence[str] = (),
    tracefs: bool = True,
) -> Path:
    """Write a host's file tree below *root* and return *root*."""
    lines, hooks = [], []
    names = [(name, "") for name in functions]
    names += [(name, module) for module, found in (modules or {}).items() for name in found]
    for number, (name, module) in enumerate(names):
        address = 0 if hidden else BASE + 0x1000 * number
        owner = f"\t[{module}]" if module else ""
        lines.append(f"{address:016x} t {name}{owner}")
        if name not in not_traceable and name != "_text":
            hooks.append(f"{name} [{module}]" if module else name)
    if not hidden:
        lines += [f"{0x1F7D0:016x} A __preempt_count", f"{BASE - 0x1000:016x} R __per_cpu_offset"]
    files: dict[str, str | bytes] = {
        "proc/kallsyms": "\n".join(lines) + "\n",
        "proc/sys/kernel/osrelease": "6.1.0-test\n",
        "proc/sys/kernel/arch": f"{arch}\n",
        "proc/cpuinfo": f"processor\t: 0\nflags\t\t: {flags}\n",
        "sys/devices/system/cpu/online": "0-1\n",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    }
    if tracefs:
        files[f"{TRACEFS}/README"] = readme or README
        files[f"{TRACEFS}/trace_clock"] = "[local] global counter mono mono_raw\n"
        files[f"{TRACEFS}/available_filter_functions"] = "\n".join(hooks) + "\n"
        files[f"{TRACEFS}/dynamic_events"] = ""
        files[f"{TRACEFS}/instances/.keep"] = ""
        if arch == "x86_64":
            files[f"{TRACEFS}/events/nmi/nmi_handler/id"] = "97\n"
        if kprobes:
            files[f"{TRACEFS}/kprobe_events"] = ""
    if vmlinux_btf is not None:
        files["sys/kernel/btf/vmlinux"] = vmlinux_btf
    if hest is not None:
        files["sys/firmware/acpi/tables/HEST"] = hest
    return write_files(root, files)


# What a kernel with BPF trampolines has besides.
TRAMPOLINES = (
    "array_map_mmap",
    "bpf_trampoline_link_prog",
    "register_ftrace_direct",
    "get_func_arg",
)
X86_BPF = (*X86_GHES, *TRAMPOLINES)
X86_PROTOTYPES = {
    "ghes_copy_tofrom_phys": ("*buffer", "paddr", "len", "from_phys", "fixmap_idx"),
    "native_set_fixmap": ("idx", "phys", "&flags"),
    "flush_tlb_one_kernel": ("addr",),
    "flush_tlb_kernel_range": ("start", "end"),
    "flush_tlb_all": (),
    "do_kernel_range_flush": ("*info",),
    "do_flush_tlb_all": ("*info",),
    "native_flush_tlb_global": (),
    "ghes_notify_nmi": ("cmd", "*regs"),
    "ghes_irq_func": ("irq", "*data"),
    "ghes_poll_func": ("*t",),
    "ghes_notify_hed": ("*this", "event", "*data"),
    "ghes_proc": ("*ghes",),
    "memcpy_fromio": ("*to", "*from", "n"),
    "memcpy_toio": ("*to", "*from", "n"),
    "__vunmap_range_noflush": ("start", "end"),
    "vmap_range_noflush": ("addr", "end", "phys_addr", "&prot", "max_page_shift"),
    "__vmap_pages_range_noflush": ("addr", "end", "&prot", "**pages", "page_shift"),
    "smp_call_function_many_cond": ("*mask", "*func", "*info", "scf_flags", "*cond_func"),
}


def x86_bpf_btf(
    *,
    struct_args: bool = True,
    without: Sequence[str] = (),
    variables: Sequence[str] = ("__preempt_count",),
) -> bytes:
    """BTF of a fixmap kernel on x86 that BPF programs can be attached to."""
    structs = {"flush_tlb_info": {"mm": 0, "start": 8, "end": 16}}
    structs["btf_func_model"] = {"ret_size": 0, **({"arg_flags": 8} if struct_args else {})}
    functions = {name: p for name, p in X86_PROTOTYPES.items() if name not in without}
    return btf({"fixed_addresses": X86_SLOTS}, structs, functions, variables)


def x86_btf(
    copy: Sequence[str] = COPY_5, structs: Mapping[str, Mapping[str, int]] | None = None
) -> bytes:
    """What resolving needs of a fixmap kernel's BTF on x86."""
    return btf(
        {"fixed_addresses": X86_SLOTS},
        {"flush_tlb_info": {"mm": 0, "start": 8, "end": 16}, **(structs or {})},
        {"ghes_copy_tofrom_phys": copy},
    )


def arm64_btf() -> bytes:
    """What resolving needs of a fixmap kernel's BTF on arm64."""
    return btf({"fixed_addresses": ARM64_SLOTS}, {}, {"ghes_copy_tofrom_phys": COPY_5})
