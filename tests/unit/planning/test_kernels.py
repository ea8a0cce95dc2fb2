# SPDX-License-Identifier: Apache-2.0
"""The plan for real kernels: their own files, cut down by `python -m lab.facts`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.backends import order
from ghesrace.checker.report import Verdict
from ghesrace.errors import HostError
from ghesrace.events import PAGE_SIZE
from ghesrace.host import hest
from ghesrace.host.facts import ANCHORS, BPF_FEATURES, KPROBES, Facts
from ghesrace.plan import Backend, Plan, Probe, Slot
from ghesrace.planning.resolve import resolve
from ghesrace.points import Candidate, Family, Point, families
from ghesrace.sources.bpf.load import preempt_count
from lab.facts import KERNELS, facts_of, render
from lab.kernels import kernelfile
from tests.build.judging import judge
from tests.build.trace import POINTS, A, B, Trace, V

RELEASES = sorted(path.stem for path in KERNELS.glob("*.json"))
BACKENDS: tuple[Backend, ...] = ("ftrace", "bpf")
AGAIN = "python -m lab.facts build/facts/*.tar.gz, or take the kernel again"


@cache
def kernel(release: str) -> dict[str, Any]:
    return kernelfile.load(KERNELS / f"{release}.json")


@cache
def facts(release: str) -> Facts:
    return facts_of(kernel(release))


@cache
def plan(release: str, backend: Backend = "ftrace") -> Plan:
    return resolve(facts(release), backend=backend)


def served(made: Plan) -> dict[str, set[str]]:
    """Probe point -> the symbols that serve it, without offsets."""
    found: dict[str, set[str]] = {}
    for probe in made.probes:
        found.setdefault(probe.point, set()).add(probe.symbol)
    return found


def test_the_kernels_that_people_run_are_here():
    """If this fails, a kernel of docs/kernels.md is planned for without a test."""
    for series, arch in product(("5.10.", "6.1.", "6.12.", "7."), ("amd64", "arm64")):
        found = [r for r in RELEASES if r.startswith(series) and r.endswith(arch)]
        assert found, f"no {series} {arch}: python -m lab.facts --suite … --arch {arch}"


@pytest.mark.parametrize("release", RELEASES)
def test_the_plan_is_the_expected_one(release: str):
    """If this fails, something else serves a probe point of this kernel than what was reviewed.

    If that is meant: python -m lab.facts --plans, and read the diff.
    """
    assert render(kernel(release)) == (KERNELS / f"{release}.plan").read_text()


@pytest.mark.parametrize("release", RELEASES)
def test_the_file_knows_what_the_probe_files_ask(release: str):
    """If this fails, a symbol that nobody looked for passes for one that the kernel lacks."""
    assert kernelfile.unasked(kernel(release)) == [], AGAIN


# From the booted kernels (dmesg, tracefs), not from these files: lab/README.md.
INDICES = {
    ("6.1.", "amd64"): {"GHES_IRQ": 644, "GHES_NMI": 645},
    ("6.1.", "arm64"): {
        "GHES_IRQ": 1027,
        "GHES_SEA": 1028,
        "GHES_SDEI_NORMAL": 1029,
        "GHES_SDEI_CRITICAL": 1030,
    },
    ("6.12.", "arm64"): {"GHES_IRQ": 517, "GHES_SEA": 518},
}


@pytest.mark.parametrize("release", RELEASES)
def test_slots(release: str):
    """If this fails, maps are attributed to another slot, or to none."""
    found = {slot.name: slot.index for slot in plan(release).slots}
    for (series, arch), expected in INDICES.items():
        if release.startswith(series) and release.endswith(arch):
            assert expected.items() <= found.items()
    roles = {"amd64": {"GHES_IRQ", "GHES_NMI"}, "arm64": {"GHES_IRQ", "GHES_SEA"}}
    assert roles[release.rpartition("-")[2]] <= set(found)


@pytest.mark.parametrize("release", RELEASES)
def test_no_kprobe_in_an_sdei_handler(release: str):
    """If this fails, a BRK inside an SDEI handler may take the machine down."""
    source = hest.ErrorSource(1, 2, hest.SDEI, 804, 0, 0, 4096, True)
    with_sdei = replace(facts(release), hest=(source,))
    on_path = {c.symbol for f in families() for p in f.points for c in p.candidates if c.sdei_path}
    for backend in BACKENDS:
        try:
            made = resolve(with_sdei, backend=backend)
        except HostError as caught:
            error = caught.what
            assert "SDEI" in error
            continue
        kprobes = {p.symbol for p in made.probes if p.mechanism in ("kprobe", "kretprobe")}
        assert made.arch != "arm64" or not kprobes & on_path


@pytest.mark.parametrize("release", RELEASES)
def test_bpf_can_tell_contexts_or_is_refused(release: str, tmp_path: Path):
    """If this fails, a plan is shown that can't be loaded, or an NMI passes for a task."""
    known = facts(release)
    assert known.btf is not None
    if not release.startswith("5.10.") or known.arch == "arm64":
        expression, _ = preempt_count(known.arch, known.btf)
        assert expression.startswith(
            "narrow(*(u32 *)(" if release.startswith("7.") else "*(u32 *)("
        )
        assert next(order("bpf", known, tmp_path)) == ("bpf", "")
        return
    # pahole 1.19 wrote no variables: what kallsyms says, if it says it.
    with pytest.raises(HostError, match="where this kernel keeps its preempt count"):
        next(order("bpf", known, tmp_path))
    assert next(order("auto", known, tmp_path))[0] == "ftrace"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kallsyms").write_text(
        "000000000001f7d0 A __preempt_count\nffffffff82b00000 R __per_cpu_offset\n"
    )
    assert next(order("bpf", known, tmp_path)) == ("bpf", "")


