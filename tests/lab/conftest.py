"""Tests in this folder run in a lab guest: python -m lab test [-- PYTEST ARGUMENTS].

Fixtures: `share`, a folder that the host sees too (files left there are results), and
`firmware`, the line to the firmware on the host, silent when each test begins and ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from lab import paths
from lab.client import Client


def pytest_sessionstart() -> None:
    if paths.ENV not in os.environ:
        raise pytest.UsageError("tests/lab needs a lab guest: run `python -m lab test`")


def _passed() -> Path:
    return Path(os.environ[paths.ENV]) / paths.PASSED


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", default="0/1", help="N/OF: the tests that this guest runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what another guest runs, and what passed in this run before the guest failed and
    was booted again."""
    n, of = map(int, config.getoption("--shard").split("/"))
    known = _passed().read_text().splitlines() if _passed().exists() else []

    def mine(item: pytest.Item) -> bool:
        return crc32(item.nodeid.encode()) % of == n and item.nodeid not in known

    config.hook.pytest_deselected(items=[item for item in items if not mine(item)])
    items[:] = filter(mine, items)


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
