# SPDX-License-Identifier: Apache-2.0
"""What `doctor --report` hands on: all that is asked for, and neither names nor addresses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.errors import HostError
from ghesrace.host.clocks import Comparison
from ghesrace.host.facts import Facts
from ghesrace.host.hest import ErrorSource
from ghesrace.plan import Compare, Implied, Plan, Slot, Unseen
from ghesrace.planning.resolve import resolve
from ghesrace.render.host_report import SCHEMA, SCHEMA_VERSION, Counted, Host, document
from ghesrace.render.judgement import Judgement
from lab.facts import KERNELS, facts_of
from lab.kernels import kernelfile
from tests.build.judging import judge
from tests.build.trace import bounce, plan

NO = HostError("no slot can be observed here", "boot another kernel")


def schema(name: str) -> dict[str, Any]:
    text = resources.files("ghesrace").joinpath(f"{name}.schema.json").read_text("utf-8")
    made: dict[str, Any] = json.loads(text)
    return made


VALIDATOR = jsonschema.Draft202012Validator(schema("host-report"))


def counted() -> Counted:
    judged = Judgement(None, judge(plan(), bounce().stream()), plan())
    return Counted(60.0, {"MAP": 2}, 0, {"lost:map": 0}, judged)


def host(facts: Facts, found: Plan | HostError = NO, **more: Any) -> Host:
    parts: dict[str, Any] = {
        "machine": {},
        "ready": True,
        "checks": (),
        "clocks": NO,
        "counted": NO,
    }
    return Host(facts, plan=found, **{**parts, **more})


def test_schema_names_what_is_written() -> None:
    """Whoever reads reports would not know what they are."""
    assert schema("host-report")["$id"] == SCHEMA
    jsonschema.Draft202012Validator.check_schema(schema("host-report"))
    assert f"This is version {SCHEMA_VERSION}:" in schema("host-report")["description"]


@pytest.mark.parametrize("release", ["6.1.0-56-arm64", "6.1.0-56-amd64"])
def test_report_of_a_real_kernel_keeps_to_the_schemas(release: str) -> None:
    """A tool that reads many hosts' reports would meet what no schema says."""
    facts = facts_of(kernelfile.load(KERNELS / f"{release}.json"))
    made = document(
        host(facts, resolve(facts), clocks=Comparison(700, 0), counted=counted(), names=frozenset())
    )
    VALIDATOR.validate(made)
    assert len(made["facts"]["symbols"]) > 10
    printed = {name: value for name, value in made["plan"].items() if name != "problem"}
    jsonschema.Draft202012Validator(schema("plan")).validate(json.loads(json.dumps(printed)))
    jsonschema.Draft202012Validator(schema("check")).validate(made["counted"]["judged"])
    assert made["counted"]["judged"]["verdict"] == "race-observed"
    assert made["counted"]["events"] == {"MAP": 2}
    assert made["clocks"]["bound_ns"] == 700


def test_what_a_host_can_not_do_stands_in_its_report() -> None:
    """The first person with such a host would send a file that says nothing."""
    made = document(host(Facts("x86_64", "6.12", problems={"HEST": "No such file"}), ready=False))
    VALIDATOR.validate(made)
    problem = {"what": NO.what, "hint": NO.hint}
    assert [made[part]["problem"] for part in ("plan", "clocks", "counted")] == [problem] * 3
    assert made["facts"]["problems"] == {"HEST": "No such file"}


KERNEL_ADDRESS = st.integers(0xFFFF_8000_0000_0000 + (1 << 30), 2**64 - 1)
PHYSICAL = st.integers(1 << 32, 1 << 50)
NAMES = st.from_regex(r"[a-z][a-z0-9]{3,8}q7(\.[a-z]{2,6}x9)?", fullmatch=True)


@given(st.lists(KERNEL_ADDRESS, min_size=1, max_size=4), st.lists(PHYSICAL, min_size=1), NAMES)
def test_no_address_and_no_name_is_left(virtual: list[int], physical: list[int], name: str) -> None:
    """Who sends a report hands on where his kernel lies in memory, or who he is."""
    said = [f"at {v:#x} of {name}" for v in virtual] + [f"in {v:016X}" for v in virtual]
    said += [f"frame {p:#x} at {name.upper()}" for p in physical]
    text = "; ".join(said)
    facts = Facts(
        "x86_64",
        f"6.12.1-{name}",
        hest=tuple(ErrorSource(1, 0, 4, 0, 0, p, 4096, True, block=p) for p in physical),
        problems={f"BTF of {name}": text},
        clocksource=name,
    )
    base = plan()
    made = replace(
        base,
        release=facts.release,
        slots=tuple(Slot(f"page at {v:#x}", None, v, "report") for v in virtual),
        probes=tuple(replace(p, filter=Compare("addr", ">=", virtual[0])) for p in base.probes),
        unseen=(Unseen(text, text),),
        not_checked={"stale": text},
        implications=(Implied("unmap", "clear", "flush-inside", "proven", text),),
    )
    check = {
        "name": "plan",
        "state": "ok",
        "found": text,
        "meaning": text,
        "remedy": text,
        "needed": True,
    }
    report = document(
        host(
            facts,
            made,
            machine={"product_name": name},
            checks=[check],
            clocks=HostError(text, text),
            counted=HostError(text, text),
            names=frozenset({name, name.partition(".")[0]}),
        )
    )
    VALIDATOR.validate(report)
    written = json.dumps(report).lower()
    assert name.partition(".")[0] not in written
    numbers = {int(found) for found in re.findall(r"\b\d{6,}\b", written)}
    numbers |= {int(found, 16) for found in re.findall(r"(?:0x|\b)([0-9a-f]{6,16})\b", written)}
    # The place in a region of 2 MiB stays; the region does not.
    regions = {address >> 21 for address in (*virtual, *physical)}
    assert {number >> 21 for number in numbers} & regions == set()