def without(known: Facts, name: str) -> Facts:
    """The same kernel without one function, as if it had another name or were inlined."""
    return replace(known, symbols={n: s for n, s in known.symbols.items() if n != name})


def points_of(loaded: tuple[Family, ...] = families()) -> dict[str, Point]:
    return {point.name: point for family in loaded for point in family.points}


def unaccounted(before: Plan, after: Plan) -> list[str]:
    """Points that *before* watches and *after* doesn't, and of which *after* says nothing."""
    points, now = points_of(), served(after)
    said = {unseen.what for unseen in after.unseen}
    silent = []
    for name in served(before).keys() - now.keys():
        point = points[name]
        stands_in = any(name in points[other].unless for other in now)
        implied = any(name in i.unless for i in _implications(after))
        if not (stands_in or implied or point.what in said):
            silent.append(name)
    return silent


def _implications(made: Plan) -> Iterator[Any]:
    """What the chosen symbols are known to do besides."""
    chosen = {probe.symbol: probe.implies for probe in made.probes}
    for candidate in (c for point in points_of().values() for c in point.candidates):
        for implication in candidate.implies:
            if implication.what in chosen.get(candidate.symbol, ()):
                yield implication


def seen_by(made: Plan, trace: Trace) -> np.ndarray:
    """The part of *trace* that the probes of *made* can record."""
    kinds = {kind for probe in made.probes for kind in (probe.kind, probe.clear_kind) if kind}
    stream = trace.stream()
    named = stream["point"] < len(POINTS)
    keep = np.ones(len(stream), bool)
    for number, kind in enumerate(POINTS):
        mine = named & (stream["point"] == number)
        keep &= ~mine | (kind in kinds)
        owner = [n for n, p in enumerate(made.probes) if kind in (p.kind, p.clear_kind)]
        stream["point"][mine] = owner[0] if owner else 0
    return stream[keep]


def bare(made: Plan) -> Plan:
    """What the engine's answer depends on: kernels whose plans say the same events share it."""
    slots = tuple(
        Slot(s.name, None, V + n * PAGE_SIZE, s.lock) for n, s in enumerate(made.slots[:2])
    )
    probes = tuple(
        Probe(p.point, p.kind, "f", "kprobe", {}, p.clear_kind, implies=p.implies)
        for p in made.probes
    )
    return Plan(made.arch, "", slots, probes, (), made.not_checked, cpus=(0, 1))


VERDICTS: dict[str, Verdict] = {}


