# SPDX-License-Identifier: Apache-2.0
"""Plans of made-up hosts, and what is asked of them."""

from __future__ import annotations

from pathlib import Path

from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan, Probe
from ghesrace.planning.resolve import resolve
from tests.build import trees


def plan_of(root: Path, functions=trees.X86_GHES, **host) -> Plan:
    return resolve(read_facts(trees.tree(root, functions, **host)))


def one(plan: Plan, point: str, kind: str | None = None) -> Probe:
    found = [p for p in plan.probes if p.point == point and kind in (None, p.kind)]
    assert found, f"no {point} in the plan"
    return found[0]


def names(plan: Plan) -> list[str]:
    return [probe.point for probe in plan.probes]


def unseen(plan: Plan) -> str:
    return "; ".join(f"{u.what}: {u.why}" for u in plan.unseen)
