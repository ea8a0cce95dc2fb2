# SPDX-License-Identifier: Apache-2.0
"""This module decides which backend watches this kernel, and attaches it.

BPF trampolines cost less than ftrace's probes, so `auto` takes BPF where the kernel and the host
allow it, and ftrace elsewhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from ghesrace.host.facts import Facts
from ghesrace.planning.mechanism import no_bpf, transport
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.load import find_preempt_count
from ghesrace.sources.bpf.pack import Pack
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


def why_not_bpf(facts: Facts, root: Path = Path("/"), *, packed: bool = False) -> str:
    """Return what this host lacks for the BPF backend to be the better one, or "".

    *root* is where /lib/modules and /sys are looked up. Programs that are *packed* need no bcc.

    >>> why_not_bpf(Facts("x86_64", "6.12"))
    'no BTF (not read)'
    """
    if reason := bpf_refused(facts, root):
        return reason
    if not packed and importlib.util.find_spec("bcc") is None:
        return "no bcc (Debian: python3-bpfcc)"
    build = root / "lib/modules" / facts.release / "build"
    if not packed and not build.exists() and not (root / "sys/kernel/kheaders.tar.xz").exists():
        return f"no kernel headers, which bcc needs (Debian: linux-headers-{facts.release})"
    probes = resolve(facts, backend="bpf").probes
    kprobes = [p for p in probes if p.mechanism in ("kprobe", "kretprobe")]
    # A shootdown's probe needs flags (points.Candidate.needs_flags), which no trampoline has on
    # any kernel, so its kprobe is no reason to prefer ftrace.
    by_kprobe = sorted({p.symbol for p in kprobes if p.kind != Kind.SHOOTDOWN.name})
    if by_kprobe:
        # A BPF kprobe is skipped whenever another BPF program of this kind runs, and it is no
        # cheaper than ftrace's.
        return f"no BPF trampoline for {', '.join(by_kprobe)}"
    return ""


def bpf_refused(facts: Facts, root: Path = Path("/")) -> str:
    """Return why BPF programs can't watch this kernel, or "".

    They can't without BTF (`planning.mechanism.no_bpf`), nor where they find no preempt count.

    >>> bpf_refused(Facts("x86_64", "4.19", problems={"BTF": "No such file or directory"}))
    'no BTF (No such file or directory)'
    """
    if (reason := no_bpf(facts)) or facts.btf is None:
        return reason
    try:
        find_preempt_count(facts.arch, transport(facts), facts.btf, root)
    except HostError as error:
        return error.what
    return ""


def order(
    wanted: Wanted, facts: Facts, root: Path = Path("/"), *, packed: bool = False
) -> Iterator[tuple[Backend, str]]:
    """Yield the backends to try, each with the reason why no better one comes first, or "".
    Programs that are *packed* need no bcc.

    Raises HostError if no slot is observable, or if the backend that is wanted can't watch this
    kernel.

    >>> list(order("auto", Facts("x86_64", "6.12")))
    [('ftrace', 'no BTF (not read)')]
    """
    if wanted == "bpf" and (reason := bpf_refused(facts, root)):
        raise HostError(f"no BPF backend: {reason}", "record with --backend ftrace")
    if wanted != "auto":
        yield wanted, ""
        return
    reason = why_not_bpf(facts, root, packed=packed)
    if not reason:
        yield "bpf", ""
    yield "ftrace", reason


def make_plan(wanted: Wanted, facts: Facts, *, summary: bool = False, packed: bool = False) -> Plan:
    """Return the plan of the first backend in `order`, where *packed* is explained.

    With *summary* the plan is one by which the kernel judges, and the backend must be BPF. Raises
    HostError if no slot is observable or BPF can't do it here, and UsageError if a summary is asked
    of ftrace.

        plan = make_plan("auto", read_facts())
        print(render_plan_text(plan))
    """
    if summary and wanted == "ftrace":
        raise UsageError("--summary is BPF's: ftrace can't judge in the kernel", "leave one out")
    backend, reason = next(order(wanted, facts, packed=packed))
    if summary and backend != "bpf":
        raise HostError(f"summary mode needs the BPF backend: {reason}", "record without --summary")
    plan = _planned(backend, facts, reason, packed=packed)
    return summarised(plan) if summary else plan


def bpf_alone(facts: Facts, root: Path = Path("/")) -> bool:
    """Return whether this kernel can be watched by BPF, and not by ftrace: it has trampolines, and
    no kprobe events.

    >>> bpf_alone(Facts("x86_64", "6.12"))
    False
    """
    if facts.tracefs is None:
        return False
    try:
        resolve(facts)
    except HostError:
        try:
            return not bpf_refused(facts, root) and bool(resolve(facts, backend="bpf"))
        except HostError:
            return False
    return False


def _planned(backend: Backend, facts: Facts, reason: str, *, packed: bool) -> Plan:
    """Return the plan of *backend*, which is ftrace for that *reason* where BPF would do.

    Raises HostError if there is none, which says what BPF lacks to serve in place of ftrace.
    """
    try:
        return resolve(facts, backend=backend)
    except HostError as error:
        if backend != "ftrace" or not bpf_alone(facts):
            raise
        if reason := reason or why_not_bpf(facts, packed=packed):
            raise HostError(
                f"{error.what}; BPF could watch it, but: {reason}",
                "provide that, or a program pack (docs/packs.md)",
            ) from None
        raise HostError(error.what, "record with --backend bpf") from None


def attach(
    wanted: Wanted,
    facts: Facts,
    *,
    finished: Callable[[Plan], Plan],
    started: Callable[[LiveSource], Any],
    tell: Callable[[str], Any],
    buffer_kb: int | None = None,
    summary: bool = False,
    pack: Pack | None = None,
) -> LiveSource:
    """Attach a source and return it; the caller must leave it (`__exit__`).

    *finished* completes a plan before it is attached. *started* is given each source before that
    attaches, so that a signal can stop it. *tell* is given one sentence when `auto` does without
    BPF; a *summary* can't. *buffer_kb* is the size of each CPU's buffer in KiB. BPF takes its
    programs from a *pack*, if there is one, instead of bcc. Raises HostError, TransientError or
    UsageError.

        with ExitStack() as stack:
            source = attach("auto", read_facts(), finished=with_clock_error, started=seen.append,
                            tell=print)
            stack.push(source)
            for batch in source.batches():
                engine.feed(batch)
    """
    root = str(facts.tracefs or TRACEFS)
    if summary:
        plan = finished(make_plan(wanted, facts, summary=True, packed=pack is not None))
        source: LiveSource = SummarySource(
            plan, facts.to_host(), root=root, buffer_kb=buffer_kb, pack=pack
        )
        started(source)
        return source.__enter__()
    for backend, reason in order(wanted, facts, packed=pack is not None):
        if reason:
            tell(f"ftrace instead of bpf: {reason}")
        plan = finished(_planned(backend, facts, reason, packed=pack is not None))
        source = _source(backend, plan, facts, root, buffer_kb, pack)
        started(source)
        try:
            return source.__enter__()
        except HostError as error:
            if wanted != "auto" or backend != "bpf":
                raise
            tell(f"ftrace instead of bpf: {error.what}")
    raise AssertionError("order() ends with ftrace")


def _source(
    backend: Backend,
    plan: Plan,
    facts: Facts,
    root: str,
    buffer_kb: int | None,
    pack: Pack | None,
) -> LiveSource:
    if backend == "bpf":
        return BpfSource(plan, facts.to_host(), root=root, buffer_kb=buffer_kb, pack=pack)
    return FtraceSource(plan, facts.to_host(), root=root, buffer_kb=buffer_kb)
