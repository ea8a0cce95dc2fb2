# SPDX-License-Identifier: Apache-2.0
"""tests/unit mirrors tracer, lab and handbook: a module's tests are where its name says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.paths import REPO

UNIT = REPO / "tests" / "unit"
TREES = {
    REPO / "tracer" / "ghesrace": UNIT,
    REPO / "lab": UNIT / "lab",
    REPO / "handbook": UNIT / "handbook",
}

# Modules without a test file of their name, and why.
_CORE = "part of the rule: held whole by checker/core/test_run.py, litmus, oracle and worlds"
_DATA = "data and protocols only"
_GUEST = "needs a real kernel: tests/lab"
WITHOUT = {
    "tracer/ghesrace/errors.py": _DATA,
    "tracer/ghesrace/doctor/check.py": _DATA,
    "tracer/ghesrace/checker/model.py": _DATA,
    "tracer/ghesrace/checker/patterns/__init__.py": _DATA,
    "tracer/ghesrace/sources/__init__.py": _DATA,
    "tracer/ghesrace/checker/core/classes.py": _CORE,
    "tracer/ghesrace/checker/core/decided.py": _CORE,
    "tracer/ghesrace/checker/columns.py": "held by checker/test_engine.py and the metrics' tests",
    "tracer/ghesrace/checker/event_store.py": "held by checker/test_witness.py",
    "tracer/ghesrace/planning/implied/x86_operands.py": "held by test_x86_cpu.py and test_x86.py",
    "tracer/ghesrace/sources/foreign/reader.py": _DATA,
    "handbook/conf.py": "what Sphinx is told: held by handbook/test_site.py",
    "lab/boards/board.py": _DATA,
    "lab/inside/systemd.py": _GUEST,
}

# Tests in a wing that are of no single module, and why.
ACROSS = {
    "checker/core/test_bounds.py": "what the whole core may remember",
    "checker/core/test_protection.py": "the second half of threats.py",
    "checker/core/test_fresh.py": "what each new object of the core holds",
    "service/test_fuzz.py": "the fuzzer beside it",
    "checker/test_properties.py": "what holds for every stream, over all patterns",
    "sources/bpf/summary/test_c.py": "the C itself, run on this machine against the checker",
    "sources/foreign/test_damage.py": "every kind of foreign trace, damaged",
    "sources/foreign/test_fuzz_on.py": "the fuzzer beside it, a part at a time",
    "sources/capture/test_old_files.py": "captures of earlier releases",
    "sources/capture/test_releases.py": "captures of earlier releases: summaries",
    "render/html/test_browser.py": "the HTML report as a browser shows it",
    "service/metrics/test_browser.py": "the daemon's page as a browser shows it",
    "plan/test_hostile.py": "edited plans, through the reader, the schema and the C",
    "planning/implied/test_x86_cpu.py": "x86.py, beside this machine's CPU",
    "plan/test_schema.py": "what `plan --format json` promises",
    "planning/test_kernels.py": "the plans of real kernels",
    "planning/test_old_kernels.py": "the plans of kernels before 5.1, and docs/old-kernels.md",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Each module, and the test file of its name.

    `__main__` is tested by test_main.py, and an `__init__` that has functions by the test of its
    folder's name: plan/__init__.py by plan/test_plan.py.
    """
    for tree, tests in TREES.items():
        for path in sorted(tree.rglob("*.py")):
            name = {"__main__": "main", "__init__": path.parent.name}.get(path.stem, path.stem)
            if path.stem != "__init__" or "def " in path.read_text():
                place = tests / path.parent.relative_to(tree) / f"test_{name}.py"
                yield str(path.relative_to(REPO)), place


MODULES = dict(modules())


def test_the_trees_are_found() -> None:
    """If this fails, the tests below look at nothing."""
    assert len(MODULES) > 100
    assert MODULES["lab/matrix/__main__.py"] == UNIT / "lab/matrix/test_main.py"
    assert MODULES["tracer/ghesrace/host/btf.py"] == UNIT / "host/test_btf.py"
    assert all((REPO / name).exists() for name in WITHOUT)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_has_a_test_file_of_its_name(name: str) -> None:
    """If this fails, nobody finds the tests of a module, or it has none.

    Put them where the mirror says, or say in WITHOUT why there are none.
    """
    has = MODULES[name].exists()
    assert has != (name in WITHOUT), MODULES[name].relative_to(REPO)
    assert not has or "def test_" in MODULES[name].read_text()


def test_a_test_file_has_a_module_of_its_name() -> None:
    """If this fails, a module was moved or renamed and its tests were left behind."""
    known = {str(path.relative_to(UNIT)) for path in MODULES.values()} | ACROSS.keys()
    found = {str(path.relative_to(UNIT)) for path in UNIT.rglob("test_*.py")}
    in_a_wing = {name for name in found if "/" in name}
    assert in_a_wing - known == set()
    assert ACROSS.keys() <= found
