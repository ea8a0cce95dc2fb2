# SPDX-License-Identifier: Apache-2.0
"""Records that no source of ours can make."""

from __future__ import annotations

import pytest

from ghesrace.errors import InputError
from tests.build.judging import judge
from tests.build.trace import bounce, plan


def test_impossible_records_are_refused() -> None:
    """A hostile file must end in a typed error, not in an index error."""
    for name, value in (("kind", 77), ("ctx", 9), ("slot", 5), ("point", 60), ("ts", 2**63)):
        stream = bounce().stream()
        stream[name][3] = value
        with pytest.raises(InputError):
            judge(plan(), stream)
