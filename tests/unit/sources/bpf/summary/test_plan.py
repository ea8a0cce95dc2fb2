# SPDX-License-Identifier: Apache-2.0
"""What a summary's plan keeps, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace import backends
from ghesrace.errors import HostError, UsageError
from ghesrace.plan import Plan, Probe, Slot
from ghesrace.sources.bpf.summary.plan import NEEDS_EVENTS, summarised
from tests.build import trees
from tests.build.plans import bpf_facts_of

SLOTS = (Slot("irq", 644, 0x1000, "report"), Slot("nmi", 645, 0x2000, "report"))


def plan_of(*probes: Probe, slots: tuple[Slot, ...] = SLOTS) -> Plan:
    return Plan("x86_64", "test", slots, probes, cpus=(0, 1), backend="bpf")


def probe(kind: str, point: str = "x", slot: int | None = None) -> Probe:
    return Probe(point, kind, "f", "fentry", slot=slot)


BASE = (
    probe("MAP"),
    probe("INV_PAGE"),
    probe("BCAST_RANGE"),
    probe("NOTIFY"),
    probe("NOTIFY", "notify-proc"),
    probe("COPY"),
    probe("EDIT"),
    probe("READ"),
    probe("WRITE"),
    probe("MAP_END", slot=0),
)


def test_it_keeps_what_the_state_needs() -> None:
    """If this fails, a summary is blind to something, or pays for what it does not need."""
    short = summarised(plan_of(*BASE))
    kinds = [p.kind for p in short.probes]
    assert kinds == ["MAP", "INV_PAGE", "BCAST_RANGE", "NOTIFY", "READ", "WRITE"]
    assert short.summary
    assert set(NEEDS_EVENTS) <= set(short.not_checked)
    assert any(unseen.patterns == NEEDS_EVENTS for unseen in short.unseen)
    assert Plan.from_dict(short.to_dict()) == short
    unknown = (replace(SLOTS[0], address=None), SLOTS[1])
    assert "MAP_END" in [p.kind for p in summarised(plan_of(*BASE, slots=unknown)).probes]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (replace(plan_of(*BASE), backend="ftrace"), "needs the BPF backend"),
        (plan_of(*BASE[:3], probe("NOTIFY", slot=0)), "handlers of nmi"),
        (plan_of(probe("MAP"), probe("INV_PAGE"), probe("NOTIFY")), "broadcast"),
        (plan_of(*BASE, slots=SLOTS * 5), "knows 8 slots"),
        (replace(plan_of(*BASE), transport="perf"), "can map"),
        (replace(plan_of(*BASE), forced_broadcast=True), "hypervisor"),
    ],
)
def test_what_it_can_not_decide_is_refused(plan: Plan, words: str) -> None:
    """If this fails, a summary says something that it can't know."""
    with pytest.raises(HostError, match=words):
        summarised(plan)


def test_only_bpf_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, `--summary` records a full stream, and nobody says so."""
    monkeypatch.setattr(backends, "why_not_bpf", lambda facts, root=None, **_: "")
    facts = bpf_facts_of(tmp_path)
    assert backends.make_plan("auto", facts, summary=True).summary
    assert not backends.make_plan("auto", facts).summary
    with pytest.raises(UsageError, match="ftrace can't"):
        backends.make_plan("ftrace", facts, summary=True)
    monkeypatch.setattr(backends, "why_not_bpf", lambda facts, root=None, **_: "no BTF")
    with pytest.raises(HostError, match="no BTF"):
        backends.make_plan("auto", bpf_facts_of(tmp_path / "b", trees.X86_GHES), summary=True)
