# SPDX-License-Identifier: Apache-2.0
"""`make quick`: HYPOTHESIS_PROFILE=quick a tenth of the examples, and of the cases of tests that
are marked `tenth`; slow tests left out are named.

The profile is on top of what a test says itself: `@settings(max_examples=200)` makes 20. Hypothesis
need not be installed (lab guests).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from typing import Any

import pytest

if "coverage" in sys.modules:
    # Of what is compiled no line is ever seen to run. (tests/mutate sets it too.)
    os.environ["GHESRACE_PURE"] = "1"

QUICK = os.environ.get("HYPOTHESIS_PROFILE") == "quick"
_SHARE = 10
_FEWEST = 5
_LEFT_OUT = pytest.StashKey[list[str]]()
_TENTHS = pytest.StashKey[dict[str, int]]()

with contextlib.suppress(ImportError):
    from hypothesis import settings

    # No deadline: how long a busy host lets a test wait says nothing of it.
    settings.register_profile("whole", deadline=None)
    settings.register_profile("quick", deadline=None, derandomize=True)
    settings.load_profile("quick" if QUICK else "whole")


def shorten(test: Any) -> None:
    """Let a test of Hypothesis make a tenth of its examples, but five at least."""
    from hypothesis import settings

    own = test._hypothesis_internal_use_settings
    fewer = max(_FEWEST, own.max_examples // _SHARE)
    test._hypothesis_internal_use_settings = settings(own, max_examples=fewer)


def each_tenth(items: list[pytest.Item]) -> dict[str, int]:
    """Take nine of ten cases of each test that is marked `tenth` from *items*, but leave its first.
    Return how many cases of which test were taken."""
    met = Counter[str]()
    left_out = Counter[str]()
    kept = []
    for item in items:
        if not item.get_closest_marker("tenth"):
            kept.append(item)
            continue
        test = item.nodeid.partition("[")[0]
        if met[test] % _SHARE:
            left_out[test] += 1
        else:
            kept.append(item)
        met[test] += 1
    items[:] = kept
    return dict(left_out)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With the quick profile, shorten each test once, however many parameters it has."""
    if not QUICK:
        return
    config.stash[_TENTHS] = each_tenth(items)
    from hypothesis import is_hypothesis_test

    tests = {id(test): test for item in items if (test := getattr(item, "obj", None))}
    for test in tests.values():
        if is_hypothesis_test(test):
            shorten(test)


# -- what was left out ---------------------------------------------------------


def _slow(config: pytest.Config) -> list[str]:
    return config.stash.setdefault(_LEFT_OUT, [])


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note the slow tests that are left out."""
    for item in items:
        if item.get_closest_marker("slow"):
            _slow(item.config).append(item.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of xdist: tell the one who prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["slow"] = _slow(session.config)
        session.config.workeroutput["tenths"] = session.config.stash.get(_TENTHS, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of xdist tells; all workers leave out the same tests."""
    told = getattr(node, "workeroutput", {})
    known = _slow(node.config)
    known += [name for name in told.get("slow", []) if name not in known]
    node.config.stash.setdefault(_TENTHS, {}).update(told.get("tenths", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name each slow test that did not run, and say that others made fewer examples."""
    if QUICK:
        text = f"quick profile: 1/{_SHARE} of the examples of Hypothesis, {_FEWEST} at least"
        terminalreporter.section(text)
    if names := _slow(config):
        terminalreporter.section(f"{len(names)} slow tests deselected (`make unit` runs them)")
        for name in names:
            terminalreporter.write_line(name)
    if tenths := config.stash.get(_TENTHS, {}):
        terminalreporter.section("cases left out of tests with many (`make unit` runs them)")
        for name, number in tenths.items():
            terminalreporter.write_line(f"{name}: {number}")
