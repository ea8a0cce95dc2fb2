# SPDX-License-Identifier: Apache-2.0
"""The plan as data: what a file says is taken for a plan only if it can be one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ghesrace.errors import InputError
from ghesrace.plan import (
    AllOf,
    AnyOf,
    Compare,
    Constant,
    Fetch,
    FieldOf,
    InContext,
    InTask,
    Plan,
    Probe,
    Slot,
    Text,
    Unseen,
)

FILTER = AnyOf(
    (
        AllOf((Compare("addr", ">=", 0xFF00000000000000), Compare("wait", "&", 1))),
        InContext(("irq", "nmi")),
        InTask(7),
    )
)
PLAN = Plan(
    "x86_64",
    "6.1",
    (Slot("IRQ", 644, 0xFFFFFFFFFF57B000, "report"),),
    (
        Probe(
            "set",
            "MAP",
            "native_set_fixmap",
            "kprobe",
            {
                "index": Fetch(1, 32),
                "addr": Fetch("return"),
                "end": Fetch(1, offset=16),
                "from_phys": Fetch(4, 32, signed=True),
                "size": Constant(4096),
                "wait": FieldOf("wait"),
            },
            "UNMAP",
            FILTER,
            slot=0,
        ),
    ),
    (Unseen("reads", "inlined", ("stale",), ("IRQ",)),),
    cpus=(0, 1),
    numbered_arguments=False,
)
# As version 1 had it.
OLD = {
    **json.loads(json.dumps(PLAN.to_dict())),
    "version": 1,
}
del OLD["numbered_arguments"]
OLD["probes"][0] |= {"fields": {"index": "$arg1:u32"}, "filter": "index == 644"}


def test_what_is_said_of_clocks_and_contexts_survives() -> None:
    """If this fails, a record without contexts, or with a better clock bound, loses that."""
    plan = replace(PLAN, pair_errors_ns=((0, 1, 50),), clock_drift_ns=7, contexts=False)
    assert Plan.from_json(json.dumps(plan.to_dict())) == plan
    before = {k: v for k, v in PLAN.to_dict().items() if k not in NEW}
    assert Plan.from_dict(before) == PLAN  # a capture from before these fields


NEW = ("pair_errors_ns", "clock_drift_ns", "contexts", "unknowns")


def test_round_trip() -> None:
    """If this fails, a capture is judged by another plan than it was recorded with."""
    assert Plan.from_json(json.dumps(PLAN.to_dict())) == PLAN


def test_a_plan_of_version_1_keeps_its_text() -> None:
    """If this fails, the captures of the last release can't be read, or their fetch strings are
    taken for more than text."""
    plan = Plan.from_json(json.dumps(OLD))
    assert plan.probes[0].fields == {"index": Text("$arg1:u32")}
    assert plan.probes[0].filter == Text("index == 644")
    assert plan.slots == PLAN.slots
    assert Plan.from_json(json.dumps(plan.to_dict())) == plan  # written again, it stays text
    unfiltered = json.loads(json.dumps(OLD))
    unfiltered["probes"][0]["filter"] = None
    assert Plan.from_json(json.dumps(unfiltered)).probes[0].filter is None


@pytest.mark.parametrize("version", [0, 3, 10**30, -1, "2", None, True, [2], {}])
def test_a_plan_of_another_version_is_refused_by_it(version: Any) -> None:
    """If this fails, a plan of a newer ghesrace is read as if its words meant what ours do."""
    with pytest.raises(InputError, match="version") as caught:
        Plan.from_json(json.dumps({**PLAN.to_dict(), "version": version}))
    assert len(caught.value.what) < 200


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"field": "index", "operator": "==", "value": 1}
    for _ in range(depth - 1):
        tree = {"all": [tree]}
    return tree


def damaged(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Damage that gives the probe these values."""
    return lambda d: d["probes"][0].update(**fields)


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
        damaged(point=3),
        damaged(kind=[]),
        damaged(kind="NAP"),
        damaged(clear_kind={}),
        damaged(slot=1),
        damaged(slot=True),
        damaged(implies=[1]),
        damaged(fields=[]),
        damaged(fields={"addr": 1}),
        damaged(fields={"addr": "$arg1:x64"}),
        damaged(fields={"addr": {}}),
        damaged(fields={"addr": {"argument": 0}}),
        damaged(fields={"addr": {"argument": 13}}),
        damaged(fields={"addr": {"argument": True}}),
        damaged(fields={"addr": {"argument": "retval"}}),
        damaged(fields={"addr": {"argument": 1, "bits": 63}}),
        damaged(fields={"addr": {"argument": 1, "bits": 8.0}}),
        damaged(fields={"addr": {"argument": 1, "signed": 1}}),
        damaged(fields={"addr": {"argument": 1, "offset": -8}}),
        damaged(fields={"addr": {"argument": 1, "offset": 1 << 16}}),
        damaged(fields={"addr": {"argument": 1, "more": 1}}),
        damaged(fields={"addr": {"argument": 1, "constant": 1}}),
        damaged(fields={"addr": {"constant": -1}}),
        damaged(fields={"addr": {"constant": 2**64}}),
        damaged(fields={"addr": {"field": ""}}),
        damaged(fields={"addr": {"field": "\x1b[31m"}}),
        damaged(fields={"addr": {"text": "\x07"}}),
        damaged(fields={"u64 x": {"argument": 1}}, filter=None),
        damaged(filter="index == 644"),
        damaged(filter={}),
        damaged(filter={"field": "phys", "operator": "==", "value": 1}),  # that is not fetched
        damaged(filter={"field": [], "operator": "==", "value": 1}),
        damaged(filter={"field": "index", "operator": "=", "value": 1}),
        damaged(filter={"field": "index", "operator": "==", "value": -1}),
        damaged(filter={"field": "index", "operator": "==", "value": 2**64}),
        damaged(filter={"field": "index", "operator": "==", "value": "1"}),
        damaged(filter={"field": "index", "operator": "=="}),
        damaged(filter={"all": []}),
        damaged(filter={"any": None}),
        damaged(filter={"any": "xy"}),
        damaged(filter={"any": [{"text": "x"}]}),
        damaged(filter={"any": [{"task": 1}], "all": [{"task": 1}]}),
        damaged(filter={"context": []}),
        damaged(filter={"context": ["task"]}),
        damaged(filter={"context": "nmi"}),
        damaged(filter={"context": [["nmi"]]}),
        damaged(filter={"task": 2**32}),
        damaged(filter={"text": 1}),
        damaged(filter=nested(5)),
        damaged(filter=nested(200)),
        damaged(filter={"any": [{"task": 1}] * 20_000}),
        lambda d: d["unseen"][0].update(slots=[None]),
        lambda d: d.update(not_checked=[]),
        lambda d: d.update(cpus=[-1]),
        lambda d: d.update(cpus=["0"]),
        lambda d: d.update(cpus=[70000]),
        lambda d: d.update(pti=None),
        lambda d: d.update(numbered_arguments=0),
        lambda d: d.update(clock_error_ns=-1),
        lambda d: d.update(clock_error_ns=2**70),
        lambda d: d.update(clock_proven_ns=2**70),
        lambda d: d.update(clock_proven_ns=d["clock_error_ns"] - 1),
        lambda d: d.update(pair_errors_ns=[[1, 0, 5]]),
        lambda d: d.update(pair_errors_ns=[[0, 1]]),
        lambda d: d.update(pair_errors_ns=[[0, 1, -1]]),
        lambda d: d.update(pair_errors_ns=[[0, 1, "5"]]),
        lambda d: d.update(pair_errors_ns=[[0, 70000, 5]]),
        lambda d: d.update(pair_errors_ns=[3]),
        lambda d: d.update(pair_errors_ns=None),
        lambda d: d.update(clock_drift_ns=-1),
        lambda d: d.update(clock_drift_ns=10**9),
        lambda d: d.update(contexts=1),
        lambda d: d.update(version=1),  # whose fetches are text
    ],
)
def test_what_cannot_be_a_plan_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    """If this fails, an edited capture ends in a traceback, or is judged by nonsense."""
    data = json.loads(json.dumps(PLAN.to_dict()))
    damage(data)
    with pytest.raises(InputError) as caught:
        Plan.from_json(json.dumps(data))
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 400


@pytest.mark.parametrize(
    "damage",
    [
        damaged(fields={"index": {"argument": 1}}),
        damaged(fields={"index": 1}),
        damaged(fields={"index": "\x1b[31m"}),
        damaged(fields={"idx": "$arg1:u32"}),
        damaged(fields=None),
        damaged(filter={"task": 1}),
        damaged(filter=1),
        damaged(filter="\x1b[31m"),
    ],
)
def test_what_cannot_be_a_plan_of_version_1_is_refused(
    damage: Callable[[dict[str, Any]], None],
) -> None:
    """If this fails, the lenient reading of old plans is a way around the strict one."""
    data = json.loads(json.dumps(OLD))
    damage(data)
    with pytest.raises(InputError):
        Plan.from_json(json.dumps(data))


def test_the_biggest_filter_of_ours_is_read() -> None:
    """If this fails, a plan of a host with many modules is written and then refused."""
    touches = [
        AllOf((Compare("addr", "<", n + 2), Compare("end", ">", n))) for n in range(0, 2048, 2)
    ]
    probe = replace(PLAN.probes[0], filter=AnyOf(tuple(touches)))
    plan = replace(PLAN, probes=(probe,))
    assert Plan.from_json(json.dumps(plan.to_dict())) == plan
