# SPDX-License-Identifier: Apache-2.0
"""A lock hold keeps its episodes as a plain list would."""

from __future__ import annotations

import pytest

from ghesrace.checker.core import holds
from tests.build.uncompiled import uncompiled

PLAIN = uncompiled(holds)


@pytest.mark.parametrize("pages", [0, 1, 2, 5])
def test_a_hold_knows_its_episodes_in_order(pages: int) -> None:
    """A page that a hold forgot would never be judged."""
    hold = PLAIN.Hold(0, 2, 0)
    episodes = [PLAIN.Episode(hold, page << 12, 0) for page in range(pages)]
    for episode in episodes:
        hold.add(episode)
    assert hold.count == pages
    assert [one.frame for one in hold.all()] == [one.frame for one in episodes]
    assert not pages or hold.last() is episodes[-1]
    hold.forget()
    assert (hold.count, hold.all(), hold.first, hold.others) == (0, [], None, None)
