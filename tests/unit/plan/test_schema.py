# SPDX-License-Identifier: Apache-2.0
"""plan.schema.json says what `ghesrace plan --format json` prints, and nothing else is a plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from importlib import resources
from typing import Any, get_args

import jsonschema
import pytest

from ghesrace.errors import GhesraceError, InputError
from ghesrace.events import Kind
from ghesrace.plan import (
    FIELDS,
    MAX_SLOTS,
    PLAN_VERSION,
    AllOf,
    AnyOf,
    Backend,
    Compare,
    Constant,
    Fetch,
    FieldOf,
    InContext,
    InTask,
    Mechanism,
    Plan,
    Probe,
    Slot,
    Text,
    Transport,
    Unseen,
)
from ghesrace.plan.condition import Operator, State
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.summary.plan import summarised
from ghesrace.sources.capture.file import CaptureSource
from ghesrace.sources.files import open_file
from lab.facts import KERNELS, facts_of
from lab.kernels import kernelfile
from tests.build.paths import FIXTURES

RELEASES = sorted(path.stem for path in KERNELS.glob("*.json"))
SCHEMA: dict[str, Any] = json.loads(
    resources.files("ghesrace").joinpath("plan.schema.json").read_text("utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@cache
def plan(release: str, backend: Backend) -> Plan:
    return resolve(facts_of(kernelfile.load(KERNELS / f"{release}.json")), backend=backend)


def as_printed(made: Plan) -> Any:
    return json.loads(json.dumps(made.to_dict()))


def test_the_schema_is_one() -> None:
    """If this fails, validators refuse the schema itself, or pass everything."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("backend", get_args(Backend))
def test_plans_of_real_kernels_follow_it(release: str, backend: Backend) -> None:
    """If this fails, whoever reads plans by the schema is misled."""
    made = plan(release, backend)
    VALIDATOR.validate(as_printed(made))
    assert Plan.from_dict(as_printed(made)) == made
    try:
        VALIDATOR.validate(as_printed(summarised(made)))
    except GhesraceError:
        assert backend == "ftrace" or release.startswith("5.")  # which no summary is made of


@pytest.mark.parametrize("name", ["trace.txt", "v6.dat", "v7-zstd.dat"])
def test_plans_of_foreign_traces_follow_it(name: str) -> None:
    """If this fails, the plan of a trace of another tool can't be read by the schema."""
    VALIDATOR.validate(as_printed(open_file(FIXTURES / "foreign" / name).plan))


@pytest.mark.parametrize("name", ["stock", "control"])
def test_plans_of_old_captures_follow_it(name: str) -> None:
    """If this fails, a plan of version 1 that is written again is none."""
    made = CaptureSource(FIXTURES / "captures" / f"0.1.0-{name}.arrows").plan
    VALIDATOR.validate(as_printed(made))


def members(node: dict[str, Any]) -> set[str]:
    """The properties that an object of the schema has; each of them is required."""
    assert set(node["required"]) == set(node["properties"])
    assert node["additionalProperties"] is False
    return set(node["properties"])


def names(kind: type) -> set[str]:
    return {f.name for f in fields(kind)}


def test_it_knows_every_field() -> None:
    """If this fails, a new field of the plan is not documented, or is refused."""
    defs = SCHEMA["$defs"]
    assert members(SCHEMA) == names(Plan) | {"version"}
    for kind, name in ((Slot, "slot"), (Probe, "probe"), (Unseen, "unseen"), (Text, "text")):
        assert members(defs[name]) == names(kind), name
    fetches = [members(node) for node in defs["fetch"]["oneOf"][:-1]]
    assert fetches == [names(kind) for kind in (Fetch, Constant, FieldOf)]
    trees = [members(node) for node in defs["tree"]["oneOf"]]
    assert trees == [names(kind) for kind in (AllOf, AnyOf, Compare, InContext, InTask)]


def test_its_lists_are_ours() -> None:
    """If this fails, a value that we write is none of those that the schema allows."""
    properties, defs = SCHEMA["properties"], SCHEMA["$defs"]
    assert properties["version"]["const"] == PLAN_VERSION
    assert properties["slots"]["maxItems"] == MAX_SLOTS
    assert properties["backend"]["enum"] == list(get_args(Backend))
    assert properties["transport"]["enum"] == list(get_args(Transport))
    assert defs["field"]["enum"] == list(FIELDS)
    assert defs["kind"]["enum"] == [kind.name for kind in Kind if kind < Kind.EPISODE]
    probe = defs["probe"]["properties"]
    assert probe["mechanism"]["enum"] == list(get_args(Mechanism))
    compare, context = defs["tree"]["oneOf"][2:4]
    assert compare["properties"]["operator"]["enum"] == list(get_args(Operator))
    assert context["properties"]["context"]["items"]["enum"] == list(get_args(State))


def first(data: dict[str, Any], **values: Any) -> None:
    data["probes"][0].update(values)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("version"),
        lambda d: d.update(version=1),
        lambda d: d.update(version=3),
        lambda d: d.update(backend="dtrace"),
        lambda d: d.update(cpus=[-1]),
        lambda d: d.update(clock_error_ns=10**10),
        lambda d: d.update(clock_proven_ns=10**10),
        lambda d: d.update(more=1),
        lambda d: d["slots"][0].update(lock="row"),
        lambda d: d["slots"][0].update(address=2**64),
        lambda d: first(d, kind="NAP"),
        lambda d: first(d, mechanism="uprobe"),
        lambda d: first(d, slot=-1),
        lambda d: first(d, fields={"index": "$arg1:u32"}),
        lambda d: first(d, fields={"register": {"constant": 1}}, filter=None),
        lambda d: first(d, fields={"index": {"constant": -1}}),
        lambda d: first(d, fields={"index": {"constant": 1, "field": "x"}}),
        lambda d: d["probes"][0]["fields"]["index"].update(argument=0),
        lambda d: d["probes"][0]["fields"]["index"].update(argument="retval"),
        lambda d: d["probes"][0]["fields"]["index"].update(bits=24),
        lambda d: d["probes"][0]["fields"]["index"].update(offset=-1),
        lambda d: first(d, filter="index == 644"),
        lambda d: first(d, filter={"any": []}),
        lambda d: first(d, filter={"all": [{"text": "index == 644"}]}),
        lambda d: first(d, filter={"field": "index", "operator": "=~", "value": 1}),
        lambda d: first(d, filter={"field": "index", "operator": "==", "value": "1"}),
        lambda d: first(d, filter={"context": ["task"]}),
        lambda d: first(d, filter={"task": -1}),
    ],
)
def test_nonsense_is_refused_by_the_schema_and_by_us(
    damage: Callable[[dict[str, Any]], None],
) -> None:
    """If this fails, the schema or the reader takes for a plan what the other refuses."""
    data = as_printed(plan(RELEASES[0], "ftrace"))
    assert "index" in data["probes"][0]["fields"]
    damage(data)
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(InputError):
        Plan.from_dict(data)
