# SPDX-License-Identifier: Apache-2.0
"""Try each thing that a run needs and say, one line each, what it means and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ghesrace import compiled
from ghesrace.backends import bpf_alone
from ghesrace.errors import EXIT_INCONCLUSIVE, EXIT_OK, GhesraceError
from ghesrace.host.clocks import ASSUMED_NS, Comparison
from ghesrace.host.facts import KPROBES, Facts, read_facts
from ghesrace.plan import Backend, Plan
from ghesrace.planning.resolve import resolve

from .attempts import Attempts
from .check import Check, State
from .pack import GivenPack, of_pack

_LITTLE_SPACE, _NO_SPACE = 1 << 30, 64 << 20
_MIB = 1 << 20


def exit_code(checks: Iterable[Check]) -> int:
    """0 if a capture can run, 3 if something that it needs is missing."""
    stuck = any(check.needed and check.state == "missing" for check in checks)
    return EXIT_INCONCLUSIVE if stuck else EXIT_OK


def run(
    root: Path = Path("/"),
    output: Path = Path(),
    attempts: Attempts | None = None,
    pack: GivenPack | None = None,
) -> Iterator[Check]:
    """Yield the checks of the host whose files are at *root*, each as soon as it is known.

    *output* is where a capture would be written, and *pack* what its BPF programs shall be taken
    from. Everything tried is undone.
    """
    attempts = attempts or Attempts()
    facts = read_facts(root)
    alone = bpf_alone(facts, root)
    plan, no_plan = _plan(facts, "bpf" if alone else "ftrace")
    yield _tracefs(facts)
    yield _instance(facts, attempts)
    yield from _probe_events(facts, plan, attempts, alone)
    yield _symbols(facts)
    yield _ghes(facts)
    yield _hest(facts)
    yield _resolved(plan, no_plan)
    yield from _implications(facts, plan)
    if plan and facts.tracefs and not alone:
        yield _accepted(facts.tracefs, plan, attempts)
    yield _btf(facts)
    yield _bpf(attempts, alone)
    packed = None if pack is None else of_pack(pack, facts, root)
    if packed is not None:
        yield packed
    if packed is None or packed.state != "ok":
        yield _bcc(attempts, alone)
        yield _headers(root, facts, alone)
    yield _lockdown(facts)
    yield _clock(facts)
    yield _clock_error(attempts)
    yield _cpus(facts)
    yield _space(output)
    yield _compiled()


def _compiled() -> Check:
    found = compiled.describe()
    if found == "compiled":
        return Check("compiled parts", "ok", f"{len(compiled.MODULES)} of {len(compiled.MODULES)}")
    return Check(
        "compiled parts",
        "missing" if compiled.stale() and not compiled.pure() else "degraded",
        found,
        "records are decoded and judged much more slowly",
        "install gcc and python3-dev, then ghesrace again",
        needed=True,
    )


def _plan(facts: Facts, backend: Backend) -> tuple[Plan | None, GhesraceError | None]:
    try:
        return resolve(facts, backend=backend), None
    except GhesraceError as error:
        return None, error


def _tried(do: Callable[[], object]) -> tuple[str, str]:
    """("", "") if it works, else what went wrong and what to do."""
    try:
        do()
    except GhesraceError as error:
        return error.what, error.hint
    except OSError as error:
        return error.strerror or str(error), ""
    return "", ""


def _tracefs(facts: Facts) -> Check:
    if facts.tracefs is None:
        return Check(
            "tracefs",
            "missing",
            "not mounted, or not for this user",
            "nothing can be traced",
            "as root: mount -t tracefs tracefs /sys/kernel/tracing",
            needed=True,
        )
    return Check("tracefs", "ok", f"mounted at {facts.tracefs}", needed=True)


def _instance(facts: Facts, attempts: Attempts) -> Check:
    where = facts.tracefs
    if where is None:
        what, hint = "not tried: no tracefs", ""
    else:
        what, hint = _tried(lambda: attempts.instance(where))
    if what:
        return Check(
            "private instance", "missing", what, "a run has no buffer of its own", hint, needed=True
        )
    return Check("private instance", "ok", "made and removed one", needed=True)


def _probe_events(
    facts: Facts, plan: Plan | None, attempts: Attempts, alone: bool
) -> Iterator[Check]:
    """The kernel's two mechanisms of ftrace; a run needs one of them, or BPF's *alone*."""
    fprobe = _fprobe_events(facts, attempts, alone)
    kprobe = _kprobe_events(facts, plan, attempts, alone)
    yield kprobe
    yield fprobe


def _kprobe_events(facts: Facts, plan: Plan | None, attempts: Attempts, alone: bool) -> Check:
    name = "kprobe events"
    where = facts.tracefs
    if alone and where is not None:
        return Check(
            name,
            "degraded",
            "this kernel has none",
            "no ftrace backend; BPF trampolines serve, but nothing sees shootdowns",
            "boot a kernel with CONFIG_KPROBE_EVENTS=y",
        )
    if where is None and KPROBES in facts.symbols:
        return Check(name, "missing", "the kernel has kprobes; not tried: no tracefs", needed=True)
    if where is None or "kprobe-events" not in facts.features:
        return Check(
            name,
            "missing",
            "this kernel has no kprobes (no kprobe_events, no register_kprobe)"
            if KPROBES not in facts.symbols
            else "this kernel has kprobes but no kprobe_events",
            "its functions cannot be probed, so no map, unmap or flush is seen",
            "boot a kernel with CONFIG_KPROBE_EVENTS=y",
            needed=True,
        )
    functions = [p.symbol for p in plan.probes if p.mechanism == "kprobe"] if plan else []
    symbol = (functions or ["kfree"])[0]
    what, hint = _tried(lambda: attempts.probe(where, "p", symbol))
    if what:
        return Check(name, "missing", what, "no function can be probed", hint, needed=True)
    return Check(name, "ok", f"made and removed one on {symbol}", needed=True)


def _fprobe_events(facts: Facts, attempts: Attempts, alone: bool) -> Check:
    name = "fprobe events"
    where = facts.tracefs
    if alone:
        return Check(name, "ok", "this kernel has none, and BPF trampolines need none")
    if where is None or "fprobe-events" not in facts.features:
        return Check(
            name,
            "degraded",
            "this kernel has none",
            "kprobes serve: they miss an NMI inside a probe handler; misses are counted",
        )
    what, hint = _tried(lambda: attempts.probe(where, "f", "kfree"))
    if what:
        return Check(name, "degraded", what, "the plan's fprobes cannot be attached", hint)
    return Check(name, "ok", "made and removed one: guarded per context, so an NMI fires them too")


def _symbols(facts: Facts) -> Check:
    name = "kernel symbols"
    if not facts.symbols:
        return Check(
            name,
            "missing",
            facts.problems.get("kallsyms", "none of the functions we look for"),
            "there is no function to probe",
            "run as root on a kernel with CONFIG_KALLSYMS=y",
        )
    hidden = not any(s.address for found in facts.symbols.values() for s in found)
    if hidden:
        return Check(
            name,
            "degraded",
            "addresses are hidden",
            "GHES NMIs cannot be told from others, so a missed one is not noticed",
            "run as root, with kernel.kptr_restrict below 2",
        )
    problem = facts.problems.get("available_filter_functions")
    if problem:
        return Check(
            name,
            "degraded",
            f"available_filter_functions: {problem}",
            "whether ftrace can hook a function is only known when it is tried",
        )
    return Check(name, "ok", f"{len(facts.symbols)} of the functions that the probe files name")


def _ghes(facts: Facts) -> Check:
    if any(name.startswith("ghes_") for name in facts.symbols):
        modules = {
            s.module for n, found in facts.symbols.items() for s in found if n[:5] == "ghes_"
        }
        where = ", ".join(sorted(module or "vmlinux" for module in modules))
        return Check("GHES driver", "ok", f"in {where}", needed=True)
    return Check(
        "GHES driver",
        "missing",
        "this kernel has no ACPI APEI GHES code",
        "it maps no firmware error records, so there is nothing to watch",
        "boot a kernel with CONFIG_ACPI_APEI_GHES=y",
        needed=True,
    )


def _hest(facts: Facts) -> Check:
    if facts.hest is None:
        return Check(
            "HEST",
            "degraded",
            f"no table: {facts.problems.get('HEST', 'not read')}",
            "no source is announced: a run will see no traffic",
            "enable firmware-first error handling (APEI) in the firmware set-up",
        )
    if not facts.hest:
        return Check(
            "HEST", "degraded", "a table without a GHES source", "a run will see no traffic"
        )
    found = ", ".join(f"{source.id} {source.notification}" for source in facts.hest)
    blocks = sum(source.block is not None for source in facts.hest)
    if blocks < len(facts.hest):
        return Check(
            "HEST",
            "ok",
            f"{found}; {blocks} of {len(facts.hest)} status blocks located",
            "the other frames are shown without the name of their source",
        )
    return Check("HEST", "ok", f"{found}; all status blocks located")


def _resolved(plan: Plan | None, error: GhesraceError | None) -> Check:
    if plan is None:
        what = error.what if error else "no plan"
        return Check("plan", "missing", what, "no slot can be observed", needed=True)
    found = f"{len(plan.slots)} slots, {len(plan.probes)} probes"
    if plan.not_checked:
        reasons = "; ".join(f"{name}: {why}" for name, why in plan.not_checked.items())
        return Check("plan", "degraded", f"{found}; not checked: {reasons}", needed=True)
    return Check("plan", "ok", f"{found}; see `ghesrace plan`", needed=True)


def _implications(facts: Facts, plan: Plan | None) -> Iterator[Check]:
    """What the plan believes that functions do besides, and where their code says so."""
    said = plan.implications if plan else ()
    if not said:
        return
    found = "; ".join(f"{i.symbol}: {i.what} is {i.state} ({i.where})" for i in said)
    states = {one.state for one in said}
    if "contradicted" in states:
        yield Check(
            "implications",
            "degraded",
            found,
            "this kernel's code does not do what Linux's does: it is judged by what it does",
        )
    elif "assumed" in states:
        yield Check(
            "implications",
            "degraded",
            found,
            "a clean verdict rests on `implications` (--accept-unknown)",
            _to_read_code(facts),
        )
    else:
        yield Check("implications", "ok", found)


def _to_read_code(facts: Facts) -> str:
    """What lets more be proven: the code be read, or the page that it is asked about be known."""
    if facts.code is None:
        return (
            "run as root, with CAP_SYS_RAWIO for /proc/kcore or CAP_BPF and CAP_PERFMON, on a "
            "kernel that is not locked down for confidentiality"
        )
    return "" if facts.btf else "boot a kernel with CONFIG_DEBUG_INFO_BTF=y"


def _accepted(where: Path, plan: Plan, attempts: Attempts) -> Check:
    name, meaning = "the plan's probes", "a capture that attaches them fails"
    refused: dict[str, str] = {}
    what, hint = _tried(lambda: refused.update(attempts.refused(where, plan)))
    if what:
        return Check(name, "missing", what, meaning, hint, needed=True)
    if refused:
        found = "; ".join(f"{symbol}: {why}" for symbol, why in refused.items())
        return Check(name, "missing", f"refused: {found}", meaning, needed=True)
    return Check(name, "ok", f"made and removed all {len(plan.probes)}", needed=True)


def _btf(facts: Facts) -> Check:
    if facts.btf is None:
        return Check(
            "BTF",
            "degraded",
            facts.problems.get("BTF", "not read"),
            "no BPF backend; slots are named in the order in which they are first used, and have "
            "no address",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
        )
    return Check("BTF", "ok", "read /sys/kernel/btf/vmlinux")


# What a host lacks by which the BPF backend can't run; `alone`, nothing else can.
_ONE_OF_TWO = "no BPF backend; the ftrace one needs none"
_NOTHING_ELSE = "no BPF backend, and ftrace can't watch this kernel"


def _bpf(attempts: Attempts, alone: bool) -> Check:
    what, _ = _tried(attempts.bpf)
    if what:
        return Check(
            "BPF load",
            "missing",
            what,
            _NOTHING_ELSE if alone else _ONE_OF_TWO,
            "run as root on a kernel with CONFIG_BPF_SYSCALL=y, not locked down",
            needed=alone,
        )
    return Check("BPF load", "ok", "loaded a program", needed=alone)


def _bcc(attempts: Attempts, alone: bool) -> Check:
    if attempts.bcc():
        return Check("bcc", "ok", "Python finds it", needed=alone)
    return Check(
        "bcc",
        "missing",
        "Python finds no bcc",
        _NOTHING_ELSE if alone else _ONE_OF_TWO,
        "apt install python3-bpfcc, and a venv that sees system packages",
        needed=alone,
    )


def _headers(root: Path, facts: Facts, alone: bool) -> Check:
    build = root / "lib/modules" / facts.release / "build"
    archive = root / "sys/kernel/kheaders.tar.xz"
    for place in (build, archive):
        if place.exists():
            return Check("kernel headers", "ok", f"/{place.relative_to(root)}", needed=alone)
    return Check(
        "kernel headers",
        "missing",
        f"none for {facts.release}",
        f"bcc cannot compile: {_NOTHING_ELSE}"
        if alone
        else "bcc cannot compile; the ftrace backend needs none",
        f"apt install linux-headers-{facts.release}",
        needed=alone,
    )


def _lockdown(facts: Facts) -> Check:
    mode = facts.lockdown
    if mode is None:
        return Check("lockdown", "ok", "not in this kernel, or securityfs is not mounted")
    if mode == "none":
        return Check("lockdown", "ok", "off")
    forbids = "kprobes, /dev/mem and BPF reads" if mode == "confidentiality" else "/dev/mem"
    return Check(
        "lockdown",
        "missing" if mode == "confidentiality" else "degraded",
        mode,
        f"the kernel refuses {forbids}",
        "boot without lockdown=, or with Secure Boot off" if mode == "confidentiality" else "",
        needed=True,
    )


def _clock(facts: Facts) -> Check:
    source = facts.clocksource or "unknown"
    if facts.tracefs is not None and "mono" not in facts.clocks:
        return Check(
            "clock",
            "missing",
            f"ftrace has no clock `mono` (it has {', '.join(facts.clocks) or 'none'})",
            "stamps cannot be compared with anything else's",
            needed=True,
        )
    return Check("clock", "ok", f"mono, from clocksource {source}")


def _clock_error(attempts: Attempts) -> Check:
    name = "clock error"
    found: list[Comparison] = []
    what, hint = _tried(lambda: found.append(attempts.clocks()))
    if what:
        return Check(name, "degraded", what, f"{ASSUMED_NS} ns are assumed", hint)
    [seen] = found
    if seen.warp_ns:
        return Check(
            name,
            "degraded",
            f"the clocks of two CPUs contradict each other by {seen.warp_ns} ns",
            "closer events of two CPUs have no certain order, which costs verdicts",
            "choose another clocksource, or look why this one is not synchronised",
        )
    if seen.bound_ns > ASSUMED_NS:
        return Check(
            name,
            "ok",
            f"no contradiction between CPUs; {seen.error_ns} ns are assumed, as this busy or "
            f"emulated host proves no less than {seen.bound_ns} ns",
        )
    return Check(name, "ok", f"at most {seen.bound_ns} ns between two CPUs")


def _cpus(facts: Facts) -> Check:
    if len(facts.cpus) == 1:
        return Check(
            "CPUs", "degraded", "1 online", "no hand-off between CPUs can happen, so no race"
        )
    return Check("CPUs", "ok", f"{len(facts.cpus)} online")


def _space(output: Path) -> Check:
    try:
        free = shutil.disk_usage(output).free
    except OSError as error:
        return Check(
            "free space",
            "missing",
            f"{output}: {error.strerror}",
            "a capture has nowhere to go",
            "choose another folder with -o",
            needed=True,
        )
    found = f"{free // _MIB} MiB in {output.absolute()}"
    if free >= _LITTLE_SPACE:
        return Check("free space", "ok", found, needed=True)
    state: State = "degraded" if free >= _NO_SPACE else "missing"
    return Check("free space", state, found, "a long capture may fill it", "free some", needed=True)
