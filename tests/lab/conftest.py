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
from lab.client import Client


def pytest_sessionstart() -> None:
    if paths.ENV not in os.environ:
        raise pytest.UsageError("tests/lab needs a lab guest: run `python -m lab test`")


@pytest.fixture(scope="session")
def share() -> Path:
    return Path(os.environ[paths.ENV])


@pytest.fixture
def firmware(share: Path) -> Iterator[Client]:
    client = Client(share)
    client.stop()
    yield client
    client.stop()
