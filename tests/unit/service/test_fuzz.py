# SPDX-License-Identifier: Apache-2.0
"""A few cases of each fuzzer of the daemon; `python -m tests.unit.service.fuzz` tries 100000."""

from __future__ import annotations

import pytest

from tests.unit.service import fuzz

CASES = {
    "http": 300,
    "captures": 300,
    "web.config_file": 100,
    "ghesrace.toml": 100,
    "environment": 200,
    "program pack": 300,
}


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_nothing_but_typed_errors_and_answers(name: str) -> None:
    """A stranger's bytes end a thread of the daemon, or a typo of root's shows a traceback."""
    outcomes = fuzz.run(name, CASES[name], seed=7)
    assert len(outcomes) > 1, "one outcome only: it mutates nothing that matters"
