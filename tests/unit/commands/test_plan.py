# SPDX-License-Identifier: Apache-2.0
"""`ghesrace plan`: which plan, in which form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ghesrace import backends, cli
from ghesrace.errors import HostError
from ghesrace.host import facts
from ghesrace.host.facts import Facts
from ghesrace.plan import Plan
from tests.build.trace import plan


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The backends that a plan was asked for, and whether of a summary."""
    found: list[tuple[str, bool]] = []

    def make_plan(wanted: str, _: Facts, *, summary: bool) -> Plan:
        found.append((wanted, summary))
        return plan()

    monkeypatch.setattr(facts, "read_facts", lambda: Facts("x86_64", "6.1.0-test"))
    monkeypatch.setattr(backends, "make_plan", make_plan)
    return found


def test_json_is_the_plan_that_a_capture_carries(
    asked: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that reads plans could not read those of captures, or the reverse."""
    assert cli.main(["plan", "--format", "json", "--backend", "bpf", "--summary"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plan().to_dict()))
    assert asked == [("bpf", True)]


def test_text_is_what_people_get(
    asked: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who only types `ghesrace plan` would get JSON, or another backend than `capture` takes."""
    assert cli.main(["plan"]) == 0
    assert capsys.readouterr().out.startswith("Plan for Linux test (x86_64), 2 CPUs online\n")
    assert asked == [("auto", False)]


def test_a_script_for_trace_cmd_is_of_ftrace(
    asked: list[tuple[str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    """trace-cmd can't attach what a plan for BPF names: it would record nothing."""
    assert cli.main(["plan", "--format", "trace-cmd"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/sh\n")
    assert asked == [("ftrace", False)]
    for more in (["--backend", "bpf"], ["--summary"]):
        assert cli.main(["plan", "--format", "trace-cmd", *more]) == 2
    assert "BPF" in capsys.readouterr().err


def test_a_host_that_can_not_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts would take a host without GHES for one with a plan."""

    def refuse(*_: Any, **__: Any) -> Plan:
        raise HostError("no ACPI APEI GHES code", "nothing to watch")

    monkeypatch.setattr(facts, "read_facts", lambda: Facts("x86_64", "6.1.0-test"))
    monkeypatch.setattr(backends, "make_plan", refuse)
    assert cli.main(["plan"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "no ACPI APEI GHES code" in told.err
