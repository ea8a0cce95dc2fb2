# SPDX-License-Identifier: Apache-2.0
"""The plan as data: what a file says is taken for a plan only if it can be one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ghesrace.errors import InputError
from ghesrace.plan import Plan, Probe, Slot, Unseen

PLAN = Plan(
    "x86_64",
    "6.1",
    (Slot("IRQ", 644, 0xFFFFFFFFFF57B000, "report"),),
    (Probe("set", "MAP", "native_set_fixmap", "kprobe", {"index": "$arg1:u32"}, "UNMAP", slot=0),),
    (Unseen("reads", "inlined", ("stale",), ("IRQ",)),),
    cpus=(0, 1),
)


def test_round_trip() -> None:
    """If this fails, a capture is judged by another plan than it was recorded with."""
    assert Plan.from_json(json.dumps(PLAN.to_dict())) == PLAN


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["slots"][0].update(address="x"),
        lambda d: d["slots"][0].update(address=-1),
        lambda d: d["slots"][0].update(address=2**64),
        lambda d: d["slots"][0].update(index=float("nan")),
        lambda d: d["slots"][0].update(lock="row"),
        lambda d: d["slots"][0].update(name="\x1b[31m"),
        lambda d: d["slots"][0].update(name="\ud800"),
        lambda d: d["slots"].clear(),
        lambda d: d["slots"].extend(d["slots"] * 2000),
        lambda d: d["probes"][0].update(point=3),
        lambda d: d["probes"][0].update(kind=[]),
        lambda d: d["probes"][0].update(kind="NAP"),
        lambda d: d["probes"][0].update(clear_kind={}),
        lambda d: d["probes"][0].update(slot=1),
        lambda d: d["probes"][0].update(slot=True),
        lambda d: d["probes"][0].update(implies=[1]),
        lambda d: d["probes"][0].update(fields={"addr": 1}),
        lambda d: d["unseen"][0].update(slots=[None]),
        lambda d: d.update(not_checked=[]),
        lambda d: d.update(cpus=[-1]),
        lambda d: d.update(cpus=["0"]),
        lambda d: d.update(cpus=[70000]),
        lambda d: d.update(pti=None),
        lambda d: d.update(clock_error_ns=-1),
        lambda d: d.update(clock_error_ns=2**70),
    ],
)
def test_what_cannot_be_a_plan_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    """If this fails, an edited capture ends in a traceback, or is judged by nonsense."""
    data = json.loads(json.dumps(PLAN.to_dict()))
    damage(data)
    with pytest.raises(InputError):
        Plan.from_json(json.dumps(data))
