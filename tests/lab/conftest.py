# SPDX-License-Identifier: Apache-2.0
"""Tests in this folder run in a lab guest: python -m lab test [-- PYTEST ARGUMENTS].

Fixtures: `share`, a folder that the host sees too (files left there are results), and
`firmware`, the line to the firmware on the host, silent when each test begins and ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from lab import paths
from lab.inside.client import Client
from lab.testing.outcomes import Outcomes
from lab.testing.turns import dealt, turns


def pytest_sessionstart() -> None:
    if paths.ENV not in os.environ:
        raise pytest.UsageError("tests/lab needs a lab guest: run `python -m lab test`")


def _share() -> Path:
    return Path(os.environ[paths.ENV])


@pytest.hookimpl(trylast=True)  # behind -k and -m, which leave out what nobody wants
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what passed in this run before the guest failed and was booted again."""
    outcomes = Outcomes(_share())
    outcomes.collected([item.nodeid for item in items])
    known = outcomes.passed()
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in known])
    items[:] = [item for item in items if item.nodeid not in known]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test: passed if its call did, unless its end then failed."""
    if report.when == "call" or report.outcome != "passed":
        Outcomes(_share()).add(report.nodeid, report.outcome, report.longreprtext)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the files that this guest is dealt, where others run the rest."""
    if not dealt(_share()) or session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own loop runs all, or says what it could not collect.
    files: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    for file in turns(_share(), list(files)):
        mine = files.get(file, [])
        for item, following in zip_longest(mine, mine[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    return True


@pytest.fixture(scope="session")
def share() -> Path:
    return _share()


@pytest.fixture
def firmware(share: Path) -> Iterator[Client]:
    client = Client(share)
    client.stop()
    yield client
    client.stop()
