# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings say what the code does."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import ghesrace
import handbook

ROOTS = [Path(package.__file__).parent for package in (ghesrace, handbook)]
WITH_EXAMPLES = sorted(
    path.relative_to(root.parent).with_suffix("").as_posix().replace("/", ".")
    for root in ROOTS
    for path in root.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name: str) -> None:
    """If this fails, a newcomer who copies an example gets something else."""
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
