# SPDX-License-Identifier: Apache-2.0
"""docs/threat-model.md against the units, and against what it says of the code."""

from __future__ import annotations

import re

import pytest

from tests.build.paths import REPO

PAGE = (REPO / "docs/threat-model.md").read_text()
UNITS = {path.name: path.read_text() for path in (REPO / "systemd").glob("*.service")}

# What in [Service] says when and how it runs, and takes no right away. All else is explained.
RUNS = {
    "Environment",
    "ExecReload",
    "ExecStart",
    "ExecStopPost",
    "Restart",
    "RestartPreventExitStatus",
    "RestartSec",
    "RuntimeDirectoryPreserve",
    "SuccessExitStatus",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
}


def directives(text: str) -> set[str]:
    service = text.partition("[Service]")[2].partition("[Install]")[0]
    return set(re.findall(r"^(\w+)=", service, re.M))


def explained() -> set[str]:
    rows = PAGE.partition("## What each line of the units is for")[2].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)=`", cell)}


@pytest.mark.parametrize("name", UNITS)
def test_each_hardening_line_is_explained(name: str) -> None:
    """A line that nobody can weigh: it stays for ever, or is taken out for no reason."""
    assert len(directives(UNITS[name])) > 20
    assert directives(UNITS[name]) - RUNS - explained() == set()


def test_nothing_is_explained_that_is_gone() -> None:
    """The page would promise a protection that the units no longer have."""
    there = set().union(*map(directives, UNITS.values()))
    assert explained() - there == set()
    assert RUNS - there == set()


def test_each_capability_is_explained() -> None:
    """A capability would be kept that nobody knows the use of."""
    row = next(line for line in PAGE.splitlines() if line.startswith("| `CapabilityBoundingSet="))
    wanted, _, never = row.partition("Nothing else")
    for text in UNITS.values():
        has = set(re.findall(r"^CapabilityBoundingSet=(.*)", text, re.M)[0].split())
        assert has <= set(re.findall(r"CAP_\w+", wanted))
        assert not has & set(re.findall(r"CAP_\w+", never))


def test_places_that_it_names_are_there() -> None:
    """It sends whoever checks it to a file that was moved."""
    for name in re.findall(r"`((?:tracer/|sources/|service/)[\w/.]+)`", PAGE):
        assert (REPO / name).exists() or (REPO / "tracer/ghesrace" / name).exists(), name


def test_no_metric_has_an_address_or_a_pid() -> None:
    """What the page says of metrics would be false."""
    from ghesrace.service.metrics.families import TABLE

    labels = {label for _, _, names in TABLE.values() for label in names}
    assert not labels & {"addr", "address", "phys", "frame", "pid", "comm"}
    with_cpu = {name for name, (_, _, names) in TABLE.items() if "cpu" in names}
    assert with_cpu == {name for name in TABLE if "per_cpu" in TABLE[name][1]}
