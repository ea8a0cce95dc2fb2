# SPDX-License-Identifier: Apache-2.0
"""Plans that somebody edited: refused, or harmless and by the schema. Nothing else comes out."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import HostError, InputError
from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from ghesrace.render.plan import render_plan_text
from ghesrace.sources.bpf import program
from ghesrace.sources.tracefs_text import body, condition
from lab.facts import KERNELS, facts_of
from lab.kernels import kernelfile

BACKENDS = ("ftrace", "bpf")
JUNK = (
    *(None, True, 0, 1, -1, 3, 2**32, 2**64, 10**400, 1.5, float("nan"), "", "index", "MAP", "all"),
    *("\x1b[2J", "1); return 1; //", "return", [], {}, [1], {"any": []}, {"task": 1}),
    *({"argument": 2}, {"constant": 1}, {"text": "x"}, {"field": "index"}, {"context": ["nmi"]}),
)
# What stands in the C of a program. In its first line, a comment, stands the name of the symbol.
C = re.compile(r'(/\* [\w.:+]+: [A-Z_]+, [a-z-]+ \*/\n[^/\\"\']*)*', re.ASCII)
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(resources.files("ghesrace").joinpath("plan.schema.json").read_text("utf-8"))
)


@cache
def facts() -> Any:
    return facts_of(kernelfile.load(KERNELS / "6.1.0-56-amd64.json"))


@cache
def plain(backend: str) -> Any:
    """A plan of a real kernel, short enough to be edited often at each place."""
    made = resolve(facts(), backend=backend).to_dict()  # type: ignore[arg-type]
    kept = {"fixmap-set", "copy", "inv-range", "nmi-reference", "shootdown", "read"}
    made["probes"] = [p for p in made["probes"] if p["point"] in kept]
    return json.loads(json.dumps(made))


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON document."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def edit(data: Any, draw: st.DrawFn) -> None:
    """Replace, remove, double or rename something."""
    found = list(places(data))
    container, key = found[draw(st.integers(0, len(found) - 1))]
    what = draw(st.sampled_from(("junk", "junk", "other", "remove", "double", "rename")))
    if what == "remove":
        del container[key]
    elif what == "double" and isinstance(container, list):
        container += copy.deepcopy(container[key : key + 1]) * draw(st.sampled_from((1, 40)))
    elif what == "rename" and isinstance(container, dict):
        name = draw(st.sampled_from(("any", "all", "field", "addr", "x", "\n")))
        container[name] = container[key]
    elif what == "other":
        other, there = found[draw(st.integers(0, len(found) - 1))]
        container[key] = copy.deepcopy(other[there])
    else:
        container[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))


@st.composite
def edited(draw: st.DrawFn) -> Any:
    data = copy.deepcopy(plain(draw(st.sampled_from(BACKENDS))))
    for _ in range(draw(st.integers(1, 3))):
        edit(data, draw)
    return data


def c_of(plan: Plan) -> str:
    return "".join(
        program.ProgramText(plan, number, facts().btf).text() + "\n"
        for number in range(len(plan.probes))
    )


@settings(max_examples=300, deadline=None)
@given(edited())
def test_an_edited_plan_is_refused_or_harmless(data: Any) -> None:
    """If this fails, a file ends in a traceback, in a text that the terminal obeys, or in a program
    that whoever edited the file wrote."""
    try:
        plan = Plan.from_json(json.dumps(data))
    except InputError as error:
        said = error.what
    else:
        _is_harmless(plan)
        return
    assert said.isprintable()


def _is_harmless(plan: Plan) -> None:
    again = json.loads(json.dumps(plan.to_dict()))
    assert Plan.from_dict(again) == plan
    VALIDATOR.validate(again)
    assert render_plan_text(plan).replace("\n", "").isprintable()
    for probe in plan.probes:
        try:
            assert "\n" not in f"{body(plan, probe)}{condition(probe)}"
        except HostError:
            continue
    try:
        text = c_of(plan)
    except HostError:
        return
    assert C.fullmatch(text), text
