# SPDX-License-Identifier: Apache-2.0
"""Which backend watches this kernel, and what `auto` does if the better one can't."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from ghesrace.host.facts import Facts
from ghesrace.planning.mechanism import no_bpf, transport
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.load import find_preempt_count
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.bpf.summary.plan import summarised
from ghesrace.sources.bpf.summary.source import SummarySource
from ghesrace.sources.ftrace.source import FtraceSource
from ghesrace.sources.live import LiveSource
from ghesrace.sources.tracefs import TRACEFS

from .errors import HostError, UsageError
from .events import Kind
from .plan import Backend, Plan

Wanted = Literal["auto", "ftrace", "bpf"]
_SOURCES: dict[Backend, type[FtraceSource] | type[BpfSource]] = {
    "ftrace": FtraceSource,
    "bpf": BpfSource,
}


def why_not_bpf(facts: Facts, root: Path = Path("/")) -> str:
    """What this host lacks for the BPF backend to be the better one, or ""."""
    if reason := bpf_refused(facts, root):
        return reason
    if importlib.util.find_spec("bcc") is None:
        return "no bcc (Debian: python3-bpfcc)"
    build = root / "lib/modules" / facts.release / "build"
    if not build.exists() and not (root / "sys/kernel/kheaders.tar.xz").exists():
        return f"no kernel headers, which bcc needs (Debian: linux-headers-{facts.release})"
    probes = resolve(facts, backend="bpf").probes
    kprobes = [p for p in probes if p.mechanism in ("kprobe", "kretprobe")]
    # What a trampoline can never do (points.Candidate.needs_flags) is no reason.
    by_kprobe = sorted({p.symbol for p in kprobes if p.kind != Kind.SHOOTDOWN.name})
    if by_kprobe:
        # Skipped whenever another BPF program of this kind runs, and no cheaper than ftrace's.
        return f"no BPF trampoline for {', '.join(by_kprobe)}"
    return ""


def bpf_refused(facts: Facts, root: Path = Path("/")) -> str:
    """Why BPF programs can't watch this kernel, or "": `no_bpf`, or no preempt count."""
    if (reason := no_bpf(facts)) or facts.btf is None:
        return reason
    try:
        find_preempt_count(facts.arch, transport(facts), facts.btf, root)
    except HostError as error:
        return error.what
    return ""


def order(wanted: Wanted, facts: Facts, root: Path = Path("/")) -> Iterator[tuple[Backend, str]]:
    """The backends to try, and why not a better one. Raises HostError if no slot is observable,
    or the one that is wanted can't watch this kernel."""
    if wanted == "bpf" and (reason := bpf_refused(facts, root)):
        raise HostError(f"no BPF backend: {reason}", "record with --backend ftrace")
    if wanted != "auto":
        yield wanted, ""
        return
    reason = why_not_bpf(facts, root)
    if not reason:
        yield "bpf", ""
    yield "ftrace", reason


def make_plan(wanted: Wanted, facts: Facts, *, summary: bool = False) -> Plan:
    """The plan of the first backend in `order`; *summary*: of a summary, for which that must be
    BPF. Raises HostError, UsageError."""
    if summary and wanted == "ftrace":
        raise UsageError("--summary is BPF's: ftrace can't judge in the kernel", "leave one out")
    backend, reason = next(order(wanted, facts))
    if summary and backend != "bpf":
        raise HostError(f"summary mode needs the BPF backend: {reason}", "record without --summary")
    plan = resolve(facts, backend=backend)
    return summarised(plan) if summary else plan


def attach(
    wanted: Wanted,
    facts: Facts,
    *,
    finished: Callable[[Plan], Plan],
    started: Callable[[LiveSource], Any],
    tell: Callable[[str], Any],
    buffer_kb: int | None = None,
    summary: bool = False,
) -> LiveSource:
    """An attached source; whoever asked for it leaves it (`__exit__`).

    *finished* completes a plan, *started* is given each source before it attaches (to stop it),
    *tell* a sentence when `auto` does without BPF, which a *summary* can't. Raises HostError,
    TransientError, UsageError.
    """
    root = str(facts.tracefs or TRACEFS)
    if summary:
        plan = finished(make_plan(wanted, facts, summary=True))
        source: LiveSource = SummarySource(plan, facts.to_host(), root=root, buffer_kb=buffer_kb)
        started(source)
        return source.__enter__()
    for backend, reason in order(wanted, facts):
        if reason:
            tell(f"ftrace instead of bpf: {reason}")
        plan = finished(resolve(facts, backend=backend))
        source = _SOURCES[backend](plan, facts.to_host(), root=root, buffer_kb=buffer_kb)
        started(source)
        try:
            return source.__enter__()
        except HostError as error:
            if wanted != "auto" or backend != "bpf":
                raise
            tell(f"ftrace instead of bpf: {error.what}")
    raise AssertionError("order() ends with ftrace")
