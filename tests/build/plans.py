# SPDX-License-Identifier: Apache-2.0
"""Plans of made-up hosts, and what is asked of them."""

from __future__ import annotations

from pathlib import Path

from ghesrace.host.facts import Facts, read_facts
from ghesrace.plan import Plan, Probe
from ghesrace.planning.resolve import resolve
from tests.build import trees


def plan_of(root: Path, functions=trees.X86_GHES, **host) -> Plan:
    """The plan of the host that trees.tree makes."""
    return resolve(read_facts(trees.tree(root, functions, **host)))


def one(plan: Plan, point: str, kind: str | None = None) -> Probe:
    """The first probe of a point; fails if there is none."""
    found = [p for p in plan.probes if p.point == point and kind in (None, p.kind)]
    assert found, f"no {point} in the plan"
    return found[0]


def names(plan: Plan) -> list[str]:
    return [probe.point for probe in plan.probes]


def unseen(plan: Plan) -> str:
    """All that the plan says it can't see."""
    return "; ".join(f"{u.what}: {u.why}" for u in plan.unseen)


def bpf_facts_of(root: Path, functions=trees.X86_BPF, **host) -> Facts:
    """The facts of a host on which BPF serves everything, but for what *host* says otherwise."""
    host.setdefault("vmlinux_btf", trees.x86_bpf_btf())
    (root / "lib/modules/6.1.0-test/build").mkdir(parents=True, exist_ok=True)
    return read_facts(trees.tree(root, functions, **host))