def verdict(made: Plan, *, flush: bool) -> Verdict:
    """Of hand-offs on the IRQ slot; *flush*: each CPU invalidates the page when it maps it."""
    made = bare(made)
    name = f"{made} {flush}"
    if name not in VERDICTS:
        trace = Trace()
        for cpu, frame in ((0, A), (1, B), (0, B), (1, A)):
            trace.report(cpu, frame, flush=flush)
        VERDICTS[name] = judge(made, seen_by(made, trace)).verdict
    return VERDICTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_one_symbol_less_is_replaced_or_named(release: str):
    """If this fails, a kernel that lacks or renames one function is judged as if it had been
    watched: a false clean."""
    for backend in BACKENDS:
        whole = plan(release, backend)
        symbols = {p.symbol for p in whole.probes if ":" not in p.symbol}
        assert len(symbols) > 10
        for name in sorted(symbols):
            try:
                less = resolve(without(facts(release), name), backend=backend)
            except HostError as caught:
                why = caught.what
                assert name in why  # nothing is watched
                continue
            assert unaccounted(whole, less) == [], f"without {name}"
            assert all(name in reason for reason in lost_patterns(whole, less)), name
            check_less(whole, less)


def lost_patterns(whole: Plan, less: Plan) -> list[str]:
    return [why for pattern, why in less.not_checked.items() if pattern not in whole.not_checked]


def check_less(whole: Plan, less: Plan) -> None:
    """Fewer probes make no verdict clean that was not, and none stays clean without a word.

    (The report's `unseen` is the plan's: tests/unit/checker/test_engine.py.)
    """
    gone = served(whole).keys() - served(less).keys()
    said = {u.what for u in less.unseen} - {u.what for u in whole.unseen}
    stand_in = {n for n in served(less) for other in points_of()[n].unless if other in gone}
    for flush in (False, True):
        if verdict(less, flush=flush) == Verdict.CLEAN:
            assert verdict(whole, flush=flush) == Verdict.CLEAN
            assert said or stand_in or not gone


@pytest.mark.parametrize("release", RELEASES)
def test_whole_plans_judge_the_hand_offs(release: str):
    """If this fails, `check_less` compares with a verdict that means nothing."""
    racy = Verdict.CLEAN if release.endswith("arm64") else Verdict.OBSERVED  # TLBI at unmap
    for backend in BACKENDS:
        assert verdict(plan(release, backend), flush=False) == racy
        assert verdict(plan(release, backend), flush=True) == Verdict.CLEAN


def stripped(names: set[str]) -> tuple[Family, ...]:
    """The probe files without these symbols: written before a kernel that needs them. What only
    they can show had another name then."""

    def known(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        kept = tuple(c for c in candidates if c.symbol not in names)
        return kept or tuple(replace(c, symbol=f"{c.symbol}_before") for c in candidates)

    return tuple(
        replace(f, points=tuple(replace(p, candidates=known(p.candidates)) for p in f.points))
        for f in families()
    )


@pytest.mark.parametrize("release", RELEASES)
def test_a_kernel_that_the_probe_files_do_not_know(release: str):
    """If this fails, a kernel newer (or older) than the probe files is judged in silence."""
    arch = release.rpartition("-")[2]
    others = [r for r in RELEASES if r.endswith(arch) and r != release]
    known = {p.symbol for r in others for p in plan(r).probes}
    own = {p.symbol for p in plan(release).probes} - known
    for backend in BACKENDS:
        less = resolve(facts(release), stripped(own), backend=backend)
        assert own.isdisjoint(p.symbol for p in less.probes)
        assert unaccounted(plan(release, backend), less) == []
        check_less(plan(release, backend), less)


def test_some_kernel_has_symbols_of_its_own():
    """If this fails, the test above takes nothing away."""
    names = {r: {p.symbol for p in plan(r).probes} for r in RELEASES}
    arches = {r: r.rpartition("-")[2] for r in RELEASES}
    own = {
        r
        for r in RELEASES
        if names[r] - {n for o in RELEASES if o != r and arches[o] == arches[r] for n in names[o]}
    }
    assert any(r.startswith("5.10.") for r in own)


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_not_the_kernels_is_not_asked_of_it(release: str):
    """If this fails, every kernel would look like one without BPF or kprobes."""
    known = facts(release)
    assert known.problems.keys() <= {"HEST", "vmallocinfo"}
    assert KPROBES in known.symbols
    assert any(name in known.symbols for name in ANCHORS)
    assert BPF_FEATURES[0] in known.symbols
