# SPDX-License-Identifier: Apache-2.0
"""Tests in this folder run in a lab guest: python -m lab test [-- PYTEST ARGUMENTS].

Fixtures: `share`, a folder that the host sees too (files left there are results), and
`firmware`, the line to the firmware on the host, silent when each test begins and ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import paths
from lab.inside.client import Client


def pytest_sessionstart() -> None:
    if paths.ENV not in os.environ:
        raise pytest.UsageError("tests/lab needs a lab guest: run `python -m lab test`")


def _passed() -> Path:
    return Path(os.environ[paths.ENV]) / paths.PASSED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what passed in this run before the guest failed and was booted again."""
    known = _passed().read_text().splitlines() if _passed().exists() else []
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in known])
    items[:] = [item for item in items if item.nodeid not in known]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what passed."""
    if report.when == "call" and report.passed:
        with _passed().open("a") as file:
            file.write(f"{report.nodeid}\n")


@pytest.fixture(scope="session")
def share() -> Path:
    return Path(os.environ[paths.ENV])


@pytest.fixture
def firmware(share: Path) -> Iterator[Client]:
    client = Client(share)
    client.stop()
    yield client
    client.stop()
